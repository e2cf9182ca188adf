"""CMU Flite through ctypes. Layouts and names: flite 2.2, include/cst_wave.h, cst_voice.h, cst_audio.h, flite.h.

One utterance at a time per process: the streaming callback hangs on the voice, and the noise of the vocoder comes from
the C library's rand().
"""

from __future__ import annotations

import ctypes as c
from collections.abc import Callable
from typing import Any

from saywell.errors import ModelFailure
from saywell.models.builtin.english import plain
from saywell.models.builtin.libraries import find
from saywell.models.builtin.messages import KnownVoice
from saywell.text.split import chunks

RATE = 16000
VOICES = {
    "slt": ("SLT", "US English, female"),
    "rms": ("RMS", "US English, male"),
    "awb": ("AWB", "English with a Scottish accent, male"),
    "kal16": ("KAL", "US English, male, diphones: very fast"),
}
CLUSTERGEN = ("slt", "rms", "awb")
"""Voices in frames of 5 ms, of which no state is left without one."""
UTTERANCE = 400
"""Characters analysed at once, some 80 ms of work: before that is done nothing is heard and nothing can be stopped."""
CONTINUE, STOP = 0, -1
CALLBACK_SAMPLES = RATE // 50

Sink = Callable[[bytes], bool]
"""Takes int16 samples; False: stop."""


class Wave(c.Structure):
    _fields_ = (
        ("type", c.c_char_p),
        ("sample_rate", c.c_int),
        ("num_samples", c.c_int),
        ("num_channels", c.c_int),
        ("samples", c.c_void_p),
    )


class VoiceHead(c.Structure):
    """The beginning of cst_voice."""

    _fields_ = (("name", c.c_char_p), ("features", c.c_void_p))


CALLBACK = c.CFUNCTYPE(c.c_int, c.POINTER(Wave), c.c_int, c.c_int, c.c_int, c.c_void_p)


class StreamingInfo(c.Structure):
    _fields_ = (
        ("min_buffsize", c.c_int),
        ("asc", CALLBACK),
        ("utt", c.c_void_p),
        ("item", c.c_void_p),
        ("userdata", c.c_void_p),
    )


def installed() -> tuple[str, ...]:
    """Ids of the voices whose libraries are on this machine, the default first."""
    if any(find(stem) is None for stem in ("flite", "flite_usenglish", "flite_cmulex")):
        return ()
    return tuple(voice for voice in VOICES if find(f"flite_cmu_us_{voice}"))


def voices() -> list[KnownVoice]:
    return [
        KnownVoice(
            id=voice,
            synthesiser="flite",
            source=voice,
            name=VOICES[voice][0],
            language="en-US",
            sample_rate=RATE,
            description=f"CMU Flite; {VOICES[voice][1]}",
        )
        for voice in installed()
    ]


class Flite:
    """The library, loaded with the first voice that speaks."""

    def __init__(self) -> None:
        self._lib = _library("flite")
        _library("flite_usenglish")
        _library("flite_cmulex")
        _declare(self._lib)
        self._lib.flite_init()
        self._voices: dict[str, tuple[Any, float]] = {}

    def speak(self, text: str, source: str, speed: float, sink: Sink) -> None:
        """Synthesise `text`, handing samples to `sink` as they come. Raises InvalidText, ModelFailure."""
        voice, natural = self._voice(source)
        stretch = natural / (effort(speed) if source in CLUSTERGEN else speed)
        self._lib.flite_feat_set_float(voice.contents.features, b"duration_stretch", stretch)
        going = True

        def take(wave: Any, start: int, size: int, _last: int, _info: int | None) -> int:
            nonlocal going
            if wave and size > 0:
                going = sink(c.string_at(wave.contents.samples + 2 * start, 2 * size))
            return CONTINUE if going else STOP

        callback = CALLBACK(take)
        for words in chunks(plain(text), UTTERANCE, UTTERANCE):
            if going and any(map(str.isalnum, words)):
                self._utter(words.encode("ascii"), voice, callback)

    def _utter(self, words: bytes, voice: Any, callback: Any) -> None:
        self._lib.srand(1)  # the same noise every time
        utterance = self._synthesise(words, voice, callback)
        if not utterance:
            raise ModelFailure("Flite could not speak this text")
        self._lib.delete_utterance(utterance)

    def _synthesise(self, words: bytes, voice: Any, callback: Any) -> Any:
        info = self._lib.new_audio_streaming_info()
        info.contents.min_buffsize = CALLBACK_SAMPLES
        info.contents.asc = callback
        features = voice.contents.features
        # The value owns the info: removing the feature frees both.
        self._lib.flite_feat_set(features, b"streaming_info", self._lib.audio_streaming_info_val(info))
        try:
            return self._lib.flite_synth_text(words, voice)
        finally:
            self._lib.flite_feat_remove(features, b"streaming_info")

    def _voice(self, source: str) -> tuple[Any, float]:
        """The voice and its natural duration stretch."""
        if source not in self._voices:
            register = getattr(_library(f"flite_cmu_us_{source}"), f"register_cmu_us_{source}")
            register.argtypes, register.restype = (c.c_char_p,), c.POINTER(VoiceHead)
            voice = register(None)
            natural = self._lib.flite_get_param_float(voice.contents.features, b"duration_stretch", 1.0)
            self._voices[source] = (voice, natural)
        return self._voices[source]


def effort(speed: float) -> float:
    """The speed to ask of a CLUSTERGEN voice, so that it is `speed`: their shortest states get no shorter. Measured."""
    return speed * (1.0 + 0.13 * max(0.0, speed - 2.0))


def _library(stem: str) -> c.CDLL:
    path = find(stem)
    if path is None:
        raise ModelFailure(f"the library {stem} of Flite is no longer there")
    # Global: the voices find the symbols of the engine and the lexicon there.
    return c.CDLL(path, mode=c.RTLD_GLOBAL)


def _declare(lib: c.CDLL) -> None:
    lib.new_audio_streaming_info.restype = c.POINTER(StreamingInfo)
    lib.audio_streaming_info_val.argtypes = (c.c_void_p,)
    lib.audio_streaming_info_val.restype = c.c_void_p
    lib.flite_feat_set.argtypes = (c.c_void_p, c.c_char_p, c.c_void_p)
    lib.flite_feat_set_float.argtypes = (c.c_void_p, c.c_char_p, c.c_float)
    lib.flite_get_param_float.argtypes = (c.c_void_p, c.c_char_p, c.c_float)
    lib.flite_get_param_float.restype = c.c_float
    lib.flite_feat_remove.argtypes = (c.c_void_p, c.c_char_p)
    lib.flite_synth_text.argtypes = (c.c_char_p, c.POINTER(VoiceHead))
    lib.flite_synth_text.restype = c.c_void_p
    lib.delete_utterance.argtypes = (c.c_void_p,)
    lib.srand.argtypes = (c.c_uint,)
