"""Shards of the corpus in memory, and batches of utterances of like length."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from saywell.models.wren.phones import SPEAKERS
from training.wren.nets import FRAMES_PER_STEP, places

EACH = 48
"""Batches drawn at once, so that utterances of like length meet."""


@dataclass(frozen=True)
class Utterance:
    """symbols, ends [symbols]; frames [frames, 31]; speaker: place in SPEAKERS."""

    speaker: int
    symbols: npt.NDArray[np.uint8]
    ends: npt.NDArray[np.int32]
    frames: npt.NDArray[np.float16]


@dataclass(frozen=True)
class Batch:
    symbols: Tensor
    speaker: Tensor
    lengths: Tensor
    owner: Tensor
    place: Tensor
    known: Tensor
    target: Tensor
    voiced: Tensor
    inside: Tensor


class Corpus:
    """Utterances of all shards there are; `refresh` takes in new ones."""

    def __init__(self, data: Path) -> None:
        self._data = data
        self._seen: set[Path] = set()
        self.utterances: list[Utterance] = []
        self.valid: list[Utterance] = []

    def refresh(self) -> None:
        """Load new shards. The last utterance in 100 of each is for validation."""
        for path in sorted(set((self._data / "corpus").glob("*/[0-9][0-9][0-9][0-9].npz")) - self._seen):
            found = list(load(path))
            self.utterances += found[:-1]
            self.valid += found[-1:]
            self._seen.add(path)

    def batches(self, frames: int, rng: np.random.Generator) -> Iterator[Batch]:
        """Batches of about `frames` frames, for ever."""
        while True:
            drawn = sorted(
                (self.utterances[i] for i in rng.integers(len(self.utterances), size=EACH * 8)),
                key=lambda one: len(one.frames),
            )
            groups = list(grouped(drawn, frames))
            for place in rng.permutation(len(groups)):
                yield collate(groups[place])


def load(path: Path) -> Iterator[Utterance]:
    """Utterances of a shard."""
    shard = np.load(path)
    symbols, ends, frames = shard["symbols"], shard["ends"], shard["frames"]
    at, begin = shard["symbol_starts"], shard["frame_starts"]
    speaker = SPEAKERS.index(path.parent.name)
    for one in range(len(at) - 1):
        here = frames[begin[one] : begin[one + 1]]
        yield Utterance(speaker, symbols[at[one] : at[one + 1]], ends[at[one] : at[one + 1]], here)


def grouped(utterances: list[Utterance], frames: int) -> Iterator[list[Utterance]]:
    group: list[Utterance] = []
    for one in utterances:
        if group and (len(group) + 1) * len(one.frames) > frames:
            yield group
            group = []
        group.append(one)
    if group:
        yield group


def targets(one: Utterance) -> npt.NDArray[np.float32]:
    """log F0 (carried on where there is no voice), voicing, cepstrum, strengths [frames, OUTPUTS]."""
    frames = one.frames.astype(np.float32)
    voiced = frames[:, 0] > 30
    number = np.arange(len(frames))
    pitch = np.log(np.interp(number, number[voiced], frames[voiced, 0])) if voiced.any() else np.full(len(frames), 4.6)
    return np.concatenate([pitch[:, None], voiced[:, None], frames[:, 1:]], 1).astype(np.float32)


def collate(group: list[Utterance]) -> Batch:
    """Utterances of one batch, filled up with padding to an even number of frames."""
    frames = -(-max(len(one.frames) for one in group) // FRAMES_PER_STEP) * FRAMES_PER_STEP
    rows = [_row(one, frames) for one in group]
    elapsed, natural, owner, inside, target = (torch.from_numpy(np.stack(parts)) for parts in zip(*rows, strict=True))
    longest = max(len(one.symbols) for one in group)
    symbols = np.stack([np.pad(one.symbols, (0, longest - len(one.symbols))) for one in group]).astype(np.int64)
    lengths = [np.pad(np.diff(one.ends, prepend=0), (0, longest - len(one.ends))) for one in group]
    return Batch(
        symbols=torch.from_numpy(symbols),
        speaker=torch.tensor([one.speaker for one in group]),
        lengths=torch.from_numpy(np.stack(lengths).astype(np.float32)),
        owner=owner,
        place=places(elapsed, natural),
        known=inside[:, None, ::FRAMES_PER_STEP],
        target=target,
        voiced=target[..., 1],
        inside=inside,
    )


def _row(one: Utterance, frames: int) -> tuple[npt.NDArray[Any], ...]:
    """elapsed, natural, owner, inside [frames], target [frames, OUTPUTS] of one utterance, with padding behind."""
    size, number = len(one.frames), np.arange(len(one.frames))
    lengths = np.diff(one.ends, prepend=0)
    owner = np.searchsorted(one.ends, number, side="right")
    elapsed = number - (one.ends - lengths)[owner] + 0.5
    behind = (0, frames - size)
    return (
        np.pad(elapsed, behind, constant_values=0.5).astype(np.float32),
        np.pad(lengths[owner], behind, constant_values=1).astype(np.float32),
        np.pad(owner, behind),
        np.pad(np.ones(size, np.float32), behind),
        np.pad(targets(one), (behind, (0, 0))),
    )
