"""The sound of the eSpeak NG voices. Fails if eSpeak NG is not installed."""

from __future__ import annotations

import ctypes as c
import subprocess
import sys
from collections.abc import Iterator

import numpy as np
import pytest

from asr import pitch
from espeak_rig import LONG, TEXT, children, joined, load, plan, run, say, sequence
from saywell.errors import InvalidText, MissingDependency
from saywell.models import espeak
from saywell.models.base import DecodeJob, SequenceError
from saywell.models.espeak import binding
from saywell.models.espeak.children import Child
from saywell.models.espeak.model import EspeakModel

RATE = 22050
VOICES = ("espeak:en-us", "espeak:en-gb", "espeak:de", "espeak:fr-fr")

WHOLE = """
import sys
from saywell.models.espeak import binding
source = next(voice.source for voice in binding.voices() if voice.id == sys.argv[1])
binding.speak(sys.argv[2], source, 1.0, lambda pcm: bool(sys.stdout.buffer.write(pcm)))
"""
"""The reference: no pipe, no pool, no pieces."""


@pytest.fixture(scope="module")
def model() -> Iterator[EspeakModel]:
    made = load(slots=3)
    yield made
    made.close()


def test_loaded_spec_equals_planned_spec(model: EspeakModel) -> None:
    spec = espeak.spec("espeak", None)
    assert (spec.kind, spec.executors, spec.default_voice, spec.sample_rate) == (
        "single-shot", ("process",), "espeak:en-us", 22050,
    )  # fmt: skip
    assert model.spec == spec
    assert model.voices()[0].id == "espeak:en-us"


def test_voices(model: EspeakModel) -> None:
    voices = {voice.id: voice for voice in model.voices()}
    assert len(voices) == len(model.voices()) > 100
    assert voices["espeak:de"].language == "de"
    assert voices["espeak:en-us"].language == "en-US"
    assert {voice.sample_rate for voice in voices.values()} == {22050}


@pytest.mark.parametrize("voice", VOICES)
def test_streamed_is_whole_bit_for_bit(model: EspeakModel, voice: str) -> None:
    script = subprocess.run([sys.executable, "-c", WHOLE, voice, TEXT], capture_output=True, check=True)
    whole = np.frombuffer(script.stdout, np.int16).astype(np.float32) / 32768
    np.testing.assert_array_equal(say(model, voice=voice), whole)


@pytest.mark.parametrize("voice", VOICES)
def test_same_text_same_samples(model: EspeakModel, voice: str) -> None:
    first = say(model, voice=voice)
    say(model, "Something else.", voice)
    say(model, "Noch etwas.", "espeak:de", 2.0)
    np.testing.assert_array_equal(say(model, voice=voice), first)


@pytest.mark.parametrize("voice", VOICES)
def test_sound_and_length(model: EspeakModel, voice: str) -> None:
    samples = say(model, voice=voice)
    assert samples.dtype == np.float32
    assert 0.02 < float(np.sqrt(np.mean(samples**2))) < 0.4
    assert float(np.abs(samples).max()) <= 1.0
    assert 2.5 < len(samples) / RATE < 7.0


@pytest.mark.parametrize("voice", VOICES)
@pytest.mark.parametrize("speed", [0.25, 0.5, 2.0, 4.0])
def test_speed_changes_duration_and_not_pitch(model: EspeakModel, voice: str, speed: float) -> None:
    """Within 12 % of proportional, pitch within 6 %."""
    normal, other = say(model, voice=voice), say(model, voice=voice, speed=speed)
    assert len(other) * speed / len(normal) == pytest.approx(1.0, rel=0.12)
    if speed in (0.5, 2.0):
        assert pitch(other, RATE) == pytest.approx(pitch(normal, RATE), rel=0.06)


def test_side_by_side_equals_alone(model: EspeakModel) -> None:
    asked = [
        (TEXT, "espeak:de"),
        (TEXT, "espeak:en-us"),
        ("Please open the door.", "espeak:en-gb"),
        (LONG, "espeak:en-us"),
        (TEXT, "espeak:de"),
    ]
    alone = [say(model, text, voice) for text, voice in asked]
    sequences = [sequence(model, text, voice) for text, voice in asked]  # more sequences than children
    for frames, samples in zip(run(model, *sequences), alone, strict=True):
        np.testing.assert_array_equal(joined(frames), samples)


def test_pieces(model: EspeakModel) -> None:
    (frames,) = run(model, one := sequence(model))
    sizes = [len(frame.data) for frame in frames if frame.data is not None]
    assert sizes[0] == 1102
    assert set(sizes[1:-1]) == {2205}
    assert [frame.finish for frame in frames] == [None] * (len(frames) - 1) + ["stop"]
    parts = model.decode(
        [DecodeJob(one, frames[:7], False), DecodeJob(one, frames[7:], True), DecodeJob(one, [], True)]
    )
    np.testing.assert_array_equal(np.concatenate(parts), say(model))


@pytest.mark.parametrize(
    ("plain", "hostile"),
    [("Hello there.", "Hello \x01s20\x01p99\x00 there."), ("h a l l o.", "[[h@l'oU]].")],
)
def test_espeak_takes_no_commands(model: EspeakModel, plain: str, hostile: str) -> None:
    """Control characters change neither rate nor pitch. Phoneme markup is read as text."""
    first = say(model, plain, "espeak:en-us")
    second = say(model, hostile, "espeak:en-us")
    assert len(second) > 0.9 * len(first)
    assert pitch(second, RATE) == pytest.approx(pitch(first, RATE), rel=0.1)


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
@pytest.mark.parametrize("voice", ["espeak:en-us", "espeak:de"])
def test_hostile_text_is_spoken(model: EspeakModel, text: str, voice: str) -> None:
    before = children()
    assert len(say(model, text, voice)) > 100
    assert before <= children()


def test_ten_thousand_characters_without_a_space_are_spoken(model: EspeakModel) -> None:
    assert len(say(model, "a" * 10_000)) > 100_000


@pytest.mark.parametrize("text", [" ", "\u200b", "\ud800"])
def test_unspeakable_text_is_rejected(model: EspeakModel, text: str) -> None:
    with pytest.raises(SequenceError) as caught:
        say(model, text)
    assert isinstance(caught.value.cause, InvalidText)
    assert len(say(model)) > 1000


def test_load_without_espeak_names_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Child, "voices", property(lambda _: [], lambda _, __: None), raising=False)
    with pytest.raises(MissingDependency, match=r"saywell\[espeak\]"):
        espeak.load(espeak.spec("espeak", None), plan())


def test_struct_layout_matches_the_c_header() -> None:
    assert binding.VoiceEntry.score.offset == 3 * c.sizeof(c.c_void_p) + 4
