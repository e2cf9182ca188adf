"""What the autoregressive model reads: utterances of one speaker, one after the other, as the engine's prompt has them.

    <|interleave|> <|speaker:0|> text codes <|im_end|> <|speaker:0|> text codes <|im_end|>

The first one stands where a reference does, so its codes alone tell how the second is to sound; most are what the
encoder heard (`heard.py`). How the first begins is learned from one speaker alone, who becomes the voice without one.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from saywell.models.dual_ar.prompt import SPEAKER
from saywell.models.dual_ar.tokenizer import IM_END
from saywell.models.wren.phones import SPEAKERS
from training.dual_ar.blocks import Ints
from training.dual_ar.books import ENTRIES
from training.dual_ar.sizes import BEGIN, BOOKS, BYTES, SPECIALS

LONGEST_TEXT, LONGEST_BLOCKS = 110, 150
NONE = -1
"""No code there; nothing to learn there."""
DEFAULT = SPEAKERS.index("rms")
BEGINNING = 16
"""Blocks by which a speaker is known."""
PAIRED, JOINED = 0.75, 0.25
"""How often a second utterance follows; how often the first is two in one, as references are longer than sentences."""
HEARD = 0.9
"""How often the first of two is one the encoder has heard, as it heard it."""
EVERYDAY = 0.35
"""Share of the sentences without sound."""
EACH = 24
"""Batches drawn at once, so that sequences of like length meet."""


@dataclass(frozen=True)
class Utterance:
    """codes [blocks, books], NONE where unknown; letters [blocks], places in the text, NONE where unknown.

    heard: the codes its sound has for the encoder; None: not known.
    """

    text: bytes
    speaker: int
    codes: Ints
    letters: Ints
    heard: Ints | None = None


@dataclass(frozen=True)
class Batch:
    """tokens [B, T]; codes [B, T, books], NONE at text; semantic [B, T] and residual [B, T, books - 1]: what follows.

    letters [B, T]: the position in the sequence of the letter to be spoken next, NONE where unknown.
    """

    tokens: Tensor
    codes: Tensor
    semantic: Tensor
    residual: Tensor
    letters: Tensor


def load(path: Path) -> Iterator[Utterance]:
    """Utterances of a shard that are neither long nor of words no voice says."""
    with np.load(path) as shard:
        texts, codes, starts = json.loads(bytes(shard["texts"])), shard["codes"].astype(np.int16), shard["starts"]
        letters, known = shard["letters"], path.parent.name in SPEAKERS
    speaker = SPEAKERS.index(path.parent.name) if known else NONE
    hearing = list(heard(path.parents[2] / "heard" / path.parent.name / path.name))
    for one, text in enumerate(texts):
        here = slice(starts[one], starts[one + 1])
        if len(text) <= LONGEST_TEXT and here.stop - here.start <= LONGEST_BLOCKS and not any(map(str.isdigit, text)):
            known_sound = hearing[one] if hearing else None
            yield Utterance(text.encode("ascii"), speaker, codes[here], letters[here], known_sound)


def heard(path: Path) -> Iterator[Ints]:
    """Codes of the utterances of a shard as the encoder hears them; none where it has not been asked."""
    if path.exists():
        with np.load(path) as shard:
            yield from np.split(shard["codes"].astype(np.int16), shard["starts"][1:-1])


class Speech:
    """All utterances there are codes of; one shard in 40 is for validation."""

    def __init__(self, data: Path) -> None:
        paths = sorted((data / "codes").glob("*/[0-9][0-9][0-9][0-9].npz"))
        self.training = [list(load(path)) for path in paths if int(path.stem) % 40 != 39 or len(paths) < 40]
        self.valid = [one for path in paths if int(path.stem) % 40 == 39 or len(paths) < 40 for one in load(path)]
        by_speaker: dict[int, list[Utterance]] = {}
        for one in (each for shard in self.training for each in shard):
            by_speaker.setdefault(one.speaker, []).append(one)
        self._speakers = list(by_speaker.values())
        self._heard = [[one for one in each if one.heard is not None] for each in self._speakers]
        sizes = np.array([len(one) for one in self._speakers], float)
        unspoken = np.array([speaker == NONE for speaker in by_speaker])
        self._share = np.where(unspoken, EVERYDAY, sizes * (1 - EVERYDAY) / max(1, sizes[~unspoken].sum()))
        self._share /= self._share.sum()

    def batches(self, positions: int, rng: np.random.Generator) -> Iterator[Batch]:
        """Batches of about `positions` positions, for ever; sequences of one utterance or two."""
        while True:
            drawn = sorted((self._sequence(rng) for _ in range(EACH * positions // 250)), key=lambda one: one.length)
            groups = list(grouped(drawn, positions))
            for place in rng.permutation(len(groups)):
                yield collate(groups[place])

    def _sequence(self, rng: np.random.Generator) -> Sequence:
        speaker = rng.choice(len(self._speakers), p=self._share)
        among, paired = self._speakers[speaker], rng.random() < PAIRED
        hear = bool(paired and self._heard[speaker] and rng.random() < HEARD)
        before = self._heard[speaker] if hear else among
        first, more = (before[place] for place in rng.integers(len(before), size=2))
        if rng.random() < JOINED and len(first.text) + len(more.text) < LONGEST_TEXT:
            first = joined(first, more)
        return sequence([first, among[rng.integers(len(among))]] if paired else [first], hear)


def joined(one: Utterance, other: Utterance) -> Utterance:
    """Both, a space between their texts."""
    moved = np.where(other.letters == NONE, NONE, other.letters + len(one.text) + 1)
    codes, letters = np.concatenate([one.codes, other.codes]), np.concatenate([one.letters, moved])
    both = None if one.heard is None or other.heard is None else np.concatenate([one.heard, other.heard])
    return Utterance(one.text + b" " + other.text, one.speaker, codes, letters, both)


def as_heard(one: Utterance, codes: Ints) -> Utterance:
    """The same with other codes; they may be a block fewer or more."""
    missing = max(0, len(codes) - len(one.letters))
    letters = np.pad(one.letters, (0, missing), constant_values=NONE)[: len(codes)]
    return Utterance(one.text, one.speaker, codes, letters)


@dataclass(frozen=True)
class Sequence:
    """Like a row of a Batch. From which position on semantic codes (`said`) and residual ones (`own`) are learned."""

    tokens: Ints
    codes: Ints
    letters: Ints
    said: int
    own: int

    @property
    def length(self) -> int:
        return len(self.tokens)


def sequence(utterances: list[Utterance], hear: bool = False) -> Sequence:
    """One after the other, with the markers between. `hear`: the first as the encoder heard it, not to be learned."""
    first, said = utterances[0], 0
    if hear and first.heard is not None:
        utterances = [as_heard(first, first.heard), *utterances[1:]]
        said = 3 + len(first.text) + len(first.heard)
    tokens, codes, letters = [[SPECIALS["<|interleave|>"]]], [np.full((1, BOOKS), NONE)], [np.full(1, NONE)]
    at = 1
    for one in utterances:
        text = [SPECIALS[SPEAKER], *one.text]
        count = len(one.codes)
        tokens += [text, BEGIN + one.codes[:, 0], [SPECIALS[IM_END]]]
        codes += [np.full((len(text), BOOKS), NONE), one.codes, np.full((1, BOOKS), NONE)]
        places = np.where(one.letters == NONE, NONE, one.letters + at + 1)
        # What is spoken next is looked for one position before it is said.
        letters += [np.full(len(text) - 1, NONE), places, np.full(2, NONE)]
        at += len(text) + count + 1
    own = 0 if first.speaker == DEFAULT else 1 + len(first.text) + BEGINNING
    return Sequence(np.concatenate(tokens), np.concatenate(codes), np.concatenate(letters), said, max(said, own))


def grouped(drawn: list[Sequence], positions: int) -> Iterator[list[Sequence]]:
    group: list[Sequence] = []
    for one in drawn:
        if group and (len(group) + 1) * one.length > positions:
            yield group
            group = []
        group.append(one)
    if group:
        yield group


def collate(group: list[Sequence]) -> Batch:
    longest = max(one.length for one in group)
    tokens = np.stack([np.pad(one.tokens, (0, longest - one.length), constant_values=BYTES + 2) for one in group])
    codes, letters = (
        np.stack(
            [
                np.pad(part, ((0, longest - len(part)), *((0, 0),) * (part.ndim - 1)), constant_values=NONE)
                for part in parts
            ]
        )
        for parts in ([one.codes for one in group], [one.letters for one in group])
    )
    following, after = np.roll(tokens, -1, 1), np.roll(codes, -1, 1)
    end = (following == SPECIALS[IM_END]) & (tokens >= BEGIN)
    semantic = np.where(end, ENTRIES, after[..., 0])
    semantic[:, -1], after[:, -1] = NONE, NONE
    for number, one in enumerate(group):
        semantic[number, : one.said] = NONE
        after[number, : one.own, 1:] = NONE
    parts = (tokens, codes, semantic, after[..., 1:], letters)
    return Batch(*(torch.from_numpy(np.ascontiguousarray(part, dtype=np.int64)) for part in parts))
