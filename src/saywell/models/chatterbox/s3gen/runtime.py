"""The decoder at run time: speech tokens → samples, window by window.

The flow is not causal, so it decodes windows of tokens, which token indices alone determine: any split of the tokens
over calls gives the same bits. A window is a decoding of its own, whose prompt is the voice's and then the last decoded
tokens with their mel spectrogram: the model continues what was heard. The vocoder's outputs depend on `reach` frames on
each side, so it waits for them, and its samples are those of the whole spectrogram.

A window decodes the prompt again, since all its frames see all others and nothing of them can be kept. So windows grow.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import numpy as np
import numpy.typing as npt

from saywell.errors import BadCheckpoint
from saywell.graphs.numerics import Floats
from saywell.models.chatterbox.s3gen.config import S3GenConfig
from saywell.models.chatterbox.s3gen.files import (
    CONFIG,
    FUNDAMENTAL,
    SOURCE,
    VOCODER,
    Precision,
    encoder_file,
    estimator_file,
)
from saywell.models.chatterbox.s3gen.noise import Noise
from saywell.runtimes.base import Threading
from saywell.runtimes.onnx import Graph
from saywell.types import Samples

Tokens = npt.NDArray[np.int64]
T = TypeVar("T")
Work = Generator[None, None, Samples]


@dataclass(frozen=True, slots=True, kw_only=True)
class Windows:
    """How a sequence is cut, and how much each window costs."""

    sizes: tuple[int, ...] = (25, 50, 100)
    """Tokens of the first windows; the last size is that of all others. Empty: one window, when the sequence ends."""
    context: int = 25
    """Tokens before a window that its prompt ends with."""
    prompt: int = 0
    """Tokens of the voice's prompt, counted from its end, that windows use; 0: all."""
    steps: int = 0
    """Steps of the flow; 0: as many as the model was made for."""

    def __post_init__(self) -> None:
        if min((*self.sizes, 1)) < 1 or min(self.context, self.prompt, self.steps) < 0:
            raise ValueError("windows have at least one token, and nothing else is negative")

    def size(self, number: int) -> int | None:
        """Tokens of a window; None: all that come."""
        return self.sizes[min(number, len(self.sizes) - 1)] if self.sizes else None


@dataclass(frozen=True, slots=True, eq=False)
class Voice:
    """What the decoder knows of a speaker."""

    tokens: Tokens
    """Speech tokens of a recording [P]."""
    mel: Floats
    """Its mel spectrogram [frames · P, mel]."""
    xvector: Floats
    """[speaker]."""


@dataclass(slots=True, eq=False)
class DecoderState:
    """One sequence: what came in, and what was made of it."""

    voice: Voice
    noise: Noise
    phases: Floats
    turns: npt.NDArray[np.float64]
    """Of the harmonics, after the last sample of `source`."""
    mel: Floats
    """Of all windows so far, [frames, mel]."""
    tokens: Tokens = field(default_factory=lambda: np.zeros(0, np.int64))
    source: Floats = field(default_factory=lambda: np.zeros(0, np.float32))
    windows: int = 0
    spoken: int = 0
    """Frames whose samples were returned."""

    @property
    def nbytes(self) -> int:
        return self.tokens.nbytes + self.mel.nbytes + self.source.nbytes


