"""CMU Flite through ctypes: what it says, how long each phone lasts, and the frames it speaks from.

The CLUSTERGEN voices (slt, rms, awb) predict a frame of mel cepstrum, F0 and excitation strengths every 5 ms and filter
pulses and noise with it; the frames are read from the utterance before they become sound. Layouts and names: flite 2.2,
include/cst_track.h, cst_cg.h, cst_utterance.h, cst_relation.h, cst_wave.h, cst_sts.h.
"""

from __future__ import annotations

import ctypes as c
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from saywell.models.builtin.libraries import find
from saywell.models.wren.phones import START, VOWELS, WORD, check

RATE = 16000
HOP = RATE // 200
"""Samples of a frame."""

Floats = npt.NDArray[np.float32]


class Track(c.Structure):
    _fields_ = (
        ("type", c.c_char_p),
        ("num_frames", c.c_int),
        ("num_channels", c.c_int),
        ("times", c.POINTER(c.c_float)),
        ("frames", c.POINTER(c.POINTER(c.c_float))),
    )


class Wave(c.Structure):
    _fields_ = (
        ("type", c.c_char_p),
        ("sample_rate", c.c_int),
        ("num_samples", c.c_int),
        ("num_channels", c.c_int),
        ("samples", c.POINTER(c.c_short)),
    )


class LpcRes(c.Structure):
    """The beginning of cst_lpcres: pitch periods and their lengths in samples."""

    _fields_ = (("frames", c.c_void_p), ("times", c.POINTER(c.c_int)), ("num_frames", c.c_int))


class Utterance(c.Structure):
    _fields_ = (("features", c.c_void_p),)


class Relation(c.Structure):
    _fields_ = (("name", c.c_char_p), ("features", c.c_void_p), ("utterance", c.c_void_p), ("head", c.c_void_p))


@dataclass(frozen=True)
class Spoken:
    """One utterance of the teacher.

    symbols: see saywell.models.wren.phones. ends: frame after the last of each symbol [symbols]. samples: int16.
    parameters: F0 in Hz (0: no voice), 25 of mel cepstrum, 5 strengths of voicing [frames, 31]; None: has none.
    periods: ends of the pitch periods in samples; None: has none.
    """

    symbols: list[str]
    words: list[str]
    ends: npt.NDArray[np.int32]
    samples: npt.NDArray[np.int16]
    parameters: Floats | None
    periods: npt.NDArray[np.int32] | None


