"""From symbols to samples: two graphs of ONNX Runtime, and a source and its filter (`source.py`).

    encode     symbols of one utterance → a code and a length for each          once an utterance
    decode     codes and places of a tile of frames → F0, cepstrum, strengths   tile after tile
    source     frames → samples                                                 tile after tile

Tiles lie at fixed places of the utterance, with the same frames of context around each every time, so what is heard
does not depend on who asks for how much, when, or beside whom.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from saywell.executors.base import Threading
from saywell.executors.onnx import Graph
from saywell.models.wren.phones import IDS, WORD
from saywell.models.wren.source import HOP, ORDER, Floats, State, sharpened, sound

DATA = Path(__file__).parent / "data"
ONE = Threading(threads=1, spin=False)
FRAMES_PER_STEP = 2
FIRST_STEPS, STEPS = 32, 96
"""Steps of 10 ms of the first tile and of all others: the first is small, it is waited for."""
LONGEST_LOG_FRAMES = float(np.log(400))
"""No symbol lasts longer than 2 s, whatever the network says."""


@dataclass(frozen=True)
class Prosody:
    """What an utterance will be before it sounds.

    ends: the frame of 5 ms after the last of each symbol [symbols]. natural: frames of each at speed 1 [symbols].
    codes: of each symbol [symbols, width].
    """

    speaker: int
    ends: npt.NDArray[np.int64]
    natural: Floats
    codes: Floats

    @property
    def frames(self) -> int:
        return int(self.ends[-1])

    @property
    def samples(self) -> int:
        return self.frames * HOP


@dataclass
class Speech:
    """An utterance being spoken: how many of its tiles are, and where the source is."""

    prosody: Prosody
    state: State
    step: int = field(default=0)

    @property
    def over(self) -> bool:
        return self.step * FRAMES_PER_STEP >= self.prosody.frames


class Synthesiser:
    """The weights of one folder: encode.onnx, decode.onnx, voice.json.

    Several threads may speak at once, each a Speech of its own: everything here is read only.
    """

    def __init__(self, folder: Path = DATA, threading: Threading = ONE) -> None:
        """Raises GraphError for a file that cannot be loaded."""
        about = json.loads((folder / "voice.json").read_text(encoding="utf-8"))
        self.speakers: tuple[str, ...] = tuple(about["speakers"])
        self._context = int(about["context"])
        self._gain = np.array(about["gain"], np.float32)
        self._emphasis: tuple[float, ...] = tuple(about["emphasis"])
        self._encode = Graph(folder / "encode.onnx", threading)
        self._decode = Graph(folder / "decode.onnx", threading)

    def prosody(self, symbols: list[int], speaker: int, speed: float = 1.0) -> Prosody:
        """How long each of `symbols` (ids of `phones`) lasts at `speed`; the pitch does not depend on it."""
        fed = {"symbols": np.array([symbols], np.int64), "speaker": np.array([speaker], np.int64)}
        codes, logs = self._encode.run(fed)
        natural = np.exp(np.minimum(logs[0], LONGEST_LOG_FRAMES)) * _lasting(symbols)
        ends = np.rint(np.cumsum(natural.astype(np.float64)) / speed).astype(np.int64)
        ends[-1] += -ends[-1] % FRAMES_PER_STEP
        return Prosody(speaker, ends, natural.astype(np.float32), codes[0])

    def begin(self, prosody: Prosody, seed: int = 0) -> Speech:
        return Speech(prosody, State(seed))

    def speak(self, speech: Speech) -> Floats:
        """The next samples of `speech`, −1…1; none when it is over."""
        if speech.over:
            return np.zeros(0, np.float32)
        steps = STEPS if speech.step else FIRST_STEPS
        frames = self._frames(speech.prosody, speech.step, steps)
        speech.step += steps
        f0, voiced = np.exp(frames[:, 0]), frames[:, 1]
        strengths, speaker = frames[:, 2 + ORDER :].clip(0, 1), speech.prosody.speaker
        cepstrum = sharpened(frames[:, 2 : 2 + ORDER], self._emphasis[speaker])
        samples = sound(f0, voiced, cepstrum, strengths, speech.state, speech.over)
        return np.asarray(np.clip(samples * self._gain[speaker], -1, 1))

    def whole(self, prosody: Prosody, seed: int = 0) -> Floats:
        return np.concatenate(list(self.pieces(prosody, seed)))

    def pieces(self, prosody: Prosody, seed: int = 0) -> Iterator[Floats]:
        speech = self.begin(prosody, seed)
        while not speech.over:
            yield self.speak(speech)

    def _frames(self, prosody: Prosody, step: int, steps: int) -> Floats:
        """Frames of `steps` steps from `step` on, less what lies behind the end [frames, 2 + ORDER + 5]."""
        first = (step - self._context) * FRAMES_PER_STEP
        number = np.arange(first, first + (steps + 2 * self._context) * FRAMES_PER_STEP)
        inside = (number >= 0) & (number < prosody.frames)
        owner = np.searchsorted(prosody.ends, number.clip(0, prosody.frames - 1), side="right")
        starts = np.concatenate([[0], prosody.ends[:-1]])[owner]
        lasts = prosody.natural[owner]
        elapsed = (number - starts + 0.5) * lasts / (prosody.ends[owner] - starts)
        fed: dict[str, npt.NDArray[Any]] = {
            "codes": prosody.codes[owner][None],
            "places": places(np.where(inside, elapsed, 0.5), np.where(inside, lasts, 1.0))[None],
            "known": inside[None, None, ::FRAMES_PER_STEP].astype(np.float32),
            "speaker": np.array([prosody.speaker], np.int64),
        }
        (frames,) = self._decode.run(fed)
        begin = self._context * FRAMES_PER_STEP
        end = begin + min(steps * FRAMES_PER_STEP, prosody.frames - step * FRAMES_PER_STEP)
        return np.asarray(frames[0, begin:end])


def places(elapsed: npt.NDArray[np.float64], frames: npt.NDArray[np.float64]) -> Floats:
    """Where a frame is in its symbol [frames, 10]: `elapsed` of `frames`, both of natural length. As it was trained."""
    part, left = elapsed / frames, frames - elapsed
    waves = [np.cos(np.pi * turn * part) for turn in (1, 2, 3, 4)]
    near = [np.exp(-elapsed / 4), np.exp(-left / 4), np.exp(-elapsed / 16), np.exp(-left / 16)]
    return np.stack([*waves, *near, part, np.log(frames) / 3], -1).astype(np.float32)


def _lasting(symbols: list[int]) -> npt.NDArray[np.float32]:
    """0 for the marks that last no frame, 1 for all others."""
    return np.array([symbol != IDS[WORD] for symbol in symbols], np.float32)
