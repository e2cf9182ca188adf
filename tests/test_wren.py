"""The voice that comes with the package: real weights, real speech, through the engine, the server and the commands."""

from __future__ import annotations

import itertools
import json
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import httpx
import numpy as np
import pytest
from typer.testing import CliRunner

from asr import pitch, spoken_words
from saywell.bench.hearing import hear as transcribe
from saywell.bench.hearing import hear_all
from saywell.bench.held_out import sentences
from saywell.bench.word_errors import word_error_rate
from saywell.cli import app
from saywell.engine import launch
from saywell.engine.engine import Engine
from saywell.errors import InvalidText, UnknownVoice
from saywell.models.base import find_spec
from saywell.server.app import create_app
from saywell.settings import Settings
from saywell.text.normalise import normalise
from saywell.types import Audio, Request, SamplingParams

VOICES = ("rms", "slt", "awb", "kal16")
TEXT = (
    "The first sentence is a short one. Then comes another, which says a little more than the first! "
    "Does a third one follow? It does, and it brings a friend; the friend is quiet, and the evening is long."
)


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    made = made_with()
    made.start()
    yield made
    made.close()


def made_with(**fields: object) -> Engine:
    decision = launch.decide(Settings())
    return Engine(decision.spec, replace(decision.plan, adapt=False, **fields))


@pytest.fixture
def planned() -> Iterator[Callable[..., Engine]]:
    made: list[Engine] = []

    def start(**fields: object) -> Engine:
        made.append(made_with(**fields))
        made[-1].start()
        return made[-1]

    yield start
    for one in made:
        one.close()


def ask(text: str = TEXT, seed: int = 1, **fields: object) -> Request:
    return Request(text=text, sampling=SamplingParams(seed=seed), **fields)


def say(engine: Engine, text: str = TEXT, **fields: object) -> Audio:
    return engine.submit(ask(text, **fields)).collect()


def test_it_is_the_model_nobody_has_to_name() -> None:
    assert launch.decide(Settings()).spec.name == "wren"
    assert find_spec(None, voice="slt").name == "wren"
    assert find_spec(None, voice="espeak:de").name == "builtin"
    assert find_spec("builtin", voice="slt").name == "builtin"


# Sound


@pytest.mark.parametrize("voice", VOICES)
def test_what_is_said_is_understood(engine: Engine, voice: str) -> None:
    texts = sentences()[40:52]
    spoken = [say(engine, text, voice=voice) for text in texts]
    heard = hear_all([(audio.samples, audio.sample_rate) for audio in spoken], min(4, os.cpu_count() or 1))
    errors = [word_error_rate(text, words) for text, words in zip(texts, heard, strict=True)]
    assert np.mean(errors) < 0.3


@pytest.mark.parametrize(
    ("text", "heard"),
    [
        ("It costs $42 in 1999.", "it costs forty two dollars in nineteen ninety nine"),
        ("Dr. Smith lives at 12 Main St. near the river.", "doctor smith lives at twelve main street near the river"),
        ("The US has 50 states.", "the u s has fifty states"),
        ("Meet me at 5:30 on the 3rd of March.", "meet me at five thirty on the third of march"),
    ],
)
def test_numbers_and_abbreviations_are_spoken_as_people_do(engine: Engine, text: str, heard: str) -> None:
    audio = say(engine, text)
    assert word_error_rate(heard, transcribe(audio.samples, audio.sample_rate)) <= 0.35


@pytest.mark.parametrize(
    "fields", [{"first_frames": 9, "chunk_frames": 9}, {"slots": 1, "lookahead": 1}, {"slots": 3}, {"threads": 2}]
)
def test_a_plan_does_not_change_the_sound(engine: Engine, planned: Callable[..., Engine], fields: dict) -> None:
    np.testing.assert_array_equal(say(planned(**fields)).samples, say(engine).samples)


def test_streamed_equals_whole(engine: Engine) -> None:
    pieces = [chunk.samples for chunk in engine.submit(ask())]
    assert len(pieces) > 5
    np.testing.assert_array_equal(np.concatenate(pieces), say(engine).samples)


def test_batched_equals_alone(engine: Engine) -> None:
    voices, speeds = itertools.cycle(VOICES), itertools.cycle((0.8, 1.0, 1.7))
    requests = [ask(f"Number {n} speaks. {TEXT}", n, voice=next(voices), speed=next(speeds)) for n in range(7)]
    alone = [engine.submit(replace(request, id=f"alone-{n}")).collect() for n, request in enumerate(requests)]
    together = [stream.collect() for stream in [engine.submit(request) for request in requests]]
    for one, other in zip(alone, together, strict=True):
        np.testing.assert_array_equal(one.samples, other.samples)


def test_the_seed_decides(engine: Engine) -> None:
    first, again, other = (say(engine, seed=seed).samples for seed in (5, 5, 6))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


@pytest.mark.parametrize("voice", VOICES)
def test_speed_changes_the_length_and_not_the_pitch(engine: Engine, voice: str) -> None:
    normal = say(engine, voice=voice)
    for speed in (0.25, 0.5, 2.0, 4.0):
        audio = say(engine, voice=voice, speed=speed)
        # Silence at the edges of a sequence is cut to the same length at any speed.
        assert audio.duration_s == pytest.approx(normal.duration_s / speed, rel=0.12, abs=0.6)
        low, high = sorted((pitch(audio.samples, audio.sample_rate), pitch(normal.samples, normal.sample_rate)))
        assert high / low < 1.12


