"""Preparation is independent of level, silence and length of a recording, and rejects noise."""

from __future__ import annotations

import numpy as np
import pytest
import soundfile as sf

from babble import RATE, babble
from paths import FINCH
from saywell.audio import recording
from saywell.audio.recording import LEVEL_DB, LIVELY_DB, beginning, prepare
from saywell.errors import InvalidRequest
from saywell.types import Samples


def prepared(samples: np.ndarray, longest_s: float = 30.0, rate: int = RATE) -> Samples:
    return prepare(samples.astype(np.float32), rate, RATE, longest_s).samples


def level(samples: Samples) -> float:
    return float(10 * np.log10(np.mean(np.square(samples))))


def clips() -> list[tuple[str, Samples]]:
    return [(path.stem, sf.read(path, dtype="float32")[0]) for path in sorted((FINCH / "clips").glob("*.flac"))]


def silence(seconds: float) -> Samples:
    return np.zeros(int(seconds * RATE), np.float32)


@pytest.mark.parametrize("gain", [1e-4, 1e-3, 0.1, 3.0])
def test_level_makes_no_difference(gain: float) -> None:
    speech = babble(4.0)
    np.testing.assert_allclose(prepared(speech * gain), prepared(speech), atol=1e-4)
    assert level(prepared(speech)) == pytest.approx(LEVEL_DB, abs=1.5)


def test_offset_makes_no_difference() -> None:
    np.testing.assert_allclose(prepared(babble(4.0) + 0.3), prepared(babble(4.0)), atol=1e-3)


def test_click_does_not_change_the_level() -> None:
    speech = babble(4.0) * 0.01
    speech[RATE] = 1.0
    assert level(np.delete(prepared(speech), np.s_[RATE - 80 : RATE + 80])) == pytest.approx(LEVEL_DB, abs=1.5)


@pytest.mark.parametrize(("before", "after"), [(0, 20), (20, 0), (8, 8)])
@pytest.mark.parametrize("noise_db", [-300, -60, -45])
def test_silence_around_speech_is_removed(before: float, after: float, noise_db: float) -> None:
    speech = babble(4.0)
    around = np.concatenate([silence(before), speech, silence(after)])
    around += np.random.default_rng(0).normal(0, 10 ** (noise_db / 20), len(around)).astype(np.float32)
    speech = prepared(around)
    assert 3.9 <= len(speech) / RATE <= 4.6
    assert level(speech) == pytest.approx(LEVEL_DB, abs=1.5)


def test_long_pauses_are_shortened_and_short_ones_kept() -> None:
    parts = [babble(2.0, seed=seed) for seed in range(3)]
    long = np.concatenate([parts[0], silence(6), parts[1], silence(0.4), parts[2]])
    assert len(prepared(long)) / RATE == pytest.approx(6 + 0.5 + 0.4, abs=0.15)
    assert np.abs(np.diff(prepared(long))).max() <= np.abs(np.diff(prepared(parts[0]))).max() * 1.5, "no click"


def test_long_recording_is_cut_in_a_pause() -> None:
    sentences = [np.concatenate([babble(2.2, seed=seed), silence(0.3)]) for seed in range(8)]
    result = prepare(np.concatenate(sentences), RATE, RATE, 8.0)
    assert result.cut
    assert result.speech_s == pytest.approx(20.0, abs=0.5)
    assert len(result.samples) / RATE == pytest.approx(7.35, abs=0.15), "in the pause after the third sentence"
    assert not prepare(np.concatenate(sentences), RATE, RATE, 30.0).cut
    assert len(prepared(babble(20.0), 8.0)) / RATE <= 8, "also in speech without pauses"


def test_transcript_is_cut_at_the_same_share() -> None:
    assert beginning("one two three four", 0.5) == "one two"
    assert beginning("one two three four", 1.0) == "one two three four"
    assert beginning("", 0.5) == ""
    assert beginning("こんにちは世界のみなさん", 0.5) == "こんにちは世"


def steps(samples: Samples, dither: bool) -> Samples:
    """Quantised to 8 bits."""
    spread = np.random.default_rng(0).triangular(-1, 0, 1, len(samples)) if dither else 0
    return (np.rint(samples * 127 + spread) / 128).astype(np.float32)


