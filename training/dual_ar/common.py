"""Everyday words the corpus has too few of: sentences with their phones and lengths, but without sound.

    python -m training.dual_ar.common --data DATA --run RUN --words /usr/share/dict/scowl/english-words.{10,20}

wren's reader spells them, wren's acoustic model says how long each phone lasts. DATA/codes/common/NNNN.npz: as
`training.dual_ar.books` writes them, the semantic codes alone.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from rich.progress import track

from saywell.models.wren.phones import SPEAKERS, encode
from saywell.models.wren.reader import read
from saywell.models.wren.synth import Synthesiser
from training.dual_ar.blocks import BLOCK, Ints, letters, pairs
from training.dual_ar.books import Books
from training.dual_ar.sizes import BOOKS
from training.split import only
from training.wren import plain

UTTERANCES = 400
LONGEST = 70
GLUE = (
    "the",
    "a",
    "of the",
    "and",
    "to",
    "in",
    "is",
    "was",
    "with his",
    "for",
    "that",
    "she",
    "they",
    "had",
    "from",
    "her",
)


def text(words: Sequence[str], rng: random.Random) -> str:
    """A sentence of the grammar with other words in it, or words with small ones between."""
    if rng.random() < 0.6:
        parts = plain.sentence(rng).split(" ")
        said = " ".join(re.sub(r"[a-z]{4,}", rng.choice(words), part) if rng.random() < 0.6 else part for part in parts)
    else:
        said = " ".join(f"{rng.choice(words)} {rng.choice(GLUE)}" for _ in range(rng.randint(2, 5)))
        said = f"{said} {rng.choice(words)}."
    return said[0].upper() + said[1:]


def spoken(said: str, voice: Synthesiser, speaker: int, books: Books) -> tuple[Ints, Ints]:
    """Codes [blocks, books], only the semantic ones known, and letters [blocks]."""
    symbols = encode(read(said).symbols)
    ends = voice.prosody(symbols, speaker).ends
    count = -(-int(ends[-1]) // BLOCK)
    flat = np.array(symbols, np.uint8)
    codes = np.full((count, BOOKS), -1)
    codes[:, 0] = books.semantic(pairs(flat, ends, count))
    return codes, letters(said, flat, ends, count)


def write(data: Path, books: Books, words: Sequence[str], shards: int, seed: int = 1) -> None:
    voice, folder = Synthesiser(), data / "codes" / "common"
    folder.mkdir(parents=True, exist_ok=True)
    for number in track(range(shards), "Everyday words", disable=not os.isatty(1)):
        path, rng = folder / f"{number:04}.npz", random.Random(seed * 1000 + number)
        if path.exists():
            continue
        texts = [said for said in only("train", (text(words, rng) for _ in range(UTTERANCES))) if len(said) <= LONGEST]
        codes, places = zip(*(spoken(said, voice, rng.randrange(len(SPEAKERS)), books) for said in texts), strict=True)
        part = path.with_suffix(".part.npz")
        np.savez(
            part,
            texts=np.frombuffer(json.dumps(texts).encode(), np.uint8),
            codes=np.concatenate(codes).astype(np.int16).view(np.uint16),
            letters=np.concatenate(places).astype(np.int16),
            starts=np.cumsum([0, *map(len, codes)]),
        )
        part.replace(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--run", type=Path, required=True)
    parser.add_argument("--words", type=Path, nargs="+", required=True, help="lists of words, one a line")
    parser.add_argument("--shards", type=int, default=40)
    asked = parser.parse_args()
    lines = [line for path in asked.words for line in path.read_text(encoding="latin-1").split()]
    words = [word for word in lines if re.fullmatch(r"[a-z]{1,12}", word)]
    write(asked.data, Books.load(asked.run / "books.npz"), words, asked.shards)


if __name__ == "__main__":
    main()
