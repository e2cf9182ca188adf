"""The hibari Model: what a sequence's text becomes, voice by voice."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Generator, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from threading import Lock

import numpy as np

from saywell.errors import ModelFailure
from saywell.files import Damaged, read_plain
from saywell.hub.sources import SOURCES
from saywell.models.hibari import DEFAULT, VOICES, Speaker, package
from saywell.models.hibari.acoustic import RATE, Acoustic, Score
from saywell.models.hibari.reader import MARKS, Reader, Utterance, unpack
from saywell.models.single_shot import SingleShot
from saywell.plan.plan import Plan
from saywell.types import ModelSpec, Request, Samples, Sequence, Timestamp, Voice

SOONER_S = 0.045
"""A phone after a pause is heard so long before its time begins."""
BREATH_S = 0.25
"""The phone before a mark is counted so much longer than it sounds: that part of it is the pause. Median of measured
.145 to .325 s."""
SHORTEST_S = 0.05
"""Left of such a phone."""


@dataclass(frozen=True, slots=True)
class _Loaded:
    reader: Reader
    acoustic: Acoustic


class HibariModel(SingleShot):
    """Implements Model. Sequences share nothing that changes, so a batch cannot change a sound."""

    def __init__(self, spec: ModelSpec, plan: Plan) -> None:
        """Raises MissingDependency, ModelFailure."""
        self.spec = spec
        self._checkpoints = spec.path.parent if spec.path else plan.data_dir / "checkpoints"
        self._ids: dict[str, int] = json.loads(package.read("assets/vocab.json"))
        self._loading = Lock()
        self._readers: dict[bool, Reader] = {}
        """By whether it reads British English."""
        self._loaded: dict[str, _Loaded] = {}
        self._voice(spec.default_voice)  # now, not while the first listener waits
        super().__init__(self._speak_sequence, plan)

    def voices(self) -> tuple[Voice, ...]:
        """The default and those that have been pulled, where their place may be looked into."""
        there = [name for name in VOICES if name == DEFAULT or os.access(self._file(name), os.R_OK)]
        there.sort(key=lambda name: name != self.spec.default_voice)
        return tuple(_described(name, VOICES[name]) for name in there)

    def prepare(self, request: Request) -> None:
        """Nothing: these voices take no reference."""

    def _speak_sequence(self, sequence: Sequence) -> Generator[Samples, None, None]:
        """Read, then speak window by window. Raises InvalidText."""
        voice = self._voice(sequence.voice.id)
        utterances = voice.reader.read(sequence.text)
        scores: Iterable[Score] = (self._score(voice, each, sequence.request.speed) for each in utterances)
        if sequence.request.timestamps:
            scores = list(scores)
            sequence.timestamps = timestamps(utterances, scores)
        for number, score in enumerate(scores):
            yield from voice.acoustic.speak(score, sequence.seed + number)

    def _score(self, voice: _Loaded, utterance: Utterance, speed: float) -> Score:
        ids = [0, *(self._ids[phone] for phone in utterance.phones), 0]
        return voice.acoustic.score(np.array(ids, np.int64), speed)

    def _voice(self, name: str) -> _Loaded:
        """A voice, loaded when it is first asked for; whoever asks meanwhile waits."""
        with self._loading:
            if name not in self._loaded:
                british = VOICES[name].british
                with ThreadPoolExecutor(2) as pool:
                    files = [] if british in self._readers else unpack(british, pool)
                    acoustic = Acoustic(self._graph(name), pool)
                    if files:
                        self._readers[british] = Reader(british, files, pool)
                self._loaded[name] = _Loaded(self._readers[british], acoustic)
            return self._loaded[name]

    def _graph(self, name: str) -> bytes:
        """Raises ModelFailure for a pulled voice that is damaged."""
        if name == DEFAULT:
            return package.read("assets/hibari.onnx")
        try:
            data = read_plain(self._file(name), package.MOST_BYTES, links=True)
        except (OSError, Damaged) as error:
            why = getattr(error, "strerror", None) or error
            raise ModelFailure(f"the voice {name} cannot be read ({why}): saywell pull {name}") from error
        if hashlib.sha256(data).hexdigest() not in SOURCES[name].digests.values():
            raise ModelFailure(f"the file of the voice {name} is damaged: delete {self._file(name)}, pull it again")
        return data

    def _file(self, name: str) -> Path:
        """Where `saywell pull` puts it."""
        return self._checkpoints / name / Path(SOURCES[name].files[0]).name


def timestamps(utterances: list[Utterance], scores: list[Score]) -> tuple[Timestamp, ...]:
    """When each word and phone sounds, in seconds from the first sample."""
    found: list[Timestamp] = []
    begin = 0.0
    for utterance, score in zip(utterances, scores, strict=True):
        ends = begin + score.times  # ends[n] is where phone n begins: the first is of the pause before it
        for word in utterance.words:
            phones = _timed(utterance.phones, word.start, word.end, ends, score.rate)
            found.append(Timestamp(text=word.text, start_s=phones[0][1], end_s=phones[-1][2], phones=phones))
        begin += score.seconds
    return tuple(found)


def _timed(said: str, start: int, end: int, ends: np.ndarray, rate: float) -> tuple[tuple[str, float, float], ...]:
    """Phones of one word; a stress mark goes with the vowel behind it, a space is none."""
    phones: list[tuple[str, float, float]] = []
    paused = not said[:start].strip() or said[:start].rstrip()[-1] in MARKS
    mark, since = "", float(ends[start]) - (SOONER_S / rate if paused else 0.0)
    for at in range(start, end):
        if said[at] in "ˈˌ":
            mark = mark + said[at]
            continue
        if said[at] != " ":
            phones.append((mark + said[at], since, float(ends[at + 1])))
        mark, since = "", float(ends[at + 1])
    if said[end : end + 1] and said[end] in MARKS:
        phone, first, last = phones[-1]
        phones[-1] = (phone, first, max(first + SHORTEST_S / rate, last - BREATH_S / rate))
    return tuple(phones)


def _described(name: str, speaker: Speaker) -> Voice:
    return Voice(
        id=name, name=speaker.name, language=speaker.language, sample_rate=RATE, description=speaker.description
    )