class Decoder:
    """Speech tokens → samples. The caller keeps the states of sequences, which are decoded one after another."""

    def __init__(
        self,
        path: Path,
        precision: Precision,
        threading: Threading,
        *,
        windows: Windows | None = None,
        activation_bits: int = 8,
    ) -> None:
        """`activation_bits`: in int8 products; 7 on processors without VNNI. Raises GraphError, BadCheckpoint."""
        self.config, self.windows = read_config(path), windows or Windows()
        self._steps = self.windows.steps or self.config.steps
        self._encoder = Graph(path / encoder_file(precision, activation_bits), threading)
        self._estimator = Graph(path / estimator_file(precision, activation_bits), threading)
        self._fundamental, self._source, self._vocoder = (
            Graph(path / name, threading) for name in (FUNDAMENTAL, SOURCE, VOCODER)
        )

    def start(self, voice: Voice, seed: int) -> DecoderState:
        """The state of a new sequence. Raises ValueError for a voice of another shape."""
        c = self.config
        expected = ((c.frames * len(voice.tokens), c.mel), (c.speaker,))
        if (voice.mel.shape, voice.xvector.shape) != expected or _outside(voice.tokens, c.vocab):
            raise ValueError(f"a voice has {c.frames} mel frames for each speech token, and one x-vector")
        if self.windows.prompt:
            kept = min(self.windows.prompt, len(voice.tokens))
            voice = Voice(
                voice.tokens[len(voice.tokens) - kept :], voice.mel[len(voice.mel) - c.frames * kept :], voice.xvector
            )
        noise = Noise(c, seed)
        turns = np.zeros(c.vocoder.harmonics + 1)
        return DecoderState(voice, noise, noise.phases(), turns, np.zeros((0, c.mel), np.float32))

    def decode(self, state: DecoderState, tokens: npt.NDArray[np.integer[Any]], last: bool) -> Samples:
        """The next tokens [n] → the samples that are ready, float32 within ±0.99. `last`: no more tokens come.

        Advances `state`. Raises ValueError for tokens outside the vocabulary, such as start and stop.
        """
        return completed(self.decoding(state, tokens, last))

    def decoding(self, state: DecoderState, tokens: npt.NDArray[np.integer[Any]], last: bool) -> Work:
        """The same in parts: stops before each run of a large graph, and returns the samples in the end."""
        if _outside(tokens, self.config.vocab):
            raise ValueError(f"speech tokens are 0 … {self.config.vocab - 1}")
        state.tokens = np.concatenate([state.tokens, np.asarray(tokens, np.int64)])
        samples = [np.zeros(0, np.float32)]
        while (stop := self._next(state, last)) is not None:
            ahead = self.config.look_ahead if stop < len(state.tokens) else 0
            mel = yield from self._flow(state, stop, ahead)
            state.mel = np.concatenate([state.mel, mel])
            state.windows += 1
            yield
            samples.append(self._speak(state, last and stop == len(state.tokens)))
        return np.concatenate(samples)

    def _next(self, state: DecoderState, last: bool) -> int | None:
        """The end of the next window, if it can be decoded."""
        start, have = len(state.mel) // self.config.frames, len(state.tokens)
        size = self.windows.size(state.windows)
        if size is not None and start + size + self.config.look_ahead <= have:
            return start + size
        return have if last and start < have else None

    # -- Tokens → mel
    def _flow(self, state: DecoderState, stop: int, ahead: int) -> Generator[None, None, Floats]:
        """The mel spectrogram of the next window, which ends at token `stop` and sees `ahead` more, [frames, mel]."""
        c, voice = self.config, state.voice
        start = len(state.mel) // c.frames
        since = max(0, start - self.windows.context)
        ids = np.concatenate([voice.tokens, state.tokens[since : stop + ahead]])
        yield
        mu, speaker = self._encoder.run({"tokens": ids[None], "xvector": voice.xvector[None]})
        mu = mu[:, : c.frames * (len(ids) - ahead)]
        cond = np.zeros_like(mu)
        known = np.concatenate([voice.mel, state.mel[c.frames * since :]])
        cond[0, : len(known)] = known
        noise = state.noise.prompt(0, len(voice.mel)), state.noise.frames(c.frames * since, c.frames * stop)
        mel = yield from self.flowed(np.concatenate(noise)[None], mu, cond, speaker)
        return np.asarray(mel[0, len(known) :])

    def flowed(self, x: Floats, mu: Floats, cond: Floats, speaker: Floats) -> Generator[None, None, Floats]:
        """Noise [1, frames, mel] → mel spectrogram, by Euler's method."""
        c = self.config
        times = np.linspace(0, 1, self._steps + 1, dtype=np.float32)
        if not c.meanflow:
            times = 1 - np.cos(times * np.float32(0.5 * np.pi))
            mu, cond, speaker = (np.concatenate([each, np.zeros_like(each)]) for each in (mu, cond, speaker))
        for time, end in pairwise(times):
            feeds = {"x": np.repeat(x, len(mu), axis=0), "mu": mu, "cond": cond, "speaker": speaker, "t": time[None]}
            yield
            (slope,) = self._estimator.run({**feeds, "r": end[None]} if c.meanflow else feeds)
            if not c.meanflow:
                slope = (1 + np.float32(c.guidance)) * slope[:1] - np.float32(c.guidance) * slope[1:]
            x = x + (end - time) * slope
        return x

    # -- Mel → samples
    def _speak(self, state: DecoderState, last: bool) -> Samples:
        """The samples of the frames that no frame still to come affects."""
        c, reach = self.config, self.config.vocoder.reach
        sourced = len(state.mel) if last else max(0, len(state.mel) - c.vocoder.f0_layers)
        self._extend_source(state, sourced)
        stop = sourced if last else max(state.spoken, sourced - reach)
        if stop == state.spoken:
            return np.zeros(0, np.float32)
        since, until = max(0, state.spoken - reach), min(sourced, stop + reach)
        feeds = {"mel": state.mel[since:until], "source": state.source[c.frame * since : c.frame * until]}
        samples: Samples = self._vocoder.run(feeds)[0][c.frame * (state.spoken - since) : c.frame * (stop - since)]
        samples = self._faded(samples, c.frame * state.spoken)
        state.spoken = stop
        return samples

    def _extend_source(self, state: DecoderState, stop: int) -> None:
        """The source up to frame `stop`; its phase goes on where it was."""
        c, layers = self.config, self.config.vocoder.f0_layers
        start = len(state.source) // c.frame
        if start >= stop:
            return
        since = max(0, start - layers)
        (f0,) = self._fundamental.run({"mel": state.mel[since : stop + layers]})
        feeds = {"f0": f0[start - since : stop - since], "start": state.turns, "phases": state.phases}
        source, state.turns = self._source.run({**feeds, "noise": state.noise.source(start, stop)})
        state.source = np.concatenate([state.source, source])

    def _faded(self, samples: Samples, start: int) -> Samples:
        """The beginning of a sequence, where the prompt still sounds, is silent for 20 ms and then faded in."""
        half = self.config.sample_rate // 50
        inside = slice(start, min(2 * half, start + len(samples)))
        fade = np.zeros(2 * half, np.float32)
        fade[half:] = (np.cos(np.linspace(np.pi, 0, half)) + 1) / 2
        if inside.stop > inside.start:
            samples[: inside.stop - inside.start] *= fade[inside]
        return samples


def completed(work: Generator[None, None, T]) -> T:
    """What a generator returns."""
    while True:
        try:
            next(work)
        except StopIteration as done:
            result: T = done.value
            return result


def read_config(path: Path) -> S3GenConfig:
    """Of a converted decoder. Raises BadCheckpoint."""
    try:
        return msgspec.json.decode((path / CONFIG).read_bytes(), type=S3GenConfig)
    except (OSError, msgspec.DecodeError) as error:
        raise BadCheckpoint(f"{CONFIG} cannot be read, so convert the checkpoint again: {error}") from None


def _outside(tokens: npt.NDArray[np.integer[Any]], vocab: int) -> bool:
    return bool(len(tokens)) and not 0 <= int(tokens.min()) <= int(tokens.max()) < vocab