def test_voices_differ_and_an_unknown_one_is_refused(engine: Engine) -> None:
    assert tuple(voice.id for voice in engine.voices()) == VOICES
    assert len({say(engine, voice=voice).samples.tobytes() for voice in VOICES}) == len(VOICES)
    with pytest.raises(UnknownVoice, match="rms, slt, awb, kal16"):
        engine.submit(ask(voice="nobody"))


# Timestamps


def test_words_are_heard_when_the_timestamps_say(engine: Engine) -> None:
    """Against a recogniser's own idea of where the words it understood begin."""
    audio = say(engine, timestamps=True)
    words = audio.timestamps
    assert [word.text.lower() for word in words] == [word.strip(".,;!?").lower() for word in TEXT.split()]
    times = [time for word in words for phone in word.phones for time in phone[1:]]
    assert times == sorted(times)
    assert times[-1] <= audio.duration_s + 0.3
    starts = {}
    for word in words:
        starts.setdefault(word.text.lower(), []).append(word.start_s)
    understood = spoken_words(audio.samples, audio.sample_rate)
    heard = [(word, at) for word, at in understood if len(word) > 3 and word in starts]
    assert len(heard) > 12
    off = [min(abs(at - start) for start in starts[word]) for word, at in heard]
    assert np.median(off) < 0.04
    assert np.quantile(off, 0.8) < 0.15


def test_timestamps_follow_the_speed(engine: Engine) -> None:
    normal, slow = (say(engine, timestamps=True, speed=speed).timestamps for speed in (1.0, 0.5))
    assert slow[-1].end_s == pytest.approx(2 * normal[-1].end_s, rel=0.1)


@pytest.mark.anyio
async def test_the_server_sends_timestamps_before_the_sound_they_belong_to(engine: Engine) -> None:
    decision = launch.decide(Settings())
    transport = httpx.ASGITransport(create_app(engine, decision))
    body = {"input": TEXT, "voice": "alloy", "response_format": "pcm", "timestamps": True}
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
        refused = await client.post("/v1/audio/speech", json=body)
        answer = await client.post("/v1/audio/speech", json={**body, "stream_format": "sse"})
    assert refused.status_code == 400
    assert "sse" in refused.json()["error"]["message"]
    events = [json.loads(line[6:]) for line in answer.text.split("\n") if line.startswith("data: ")]
    kinds = [event["type"] for event in events]
    assert kinds.index("speech.timestamps") < kinds.index("speech.audio.delta")
    words = [word for event in events if event["type"] == "speech.timestamps" for word in event["words"]]
    assert [word["word"] for word in words[:4]] == ["The", "first", "sentence", "is"]
    assert words[2]["phones"][0]["phone"] == "s"
    assert "seed" not in answer.headers.get("x-saywell-ignored", "")


def test_the_command_writes_timestamps(tmp_path: Path) -> None:
    out, times = tmp_path / "out.wav", tmp_path / "times.json"
    done = CliRunner().invoke(app, ["say", "Good morning.", "-o", str(out), "--timestamps", str(times)])
    assert done.exit_code == 0, done.stderr
    told = json.loads(times.read_text())
    assert [word["word"] for word in told["words"]] == ["Good", "morning"]
    assert 0 < told["words"][1]["end"] <= told["duration"]
    refused = CliRunner().invoke(app, ["say", "Hi.", "-o", str(out), "--model", "builtin", "--timestamps", str(times)])
    assert refused.exit_code == 2
    assert "leave timestamps out" in refused.stderr


# What people send


@pytest.mark.parametrize(
    "text",
    [
        "https://user:pw@example.com:8080/a/b.html?q=1&r=%20#top",
        "for (int i = 0; i < n; ++i) { a[i] ^= ~b[i] << 3; } // done",
        "x" * 300,
        "antidisestablishmentarianism" * 11,
        "Hello мир, 你好 and こんにちは to you all, good people of the world.",
        "!!! ??? ... --- a",
        "''''s 'd've n't",
        "🙂 fine 🙂🙂",
        "a\u0300\u0301\u0302\u0303\u0304b " * 40,
        "ALL CAPITALS ARE SHOUTING AT ME, ISN'T IT SO?",
        "1e400 1/0 -273.15°C 0x1F 192.168.0.1 +1 (555) 010-9999",
    ],
)
def test_hostile_text_is_spoken_in_bounded_time(engine: Engine, text: str) -> None:
    begun = time.perf_counter()
    audio = say(engine, text)
    assert time.perf_counter() - begun < 20
    assert 0.1 < audio.duration_s < 0.9 * len(normalise(text)) + 3


@pytest.mark.parametrize("text", ["你好世界", "Всё хорошо, что хорошо кончается."])
def test_what_it_cannot_read_is_refused_with_a_way_out(engine: Engine, text: str) -> None:
    with pytest.raises(InvalidText, match="espeak:<language>"):
        say(engine, text)


@pytest.mark.slow
def test_ten_minutes_without_a_skipped_or_repeated_sentence(planned: Callable[..., Engine]) -> None:
    text = " ".join(sentences())
    pieces: dict[int, list[np.ndarray]] = {}
    said: dict[int, str] = {}
    for chunk in planned(max_text_chars=20_000).submit(ask(text, timeout_s=3600)):
        pieces.setdefault(chunk.index, []).append(chunk.samples)
        said[chunk.index] = said.get(chunk.index, "") + chunk.text
    assert "".join(said.values()) == text
    assert sum(len(piece) for group in pieces.values() for piece in group) > 500 * 16000
    for index, group in pieces.items():
        spoken = normalise(said[index])
        heard = transcribe(np.concatenate(group), 16000).split()
        words = spoken.lower().split()
        assert 0.75 < len(heard) / len(words) < 1.3, (spoken, heard)
        assert word_error_rate(spoken, " ".join(heard)) < 0.6, (spoken, heard)
