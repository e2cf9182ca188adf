"""The codec's codes, made by counting, not by descent: what each of the books says, and the codes of the whole corpus.

    python -m training.dual_ar.books --data DATA --run RUN

A block (`blocks.py`) is one latent of LATENT numbers: principal components of its cepstrum, its periods, principal
components of its strengths of voicing. Five books describe it, each what the ones before left over:

    0       semantic: a pair of symbols; its entry is the mean latent of the blocks so named
    1       source: periods and strengths of voicing
    2 …     filter: what is left of the cepstrum, by k-means in the 15 directions that hold most of it

Entries are (vector, RADIUS): seen by angle, as the layout does, that is the nearest vector, or nearly.

RUN/books.npz: `Books`. DATA/codes/VOICE/NNNN.npz: texts (JSON), codes uint16 [blocks, books], letters int16 [blocks]
(`blocks.letters`), starts.
"""

from __future__ import annotations

import argparse
import json
import os
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from rich.progress import track

from saywell.models.wren.phones import SYMBOLS
from saywell.models.wren.source import ORDER
from training.dual_ar.blocks import BLOCK, STRENGTHS, Blocks, Floats, Ints, read

ENTRIES = 1024
"""Of each book."""
FILTERS = 2
WIDTH = 16
"""Of an entry: 15 numbers and RADIUS."""
RADIUS = 128.0
CONSTANT = 4.0
"""The last of a latent's numbers, always: what is normalised by length later keeps its length."""
CEPSTRUM, STRENGTH = 160, 31
LATENT = CEPSTRUM + 1 + STRENGTH
PERIODS_AT = CEPSTRUM
PERIOD, VOICING = 0.5, 1.0
"""Weights of a period and of a strength beside a neper of cepstrum."""
ROUNDS = 12
ROWS = 60_000


@dataclass(frozen=True)
class Books:
    """Everything to get from blocks to codes and back.

    mean, basis: latent = (block - mean) @ basis, block as `flat` has it. pairs: the pair each semantic entry stands
    for [n, 2]. entries [books, ENTRIES, WIDTH - 1]; bases: an entry's directions in latents [books, LATENT, WIDTH - 1];
    centres: their origins [books, LATENT].
    """

    mean: Floats
    basis: Floats
    pairs: Ints
    entries: Floats
    bases: Floats
    centres: Floats

    def save(self, path: Path) -> None:
        np.savez(path, **asdict(self))

    @classmethod
    def load(cls, path: Path) -> Books:
        with np.load(path) as parts:
            return cls(**{name: parts[name] for name in parts.files})

    @property
    def count(self) -> int:
        return len(self.entries)

    def latents(self, block: Blocks) -> Floats:
        """[blocks, LATENT]."""
        return (flat(block) - self.mean) @ self.basis

    def semantic(self, pairs: Ints) -> Ints:
        """The entry of each pair [blocks]; for a rare pair, that of its first or second symbol alone."""
        names = np.full((len(SYMBOLS), len(SYMBOLS)), -1)
        names[tuple(self.pairs.T)] = np.arange(len(self.pairs))
        both, one, other = names[tuple(pairs.T)], names[pairs[:, 0], pairs[:, 0]], names[pairs[:, 1], pairs[:, 1]]
        return np.where(both >= 0, both, np.where(one >= 0, one, np.maximum(other, 0)))

    def said(self, book: int, codes: Ints) -> Floats:
        """What entries of one book add to the latents [blocks, LATENT]."""
        return self.entries[book][codes] @ self.bases[book].T + self.centres[book]

    def encode(self, block: Blocks) -> Ints:
        """Codes [blocks, books]."""
        rest, codes = self.latents(block), [self.semantic(block.pairs)]
        for book in range(1, self.count):
            rest = rest - self.said(book - 1, codes[-1])
            codes.append(nearest((rest - self.centres[book]) @ self.bases[book], self.entries[book]))
        return np.stack(codes, 1)

    def decode(self, codes: Ints) -> tuple[Floats, Ints, Floats]:
        """cepstrum, periods and strengths of blocks, as `blocks.spoken` wants them."""
        return unflat(self.quantised(codes) @ self.basis.T + self.mean)

    def quantised(self, codes: Ints) -> Floats:
        """Latents as the books say them [blocks, LATENT]."""
        said = [self.said(book, row) for book, row in enumerate(codes.T)]
        return np.asarray(np.sum(said, 0), np.float32)


def flat(block: Blocks) -> Floats:
    """[blocks, BLOCK · ORDER + 1 + BLOCK · STRENGTHS]."""
    count = len(block.periods)
    return np.concatenate(
        [
            block.cepstrum.reshape(count, -1),
            PERIOD * block.periods[:, None],
            VOICING * block.strengths.reshape(count, -1),
        ],
        1,
    ).astype(np.float32)


def unflat(rows: Floats) -> tuple[Floats, Ints, Floats]:
    cepstrum, periods, strengths = np.split(rows, (BLOCK * ORDER, BLOCK * ORDER + 1), 1)
    return (
        cepstrum.reshape(-1, BLOCK, ORDER).astype(np.float32),
        np.round(periods[:, 0] / PERIOD).astype(np.int64),
        (strengths / VOICING).reshape(-1, BLOCK, STRENGTHS).clip(0, 1).astype(np.float32),
    )


