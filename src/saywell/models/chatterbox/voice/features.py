"""Spectral features of a reference clip, as the networks were trained on them. Mono float32 samples throughout.

Each network has its own front end; their constants are those of the published code, so none is a setting.
"""

from __future__ import annotations

import math
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

from saywell.graphs.numerics import Floats
from saywell.types import Samples

RATE, HIGH_RATE = 16000, 24000
"""Hz of the encoders' input; Hz of the speech that the model makes."""
PROMPT_FFT, PROMPT_HOP, PROMPT_BINS, PROMPT_TOP_HZ = 1920, 480, 80, 8000.0
FFT, HOP = 400, 160
"""Of the 16 kHz mels; the same window and hop as those of `fbank`."""
TOKEN_BINS, SPEAKER_BINS, FBANK_BINS = 128, 40, 80
FBANK_FFT = 512
WINDOW, STEP, COVERAGE = 160, 77, 0.8
"""Frames of a window of the speaker encoder and between two of them; the share of the last one that must be sound."""
TRIM_DB, TRIM_FRAME, TRIM_HOP = 20.0, 2048, 512
LOUDNESS = -27.0
"""LUFS of a clip for Turbo."""
_BLOCK_S, _BLOCK_HOP_S = 0.4, 0.1
_GATE, _BELOW = -70.0, -10.0
_OFFSET = -0.691
_RING = 1 << 13
"""Samples after which the K-weighting filters have died away, below the precision of float64."""
_WIDTH, _ROLLOFF = 6, 0.99

Doubles = npt.NDArray[np.float64]


