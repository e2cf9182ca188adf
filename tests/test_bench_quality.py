"""The meter: it counts right, hears what is damaged, and finds what is left out."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from saywell.bench import quality, quality_report
from saywell.bench.alignment import align
from saywell.bench.hearing import RATE, hear
from saywell.bench.held_out import sentences, words
from saywell.bench.quality_figures import Take, figures, pause
from saywell.bench.spectra import distance, nearest, spectrum, voice_print
from saywell.bench.word_errors import Score, score, verdict, word_error_rate
from saywell.engine.launch import open as speak
from saywell.types import Samples

TEXTS = sentences()[:5]
RANDOM = np.random.default_rng(5)
WORDS = st.lists(st.sampled_from(["red", "green", "blue", "one"]), max_size=6)


@pytest.fixture(scope="module")
def takes() -> dict[str, Take]:
    with speak("builtin") as speaker:
        return {
            voice: Take(TEXTS, [(speaker.say(text, voice=voice).samples, RATE) for text in TEXTS])
            for voice in ("rms", "slt")
        }


@pytest.fixture(scope="module")
def good(takes: dict[str, Take]) -> Take:
    """What the damaged ones are compared with."""
    return Take(TEXTS[:3], takes["rms"].clips[:3])


def damaged(take: Take, how: str) -> Take:
    return Take(take.texts, [(DAMAGE[how](samples), rate) for samples, rate in take.clips])


def every_third_frame_lost(samples: Samples) -> Samples:
    frames = samples[: len(samples) // 480 * 480].reshape(-1, 3, 160)
    return frames[:, :2].reshape(-1)


def noise(samples: Samples) -> Samples:
    return (samples + 0.05 * RANDOM.standard_normal(len(samples))).astype(np.float32)


def frames_in_disorder(samples: Samples) -> Samples:
    frames = samples[: len(samples) // 1280 * 1280].reshape(-1, 2, 640)
    return frames[:, ::-1].reshape(-1)


DAMAGE = {each.__name__: each for each in (every_third_frame_lost, noise, frames_in_disorder)}


# Counting


@pytest.mark.parametrize(
    ("asked", "heard", "rate"),
    [
        ("one two three four", "one two three four", 0),
        ("one two three four", "one too three four", 1 / 4),
        ("one two three four", "one three four", 1 / 4),
        ("one two three four", "one two and three four", 1 / 4),
        ("one two", "", 1),
        ("one", "one two three", 2),
        ("Twelve cats!", "twelve cats", 0),
        ("12 cats", "twelve cats", 0),
    ],
)
def test_word_error_rate(asked: str, heard: str, rate: float) -> None:
    assert word_error_rate(asked, heard) == pytest.approx(rate)


@given(WORDS.filter(bool), WORDS)
def test_edits_are_the_fewest(asked: list[str], heard: list[str]) -> None:
    row = list(range(len(heard) + 1))
    for i, word in enumerate(asked, 1):
        corner, row[0] = row[0], i
        for j, other in enumerate(heard, 1):
            corner, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, corner + (word != other))
    assert word_error_rate(" ".join(asked), " ".join(heard)) == row[-1] / len(asked)


def made(errors: int, texts: int = 100, length: int = 10) -> Score:
    """So many errors, spread over the texts."""
    counts = np.array([[errors // texts + (at < errors % texts), length] for at in range(texts)], dtype=np.int64)
    return Score(counts, counts)


def test_interval_holds_the_rate_and_shrinks_with_more_text() -> None:
    few, many = made(20, 20), made(200, 2000)
    for each in (few, many):
        low, high = each.interval
        assert low <= each.wer <= high
    some = score(["one two three four"] * 30 + ["five six"] * 30, ["one two three four"] * 30 + ["five"] * 30)
    low, high = some.interval
    assert low < some.wer == 30 / 180 < high


def test_the_gate_is_one_point() -> None:
    fp32 = made(50)
    assert verdict(fp32, fp32).passed
    assert verdict(fp32, fp32).certain
    assert verdict(made(60), fp32).passed
    assert not verdict(made(61), fp32).passed
    assert verdict(made(200), fp32).certain
    assert verdict(made(200), fp32).added == pytest.approx(0.15)
    assert "15.0 points" in verdict(made(200), fp32).reason
    with pytest.raises(ValueError, match="same texts"):
        verdict(made(1, texts=3), made(1, texts=4))


def test_a_verdict_by_few_texts_is_uncertain() -> None:
    counts = np.array([[0, 10]] * 19 + [[1, 10]], dtype=np.int64)
    clean = np.array([[0, 10]] * 20, dtype=np.int64)
    found = verdict(Score(counts, counts), Score(clean, clean))
    assert (found.passed, found.certain) == (True, False)


# Listening


def test_a_good_voice_is_understood(takes: dict[str, Take]) -> None:
    assert takes["rms"].score.wer < 0.2
    assert takes["rms"].score.cer < takes["rms"].score.wer


@pytest.mark.parametrize("how", DAMAGE)
def test_damage_is_noticed(good: Take, how: str) -> None:
    bad = damaged(good, how)
    row = figures(bad, good)
    judged = verdict(bad.score, good.score)
    assert not judged.passed
    assert judged.added > 0.1
    assert row["fp32_db"] > 3


@pytest.fixture(scope="module")
def long_recording(takes: dict[str, Take]) -> str:
    """What is heard of one in which the second sentence comes twice and the third is missing."""
    clips = [samples for samples, _ in takes["rms"].clips]
    joined = np.concatenate([*clips[:2], clips[1], *clips[3:]])
    assert len(joined) > 18 * RATE  # longer than the first piece may be
    return hear(joined, RATE)


def test_a_long_recording_is_heard_in_pieces(long_recording: str) -> None:
    said = [*TEXTS[:2], TEXTS[1], *TEXTS[3:]]
    assert word_error_rate(" ".join(said), long_recording) < 0.2


# Spectra


def test_distance_knows_no_pace_but_colour(takes: dict[str, Take]) -> None:
    samples, rate = takes["rms"].clips[0]
    mine, other = spectrum(samples, rate), spectrum(takes["slt"].clips[0][0], rate)
    assert distance(mine, mine) == 0
    assert distance(mine, np.repeat(mine, 2, axis=0)) == 0
    assert distance(mine, spectrum(noise(samples), rate)) > 3
    assert distance(mine, other) == pytest.approx(distance(other, mine))
    assert distance(mine, other) > 3


def test_speakers_are_told_apart(takes: dict[str, Take]) -> None:
    spectra = {name: [each for each in take.spectra if each is not None] for name, take in takes.items()}
    known = {name: voice_print(each[:3]) for name, each in spectra.items()}
    for name, each in spectra.items():
        assert [nearest(voice_print([one]), known) for one in each[3:]] == [name] * 2
    assert figures(takes["slt"], prints=known, speaker="slt")["speaker"] == 1
    assert figures(takes["slt"], prints=known, speaker="rms")["speaker"] == 0


# Levels


def test_clipping_and_pauses() -> None:
    tone = np.sin(np.arange(RATE) * 0.2).astype(np.float32)
    gap = np.concatenate([tone, np.zeros(RATE // 2, np.float32), tone, np.zeros(RATE, np.float32)])
    assert pause(gap, RATE) == pytest.approx(0.5, abs=0.03)
    assert pause(np.zeros(RATE, np.float32), RATE) == 0
    row = figures(Take(["a b"], [(np.clip(4 * tone, -1, 1), RATE)]))
    assert row["clipped"] > 0.5
    assert row["s_per_word"] == 0.5


def test_what_could_not_be_spoken_counts_in_full() -> None:
    row = figures(Take(["one two"], [(np.zeros(0, np.float32), RATE)]))
    assert (row["failed"], row["wer"], row["pause_s"]) == (1, 1.0, None)


# Long texts


def heard_as(texts: list[str], errors: float = 0.0) -> str:
    """The words, some of them misheard."""
    said = [word for text in texts for word in words(text)]
    return " ".join("thing" if RANDOM.random() < errors else word for word in said)


@pytest.mark.parametrize("errors", [0.0, 0.2, 0.35])
def test_all_there(errors: float) -> None:
    found = align(sentences(), heard_as(list(sentences()), errors))
    assert (found.skipped, found.repeated) == ((), ())
    assert found.matched == pytest.approx(1 - errors, abs=0.05)


@pytest.mark.parametrize("errors", [0.0, 0.2])
@pytest.mark.parametrize("at", [0, 7, 80, 159])
def test_a_sentence_left_out_or_said_twice_is_found(at: int, errors: float) -> None:
    text = list(sentences())
    left_out = align(text, heard_as(text[:at] + text[at + 1 :], errors))
    assert (left_out.skipped, left_out.repeated) == ((at,), ())
    twice = align(text, heard_as(text[: at + 1] + text[at:], errors))
    assert (twice.skipped, twice.repeated) == ((), (at,))


def test_a_long_recording_with_a_sentence_twice_and_one_missing(long_recording: str) -> None:
    found = align(TEXTS, long_recording)
    assert (found.skipped, found.repeated) == ((2,), (1,))


# The whole


def test_fast(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    setup = quality.Setup(models=("builtin",), voices=("rms", "kal16"), sentences=4, long=False)
    rows = list(quality.measure(setup, Console()))
    assert [(row["voice"], row["precision"], row["default"]) for row in rows] == [
        ("rms", "fp32", True), ("kal16", "fp32", True),
    ]  # fmt: skip
    for row in rows:
        assert row["streamed"]
        assert row["batched"]
        assert row["speaker"] == 1
        assert row["wer"] < 0.4
        assert row["failed"] == row["clipped"] == 0
        assert 0.2 < row["s_per_word"] < 0.6
    assert quality.good(rows)
    json.dumps(rows)
    quality_report.show(Console(width=160), rows)
    table = capsys.readouterr().out
    assert "kal16" in table
    assert "same" in table
    assert [path.read_bytes()[:4] for path in quality_report.plot(rows, tmp_path)] == [b"\x89PNG"]


def row(**more: object) -> dict[str, object]:
    return {"streamed": True, "batched": True, "default": True, "verdict": None, "long": None, **more}


def test_what_is_not_good() -> None:
    assert quality.good([row(), row(verdict={"passed": False}, default=False)])
    assert not quality.good([row(), row(verdict={"passed": False})])
    assert not quality.good([row(streamed=False)])
    assert not quality.good([row(batched=False)])
    assert not quality.good([row(long={"skipped": [3], "repeated": []})])


def test_of_whom_a_voice_was_learned() -> None:
    assert [quality.teacher(name) for name in ("slt", "like rms", "wren-kal16", "default", "salt")] == [
        "slt", "rms", "kal16", None, None,
    ]  # fmt: skip
