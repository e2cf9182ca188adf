"""The hibari Model: reads a sequence's text, speaks it, and gives timestamps."""

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
from saywell.models.hibari import DEFAULT, VOICES, package
from saywell.models.hibari.acoustic import RATE, Acoustic, Score
from saywell.models.hibari.reader import Reader, Utterance, unpack
from saywell.models.hibari.timing import timed
from saywell.models.single_shot import SingleShot
from saywell.plan.plan import Plan
from saywell.types import ModelSpec, Request, Samples, Sequence, Timestamp, Voice


@dataclass(frozen=True, slots=True)
class _Loaded:
    reader: Reader
    acoustic: Acoustic


class HibariModel(SingleShot):
    """Implements Model. Sequences share only immutable state, so a batch cannot change the sound."""

    def __init__(self, spec: ModelSpec, plan: Plan) -> None:
        """Raises MissingDependency, ModelFailure."""
        self.spec = spec
        self._checkpoints = spec.path.parent if spec.path else plan.data_dir / "checkpoints"
        self._ids: dict[str, int] = json.loads(package.read("assets/vocab.json"))
        self._loading = Lock()
        self._readers: dict[bool, Reader] = {}
        """True: the reader of British English."""
        self._loaded: dict[str, _Loaded] = {}
        self._voice(spec.default_voice)  # at load rather than at the first request
        super().__init__(self._speak_sequence, plan)

    def voices(self) -> tuple[Voice, ...]:
        """The default voice and the pulled ones."""
        names = [name for name in VOICES if name == DEFAULT or os.access(self._file(name), os.R_OK)]
        names.sort(key=lambda name: name != self.spec.default_voice)
        return tuple(
            Voice(id=name, name=v.name, language=v.language, sample_rate=RATE, description=v.description)
            for name, v in ((name, VOICES[name]) for name in names)
        )

    def prepare(self, request: Request) -> None:
        """Nothing: these voices take no reference."""

    def _speak_sequence(self, sequence: Sequence) -> Generator[Samples, None, None]:
        """Read, then speak window by window. Raises InvalidText."""
        voice = self._voice(sequence.voice.id)
        utterances = voice.reader.read(sequence.text, sequence.phones)
        scores: Iterable[Score] = (self._score(voice, utterance, sequence.request.speed) for utterance in utterances)
        if sequence.request.timestamps:
            scores = list(scores)
            sequence.timestamps = timestamps(utterances, scores)
        for number, score in enumerate(scores):
            yield from voice.acoustic.speak(score, sequence.seed + number)

    def _score(self, voice: _Loaded, utterance: Utterance, speed: float) -> Score:
        ids = [0, *(self._ids[phone] for phone in utterance.phones), 0]
        return voice.acoustic.score(np.array(ids, np.int64), speed)

    def _voice(self, name: str) -> _Loaded:
        """A voice, loaded on first use."""
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
            data = read_plain(self._file(name), package.MAX_BYTES, links=True)
        except (OSError, Damaged) as error:
            why = getattr(error, "strerror", None) or error
            raise ModelFailure(f"the voice {name} cannot be read ({why}): saywell pull {name}") from error
        if hashlib.sha256(data).hexdigest() not in SOURCES[name].digests.values():
            raise ModelFailure(f"the file of the voice {name} is damaged: delete {self._file(name)} and pull it again")
        return data

    def _file(self, name: str) -> Path:
        """The file that `saywell pull` writes."""
        return self._checkpoints / name / Path(SOURCES[name].files[0]).name


def timestamps(utterances: list[Utterance], scores: list[Score]) -> tuple[Timestamp, ...]:
    """When each word and phone sounds, in seconds from the first sample."""
    found: list[Timestamp] = []
    begin = 0.0
    for utterance, score in zip(utterances, scores, strict=True):
        ends = begin + score.times  # ends[n] is the start of phone n: ends[0] ends the leading pause
        for word in utterance.words:
            phones = timed(utterance.phones, word.start, word.end, ends, score.rate)
            found.append(Timestamp(text=word.text, start_s=phones[0][1], end_s=phones[-1][2], phones=phones))
        begin += score.seconds
    return tuple(found)