class Teacher:
    """One voice of Flite in this process."""

    def __init__(self, voice: str) -> None:
        self._lib = _library("flite")
        _library("flite_usenglish")
        _library("flite_cmulex")
        _declare(self._lib)
        self._lib.flite_init()
        register = getattr(_library(f"flite_cmu_us_{voice}"), f"register_cmu_us_{voice}")
        register.argtypes, register.restype = (c.c_char_p,), c.c_void_p
        self._voice = register(None)

    def speak(self, text: str) -> Spoken:
        """Speak `text` as one utterance. Raises ValueError where Flite cannot, or says nothing."""
        self._lib.srand(1)
        utterance = self._lib.flite_synth_text(text.encode("ascii"), self._voice)
        if not utterance:
            raise ValueError("Flite could not speak this text")
        try:
            return self._read(utterance)
        finally:
            self._lib.delete_utterance(utterance)

    def _read(self, utterance: Any) -> Spoken:
        segments = list(self._segments(utterance))
        symbols, words, ends = convention(segments)
        wave = self._lib.utt_wave(utterance).contents
        samples = np.ctypeslib.as_array(wave.samples, (wave.num_samples,)).copy()
        frames = -(-len(samples) // HOP)
        parameters = self._parameters(utterance)
        if parameters is not None:
            frames = len(parameters)
        places = np.minimum((np.asarray(ends) / 0.005).astype(np.int32) + 1, frames)
        places[-1] = frames
        return Spoken(symbols, words, places, samples, parameters, self._periods(utterance))

    def _segments(self, utterance: Any) -> Any:
        item = self._lib.utt_relation(utterance, b"Segment").contents.head
        while item:
            yield Segment(
                name=self._lib.ffeature_string(item, b"name").decode(),
                stress=self._lib.ffeature_string(item, b"R:SylStructure.parent.stress").decode(),
                word=self._lib.ffeature_string(item, b"R:SylStructure.parent.parent.name").decode(),
                word_id=self._word(item),
                punctuation=self._lib.ffeature_string(
                    item, b"R:SylStructure.parent.parent.R:Token.parent.punc"
                ).decode(),
                end=self._lib.ffeature_float(item, b"end"),
            )
            item = self._lib.item_next(item)

    def _word(self, item: Any) -> int:
        """The address of the word of a segment; 0: a pause."""
        syllable = self._lib.item_parent(self._lib.item_as(item, b"SylStructure"))
        return self._lib.item_parent(syllable) or 0 if syllable else 0

    def _parameters(self, utterance: Any) -> Floats | None:
        features = utterance.contents.features
        if not self._lib.feat_present(features, b"param_track"):
            return None
        database = self._lib.val_cg_db(self._lib.feat_val(features, b"cg_db"))
        smooth = self._lib.mlpg(self._lib.val_track(self._lib.feat_val(features, b"param_track")), database)
        try:
            strengths = _array(self._lib.val_track(self._lib.feat_val(features, b"str_track")))
            return np.concatenate([_array(smooth), strengths], 1)
        finally:
            self._lib.delete_track(smooth)

    def _periods(self, utterance: Any) -> npt.NDArray[np.int32] | None:
        features = utterance.contents.features
        if not self._lib.feat_present(features, b"target_lpcres"):
            return None
        lpcres = self._lib.val_lpcres(self._lib.feat_val(features, b"target_lpcres")).contents
        return np.ctypeslib.as_array(lpcres.times, (lpcres.num_frames,)).copy()


@dataclass(frozen=True)
class Segment:
    """A phone as Flite has it; `end` in seconds; `word_id` 0: a pause."""

    name: str
    stress: str
    word: str
    word_id: int
    punctuation: str
    end: float


def convention(segments: list[Segment]) -> tuple[list[str], list[str], list[float]]:
    """Symbols, the words they spell and the end of each in seconds. Raises ValueError for what is not an utterance."""
    symbols, words, ends = [START], [], [segments[0].end]
    for place, segment in enumerate(segments[1:], 1):
        before = segments[place - 1]
        if segment.name == "pau":
            last = place == len(segments) - 1
            symbols.append(_pause(before.punctuation, "." if last else ","))
        else:
            clitic = segment.word.startswith("'")
            if before.name != "pau" and before.word_id != segment.word_id and not clitic:
                symbols.append(WORD)
                ends.append(before.end)
            if before.word_id != segment.word_id:
                words.append(segment.word)
            symbols.append(segment.name + ("01"[segment.stress == "1"] if segment.name in VOWELS else ""))
        ends.append(segment.end)
    check(symbols)
    return symbols, words, ends


def _pause(punctuation: str, default: str) -> str:
    for mark in "?!.":
        if mark in punctuation:
            return mark
    return "," if any(mark in punctuation for mark in ",;:-") else default


def _array(track: Any) -> Floats:
    track = track.contents
    rows = [np.ctypeslib.as_array(track.frames[frame], (track.num_channels,)) for frame in range(track.num_frames)]
    return np.stack(rows).astype(np.float32)


def _library(stem: str) -> c.CDLL:
    path = find(stem)
    if path is None:
        raise FileNotFoundError(f"the library {stem} of CMU Flite is not installed: apt-get install flite")
    return c.CDLL(path, mode=c.RTLD_GLOBAL)


def _declare(lib: c.CDLL) -> None:
    pointer, text = c.c_void_p, c.c_char_p
    signatures: dict[str, tuple[Any, tuple[Any, ...]]] = {
        "srand": (None, (c.c_uint,)),
        "flite_synth_text": (c.POINTER(Utterance), (text, pointer)),
        "delete_utterance": (None, (c.POINTER(Utterance),)),
        "utt_wave": (c.POINTER(Wave), (c.POINTER(Utterance),)),
        "utt_relation": (c.POINTER(Relation), (c.POINTER(Utterance), text)),
        "item_next": (pointer, (pointer,)),
        "item_parent": (pointer, (pointer,)),
        "item_as": (pointer, (pointer, text)),
        "ffeature_string": (text, (pointer, text)),
        "ffeature_float": (c.c_float, (pointer, text)),
        "feat_present": (c.c_int, (pointer, text)),
        "feat_val": (pointer, (pointer, text)),
        "val_track": (c.POINTER(Track), (pointer,)),
        "val_cg_db": (pointer, (pointer,)),
        "val_lpcres": (c.POINTER(LpcRes), (pointer,)),
        "mlpg": (c.POINTER(Track), (c.POINTER(Track), pointer)),
        "delete_track": (None, (c.POINTER(Track),)),
    }
    for name, (result, arguments) in signatures.items():
        function = getattr(lib, name)
        function.restype, function.argtypes = result, arguments
