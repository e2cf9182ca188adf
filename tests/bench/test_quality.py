"""The quality benchmark: counting, recognition and scoring of real speech, and its report."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st

from asr import spoken_words
from benchmarks import intervals, quality, takes, weights
from benchmarks.alignment import align
from benchmarks.evenness import spread
from benchmarks.hearing import RATE, Clip, hear
from benchmarks.held_out import sentences, words
from benchmarks.mos import SCALES, WORST, judge
from benchmarks.quality_figures import figures
from benchmarks.speakers import BLOCK_S, Job, first_audible
from benchmarks.spectra import nearest, similarity, spectrum, voice_print
from benchmarks.takes import Take, take
from benchmarks.word_errors import Score, score, verdict, word_error_rate
from paths import FINCH
from saywell.errors import EngineFailure, MissingDependency
from saywell.types import Samples

CLIPS = FINCH / "clips"
RANDOM = np.random.default_rng(5)
WORDS = st.lists(st.sampled_from(["red", "green", "blue", "one"]), max_size=6)


def clip(name: str) -> Clip:
    samples, rate = soundfile.read(CLIPS / f"{name}.flac", dtype="float32")
    return samples, rate


def transcript() -> str:
    return (CLIPS / "transcript.txt").read_text(encoding="ascii").strip()


# Word errors


@pytest.mark.parametrize(
    ("asked", "heard", "rate"),
    [
        ("one two three four", "one two three four", 0),
        ("one two three four", "one too three four", 1 / 4),
        ("one two three four", "one three four", 1 / 4),
        ("one two three four", "one two and three four", 1 / 4),
        ("one two", "", 1),
        ("one", "one two three", 2),
        ("Twelve cats!", "12 cats", 0),
    ],
)
def test_word_error_rate(asked: str, heard: str, rate: float) -> None:
    assert word_error_rate(asked, heard) == pytest.approx(rate)


@given(WORDS.filter(bool), WORDS)
def test_word_errors_are_the_edit_distance(asked: list[str], heard: list[str]) -> None:
    row = list(range(len(heard) + 1))
    for i, word in enumerate(asked, 1):
        corner, row[0] = row[0], i
        for j, other in enumerate(heard, 1):
            corner, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, corner + (word != other))
    assert word_error_rate(" ".join(asked), " ".join(heard)) == row[-1] / len(asked)


def made(errors: int, texts: int = 100, length: int = 10) -> Score:
    """A score with this number of errors, spread over the texts."""
    counts = np.array([[errors // texts + (at < errors % texts), length] for at in range(texts)], dtype=np.int64)
    return Score(counts, counts)


def test_limit_is_one_point() -> None:
    fp32 = made(50)
    assert verdict(fp32, fp32, "fp32").passed
    assert verdict(fp32, fp32, "fp32").certain
    assert verdict(made(60), fp32, "fp32").passed
    assert not verdict(made(61), fp32, "fp32").passed
    assert verdict(made(200), fp32, "fp32").certain
    assert verdict(made(200), fp32, "fp32").added == pytest.approx(0.15)
    assert "+15.0 points of word error rate against fp32" in verdict(made(200), fp32, "fp32").reason
    with pytest.raises(ValueError, match="same texts"):
        verdict(made(1, texts=3), made(1, texts=4), "fp32")


def test_verdict_on_few_texts_is_uncertain() -> None:
    counts = np.array([[0, 10]] * 19 + [[1, 10]], dtype=np.int64)
    clean = np.array([[0, 10]] * 20, dtype=np.int64)
    judged = verdict(Score(counts, counts), Score(clean, clean), "fp32")
    assert (judged.passed, judged.certain) == (True, False)


# Intervals


def test_intervals_contain_the_value_and_shrink_with_more_sentences() -> None:
    few, many = (RANDOM.normal(3, 1, size) for size in (20, 2000))
    widths = []
    for values in (few, many):
        low, high = intervals.mean(values)
        assert low < values.mean() < high
        widths.append(high - low)
    assert widths[1] < 0.2 * widths[0]
    assert widths[1] == pytest.approx(2 * 1.96 / 2000**0.5, rel=0.1)
    assert intervals.mean(few) == intervals.mean(few)


def test_interval_of_a_rate_weighs_texts_by_length() -> None:
    some = score(["one two three four"] * 30 + ["five six"] * 30, ["one two three four"] * 30 + ["five"] * 30)
    low, high = some.interval
    assert low < some.wer == 30 / 180 < high


# Recognition


def test_clip_is_recognised() -> None:
    assert word_error_rate(transcript(), hear(*clip("slt"))) == 0


def test_word_times_match_the_audio() -> None:
    samples, rate = clip("slt")
    pause = np.zeros(25 * rate, np.float32)
    heard = spoken_words(np.concatenate([samples, pause, samples]), rate)
    assert [word for word, _, _ in heard] == 2 * words(transcript())
    size = len(heard) // 2
    first, second = heard[:size], heard[size:]
    assert all(0 <= start < end <= len(samples) / rate for _, start, end in first)
    later = [b[1] - a[1] for a, b in zip(first, second, strict=True)]
    assert np.median(later) == pytest.approx(25 + len(samples) / rate, abs=0.05)


def test_missing_weights_error_names_the_script(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("METER", str(tmp_path))
    with pytest.raises(MissingDependency, match="scripts/meter listen"):
        weights.whisper()
    with pytest.raises(MissingDependency, match="scripts/meter others"):
        weights.others_python(tmp_path)


# Sound


def test_speech_sounds_better_than_noise() -> None:
    samples, rate = clip("slt")
    level = float(np.sqrt(np.mean(samples**2)))
    speech, noise = judge(samples, rate), judge(RANDOM.normal(0, level, len(samples)).astype(np.float32), rate)
    for scale in SCALES:
        assert 1 <= noise[scale] + 1 < speech[scale] <= 5
    assert judge(np.zeros(0, np.float32), rate) == dict.fromkeys(SCALES, WORST)


def test_speakers_are_distinguished() -> None:
    halves = {}
    for name in ("slt", "rms", "awb", "kal16"):
        samples, rate = clip(name)
        halves[name] = [voice_print([spectrum(half, rate)]) for half in np.array_split(samples, 2)]
    known = {name: first for name, (first, _) in halves.items()}
    for name, (_, second) in halves.items():
        assert nearest(second, known) == name
        assert similarity(second, known[name]) == max(similarity(second, other) for other in known.values())


# Speed


def test_the_first_audible_sample() -> None:
    silence, sound = np.zeros(RATE // 10, np.float32), np.full(RATE // 10, 0.01, np.float32)
    assert first_audible([(1.0, sound, RATE)]) == 1.0
    assert first_audible([(1.0, np.concatenate([silence, sound]), RATE)]) == pytest.approx(1.1, abs=BLOCK_S)
    assert first_audible([(1.0, silence, RATE), (2.0, sound, RATE)]) == pytest.approx(2.1, abs=BLOCK_S)
    assert first_audible([(1.0, 0.3 * sound, RATE)]) is None


# Long texts


def heard_as(texts: list[str], errors: float = 0.0) -> str:
    """The words, some of them misheard, evenly spread."""
    spoken = [word for text in texts for word in words(text)]
    return " ".join("thing" if at * errors % 1 < errors else word for at, word in enumerate(spoken))


@pytest.mark.parametrize("errors", [0.0, 0.2, 0.35])
def test_complete_text(errors: float) -> None:
    alignment = align(sentences(), heard_as(list(sentences()), errors))
    assert (alignment.skipped, alignment.repeated) == ((), ())
    assert alignment.matched == pytest.approx(1 - errors, abs=0.05)


@pytest.mark.parametrize("errors", [0.0, 0.2])
@pytest.mark.parametrize("at", [0, 7, 80, 159])
def test_skipped_or_repeated_sentence_is_detected(at: int, errors: float) -> None:
    text = list(sentences())
    left_out = align(text, heard_as(text[:at] + text[at + 1 :], errors))
    assert (left_out.skipped, left_out.repeated) == ((at,), ())
    twice = align(text, heard_as(text[: at + 1] + text[at:], errors))
    assert (twice.skipped, twice.repeated) == ((), (at,))


def test_long_recording_with_repeated_and_missing_sentences() -> None:
    first, second = halves = transcript().replace(". ", ".|").split("|")
    recorded = dict(zip(halves, at_the_pause(*clip("slt")), strict=True))
    text = [first, second, first, second, second, first, second, first, first, second]
    spoken = [*text[:3], text[2], text[3], *text[5:], first, second]
    recording = np.concatenate([recorded[each] for each in spoken])
    rate = clip("slt")[1]
    assert len(recording) > 28 * rate  # longer than one piece of the recogniser
    heard = hear(recording, rate)
    assert word_error_rate(" ".join(spoken), heard) < 0.1


def at_the_pause(samples: Samples, rate: int) -> tuple[Samples, Samples]:
    """The two sentences of a clip."""
    size, quarter = rate // 20, len(samples) // 4
    peaks = np.abs(samples[quarter : quarter + 2 * quarter // size * size]).reshape(-1, size).max(axis=1)
    at = quarter + int(peaks.argmin()) * size + size // 2
    return samples[:at], samples[at:]


# The benchmark


def fake(texts: Any, clips: list[Clip], **more: Any) -> Take:
    count = len(texts)
    known = {"total_s": [0.1] * count, "first_audible_s": [0.05] * count, "errors": [""] * count}
    return Take(texts=texts, clips=clips, packages={"saywell": "0"}, memory_bytes=50_000_000, **{**known, **more})


def test_failed_sentence_counts_as_all_words_wrong() -> None:
    nothing = (np.zeros(0, np.float32), RATE)
    row = figures(fake(["one two"], [nothing], first_audible_s=[None], errors=["lost"]), {})
    assert (row["failed"], row["wer"], row["p808"], row["rtf"]) == (["lost"], 1.0, WORST, None)
    assert row["first_audible_ms"] is None


def test_damaged_voice_is_detected() -> None:
    samples, rate = clip("slt")
    frames = samples[: len(samples) // 2560 * 2560].reshape(-1, 2, 1280)
    good, bad = (fake([transcript()], [(each, rate)]) for each in (samples, frames[:, ::-1].reshape(-1)))
    row = figures(bad, {"fp32": good}, good.voice)
    compared = row["against"]["fp32"]
    assert not compared["verdict"]["passed"]
    assert compared["p808"] < -0.2
    assert compared["p808_interval"][1] < 0


def test_child_process_is_measured() -> None:
    job = Job(texts=sentences()[:2], out="", settings={"adapt": False}, voice=default_voice())
    recorded = take("saywell", job, sys.executable, own_packages=False)
    assert [len(samples) / rate > 1 for samples, rate in recorded.clips] == [True, True]
    assert all(0 < first < 2 for first in recorded.first_audible_s if first is not None)
    assert 20e6 < recorded.memory_bytes < 2e9
    assert set(recorded.packages) >= {"saywell", "numpy"}


def default_voice() -> str:
    from saywell.models.base import find_spec

    return find_spec(None).default_voice


def test_engine_that_cannot_be_imported_is_reported() -> None:
    with pytest.raises(EngineFailure, match="piper failed with exit code 1"):
        take("piper", Job(texts=("A.",), out="", weights="nowhere"), sys.executable, own_packages=False)


def test_evenness_measures_loudness_and_rate_of_the_voiced_part() -> None:
    tone, pause = np.sin(np.arange(4 * RATE) * 0.2).astype(np.float32), np.zeros(2 * RATE, np.float32)
    text = "letters " * 8
    even = spread([(text, tone), (text, np.concatenate([tone, pause])), ("Short.", tone / 100)], RATE)
    assert even == {"chunks": 2, "loudness_db": 0.0, "rate_percent": 0.0}
    uneven = spread([(text, tone), (text, tone[: 2 * RATE] / 2)], RATE)
    assert uneven == {"chunks": 2, "loudness_db": pytest.approx(3.01), "rate_percent": pytest.approx(33.3)}


@pytest.fixture
def fake_engines(monkeypatch: pytest.MonkeyPatch) -> None:
    """Engines that take no time, and perfect recognition."""
    tone = np.sin(np.arange(RATE) * 0.2).astype(np.float32)

    def speak(_engine: str, job: Job, _python: str, **_: object) -> Take:
        return fake(job.texts, [(tone, RATE)] * len(job.texts))

    def check(setup: quality.Setup, _decision: object, *, long: bool) -> dict[str, quality.Check]:
        even = {"chunks": 40, "loudness_db": 1.0, "rate_percent": 10.0}
        minutes = {"seconds": 600.0, "skipped": (), "repeated": (), "matched": 1.0, **even} if long else None
        return {"anna": quality.Check([(tone, RATE)] * 4, [(tone, RATE)] * 4, minutes)}

    monkeypatch.setattr(quality, "take", speak)
    monkeypatch.setattr(weights, "others_python", lambda folder: folder)
    monkeypatch.setattr(quality, "_check", check)
    monkeypatch.setattr(takes, "listen", lambda texts, _clips, _threads: score(texts, texts))
    monkeypatch.setattr(takes.mos, "judge_all", lambda clips: np.full((len(clips), len(SCALES)), 3.5))


@pytest.mark.usefixtures("fake_engines")
def test_last_line_is_json(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert quality.main(["--sentences", "3", "--others", str(tmp_path), "--plot", str(tmp_path / "quality.png")]) == 0
    *shown, line = capsys.readouterr().out.splitlines()
    result = json.loads(line)
    assert set(result) == {"bench", "machine", "load_after", "rows", "good"}
    assert {"cpu", "packages", "load"} <= result["machine"].keys()
    rows = {row["model"]: row for row in result["rows"]}
    assert set(rows) >= {"hibari-tts", "kokoro", "piper"}
    ours = result["rows"][3]
    assert (ours["voice"], ours["precision"], ours["wer"], ours["rtf"]) == ("anna", "int8", 0.0, 0.1)
    assert ours["against"].keys() == quality.OTHERS.keys()
    assert ours["against"]["hibari-tts"]["p808_interval"] == [0, 0]
    assert ours["gates"] == ["hibari-tts"]
    assert (ours["streamed"], ours["batched"], ours["long"]["skipped"]) == (True, True, [])
    assert any("anna" in text and "same" in text for text in shown)
    assert (tmp_path / "quality.png").read_bytes()[:4] == b"\x89PNG"


def row(**more: object) -> dict[str, object]:
    return {"streamed": True, "batched": True, "gates": [], "against": {}, "long": None, **more}


def test_unmet_requirements() -> None:
    failed = {"fp32": {"verdict": {"passed": False}}}
    assert quality.good([row(), row(against=failed)])
    assert not quality.good([row(), row(against=failed, gates=["fp32"])])
    assert not quality.good([row(streamed=False)])
    assert not quality.good([row(batched=False)])
    assert not quality.good([row(long={"skipped": [3], "repeated": []})])
