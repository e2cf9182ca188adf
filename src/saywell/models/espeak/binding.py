"""eSpeak NG through ctypes. Names and numbers: espeak-ng 1.52, include/espeak-ng/speak_lib.h.

Its wave generator keeps state across utterances, so that the same text would sound slightly different each time. The
library is therefore reloaded for every utterance, which costs about a millisecond.
"""

from __future__ import annotations

import _ctypes
import ctypes as c
import itertools
import os
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from saywell.errors import InvalidText, ModelFailure
from saywell.models.espeak import DEFAULT_VOICE
from saywell.models.espeak.locate import system_library
from saywell.models.espeak.messages import KnownVoice

SYNCHRONOUS = 2
BUFFER_MS = 60
DONT_EXIT = 0x8000
UTF8 = 1
"""The only flag of espeak_Synth: neither SSML (0x10) nor phonemes in [[ ]] (0x100)."""
RATE, WORDGAP = 1, 7
NORMAL_WPM, SLOWEST_WPM = 175, 80
SLOWEST = 2.03
"""Duration of speech at the slowest rate, relative to the normal rate."""
GAPS = 9.0
"""Steps of word gap per further unit of relative duration; measured on English sentences."""

TAG = re.compile(r"([a-z]{2,8})(?:-([a-z]{4}))?(?:-([a-z]{2}|\d{3}))?((?:-[a-z0-9]{5,8})*)(?![a-z0-9])")
"""Language, script, region, variants."""

CALLBACK = c.CFUNCTYPE(c.c_int, c.c_void_p, c.c_int, c.c_void_p)
Sink = Callable[[bytes], bool]
"""Takes int16 samples; returns False to stop."""


_TIED_IPA = ord("^") << 8 | 0x80 | 0x02
"""Phoneme mode of espeak_TextToPhonemes."""


class VoiceEntry(c.Structure):
    """espeak_VOICE."""

    _fields_ = (
        ("name", c.c_char_p),
        ("languages", c.c_void_p),
        ("identifier", c.c_char_p),
        ("gender", c.c_ubyte),
        ("age", c.c_ubyte),
        ("variant", c.c_ubyte),
        ("xx1", c.c_ubyte),
        ("score", c.c_int),
        ("spare", c.c_void_p),
    )


def installed() -> bool:
    return find_spec("espeakng_loader") is not None or system_library() is not None


def voices() -> list[KnownVoice]:
    """One voice for each language, the default first; none where eSpeak NG is not installed."""
    if not installed():
        return []
    with _library() as (lib, rate):
        lib.espeak_ListVoices.restype = c.POINTER(c.POINTER(VoiceEntry))
        found: dict[str, KnownVoice] = {}
        for entry in _entries(lib.espeak_ListVoices(None)):
            voice = _known(entry, rate, found)
            found[voice.id] = voice
    return sorted(found.values(), key=lambda voice: voice.id != DEFAULT_VOICE)


def speak(text: str, source: str, speed: float, sink: Sink) -> None:
    """Synthesise `text`, passing samples to `sink` as they are made. Raises InvalidText, ModelFailure."""
    audible = False

    def take(samples: int | None, count: int, _events: int | None) -> int:
        nonlocal audible
        if not samples or count <= 0:
            return 0
        pcm = c.string_at(samples, 2 * count)
        audible = audible or any(pcm)
        return 0 if sink(pcm) else 1

    with _library() as (lib, _rate):
        _synthesise(lib, _data(text), source, speed, CALLBACK(take))
    if not audible:
        raise InvalidText("eSpeak NG has nothing to say for this text in this language", param="text")


def phonemes(texts: list[str], source: str) -> list[str]:
    """The IPA of each text, with `|` between clauses and `^` in diphthongs and affricates. Raises ModelFailure."""
    with _library() as (lib, _rate):
        if lib.espeak_SetVoiceByName(source.encode()) != 0:
            raise ModelFailure(f"eSpeak NG has no voice {source}")
        lib.espeak_TextToPhonemes.restype = c.c_char_p
        lib.espeak_TextToPhonemes.argtypes = (c.POINTER(c.c_void_p), c.c_int, c.c_int)
        return [_phonemes(lib, text) for text in texts]


def _phonemes(lib: c.CDLL, text: str) -> str:
    data = c.create_string_buffer(_data(text))
    rest = c.c_void_p(c.addressof(data))
    clauses = []
    while rest.value:
        clauses.append((lib.espeak_TextToPhonemes(c.byref(rest), UTF8, _TIED_IPA) or b"").decode().strip())
    return "|".join(clause for clause in clauses if clause)


