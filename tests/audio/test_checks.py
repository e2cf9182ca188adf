from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from functools import cache

import numpy as np
import pytest

from espeak_rig import load, run, say, sequence
from saywell.audio.checks import AudioChecks, bounds
from saywell.errors import BadAudio
from saywell.models.espeak.model import EspeakModel

HZ = 22050
SPEEDS = (0.25, 0.5, 1.0, 2.0, 4.0)
SENTENCE = "The quick brown fox jumps over the lazy dog, and then it sleeps for a while by the river."

LINES = """\
Hi.
I
A
No!
Yes?
Go
www
USA
FBI agents met the head of IBM at MIT.
kg
5 km
1
7
42
100
1000000
1,000,000,000,000
3.14159
1234567890
12345678901234567890
007
2024-01-05
On 12/05/1999 at 11:45 he paid $1,234.56.
Call 555-0199 or 1-800-555-1234 now.
77777 77777
Chapter XVIII.
e.g. this, i.e. that, etc.
5 kg, 6 km, 7 mm, 8 cm, 9 ml, 10 Hz
60 mph
100%
50% off + $5 & free @ home
a b c d e f g
A B C D E F G H
A. B. C.
Dr. Smith lives on Main St. in St. Louis, MO.
Hmm...
Wait... what?
Oh!!!!!!!!
Strengths
Supercalifragilisticexpialidocious
antidisestablishmentarianism
rhythm
queue
through though thought thorough
The quick brown fox jumps over the lazy dog.
She sells sea shells by the sea shore.
Peter Piper picked a peck of pickled peppers.
To be, or not to be, that is the question.
I am
I am a man
It is
An apple a day keeps the doctor away.
Mississippi
Massachusetts
Bzzt
Shh
Psst
xyz
qwrtp
http://www.example.com/index.html?x=1&y=2
user@example.com
C++ and C# are languages.
x = y + 2 * z / 4
(a) one (b) two (c) three
"Quoted," she said, "like this."
It's Bob's dog's bone; isn't it?
Twenty-one, thirty-two, forty-three.
One. Two. Three. Four. Five.
Stop. Go. Stop. Go. Stop.
First line
Loooooooooong
HELLO WORLD THIS IS SHOUTING
NASA, NATO and UNESCO
10:30 pm
$5
£20
€1,000
#1
1st 2nd 3rd 4th
1/2 cup, 3/4 spoon
-5 degrees
H2O and CO2
mp3, mp4, x86
IPv6
v1.2.3
Room 101
99 bottles of beer on the wall, 99 bottles of beer.
The year 1984 came before 2001.
Ludwig van Beethoven, 1770-1827.
naive cafe resume
Ja
Donaudampfschifffahrtsgesellschaft
eeeeee
aaaaaaaaaaaaaaaaaaaaaaaaaaaaaa
the the the the the the the the
Why?
Because I said so, and that, as they say, is that.
"""
LONG = [
    "First paragraph ends here.\n\nSecond paragraph, after a pause.\n\n\nThird.",
    "It was the best of times, it was the worst of times, it was the age of wisdom, it was the age of foolishness, it "
    "was the epoch of belief, it was the epoch of incredulity, it was the season of Light.",
    " ".join(["All work and no play makes Jack a dull boy."] * 12),
    "Numbers: " + ", ".join(str(i * i * 37) for i in range(30)),
]
TEXTS = [*LINES.strip().splitlines(), *LONG]


Speech = Callable[..., np.ndarray]


@pytest.fixture(scope="module")
def model() -> Iterator[EspeakModel]:
    """Real speech by eSpeak NG, which changes the speed without the pitch."""
    loaded = load(slots=2)
    yield loaded
    loaded.close()


@pytest.fixture(scope="module")
def speech(model: EspeakModel) -> Speech:
    return cache(lambda text, speed=1.0, voice="espeak:en-us": say(model, text, voice, speed))


@pytest.fixture(scope="module")
def audio(speech: Speech) -> np.ndarray:
    return speech(SENTENCE)


def check(audio: np.ndarray, text: str = SENTENCE, speed: float = 1.0, piece: int = 480) -> None:
    checks = AudioChecks(text, HZ, speed)
    for start in range(0, len(audio), piece):
        checks.add(audio[start : start + piece])
    checks.finish()