def nearest(rows: Floats, entries: Floats) -> Ints:
    """The nearest entry of each row, by the square of the distance."""
    length = 0.5 * (entries**2).sum(1)
    return np.concatenate(
        [(part @ entries.T - length).argmax(1) for part in np.array_split(rows, len(rows) // 4096 + 1)]
    )


def directions(rows: Floats, count: int) -> Floats:
    """Principal components, strongest first [width, count]."""
    _, vectors = np.linalg.eigh(np.cov(rows.T))
    return vectors[:, ::-1][:, :count].astype(np.float32)


def clustered(rows: Floats, entries: int, rng: np.random.Generator) -> Floats:
    """k-means; an entry nobody is near becomes some row."""
    found = rows[rng.permutation(len(rows))[:entries]]
    if len(found) < entries:
        found = np.concatenate([found, np.zeros((entries - len(found), rows.shape[1]), np.float32)])
    for turn in range(ROUNDS):
        owner = nearest(rows, found)
        size = np.bincount(owner, minlength=entries)
        sums = np.stack([np.bincount(owner, column, minlength=entries) for column in rows.T], 1)
        found = (sums / np.maximum(size, 1)[:, None]).astype(np.float32)
        dead = np.flatnonzero(size == 0)
        if turn + 1 < ROUNDS:
            found[dead] = rows[rng.integers(len(rows), size=len(dead))]
    return found


def build(utterances: Iterable[Blocks], seed: int = 1) -> Books:
    """Count the books out of some utterances."""
    rng = np.random.default_rng(seed)
    taken = list(utterances)
    rows, pairs = np.concatenate([flat(one) for one in taken]), np.concatenate([one.pairs for one in taken])
    mean = rows.mean(0)
    cut = BLOCK * ORDER
    basis = np.zeros((rows.shape[1], LATENT), np.float32)
    basis[:cut, :CEPSTRUM] = directions(rows[:, :cut], CEPSTRUM)
    basis[cut, PERIODS_AT] = 1
    basis[cut + 1 :, PERIODS_AT + 1 :] = directions(rows[:, cut + 1 :], STRENGTH)
    latents = (rows - mean) @ basis
    common = [pair for pair, _ in Counter(map(tuple, pairs.tolist())).most_common(ENTRIES)]
    empty = np.zeros((0, ENTRIES, WIDTH - 1), np.float32)
    books = Books(mean, basis, np.array(common), empty, np.zeros((0, LATENT, WIDTH - 1)), np.zeros((0, LATENT)))
    books = _semantic(books, latents, books.semantic(pairs))
    rest = latents - books.said(0, books.semantic(pairs))
    some = rng.permutation(len(rest))[:ROWS]
    for book in range(1, 2 + FILTERS):
        books = _residual(books, rest[some], rng, source=book == 1)
        codes = nearest((rest - books.centres[book]) @ books.bases[book], books.entries[book])
        rest = rest - books.said(book, codes)
    return books


def _semantic(books: Books, latents: Floats, codes: Ints) -> Books:
    size = np.bincount(codes, minlength=ENTRIES)
    means = np.stack([np.bincount(codes, column, minlength=ENTRIES) for column in latents.T], 1)
    means = (means / np.maximum(size, 1)[:, None]).astype(np.float32)
    basis = directions(means[codes], WIDTH - 1)
    return _with(books, means @ basis, basis, np.zeros(LATENT, np.float32))


def _residual(books: Books, rest: Floats, rng: np.random.Generator, source: bool) -> Books:
    part = slice(PERIODS_AT, LATENT) if source else slice(0, CEPSTRUM)
    basis = np.zeros((LATENT, WIDTH - 1), np.float32)
    if source:
        basis[PERIODS_AT, 0] = 1
        basis[PERIODS_AT + 1 :, 1:] = directions(rest[:, PERIODS_AT + 1 :], WIDTH - 2)
    else:
        basis[part] = directions(rest[:, part], WIDTH - 1)
    centre = np.zeros(LATENT, np.float32)
    return _with(books, clustered(rest @ basis, ENTRIES, rng), basis, centre)


def _with(books: Books, entries: Floats, basis: Floats, centre: Floats) -> Books:
    return Books(
        books.mean,
        books.basis,
        books.pairs,
        np.concatenate([books.entries, entries[None]]).astype(np.float32),
        np.concatenate([books.bases, basis[None]]).astype(np.float32),
        np.concatenate([books.centres, centre[None]]).astype(np.float32),
    )


def write(data: Path, books: Books, paths: list[Path]) -> None:
    """Codes of shards that have none yet."""
    for path in track(paths, "Codes", disable=not os.isatty(1)):
        out = data / "codes" / path.parent.name / path.name
        if out.exists():
            continue
        out.parent.mkdir(parents=True, exist_ok=True)
        taken = list(read(path))
        codes = [books.encode(one) for one in taken]
        part = out.with_suffix(".part.npz")
        np.savez(
            part,
            texts=np.frombuffer(json.dumps([one.text for one in taken]).encode(), np.uint8),
            codes=np.concatenate(codes).astype(np.uint16),
            letters=np.concatenate([one.letters for one in taken]).astype(np.int16),
            starts=np.cumsum([0, *map(len, codes)]),
        )
        part.replace(out)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--run", type=Path, required=True)
    parser.add_argument("--counted", type=int, default=4, help="shards of each voice the books are counted from")
    parser.add_argument("--shards", type=int, default=10**6, help="at most so many of each voice")
    asked = parser.parse_args()
    voices = sorted((asked.data / "corpus").iterdir())
    shards = [sorted(voice.glob("[0-9][0-9][0-9][0-9].npz"))[: asked.shards] for voice in voices]
    file = asked.run / "books.npz"
    if not file.exists():
        asked.run.mkdir(parents=True, exist_ok=True)
        counted = [path for voice in shards for path in voice[:: max(1, len(voice) // asked.counted)][: asked.counted]]
        build(one for path in counted for one in read(path)).save(file)
    write(asked.data, Books.load(file), [path for turn in zip(*shards, strict=False) for path in turn])


if __name__ == "__main__":
    main()
