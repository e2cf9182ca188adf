"""The voices of the system: what they sound like. Needs Flite and eSpeak NG, and says so by failing."""

from __future__ import annotations

import ctypes as c
import subprocess
import sys
from collections.abc import Iterator

import numpy as np
import pytest

from asr import pitch
from builtin_rig import LONG, TEXT, load, plan, run, say, sequence
from saywell.bench.hearing import hear as transcribe
from saywell.bench.word_errors import word_error_rate
from saywell.errors import InvalidText, MissingDependency
from saywell.models import builtin
from saywell.models.base import DecodeJob, SequenceError
from saywell.models.builtin import espeak, flite
from saywell.models.builtin.model import BuiltinModel

FLITE = ("slt", "rms", "awb", "kal16")
SOME = (*FLITE, "espeak:en-us", "espeak:de")

WHOLE = """
import ctypes as c, sys
from saywell.models.builtin import flite
from saywell.models.builtin.english import plain
own = flite.Flite()
voice, lib = own._voice(sys.argv[1])[0], own._lib
lib.flite_text_to_wave.restype = c.POINTER(flite.Wave)
lib.flite_text_to_wave.argtypes = (c.c_char_p, c.POINTER(flite.VoiceHead))
lib.srand(1)
wave = lib.flite_text_to_wave(plain(sys.argv[2]).encode(), voice).contents
sys.stdout.buffer.write(c.string_at(wave.samples, 2 * wave.num_samples))
"""
"""The same through the call that does not stream."""


@pytest.fixture(scope="module")
def model() -> Iterator[BuiltinModel]:
    made = load(slots=3)
    yield made
    made.close()


def test_spec_starts_nothing_and_load_agrees(model: BuiltinModel) -> None:
    spec = builtin.spec("builtin", None)
    assert (spec.kind, spec.executors, spec.default_voice, spec.sample_rate) == (
        "single-shot", ("process",), "slt", 16000,
    )  # fmt: skip
    assert model.spec == spec
    assert model.voices()[0].id == "slt"


def test_voices(model: BuiltinModel) -> None:
    voices = {voice.id: voice for voice in model.voices()}
    assert len(voices) == len(model.voices()) > 100
    assert voices["slt"].sample_rate == 16000
    assert voices["espeak:de"].language == "de"
    assert voices["espeak:en-us"].language == "en-US"
    assert voices["espeak:en-us"].sample_rate == 22050
    assert {voices[voice].language for voice in FLITE} == {"en-US"}


@pytest.mark.parametrize("voice", FLITE)
def test_streamed_is_whole_bit_for_bit(model: BuiltinModel, voice: str) -> None:
    script = subprocess.run([sys.executable, "-c", WHOLE, voice, TEXT], capture_output=True, check=True)
    whole = np.frombuffer(script.stdout, np.int16).astype(np.float32) / 32768
    np.testing.assert_array_equal(say(model, voice=voice), whole)


@pytest.mark.parametrize("voice", SOME)
def test_same_text_same_samples(model: BuiltinModel, voice: str) -> None:
    first = say(model, voice=voice)
    say(model, "Something else.", voice)
    say(model, "Noch etwas.", "espeak:de", 2.0)
    np.testing.assert_array_equal(say(model, voice=voice), first)


@pytest.mark.parametrize("voice", SOME)
def test_sound_and_length(model: BuiltinModel, voice: str) -> None:
    rate = next(known.sample_rate for known in model.voices() if known.id == voice)
    samples = say(model, voice=voice)
    assert samples.dtype == np.float32
    assert 0.02 < float(np.sqrt(np.mean(samples**2))) < 0.4
    assert float(np.abs(samples).max()) <= 1.0
    assert 2.5 < len(samples) / rate < 7.0


@pytest.mark.parametrize("voice", SOME)
@pytest.mark.parametrize("speed", [0.25, 0.5, 2.0, 4.0])
def test_speed_changes_length_and_not_pitch(model: BuiltinModel, voice: str, speed: float) -> None:
    """Within 12 % of proportional, pitch within 6 %."""
    rate = next(known.sample_rate for known in model.voices() if known.id == voice)
    normal, other = say(model, voice=voice), say(model, voice=voice, speed=speed)
    assert len(other) * speed / len(normal) == pytest.approx(1.0, rel=0.12)
    if speed in (0.5, 2.0):
        assert pitch(other, rate) == pytest.approx(pitch(normal, rate), rel=0.06)


@pytest.mark.parametrize("voice", FLITE)
def test_a_recogniser_understands_it(model: BuiltinModel, voice: str) -> None:
    heard = transcribe(say(model, voice=voice), 16000)
    assert word_error_rate(TEXT, heard) < 0.2, heard


