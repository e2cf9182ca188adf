"""The Kokoro Model: reads a sequence's text, speaks its utterances one after the other, and gives timestamps."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Generator
from importlib import import_module
from pathlib import Path

import numpy as np
import numpy.typing as npt
from filelock import FileLock

from saywell.errors import MissingDependency, ModelFailure, StorageFailure
from saywell.files import replacing
from saywell.models.hibari import package
from saywell.models.hibari.reader import Utterance
from saywell.models.hibari.timing import timed
from saywell.models.kokoro import HOP, LANGUAGES, RATE, files
from saywell.models.kokoro.phonemes import Phonemiser
from saywell.models.kokoro.voices import mixer
from saywell.models.single_shot import SingleShot
from saywell.plan.plan import Plan
from saywell.runtimes.base import Threading
from saywell.runtimes.onnx import Graph
from saywell.types import ModelSpec, Request, Samples, Sequence, Timestamp, Voice

_log = logging.getLogger(__name__)

LEAD = 3
"""Frames kept of the silence before the first phone."""
TAIL = 14
"""Frames kept behind the start of the last mark: the pause after a sentence."""
KEPT = "kokoro"
"""Folder of `data_dir` for rewritten graphs."""
Ints = npt.NDArray[np.int64]


class KokoroModel(SingleShot):
    """Implements Model. Sequences share only immutable state, so a batch cannot change the sound."""

    def __init__(self, spec: ModelSpec, plan: Plan) -> None:
        """Raises MissingDependency, ModelFailure, StorageFailure."""
        assert spec.path is not None
        self.spec = spec
        self._found = files.look(spec.path)
        self._ids: dict[str, int] = json.loads(package.read("assets/vocab.json"))
        self._pack = mixer(lambda name: files.pack(self._found, name))
        self._pack(spec.default_voice)
        self._phonemiser = Phonemiser()
        self._graph = Graph(rewritten(self._found.graph, plan.data_dir), Threading(spin=False), arena=False)
        self._tokens = next((name for name in self._graph.inputs if name in ("tokens", "input_ids")), "")
        if not self._tokens or "style" not in self._graph.inputs:
            raise ModelFailure(
                f"{self._found.graph} is no export of Kokoro: its inputs are {', '.join(self._graph.inputs)}"
            )
        self._speed = self._graph.inputs["speed"]
        super().__init__(self._speak_sequence, plan)

    def voices(self) -> tuple[Voice, ...]:
        """All voices of the folder, the default first."""
        names = sorted(self._found.voices, key=lambda name: (name != self.spec.default_voice, name))
        return tuple(
            Voice(
                id=name,
                name=name[3:].capitalize(),
                language=LANGUAGES[name[0]],
                sample_rate=RATE,
                description=f"Kokoro, {'female' if name[1] == 'f' else 'male'}",
            )
            for name in names
        )

    def prepare(self, request: Request) -> None:
        """Nothing: these voices take no reference."""

    def close(self) -> None:
        super().close()
        self._phonemiser.close()

    def _speak_sequence(self, sequence: Sequence) -> Generator[Samples, None, None]:
        """Raises InvalidText, MissingDependency, ModelFailure."""
        language = sequence.request.language or sequence.voice.language
        utterances = self._phonemiser.read(sequence.text, language, sequence.phones)
        pack = self._pack(sequence.voice.id)
        if not sequence.request.timestamps:
            for utterance in utterances:
                yield self._run(utterance, pack, sequence.request.speed)[0]
            return
        spoken = [self._run(utterance, pack, sequence.request.speed) for utterance in utterances]
        sequence.timestamps = timestamps(utterances, [taken for _, taken in spoken])
        yield from (samples for samples, _ in spoken)

    def _run(self, utterance: Utterance, pack: files.Pack, speed: float) -> tuple[Samples, Taken]:
        ids = [self._ids[phone] for phone in utterance.phones if phone in self._ids]
        tokens = np.array([[0, *ids, 0]], np.int64)
        style = pack[min(len(ids), files.ROWS) - 1][None]
        feeds = {self._tokens: tokens, "style": style, "speed": np.array([speed], self._speed)}
        audio, durations = self._graph.run(feeds)
        taken = Taken.of(durations.reshape(-1))
        return np.ascontiguousarray(audio.reshape(-1)[taken.first * HOP : taken.last * HOP], np.float32), taken


class Taken:
    """The part of an utterance's audio that is spoken, in frames, and where each token ends [tokens]."""

    def __init__(self, ends: Ints, first: int, last: int) -> None:
        self.ends, self.first, self.last = ends, first, last

    @classmethod
    def of(cls, durations: Ints) -> Taken:
        ends = np.cumsum(durations)
        first = max(0, int(ends[0]) - LEAD)
        return cls(ends, first, min(int(ends[-1]), int(ends[-3]) + TAIL))

    @property
    def seconds(self) -> float:
        return (self.last - self.first) * HOP / RATE


def timestamps(utterances: list[Utterance], spoken: list[Taken]) -> tuple[Timestamp, ...]:
    """When each word and phone sounds, in seconds from the first sample. Token n + 1 is phone n."""
    found: list[Timestamp] = []
    begin = 0.0
    for utterance, taken in zip(utterances, spoken, strict=True):
        ends = begin + (taken.ends - taken.first) * (HOP / RATE)
        for word in utterance.words:
            phones = timed(utterance.phones, word.start, word.end, ends, 1.0)
            if phones:
                found.append(
                    Timestamp(text=word.text, start_s=max(0.0, phones[0][1]), end_s=phones[-1][2], phones=phones)
                )
        begin += taken.seconds
    return tuple(found)


def rewritten(graph: Path, data_dir: Path) -> Path:
    """The file of the rewritten graph, made at first use. Raises MissingDependency, ModelFailure, StorageFailure."""
    try:
        module = import_module("saywell.models.kokoro.graphs")
    except ModuleNotFoundError as error:
        raise MissingDependency(f"Kokoro needs {error.name}: pip install 'saywell[kokoro]'") from error
    stamp = graph.stat()
    place = hashlib.sha256(
        f"{module.VERSION} {graph.resolve()} {stamp.st_size} {stamp.st_mtime_ns}".encode()
    ).hexdigest()
    kept = data_dir / KEPT / f"{place[:16]}.onnx"
    if kept.is_file():
        return kept
    try:
        kept.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(kept.with_suffix(".lock")):
            if not kept.is_file():
                _log.warning("%s is rewritten once, into %s", graph.name, kept)
                model = module.rewrite(module.onnx.load(str(graph)))
                with replacing(kept) as file:
                    file.write(model.SerializeToString())
    except OSError as error:
        raise StorageFailure(f"the graph could not be written into {kept.parent}: {error.strerror or error}") from error
    return kept