def downsampled(samples: Samples, from_hz: int = HIGH_RATE, to_hz: int = RATE) -> Samples:
    """[n] → [⌈n · to / from⌉] by a windowed sinc of six zero crossings: the resampler of the decoder's training."""
    common = math.gcd(from_hz, to_hz)
    before, after = from_hz // common, to_hz // common
    kernels, width = _sinc(before, after)
    padded = np.pad(samples, (width, width + before))
    taps = np.lib.stride_tricks.sliding_window_view(padded, kernels.shape[1])[::before]
    return (taps @ kernels.T).reshape(-1)[: -(-len(samples) * after // before)]


@cache
def _sinc(before: int, after: int) -> tuple[Floats, int]:
    """Kernels [after, taps] of each output between two steps of the input, and the samples before the first."""
    base = min(before, after) * _ROLLOFF
    width = math.ceil(_WIDTH * before / base)
    time = np.arange(-width, width + before)[None] / before - np.arange(after)[:, None] / after
    time = np.clip(time * base, -_WIDTH, _WIDTH)
    kernels = np.sinc(time) * np.cos(time * np.pi / _WIDTH / 2) ** 2 * base / before
    return kernels.astype(np.float32), width


def prompt_mel(samples: Samples) -> Floats:
    """24 kHz → log-magnitude mel [⌊n / 480⌋, 80] of the decoder's prompt."""
    side = (PROMPT_FFT - PROMPT_HOP) // 2
    power = _power(np.pad(samples, side, mode="reflect"), PROMPT_FFT, PROMPT_HOP, _hann(PROMPT_FFT))
    filters = mel_filters(HIGH_RATE, PROMPT_FFT, PROMPT_BINS, PROMPT_TOP_HZ)
    magnitudes = np.sqrt(power + np.float32(1e-9))
    return np.asarray(np.log(np.maximum(magnitudes @ filters.T, np.float32(1e-5))))


def token_mel(samples: Samples) -> Floats:
    """16 kHz → log mel [⌊n / 160⌋, 128] of the speech tokeniser, at most 80 dB below its peak."""
    power = _power(np.pad(samples, FFT // 2, mode="reflect"), FFT, HOP, _hann(FFT))[:-1]
    levels = np.log10(np.maximum(power @ mel_filters(RATE, FFT, TOKEN_BINS).T, np.float32(1e-10)))
    return np.asarray((np.maximum(levels, levels.max() - np.float32(8)) + np.float32(4)) / np.float32(4))


def speaker_mel(samples: Samples) -> Floats:
    """16 kHz → power mel [1 + ⌊n / 160⌋, 40] of the speaker encoder, linear."""
    power = _power(np.pad(samples, FFT // 2, mode="reflect"), FFT, HOP, _hann(FFT))
    return power @ mel_filters(RATE, FFT, SPEAKER_BINS).T


def windows(mel: Floats) -> Floats:
    """A speaker mel [T, 40] → its overlapping windows [N, 160, 40], of which zeros complete the last."""
    count, rest = divmod(max(len(mel) - WINDOW + STEP, 0), STEP)
    if count == 0 or (rest + WINDOW - STEP) / WINDOW >= COVERAGE:
        count += 1
    end = WINDOW + STEP * (count - 1)
    whole = np.pad(mel, ((0, max(0, end - len(mel))), (0, 0)))
    return np.stack([whole[start : start + WINDOW] for start in range(0, STEP * count, STEP)])


def trimmed(samples: Samples) -> Samples:
    """16 kHz samples without the ends that are 20 dB softer than the loudest moment."""
    padded = np.pad(samples, TRIM_FRAME // 2)
    frames = np.lib.stride_tricks.sliding_window_view(padded, TRIM_FRAME)[::TRIM_HOP]
    power = np.array([np.mean(np.square(frame)) for frame in frames])
    levels = 10 * np.log10(np.maximum(power, 1e-10))
    loud = np.flatnonzero(levels - levels.max() > -TRIM_DB)
    return samples[loud[0] * TRIM_HOP : (loud[-1] + 1) * TRIM_HOP]


def fbank(samples: Samples) -> Floats:
    """16 kHz → Kaldi's log filter bank [1 + ⌊(n − 400) / 160⌋, 80] without its mean over time. At least 400 samples."""
    frames = np.lib.stride_tricks.sliding_window_view(samples, FFT)[::HOP]
    frames = frames - frames.mean(axis=1, keepdims=True)
    before = np.concatenate([frames[:, :1], frames[:, :-1]], axis=1)
    window = np.hanning(FFT).astype(np.float32) ** np.float32(0.85)
    spectra = np.fft.rfft((frames - np.float32(0.97) * before) * window, FBANK_FFT)
    energies = (np.abs(spectra) ** 2).astype(np.float32) @ _kaldi_filters().T
    levels = np.log(np.maximum(energies, np.finfo(np.float32).eps))
    return np.asarray(levels - levels.mean(axis=0, keepdims=True))


def levelled(samples: Samples, rate: int) -> Samples:
    """Samples at LOUDNESS; unchanged if they hold no sound."""
    gain = 10 ** ((LOUDNESS - loudness(samples, rate)) / 20)
    return samples * np.float32(gain) if math.isfinite(gain) else samples


def loudness(samples: Samples, rate: int) -> float:
    """Integrated loudness in LUFS by ITU-R BS.1770-4; −∞ for silence and for less than 0.4 s."""
    size = round(_BLOCK_S * rate)
    if len(samples) < size:
        return -math.inf
    energy = np.cumsum(np.concatenate([[0.0], np.square(_weighted(samples, rate))]))
    starts = np.arange(round((len(samples) / rate - _BLOCK_S) / _BLOCK_HOP_S) + 1) * _BLOCK_HOP_S * rate
    first = starts.astype(int)
    last = np.minimum((starts + _BLOCK_S * rate).astype(int), len(samples))
    blocks = (energy[last] - energy[first]) / (_BLOCK_S * rate)
    loud = blocks[_lufs(blocks) >= _GATE]
    if not len(loud):
        return -math.inf
    loud = blocks[_lufs(blocks) > max(_GATE, float(_lufs(loud.mean())) + _BELOW)]
    return float(_lufs(loud.mean()))


def _lufs(power: Doubles) -> Doubles:
    return np.asarray(_OFFSET + 10 * np.log10(np.maximum(power, 1e-30)))


def _weighted(samples: Samples, rate: int) -> Doubles:
    """K-weighting: a shelf of 4 dB from 1.5 kHz, then a high-pass at 38 Hz, exactly, as a product of spectra."""
    size = 1 << (len(samples) + _RING - 1).bit_length()
    z = np.exp(-2j * np.pi * np.arange(size // 2 + 1) / size)
    response = _biquad(*_shelf(rate), z) * _biquad(*_high_pass(rate), z)
    return np.fft.irfft(np.fft.rfft(samples.astype(np.float64), size) * response, size)[: len(samples)]


def _biquad(over: Doubles, under: Doubles, z: npt.NDArray[np.complex128]) -> npt.NDArray[np.complex128]:
    return np.asarray((over[0] + over[1] * z + over[2] * z * z) / (under[0] + under[1] * z + under[2] * z * z))


def _shelf(rate: int) -> tuple[Doubles, Doubles]:
    """High shelf of 4 dB at 1.5 kHz with Q = 1/√2, by the Audio EQ Cookbook: numerator and denominator."""
    a, w = 10 ** (4 / 40), 2 * math.pi * 1500 / rate
    cos, slope = math.cos(w), 2 * math.sqrt(a) * math.sin(w) / math.sqrt(2)
    up, down = a + 1, a - 1
    over = a * np.array([up + down * cos + slope, -2 * (down + up * cos), up + down * cos - slope])
    return over, np.array([up - down * cos + slope, 2 * (down - up * cos), up - down * cos - slope])


def _high_pass(rate: int) -> tuple[Doubles, Doubles]:
    """At 38 Hz with Q = 0.5, as above."""
    w = 2 * math.pi * 38 / rate
    cos, alpha = math.cos(w), math.sin(w)
    return (1 + cos) / 2 * np.array([1.0, -2.0, 1.0]), np.array([1 + alpha, -2 * cos, 1 - alpha])


def _power(samples: Samples, size: int, hop: int, window: Floats) -> Floats:
    """Power spectra [frames, size / 2 + 1]."""
    frames = np.lib.stride_tricks.sliding_window_view(samples, size)[::hop]
    return (np.abs(np.fft.rfft(frames * window)) ** 2).astype(np.float32)


def _hann(size: int) -> Floats:
    """Periodic."""
    return np.hanning(size + 1)[:-1].astype(np.float32)


@cache
def mel_filters(rate: int, size: int, bins: int, top_hz: float = 0.0) -> Floats:
    """Triangles of equal area on Slaney's scale from 0 Hz, [bins, size / 2 + 1]. `top_hz`: by default half the rate."""
    edges = _slaney_hz(np.linspace(0, _slaney_mel(top_hz or rate / 2), bins + 2))
    ramps = edges[:, None] - np.fft.rfftfreq(size, 1 / rate)
    widths = np.diff(edges)[:, None]
    triangles = np.maximum(0, np.minimum(-ramps[:-2] / widths[:-1], ramps[2:] / widths[1:]))
    return (triangles * (2 / (edges[2:] - edges[:-2]))[:, None]).astype(np.float32)


def _slaney_mel(hz: float) -> float:
    """Linear below 1 kHz, logarithmic above it."""
    return hz * 3 / 200 if hz < 1000 else 15 + 27 * math.log(hz / 1000) / math.log(6.4)


def _slaney_hz(mel: Doubles) -> Doubles:
    return np.where(mel < 15, mel * 200 / 3, 1000 * np.exp((mel - 15) * math.log(6.4) / 27))


@cache
def _kaldi_filters() -> Floats:
    """Triangles of height one on the HTK scale from 20 Hz, [80, 257]."""
    low, high = _htk_mel(np.array([20.0, RATE / 2]))
    step = (high - low) / (FBANK_BINS + 1)
    left = low + step * np.arange(FBANK_BINS)[:, None]
    mel = _htk_mel(np.fft.rfftfreq(FBANK_FFT, 1 / RATE))
    triangles = np.maximum(0, np.minimum((mel - left) / step, (left + 2 * step - mel) / step))
    triangles[:, -1] = 0
    return np.asarray(triangles, np.float32)


def _htk_mel(hz: npt.NDArray[np.floating[Any]]) -> Doubles:
    return np.asarray(1127 * np.log1p(hz / 700), np.float64)