def _synthesise(lib: c.CDLL, data: bytes, source: str, speed: float, callback: Any) -> None:
    lib.espeak_SetSynthCallback(callback)
    if lib.espeak_SetVoiceByName(source.encode()) != 0:
        raise ModelFailure(f"eSpeak NG no longer has the voice {source}")
    wpm, gap = pace(speed)
    lib.espeak_SetParameter(RATE, wpm, 0)
    lib.espeak_SetParameter(WORDGAP, gap, 0)
    if lib.espeak_Synth(data, len(data), 0, 1, 0, UTF8, None, None) != 0:
        raise ModelFailure("eSpeak NG could not speak this text")


def pace(speed: float) -> tuple[int, int]:
    """Words per minute and gap between words. Below the slowest rate, gaps slow the speech further."""
    wpm = round(NORMAL_WPM * speed)
    if wpm >= SLOWEST_WPM:
        return wpm, 0
    return SLOWEST_WPM, max(0, round((1.0 / speed - SLOWEST) * GAPS))


def _data(text: str) -> bytes:
    """Null-terminated UTF-8. Control characters would be read as commands, even by the plain text parser."""
    return "".join(char if char.isprintable() or char == "\n" else " " for char in text).encode() + b"\0"


@contextmanager
def _library() -> Iterator[tuple[c.CDLL, int]]:
    """A newly loaded library and its sample rate."""
    path, data = _where()
    try:
        lib = c.CDLL(path)
    except OSError as error:
        raise ModelFailure(f"eSpeak NG does not load: {error}") from error
    try:
        rate = _start(lib, data)
        yield lib, rate
        lib.espeak_Terminate()
    finally:
        _unload(lib)


def _where() -> tuple[str, bytes | None]:
    """Path of the library, and the directory that holds espeak-ng-data; None: the library's default."""
    if find_spec("espeakng_loader") is not None:
        import espeakng_loader

        # Relative, because eSpeak cuts paths after 160 bytes.
        os.chdir(Path(espeakng_loader.get_data_path()).parent)
        return espeakng_loader.get_library_path(), b"."
    path = system_library()
    if path is None:
        raise ModelFailure("the library of eSpeak NG was removed")
    return path, None


def _start(lib: c.CDLL, data: bytes | None) -> int:
    lib.espeak_Initialize.argtypes = (c.c_int, c.c_int, c.c_char_p, c.c_int)
    lib.espeak_SetVoiceByName.argtypes = (c.c_char_p,)
    lib.espeak_SetParameter.argtypes = (c.c_int, c.c_int, c.c_int)
    lib.espeak_SetSynthCallback.argtypes = (CALLBACK,)
    lib.espeak_SetSynthCallback.restype = None
    lib.espeak_Synth.argtypes = (
        c.c_char_p, c.c_size_t, c.c_uint, c.c_int, c.c_uint, c.c_uint, c.c_void_p, c.c_void_p,
    )  # fmt: skip
    rate = int(lib.espeak_Initialize(SYNCHRONOUS, BUFFER_MS, data, DONT_EXIT))
    if rate <= 0:
        raise ModelFailure("eSpeak NG does not find its data")
    _seed(lib)
    return rate


def _seed(lib: c.CDLL) -> None:
    if hasattr(lib, "espeak_ng_SetRandSeed"):
        lib.espeak_ng_SetRandSeed(c.c_long(1))
    elif hasattr(lib, "srand"):
        lib.srand(c.c_uint(1))


def _unload(lib: c.CDLL) -> None:
    if sys.platform == "win32":
        _ctypes.FreeLibrary(lib._handle)
    else:
        _ctypes.dlclose(lib._handle)


def _entries(table: Any) -> Iterator[VoiceEntry]:
    for index in itertools.count():
        if not table[index]:
            return
        entry: VoiceEntry = table[index].contents
        if not entry.identifier.startswith(b"mb/"):  # those need MBROLA
            yield entry


def _known(entry: VoiceEntry, rate: int, taken: dict[str, KnownVoice]) -> KnownVoice:
    source = entry.identifier.decode()
    language = c.string_at(entry.languages + 1).decode().lower()  # after one byte of priority
    if f"espeak:{language}" in taken:
        language = source.rsplit("/", 1)[-1].lower()
    return KnownVoice(
        id=f"espeak:{language}",
        source=source,
        name=entry.name.decode().strip(),
        language=bcp47(language),
        sample_rate=rate,
    )


def bcp47(language: str) -> str:
    """ "en-us-nyc" → "en-US-x-nyc": standard capitals, and a private-use part for subtags outside the standard."""
    match = TAG.match(language)
    if match is None:
        return "und"
    first, script, region, variants = match.groups(default="")
    private = [part for part in language[match.end() :].split("-") if part not in ("", "x")]
    known = [first, script.title(), region.upper(), variants.strip("-")]
    return "-".join([part for part in known if part] + (["x", *private] if private else []))