def test_a_name_is_not_a_state_and_i_is_not_the_first(model: BuiltinModel) -> None:
    heard = transcribe(say(model, "I told John I would read this book to the children."), 16000)
    assert "first" not in heard
    assert word_error_rate("I told John I would read this book to the children", heard) < 0.3, heard


def test_side_by_side_equals_alone(model: BuiltinModel) -> None:
    asked = [(TEXT, "slt"), (TEXT, "espeak:en-us"), ("Please open the door.", "kal16"), (LONG, "rms"), (TEXT, "slt")]
    alone = [say(model, text, voice) for text, voice in asked]
    sequences = [sequence(model, text, voice) for text, voice in asked]  # more of them than there are children
    for frames, samples in zip(run(model, *sequences), alone, strict=True):
        np.testing.assert_array_equal(np.concatenate([frame.data for frame in frames]), samples)


def test_pieces(model: BuiltinModel) -> None:
    (frames,) = run(model, one := sequence(model))
    sizes = [len(frame.data) for frame in frames if frame.data is not None]
    assert sizes[0] == 800
    assert set(sizes[1:-1]) == {1600}
    assert [frame.finish for frame in frames] == [None] * (len(frames) - 1) + ["stop"]
    parts = model.decode(
        [DecodeJob(one, frames[:7], False), DecodeJob(one, frames[7:], True), DecodeJob(one, [], True)]
    )
    np.testing.assert_array_equal(np.concatenate(parts), say(model))


@pytest.mark.parametrize(
    ("plain", "hostile"),
    [("Hello there.", "Hello \x01s20\x01p99\x00 there."), ("h a l l o.", "[[h@l'oU]].")],
)
def test_espeak_takes_no_commands(model: BuiltinModel, plain: str, hostile: str) -> None:
    """Control characters are no commands: the voice stays as slow and high as it was. Phonemes are read as text."""
    first = say(model, plain, "espeak:en-us")
    second = say(model, hostile, "espeak:en-us")
    assert len(second) > 0.9 * len(first)
    assert pitch(second, 22050) == pytest.approx(pitch(first, 22050), rel=0.1)


@pytest.mark.parametrize(
    "text",
    [
        "a" * 2_000,
        "a1b-" * 300,
        "1" * 600,
        "%s%n" * 100,
        "\x00\x07\x1b[31m text \ufeff\u202e",
        "🙂 smile 🙂",
        "<speak><break time='9999s'/>x</speak>",
        "' '' ''' a",
    ],
)
@pytest.mark.parametrize("voice", ["slt", "kal16", "espeak:en-us"])
def test_hostile_text_is_spoken(model: BuiltinModel, text: str, voice: str) -> None:
    before = set(model.pids())
    assert len(say(model, text, voice)) > 100
    assert before <= set(model.pids())


def test_ten_thousand_characters_without_a_space(model: BuiltinModel) -> None:
    for voice in ("kal16", "espeak:en-us"):
        assert len(say(model, "a" * 10_000, voice)) > 100_000


@pytest.mark.parametrize("text", ["你好", "?!", "🙂", " ", "\ud800"])
def test_unspeakable_text_is_refused(model: BuiltinModel, text: str) -> None:
    with pytest.raises(SequenceError) as caught:
        say(model, text)
    assert isinstance(caught.value.cause, InvalidText)
    assert len(say(model)) > 1000


def test_espeak_with_nothing_to_say(model: BuiltinModel) -> None:
    with pytest.raises(SequenceError) as caught:
        say(model, " ", "espeak:en-us")
    assert isinstance(caught.value.cause, InvalidText)


def test_without_any_synthesiser(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("saywell.models.builtin.model._ask", lambda _pool: [])
    with pytest.raises(MissingDependency, match=r"apt install flite.*saywell\[espeak\]"):
        builtin.load(builtin.spec("builtin", None), plan())


def test_only_espeak(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flite, "find", lambda _stem: None)
    spec = builtin.spec("builtin", None)
    assert (spec.default_voice, spec.sample_rate) == ("espeak:en-us", 22050)
    assert espeak.voices()[0].id == "espeak:en-us"


def test_layouts_are_those_of_the_headers() -> None:
    pointer = c.sizeof(c.c_void_p)
    assert flite.Wave.samples.offset == 24 if pointer == 8 else True
    assert c.sizeof(flite.StreamingInfo) == 5 * pointer
    assert espeak.VoiceEntry.score.offset == 3 * pointer + 4
