"""Phones → samples: the voice's graph in two parts, and a source-filter vocoder.

    front    phones of an utterance → durations, F0, and hidden features of each frame    once
    back     features of a window and its neighbours → spectra                            window by window
    vocoder  spectra and F0 → samples                                                     window by window

Window boundaries depend only on the utterance, so streamed output equals whole output. Windows are not causal: the
convolutions span 27 frames to either side. The spectra are the package's (hop 300, FFT 1200, Hann, 24 kHz): pulses at
F0 under the harmonic filter, noise under its own filter, and a part with free phases, added in the frequency domain.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Executor
from dataclasses import dataclass, field
from itertools import chain, repeat

import numpy as np
import numpy.typing as npt

from saywell.runtimes.base import Threading
from saywell.runtimes.onnx import Graph
from saywell.runtimes.subgraph import Model

RATE = 24000
HOP, FFT = 300, 1200
OVERLAP = FFT // HOP
UNIT = 2
"""Frames of 12.5 ms per unit of duration."""
LOOK = 16
"""Context frames on either side of a window. The back's convolutions span 27, but the outer eleven contribute less
than the 8-bit rounding error."""
WINDOWS = (32, 384)
"""Frames of the first window, kept short for an early first sound, and of all others."""
AHEAD = 2
"""Frames of F0 after a window that its pulses need."""
LEAD, TAIL = 10, 6
"""At most so many frames are audible before the end of the leading pause, and after the start of the last mark
(measured: 8 and 2). The silence beyond is not computed."""
GAIN = 10 ** (4 / 20)
"""+4 dB, to match the level of other voices. Without it, the loudest of 120 sentences peaked at .62."""
VOICED_HZ, TOP_HZ = 40.0, 11000.0
MAX_LOG = 7.0
"""Log magnitudes are clipped there, as in the package."""

SPECTRA = ("lh", "theta", "ln", "lr", "phi")
"""Log magnitude and phase (tanh, in half turns) of the harmonics, log magnitude of the noise, and of the free part
with its phase."""
BINS = FFT // 2 + 1

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]

_ONE = Threading(spin=False)
_WINDOW = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(FFT) / FFT)
_TO_SPECTRUM = _WINDOW / HOP  # NumPy's forward transform is several times faster in double precision
# Squared, the windows of four frames add up to 1.5.
_FROM_SPECTRUM = (_WINDOW * GAIN / 1.5).astype(np.float32)


@dataclass(frozen=True, slots=True)
class Score:
    """The front's output for an utterance.

    ends: end frame of each phone and of the pauses around them [phones + 2]. f0: Hz, below 40 unvoiced [frames].
    inner: hidden features for the back [1, 130, frames].
    """

    ends: Ints
    f0: Floats
    inner: Floats
    rate: float
    """Frames of the score per spoken frame; above 1: frames are skipped, speech is faster."""

    @property
    def first(self) -> int:
        """The first frame that is spoken."""
        return max(0, int(self.ends[0]) - LEAD)

    @property
    def last(self) -> int:
        """The frame at which the final silence starts."""
        return min(len(self.f0), int(self.ends[-3]) + TAIL)

    @property
    def taken(self) -> Ints:
        """Indices of the spoken frames."""
        count = round((len(self.f0) - self.first) / self.rate)
        taken = self.first + np.rint(np.arange(count) * self.rate).astype(np.int64)
        return np.asarray(np.minimum(taken, len(self.f0) - 1))

    @property
    def seconds(self) -> float:
        """Duration of the audio."""
        return len(self.taken) * (HOP / RATE)

    @property
    def times(self) -> npt.NDArray[np.float64]:
        """End of each phone in the audio, in seconds [phones + 2]."""
        return ((self.ends - self.first) / self.rate + OVERLAP // 2) * (HOP / RATE)


class Acoustic:
    """One voice. Threads may share it, each with an utterance of its own."""

    def __init__(self, graph: bytes, pool: Executor) -> None:
        """`pool`: loads the parts. Raises ValueError for a graph with another structure."""
        model = Model(graph)
        divided = model.consumer("speed", "Div")
        self._natural = divided.inputs[0]
        clipped = model.consumer(model.consumer(divided.outputs[0], "Round").outputs[0], "Clip")
        self._lasting = model.consumer(clipped.outputs[0], "Cast").outputs[0]
        self._inner = next((node.inputs[0] for node in model.nodes if node.name == "/dec_in/Conv"), "")
        front = model.cut(("ids", "speed"), (self._inner, "f0", self._lasting, self._natural))
        split = model.producer(SPECTRA[0])
        if split.outputs != SPECTRA:
            raise ValueError("the graph's spectra are in another order")
        # Before the split they are contiguous per frame, as the vocoder needs them.
        self._spectra = model.producer(split.inputs[0]).inputs[0]
        back = model.cut((self._inner,), (self._spectra,))
        self._front = pool.submit(Graph, front, _ONE, name="the voice's encoder", arena=False)
        self._back = pool.submit(Graph, back, _ONE, name="the voice's decoder", arena=False)

    def score(self, ids: Ints, speed: float) -> Score:
        """`ids` of the phones, 0 at both ends [phones + 2]. `speed`: relative to natural, exact; pitch is preserved.

        Below 1, phones are lengthened; above 1, frames of natural speech are skipped, which is more intelligible than
        shortened phones.
        """
        stretch = np.array([min(1.0, speed)], np.float32)
        inner, f0, lasting, natural = self._front.result().run({"ids": ids[None], "speed": stretch})
        ends = np.cumsum(lasting) * UNIT
        whole = float(np.maximum(1, np.rint(natural)).sum()) * UNIT
        return Score(ends, f0[0], inner, float(ends[-1]) * speed / whole)

    def speak(self, score: Score, seed: int) -> Iterator[Floats]:
        """Samples of one window at a time; the last includes the final silence."""
        taken = score.taken
        vocoder = _Vocoder(np.pad(score.f0[taken], (0, AHEAD), "edge"), np.random.SFC64(seed))
        begin, last, frames = score.first, score.last, len(score.f0)
        for size in chain(WINDOWS, repeat(WINDOWS[-1])):
            end = min(begin + size, last)
            low, high = max(0, begin - LOOK), min(frames, end + LOOK)
            (spectra,) = self._back.result().run({self._inner: np.ascontiguousarray(score.inner[:, :, low:high])})
            chosen = taken[np.searchsorted(taken, begin) : np.searchsorted(taken, end)] - low
            # At natural speed a view suffices.
            samples = vocoder.sound(spectra[0, begin - low : end - low] if score.rate == 1 else spectra[0, chosen])
            if end == last:
                silent = len(taken) - int(np.searchsorted(taken, last))
                yield np.concatenate((samples, np.zeros(silent * HOP, np.float32)))
                return
            yield samples
            begin = end


@dataclass
class _Vocoder:
    """The state of an utterance. It does not depend on the window boundaries.

    f0: of all frames, and AHEAD more. frame: index of the next. cycles: phase of the pulses, in periods. late: pulses
    of the last three hops [3 × HOP]. tail: overlap-add of earlier frames into the next three hops [3, HOP].
    """

    f0: Floats
    noise: np.random.SFC64
    frame: int = 0
    cycles: float = 0.0
    late: npt.NDArray[np.float64] = field(default_factory=lambda: np.zeros((OVERLAP - 1) * HOP))
    tail: Floats = field(default_factory=lambda: np.zeros((OVERLAP - 1, HOP), np.float32))

    def sound(self, spectra: Floats) -> Floats:
        """Samples of the next frames [frames × HOP]. `spectra`: the SPECTRA concatenated [frames, 5 × BINS]."""
        frames = len(spectra)
        if not frames:  # at high speed all frames of a short window may be skipped
            return np.zeros(0, np.float32)
        harmonics, angle, noise, free, phase = (spectra[:, start : start + BINS] for start in range(0, 5 * BINS, BINS))
        fresh = self._pulses(self.f0[self.frame : self.frame + frames + AHEAD]).astype(np.float64)
        train = np.concatenate((self.late, fresh))
        self.frame += frames
        self.late = train[frames * HOP :]
        windows = np.lib.stride_tricks.sliding_window_view(train, FFT)[::HOP]
        spectrum = np.fft.rfft(windows * _TO_SPECTRUM).astype(np.complex64)
        spectrum *= _polar(harmonics, np.tanh(angle) * np.float32(np.pi))
        spectrum += self._noise(frames) * _magnitude(noise)
        spectrum += _polar(free, phase)
        sounds = np.fft.irfft(spectrum, FFT).astype(np.float32, copy=False)
        sounds *= _FROM_SPECTRUM
        return self._overlap_add(sounds.reshape(frames, OVERLAP, HOP))

    def _noise(self, frames: int) -> npt.NDArray[np.complex64]:
        """Complex Gaussian noise, variance 1 in each component [frames, BINS]."""
        raw = self.noise.random_raw(frames * -(-BINS // 4)).view(np.uint16).reshape(frames, -1)
        return np.asarray(_GAUSSIAN[raw[:, :BINS] & (len(_GAUSSIAN) - 1)])

    def _overlap_add(self, sounds: Floats) -> Floats:
        frames = len(sounds)
        blocks = np.zeros((frames + OVERLAP - 1, HOP), np.float32)
        blocks[: OVERLAP - 1] = self.tail
        for hop in range(OVERLAP):
            blocks[hop : hop + frames] += sounds[:, hop]
        self.tail = blocks[frames:]
        return np.clip(blocks[:frames].reshape(-1), -1, 1)

    def _pulses(self, f0: Floats) -> Floats:
        """Pulses of the last hops of the next frames' windows, [(len(f0) - AHEAD) × HOP].

        Σ cos(h·phase) over all harmonics below 11 kHz in closed form, where voiced. A frame's window is centred at the
        start of its hop; F0 is given for the middle of the hop and interpolated linearly.
        """
        half = HOP // 2
        hops = np.empty((len(f0) - AHEAD, HOP), np.float32)
        hops[:, :half] = f0[:-2, None] + (f0[1:-1] - f0[:-2])[:, None] * _RAMP[half:]
        hops[:, half:] = f0[1:-1, None] + (f0[2:] - f0[1:-1])[:, None] * _RAMP[:half]
        hertz = hops.reshape(-1)
        voiced = hertz > VOICED_HZ
        hertz = np.maximum(hertz, np.float32(VOICED_HZ))
        cycles = np.cumsum(hertz, dtype=np.float64)
        cycles *= 1 / RATE
        cycles += self.cycles
        cycles -= np.floor(cycles)
        self.cycles = float(cycles[-1])
        turn = cycles.astype(np.float32) * np.float32(2 * np.pi)
        divisor = 2 * np.sin(turn / 2)
        near = np.abs(divisor) <= 2e-3
        divisor[near] = 1
        top = np.floor(np.float32(TOP_HZ) / hertz) + np.float32(0.5)
        train = np.sin(top * turn) / divisor
        train[near] = top[near]
        train -= np.float32(0.5)
        return np.asarray(train * voiced)


_GAUSSIAN = np.random.Generator(np.random.SFC64(0)).standard_normal(2 * 4096, np.float32).view(np.complex64)
"""A table of noise values, sampled at random: a quarter of the cost of generating Gaussian noise."""
_RAMP = ((np.arange(HOP) + 0.5) / HOP).astype(np.float32)
"""Interpolation weight of the later of two frames, between their middles."""


def _magnitude(logarithm: Floats) -> Floats:
    return np.asarray(np.exp(np.minimum(logarithm, np.float32(MAX_LOG))))


def _polar(logarithm: Floats, angle: Floats) -> npt.NDArray[np.complex64]:
    value = np.empty(logarithm.shape, np.complex64)
    magnitude = _magnitude(logarithm)
    np.multiply(magnitude, np.cos(angle), out=value.real)
    np.multiply(magnitude, np.sin(angle), out=value.imag)
    return value