def rejected(audio: np.ndarray, text: str = SENTENCE, speed: float = 1.0, piece: int = 480) -> bool:
    try:
        check(audio, text, speed, piece)
    except BadAudio:
        return True
    return False


# Real speech passes


def false_alarms(model: EspeakModel, cases: list[tuple[str, float]]) -> list[tuple[str, float]]:
    alarms = []
    for text, speed in cases:
        (frames,) = run(model, sequence(model, text, speed=speed))
        if rejected(np.concatenate([frame.data for frame in frames if frame.data is not None]), text, speed):
            alarms.append((text, speed))
    return alarms


def test_no_false_alarm_on_a_hundred_texts(model: EspeakModel) -> None:
    assert len(TEXTS) >= 100
    assert false_alarms(model, [(text, SPEEDS[i % 5]) for i, text in enumerate(TEXTS)]) == []


@pytest.mark.slow
def test_no_false_alarm_on_a_hundred_texts_at_every_speed(model: EspeakModel) -> None:
    assert false_alarms(model, [(text, speed) for text in TEXTS for speed in SPEEDS]) == []


@pytest.mark.parametrize("voice", ["espeak:en-gb", "espeak:en-gb-scotland", "espeak:fr-fr"])
@pytest.mark.parametrize("speed", SPEEDS)
def test_no_false_alarm_with_other_voices(speech: Speech, voice: str, speed: float) -> None:
    for text in ("Hi.", "FBI", SENTENCE):
        check(speech(text, speed, voice), text, speed)


@pytest.mark.parametrize("gain_db", [0, 3])
def test_loud_speech_passes(audio: np.ndarray, gain_db: float) -> None:
    check(np.clip(audio / np.abs(audio).max() * 10 ** (gain_db / 20), -1, 1))


@pytest.mark.parametrize("gain", [0.05, 0.3])
def test_soft_speech_passes(audio: np.ndarray, gain: float) -> None:
    check(audio * np.float32(gain))


def test_small_overshoot_and_offset_pass(audio: np.ndarray) -> None:
    check(audio / np.abs(audio).max() * np.float32(1.2))
    check(audio + np.float32(0.02))


def test_speech_with_pauses_and_silent_ends_passes(audio: np.ndarray) -> None:
    pause = np.zeros(HZ, np.float32)
    check(np.concatenate((pause, audio, pause)))