@pytest.mark.parametrize("dither", [False, True])
def test_eight_bit_noise_is_reduced(dither: bool) -> None:
    speech = np.concatenate([babble(2.0), silence(0.4), babble(2.0, seed=1)]) * 0.3
    expected, pause = prepared(speech), np.s_[int(2.1 * RATE) : int(2.3 * RATE)]
    denoised = prepared(steps(speech, dither))[: len(expected)]
    raw = prepared(steps(speech, dither) * np.float32(0.7))[: len(expected)]  # no longer multiples of a step
    error, before = (level(result - expected[: len(result)]) for result in (denoised, raw))
    assert error < before - 1.5
    if dither:
        assert level(denoised[pause]) < level(raw[pause]) - 15


# Recordings without a voice


def pink(count: int, random: np.random.Generator, power: float = 1.0) -> np.ndarray:
    spectrum = np.fft.rfft(random.normal(size=count))
    sound = np.fft.irfft(spectrum / np.maximum(np.arange(len(spectrum)), 1) ** (power / 2), count)
    return 0.3 * sound / np.abs(sound).max()


def noises(seed: int, seconds: int = 6, rate: int = RATE) -> dict[str, np.ndarray]:
    random, t = np.random.default_rng(seed), np.arange(seconds * rate) / rate
    white = random.normal(0, 0.1, len(t))
    return {
        "white": white,
        "white, soft": np.rint(white * 1e-3 * 32768) / 32768,
        "pink": pink(len(t), random),
        "brown": pink(len(t), random, 2.0),
        "hum": sum(0.2 / n * np.sin(2 * np.pi * 50 * n * t) for n in range(1, 12)),
        "hum in hiss": 0.2 * np.sin(2 * np.pi * 50 * t) + 0.1 * white,
        "tone": 0.3 * np.sin(2 * np.pi * 440 * t),
        "tone, on and off": 0.3 * np.sin(2 * np.pi * 1000 * t) * (np.sin(2 * np.pi * t) > 0),
        "swelling": white * (1 + np.sin(2 * np.pi * 4 * t)),
        "on and off": white * (np.sin(2 * np.pi * t) > 0),
        "in silence": white * (t > seconds / 2),
        "clicks": (random.random(len(t)) < 4 / rate) * 1.0,
    }


def judged(samples: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> tuple[float, bool]:
    """(liveliness, whether it is accepted as a voice)."""
    values = [0.0]
    measure = recording.liveliness
    with monkeypatch.context() as patch:
        patch.setattr(recording, "liveliness", lambda shapes: values.append(measure(shapes)) or values[-1])
        try:
            prepared(samples)
        except InvalidRequest:
            return values[-1], False
    return values[-1], True


@pytest.mark.parametrize("seconds", [1, 6])
def test_noise_is_rejected_by_a_margin(seconds: int, monkeypatch: pytest.MonkeyPatch) -> None:
    for seed in range(4):
        for name, noise in noises(seed, seconds).items():
            lively, accepted = judged(noise, monkeypatch)
            assert not accepted, name
            assert lively < LIVELY_DB - 0.1, name


def test_speech_is_accepted_by_a_margin(monkeypatch: pytest.MonkeyPatch) -> None:
    """Clear, and with noise up to the level of the speech."""
    random = np.random.default_rng(0)
    for name, clip in clips() or [("babble", babble(4.0))]:
        for snr_db, least in ((None, 5.5), (20, 3.5), (10, 2.7), (0, LIVELY_DB)):
            noise = 0.0 if snr_db is None else random.normal(0, clip.std() * 10 ** (-snr_db / 20), len(clip))
            lively, accepted = judged(clip + noise, monkeypatch)
            assert accepted, (name, snr_db)
            assert lively > least, (name, snr_db)


def test_synthesised_speech_is_accepted(monkeypatch: pytest.MonkeyPatch) -> None:
    from saywell.engine import launch

    with launch.open(model="hibari") as speaker:
        spoken = speaker.say("The lamp beside the window was lit, and nobody came down to the door.")
    for gain in (1.0, 0.01):
        lively, accepted = judged(prepare(spoken.samples * gain, spoken.sample_rate, RATE, 30.0).samples, monkeypatch)
        assert accepted
        assert lively > 6


@pytest.mark.parametrize(
    "nothing",
    [silence(5), silence(5) + 0.3, np.where(np.arange(5 * RATE) == 9, 1.0, 0.0), np.full(5 * RATE, 1e-6)],
    ids=["zeros", "an offset", "one click", "a soft offset"],
)
def test_silence_is_rejected_as_silent(nothing: np.ndarray) -> None:
    with pytest.raises(InvalidRequest, match="is silent"):
        prepared(nothing)
