"""The default voice: real speech through the engine, the server and the commands."""

from __future__ import annotations

import hashlib
import itertools
import json
import shutil
import time
from collections.abc import Callable, Iterator
from collections.abc import Sequence as Sequence_
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import httpx
import numpy as np
import pytest
from typer.testing import CliRunner

from asr import pitch
from benchmarks.alignment import align
from benchmarks.hearing import Clip, hear
from benchmarks.held_out import sentences
from benchmarks.mos import SCALES, judge_all
from benchmarks.takes import listen
from saywell.cli import app
from saywell.engine import launch
from saywell.engine.engine import Engine
from saywell.errors import MissingDependency, ModelFailure, UnknownModel, UnknownVoice
from saywell.hub import sources
from saywell.manifest import Manifest
from saywell.models.base import find_spec, load_family
from saywell.models.hibari import acoustic, package
from saywell.models.hibari.reader import Reader, unpack
from saywell.server.app import create_app
from saywell.settings import Settings
from saywell.text.normalise import normalise
from saywell.types import Audio, Request, SamplingParams, Sequence

TEXT = (
    "The first sentence is a short one. Then comes another, which says a little more than the first! "
    "Does a third one follow? It does, and it brings a friend; the friend is quiet, and the evening is long."
)
AUDIBLE = 10 ** (-50 / 20)


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    made = made_with()
    made.start()
    yield made
    made.close()


def made_with(model_path: Path | None = None, **fields: object) -> Engine:
    decision = launch.decide(Settings(model_path=model_path))
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