def test_silence_passes_for_a_text_without_words() -> None:
    check(np.zeros(HZ // 2, np.float32), "... !")


# Broken audio is rejected


def corruptions(audio: np.ndarray) -> dict[str, np.ndarray]:
    """More than sixty kinds of broken audio."""
    n, out = len(audio), {}
    for name, value in [
        ("nan", np.nan),
        ("inf", np.inf),
        ("-inf", -np.inf),
        ("fp16", 70000),
        ("-fp16", -65504),
        ("over", 1.6),
    ]:
        for place, index in [("first", 0), ("start", 100), ("middle", n // 2), ("end", n - 100), ("last", n - 1)]:
            out[f"{name} {place}"] = np.concatenate((audio[:index], np.float32([value]), audio[index + 1 :]))
    for value in (np.nan, 70000.0):
        out[f"all {value}"] = np.full(n, value, np.float32)
    second = slice(n // 2, n // 2 + HZ)
    for level in (0.25, 0.5, 1.0, 1.2, -0.5, -1.0):
        out[f"offset {level}"] = audio + np.float32(level)
        patched = audio.copy()
        patched[second] = level
        out[f"stuck at {level}"] = patched
        out[f"constant {level}"] = np.full(n, level, np.float32)
    for level in (0.0, 1e-4, 0.01, 0.1):
        out[f"silence at {level}"] = np.full(n, level, np.float32)
    for level in (1.0, 1.2):
        for gain in (10, 100, 32768):
            out[f"clipped at {level} by {gain}"] = np.clip(audio * gain, -level, level).astype(np.float32)
    out["int16 scale"] = audio * np.float32(32768)
    out["square"] = np.sign(np.sin(np.arange(n) / 20)).astype(np.float32)
    for share in (0, 0.001, 0.01, 0.05, 0.1):
        out[f"cut to {share}"] = audio[: int(n * share)]
        out[f"fell silent at {share}"] = np.concatenate((audio[: int(n * share)], np.zeros(HZ, np.float32)))
    for seconds in (5, 10, 30):
        tail = np.zeros(seconds * HZ, np.float32)
        out[f"{seconds} s of silence behind"] = np.concatenate((audio, tail))
        out[f"{seconds} s of silence before"] = np.concatenate((tail, audio))
        out[f"{seconds} s of silence within"] = np.concatenate((audio[: n // 2], tail, audio[n // 2 :]))
    out["loop"] = np.tile(audio, 6)
    out["babble"] = np.random.default_rng(0).normal(0, 0.1, 60 * HZ).astype(np.float32)
    return out


NAMES = tuple(corruptions(np.zeros(HZ, np.float32)))


@pytest.fixture(scope="module")
def broken(audio: np.ndarray) -> dict[str, np.ndarray]:
    return corruptions(audio)


def test_unbroken_control_passes(audio: np.ndarray) -> None:
    assert not rejected(audio), "the audio from which broken audio is made"


@pytest.mark.parametrize("name", NAMES)
def test_broken_audio_is_rejected_however_it_is_split(broken: dict[str, np.ndarray], name: str) -> None:
    for piece in (1600, 97, 12345, 10**9):
        assert rejected(broken[name], piece=piece), piece


@pytest.mark.parametrize("speed", SPEEDS)
def test_runaway_and_truncation_are_rejected_at_any_speed(speech: Speech, speed: float) -> None:
    audio = speech(SENTENCE, speed)
    assert rejected(np.tile(audio, 6), speed=speed)
    assert rejected(audio[: HZ // 100], speed=speed)
    assert rejected(audio[:0], speed=speed)


def test_errors_are_raised_as_soon_as_they_are_certain(audio: np.ndarray) -> None:
    checks = AudioChecks(SENTENCE, HZ, 1.0)
    checks.add(audio[:1000])
    with pytest.raises(BadAudio, match="out of range"):
        checks.add(np.float32([0, np.nan]))
    endless = AudioChecks("Hello.", HZ, 1.0)
    for _ in range(4):
        endless.add(audio[:HZ])
    with pytest.raises(BadAudio, match="too long"):
        endless.add(audio)


def test_messages_do_not_contain_the_text(broken: dict[str, np.ndarray]) -> None:
    for name in ("cut to 0.01", "loop", "constant 0.5", "silence at 0.0"):
        with pytest.raises(BadAudio) as caught:
            check(broken[name])
        assert "fox" not in caught.value.message


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("Hello there.", 0.6),
        ("Bonjour, comment allez-vous ?", 1.4),
        ("Здравствуйте, как дела?", 1.6),
        ("你好，世界。", 1.2),
        ("今天天气很好，我们去公园散步吧。", 3.2),
        ("ありがとうございます", 1.1),
        ("안녕하세요", 0.9),
        ("नमस्ते, आप कैसे हैं?", 1.5),
        ("السلام عليكم", 1.0),
        ("12345678901234567890", 9.0),
        ("1,000,000,000,000", 0.7),
        ("WWW", 2.1),
        ("😀", 1.5),
        ("5 km, 6 kg, 60 mph", 4.0),
    ],
)
def test_bounds_include_natural_speech_in_many_scripts_with_margins(text: str, seconds: float) -> None:
    limits = bounds(text)
    assert limits.shortest * 1.5 < seconds < limits.longest + 2.5


def test_bounds_add_up_over_words() -> None:
    one, two = bounds("hello"), bounds("hello hello")
    assert two.shortest == pytest.approx(2 * one.shortest)
    assert two.longest == pytest.approx(2 * one.longest)
    assert bounds("") == bounds("   ")
    assert bounds("").longest == 0


def test_checks_take_a_tiny_share_of_real_time(audio: np.ndarray) -> None:
    audio = np.tile(audio, 4)
    checks = AudioChecks(SENTENCE * 4, HZ, 1.0)
    pieces = np.array_split(audio, round(len(audio) / HZ * 10))
    started = time.process_time()
    for piece in pieces:
        checks.add(piece)
    checks.finish()
    assert time.process_time() - started < 0.003 * len(audio) / HZ, "measured 0.0005; with a margin for a busy machine"