def audible(samples: np.ndarray, rate: int) -> np.ndarray:
    """True for each audible block of 5 ms."""
    size = rate // 200
    return np.abs(samples[: len(samples) // size * size]).reshape(-1, size).max(axis=1) > AUDIBLE


def test_it_is_the_default_model() -> None:
    assert launch.decide(Settings()).spec.name == "hibari"
    assert find_spec(None, voice="alloy").default_voice == "heart"


def test_retired_names_still_speak_with_one_warning(engine: Engine, caplog: pytest.LogCaptureFixture) -> None:
    assert find_spec("wren").name == "hibari"
    heart = say(engine, "Good morning.").samples
    for name in ("rms", "SLT", "rms"):
        np.testing.assert_array_equal(say(engine, "Good morning.", voice=name).samples, heart)
    messages = [record.message for record in caplog.records]
    assert sum("wren was removed" in message for message in messages) == 1
    assert sum("rms was removed" in message for message in messages) == 1


def test_unknown_voice_is_rejected(engine: Engine) -> None:
    with pytest.raises(UnknownVoice, match="this model has heart"):
        engine.submit(ask(voice="nobody"))


# Sound


@pytest.mark.parametrize(
    "fields",
    [
        {"first_frames": 9, "chunk_frames": 9},
        {"max_batch_size": 1, "max_parallel_chunks": 1},
        {"max_batch_size": 3},
        {"threads": 1},
    ],
)
def test_plan_does_not_change_the_sound(engine: Engine, planned: Callable[..., Engine], fields: dict) -> None:
    np.testing.assert_array_equal(say(planned(**fields)).samples, say(engine).samples)


def test_streamed_equals_whole(engine: Engine) -> None:
    pieces = [chunk.samples for chunk in engine.submit(ask())]
    assert len(pieces) > 3
    np.testing.assert_array_equal(np.concatenate(pieces), say(engine).samples)


def test_batched_equals_alone(engine: Engine) -> None:
    speeds = itertools.cycle((0.8, 1.0, 1.7))
    requests = [ask(f"Number {n} speaks. {TEXT}", n, speed=next(speeds)) for n in range(7)]
    alone = [engine.submit(replace(request, id=f"alone-{n}")).collect() for n, request in enumerate(requests)]
    together = [stream.collect() for stream in [engine.submit(request) for request in requests]]
    for one, other in zip(alone, together, strict=True):
        np.testing.assert_array_equal(one.samples, other.samples)


def test_seed_determines_the_samples(engine: Engine) -> None:
    first, again, other = (say(engine, seed=seed).samples for seed in (5, 5, 6))
    np.testing.assert_array_equal(first, again)
    assert len(first) == len(other)
    assert not np.array_equal(first, other)


@pytest.mark.parametrize("speed", [0.5, 0.8, 1.1, 1.3, 2.0])
def test_speed_is_exact_and_pitch_is_preserved(engine: Engine, speed: float) -> None:
    normal, audio = (say(engine, TEXT[:98], speed=each) for each in (1.0, speed))
    heard = [np.flatnonzero(audible(each.samples, each.sample_rate)) for each in (normal, audio)]
    lasting = [(each[-1] - each[0]) / 200 for each in heard]
    assert lasting[1] == pytest.approx(lasting[0] / speed, rel=0.03, abs=0.06)
    low, high = sorted(pitch(each.samples, each.sample_rate) for each in (normal, audio))
    assert high / low < 1.08


@pytest.mark.parametrize("rate", [1.0, 3.3, 4.0])
def test_any_length_is_spoken_at_any_speed(rate: float) -> None:
    """Including a last window so short that all its frames are skipped."""
    with ThreadPoolExecutor(1) as pool:
        voice = acoustic.Acoustic(package.read("assets/hibari.onnx"), pool)
    for last in range(33, 60):
        ends = np.array([acoustic.LEAD, last - acoustic.TAIL, last + 4, last + 20])
        inner = np.zeros((1, 130, last + 20), np.float32)
        score = acoustic.Score(ends, np.full(last + 20, 120, np.float32), inner, rate)
        assert len(np.concatenate(list(voice.speak(score, 0)))) == round((last + 20) / rate) * 300


def test_audio_starts_with_speech(engine: Engine) -> None:
    spoken = [say(engine, text) for text in ("Hello there.", "Fish and chips.", "She sells.", "What is it?", "Ten.")]
    firsts = [int(np.flatnonzero(audible(audio.samples, audio.sample_rate))[0]) * 5 for audio in spoken]
    assert np.median(firsts) <= 20, firsts
    assert max(firsts) <= 60, firsts  # f and sh begin softly


def test_pauses_between_sentences_are_natural(planned: Callable[..., Engine]) -> None:
    """Both within a sequence and between two sequences."""
    text = "The harbour was quiet that morning. Nobody had slept well. The boats came in late."
    for engine in (planned(), planned(first_chunk_chars=30, chunk_chars=30)):
        audio = say(engine, text)
        edges = np.flatnonzero(np.diff(audible(audio.samples, audio.sample_rate).astype(int)))
        gaps = np.sort(np.diff(edges)) / 200
        assert all(0.3 < gap < 0.6 for gap in gaps[-2:] if gap < 0.6), gaps
        pauses = [gap for start, gap in zip(edges, np.diff(edges) / 200, strict=False) if gap > 0.3]
        assert len(pauses) >= 2, pauses


def test_level_is_fixed_and_does_not_clip(engine: Engine) -> None:
    loud = [float(np.abs(say(engine, text).samples).max()) for text in (TEXT, "No!", "Stop right there!", "Yes.")]
    assert 0.3 < np.median(loud) < 0.9
    assert max(loud) < 0.99


def test_vocoder_equals_the_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without noise, against the formula for a whole utterance, at any window boundaries."""
    monkeypatch.setattr(acoustic._Vocoder, "_noise", lambda _, frames: np.zeros((frames, 601), np.complex64))
    voice = acoustic.Acoustic(package.read("assets/hibari.onnx"), ThreadPoolExecutor(1))
    score = voice.score(np.array([0, 50, 83, 54, 156, 31, 16, 81, 86, 123, 4, 0]), 1.0)
    (spectra,) = voice._back.result().run({voice._inner: score.inner})
    f0 = np.pad(score.f0, (0, acoustic.AHEAD), "edge")
    whole = acoustic._Vocoder(f0, np.random.SFC64(0)).sound(spectra[0])
    cut = acoustic._Vocoder(f0, np.random.SFC64(0))
    parts = [cut.sound(spectra[0, a:b]) for a, b in ((0, 1), (1, 7), (7, 60), (60, len(score.f0)))]
    np.testing.assert_allclose(np.concatenate(parts), whole, atol=1e-6)
    expected = formula(*np.split(spectra[0], 5, axis=1), score.f0) * acoustic.GAIN
    inner = slice(1200, len(score.f0) * 300 - 1800)
    np.testing.assert_allclose(whole[600:][inner], expected[inner], atol=5e-4)


def formula(
    lh: np.ndarray, theta: np.ndarray, _: np.ndarray, lr: np.ndarray, phi: np.ndarray, f0: np.ndarray
) -> np.ndarray:
    """S = e^lh · e^(iπ tanh θ) · STFT(pulses) + e^lr · e^(iφ), inverted; double precision, sample by sample."""
    frames, window = len(f0), 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(1200) / 1200)
    at = np.arange(frames * 300)
    hertz = np.interp((at + 0.5) / 300 - 0.5, np.arange(frames), f0)
    turn = 2 * np.pi * (np.cumsum(np.maximum(hertz, 40)[300:]) / 24000)
    turn = np.concatenate([np.zeros(300), turn])  # ours starts a hop later
    top = np.floor(11000 / np.maximum(hertz, 40))
    pulses = np.array([np.cos(np.arange(1, n + 1) * t).sum() for n, t in zip(top, turn, strict=True)]) * (hertz > 40)
    padded = np.pad(pulses, 600)
    source = np.stack([np.fft.rfft(padded[n * 300 : n * 300 + 1200] * window / 300) for n in range(frames)])
    spectrum = np.exp(lh) * np.exp(1j * np.pi * np.tanh(theta)) * source + np.exp(lr) * np.exp(1j * phi)
    sound = np.zeros(frames * 300 + 1200)
    for n in range(frames):
        sound[n * 300 : n * 300 + 1200] += np.fft.irfft(spectrum[n], 1200) * window / 1.5
    return sound[600:]


# Transcribed by Whisper, rated by DNSMOS, compared with the package itself on the same sentences


def both_spoken(engine: Engine, texts: Sequence_[str]) -> tuple[list[Clip], list[Clip]]:
    from hibari import Hibari

    theirs = Hibari(threads=1)
    ours = [say(engine, text, seed=0) for text in texts]
    return [(audio.samples, audio.sample_rate) for audio in ours], [(theirs(text, seed=0), 24000) for text in texts]


def p808(clips: list[Clip]) -> float:
    return float(judge_all(clips)[:, SCALES.index("p808")].mean())


def test_words_and_sound_are_those_of_the_package(engine: Engine) -> None:
    texts = sentences()[40:43]
    ours, theirs = both_spoken(engine, texts)
    assert listen(texts, ours).wer <= listen(texts, theirs).wer + 0.01
    assert p808(ours) >= p808(theirs) - 0.05


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_words_and_sound_are_those_of_the_package_on_many_sentences(engine: Engine) -> None:
    texts = sentences()
    ours, theirs = both_spoken(engine, texts)
    assert listen(texts, ours).wer <= listen(texts, theirs).wer + 0.005
    assert p808(ours) >= p808(theirs) - 0.05


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("It costs $42 in 1999.", "it costs forty two dollars in nineteen ninety nine"),
        ("Dr. Smith lives at 12 Main St. near the river.", "doctor smith lives at twelve main street near the river"),
        ('"Have we met?" he asked. "Again and again," I said.', "have we met he asked again and again i said"),
    ],
)
def test_everyday_text_is_transcribed_correctly(engine: Engine, text: str, said: str) -> None:
    audio = say(engine, text)
    assert listen([said], [(audio.samples, audio.sample_rate)]).wer == 0


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_ten_minutes_have_no_skipped_or_repeated_sentence(planned: Callable[..., Engine]) -> None:
    text = " ".join(sentences())
    audio = planned(max_text_chars=20_000).submit(ask(text, timeout_s=3600)).collect()
    found = align(sentences(), hear(audio.samples, audio.sample_rate))
    assert audio.duration_s > 420
    assert (found.skipped, found.repeated) == ((), ())
    assert found.matched > 0.97


# Timestamps


def test_timestamps_match_the_audio(engine: Engine) -> None:
    """Words next to a pause, whose start and end show in the audio level."""
    audio = say(engine, timestamps=True)
    words = audio.timestamps
    assert [word.text.lower() for word in words] == [word.strip(".,;!?").lower() for word in TEXT.split()]
    times = [time for word in words for phone in word.phones for time in phone[1:]]
    assert times == sorted(times)
    heard = audible(audio.samples, audio.sample_rate)
    edges = np.flatnonzero(np.diff(np.concatenate([[0], heard, [0]]).astype(int))) / 200
    pauses = [(a, b) for a, b in zip(edges[1::2], edges[2::2], strict=False) if b - a > 0.15]
    assert len(pauses) >= 4
    ends, starts = (np.array([getattr(word, name) for word in words]) for name in ("end_s", "start_s"))
    assert np.median([np.abs(ends - a).min() for a, _ in pauses]) < 0.06
    assert np.median([np.abs(starts - b).min() for _, b in pauses]) < 0.04
    assert starts[0] == pytest.approx(edges[0], abs=0.04)


def test_timestamps_scale_with_speed(engine: Engine) -> None:
    normal, slow = (say(engine, timestamps=True, speed=speed).timestamps for speed in (1.0, 0.5))
    assert slow[-1].end_s == pytest.approx(2 * normal[-1].end_s, rel=0.05)


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
    written = json.loads(times.read_text())
    assert [word["word"] for word in written["words"]] == ["Good", "morning"]
    assert 0 < written["words"][1]["end"] <= written["duration"]


# More voices


@pytest.fixture
def sibling(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A pulled voice: a copy of heart's graph, with its digest expected."""
    source = sources.SOURCES["emma"]
    digest = hashlib.sha256(package.read("assets/hibari.onnx")).hexdigest()
    changed = replace(source, digests=dict.fromkeys(source.digests, digest))
    monkeypatch.setattr("saywell.models.hibari.model.SOURCES", {**sources.SOURCES, "emma": changed})
    place = tmp_path / "checkpoints" / "emma" / "bf_emma.int8.onnx"
    place.parent.mkdir(parents=True)
    shutil.copy(package.home() / "assets" / "hibari.onnx", place)
    return place


def test_pulled_voice_uses_the_dictionaries_of_its_accent(sibling: Path, planned: Callable[..., Engine]) -> None:
    engine = planned(data_dir=sibling.parents[2])
    assert [voice.id for voice in engine.voices()] == ["heart", "emma"]
    assert {voice.id: voice.language for voice in engine.voices()}["emma"] == "en-GB"
    heart, emma, kokoro = (say(engine, "I can't go.", voice=each) for each in ("heart", "emma", "bf_emma"))
    assert not np.array_equal(heart.samples, emma.samples)
    np.testing.assert_array_equal(emma.samples, kokoro.samples)


def test_directory_of_a_pulled_voice_is_a_model(sibling: Path, planned: Callable[..., Engine]) -> None:
    Manifest(family="hibari", files={}).write(sibling.parent)
    named, chosen = planned(data_dir=sibling.parents[2]), planned(model_path=sibling.parent)
    assert [voice.id for voice in chosen.voices()] == ["emma", "heart"]
    np.testing.assert_array_equal(say(chosen, "Hello.").samples, say(named, "Hello.", voice="emma").samples)


def test_directory_of_another_name_is_rejected(tmp_path: Path) -> None:
    Manifest(family="hibari", files={}).write(tmp_path)
    with pytest.raises(UnknownModel, match="name a directory that `saywell pull` made: heart, emma"):
        find_spec(None, tmp_path)


def test_damaged_pulled_voice_is_reported_and_others_speak(sibling: Path, planned: Callable[..., Engine]) -> None:
    sibling.write_bytes(sibling.read_bytes()[:-1])
    engine = planned(data_dir=sibling.parents[2])
    with pytest.raises(ModelFailure, match="the voice emma is damaged"):
        say(engine, voice="emma")
    assert say(engine, "Good morning.").duration_s > 0.5


def test_missing_package_is_reported_with_the_command(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    decision = launch.decide(Settings())
    monkeypatch.setattr(package, "find", lambda _: None)
    with pytest.raises(MissingDependency, match="pip install hibari-tts"):
        load_family("hibari").load(decision.spec, decision.plan)
    assert find_spec("hibari").default_voice == "heart"  # planning, listing and serving need no package


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


def test_memory_does_not_grow_with_the_text(engine: Engine) -> None:
    """Raw text of thousands of characters is split into utterances of at most 400 phones."""
    text = " ".join([TEXT] * 12)
    sequence = Sequence(
        request=ask(text, raw=True), index=0, source=text, text=text, voice=engine.voices()[0], seed=0, max_frames=999
    )  # fmt: skip
    with ThreadPoolExecutor(1) as pool:
        assert len(Reader(False, unpack(False, pool), pool).read(sequence.text)) > 5
    audio = engine.submit(sequence.request).collect()
    assert audio.duration_s > 120


def test_timestamps_name_what_was_written(engine: Engine) -> None:
    """Across chunks, markup, and numbers that become several words."""
    text = "It costs **$5** &amp; more. " * 12 + "Dr. Lee left at 3:30 p.m."
    words = say(engine, text, timestamps=True).timestamps
    written = [text[word.start_char : word.end_char] for word in words]
    assert written[:6] == ["It", "costs", "$5", "$5", "&amp;", "more"]
    assert [word.text for word in words][2:5] == ["five", "dollars", "and"]
    assert written[written.index("Dr.") :][:5] == ["Dr.", "Lee", "left", "at", "3:30 p.m."]
    starts = [word.start_char for word in words]
    assert starts == sorted(starts)
