"""The Kokoro Model: reads a sequence's text, speaks its utterances one after the other, and gives timestamps."""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Callable, Generator
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from filelock import FileLock

from saywell.errors import InvalidRequest, MissingDependency, ModelFailure, StorageFailure
from saywell.files import write_atomically
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
VERSION = 3
"""Of the rewriting; another one makes the files again."""
KEPT, _DONE = "kokoro", "made_from"
"""Folder of `data_dir` for rewritten graphs, and the file that is written last."""
Ints = npt.NDArray[np.int64]


class KokoroModel(SingleShot):
    """Implements Model. Sequences share only immutable state, so a batch cannot change the sound."""

    def __init__(self, spec: ModelSpec, plan: Plan) -> None:
        """Raises MissingDependency, ModelFailure, StorageFailure."""
        assert spec.path is not None
        self.spec = spec
        self._found = files.look(spec.path)
        self._pack = mixer(lambda name: files.pack(self._found, name))
        self._pack(spec.default_voice)
        self._phonemiser = Phonemiser()
        self._acoustic = Acoustic(rewritten(self._found.graph, plan.data_dir, plan.executor), plan.threads)
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
        ids = [self._phonemiser.ids[phone] for phone in utterance.phones]
        style = pack[min(len(ids), files.ROWS) - 1]
        audio, durations = self._acoustic.run(np.array([0, *ids, 0], np.int64), style, speed)
        taken = Taken.of(durations)
        return audio[taken.first * HOP : taken.last * HOP], taken


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


class Acoustic:
    """The rewritten graph: tokens, style and speed → samples and durations. Threads may share it."""

    def __init__(self, folder: Path, threads: int = 1) -> None:
        """`threads`: that run it at the same time. Raises ModelFailure for a graph with other inputs, GraphError,
        MissingDependency."""
        whole = folder / "whole.onnx"
        self._encoder = _graph(whole if whole.is_file() else folder / "encoder.onnx")
        self._decode = None if whole.is_file() else _decoder(folder, threads)
        inputs = self._encoder.inputs
        self._tokens = next((name for name in ("tokens", "input_ids") if name in inputs), "")
        if not self._tokens or not {"style", "speed"} <= inputs.keys():
            raise ModelFailure(f"this is no export of Kokoro: its inputs are {', '.join(inputs)}")
        self._rate = inputs["speed"]

    def run(self, tokens: Ints, style: Samples, speed: float) -> tuple[Samples, Ints]:
        """tokens [n], style [256] → samples, and the frames of each token [n]. Raises InvalidRequest, GraphError."""
        if speed % 1 and np.issubdtype(self._rate, np.integer):
            raise InvalidRequest("this export of Kokoro takes whole numbers as speed; leave speed out", param="speed")
        pace = np.array([speed]).astype(self._rate)
        found = self._encoder.run({self._tokens: tokens[None], "style": style[None], "speed": pace})
        if self._decode is None:
            audio, durations = found
        else:
            features, f0, energy, durations = found
            audio = self._decode({"features": features, "f0": f0, "energy": energy, "style": style[None]})
        return np.asarray(audio.reshape(-1), np.float32), durations.reshape(-1)


Decode = Callable[[dict[str, npt.NDArray[Any]]], npt.NDArray[Any]]
"""Features, F0, energy and style → samples."""


def _graph(path: Path) -> Graph:
    return Graph(path, Threading(spin=False), shrink=True)


def _decoder(folder: Path, threads: int) -> Decode:
    if not (folder / "middle.onnx").is_file():
        graph = _graph(folder / "decoder.onnx")
        return lambda feeds: graph.run(feeds)[0]
    front, tail = _graph(folder / "front.onnx"), _graph(folder / "tail.onnx")
    runtime = import_module("saywell.runtimes.openvino")  # by name: an optional extra
    middle = runtime.Graph(
        folder / "middle.onnx", Threading(threads=threads), bf16=True, streams=threads, cache=folder / "compiled"
    )

    def decode(feeds: dict[str, npt.NDArray[Any]]) -> npt.NDArray[Any]:
        between = front.run({name: feeds[name] for name in front.inputs})
        (spectrum,) = middle.run(dict(zip(front.outputs, between, strict=True)))
        return tail.run(dict(zip(tail.inputs, [spectrum], strict=True)))[0]

    return decode


def rewritten(graph: Path, data_dir: Path, executor: str = "onnx") -> Path:
    """The folder of the rewritten graph, made at first use. Raises MissingDependency, ModelFailure, StorageFailure."""
    stamp = graph.stat()
    made_from = f"{VERSION} {stamp.st_size} {stamp.st_mtime_ns}".encode()
    name = hashlib.sha256(os.fsencode(graph.resolve())).hexdigest()[:16]
    kept = data_dir / KEPT / (name if executor == "onnx" else f"{name}-{executor}")
    if _is_from(kept, made_from):
        return kept
    try:
        module = import_module("saywell.models.kokoro.graphs")
    except ModuleNotFoundError as error:
        raise MissingDependency(f"Kokoro needs {error.name}: pip install 'saywell[kokoro]'") from error
    try:
        kept.mkdir(parents=True, exist_ok=True)
        with FileLock(kept / ".lock"):
            if not _is_from(kept, made_from):
                _log.warning("%s is rewritten once, into %s", graph.name, kept)
                module.rewrite(graph, kept, executor)
                write_atomically(kept / _DONE, made_from)
    except OSError as error:
        raise StorageFailure(f"the graph could not be written into {kept}: {error.strerror or error}") from error
    return kept


def _is_from(kept: Path, made_from: bytes) -> bool:
    done = kept / _DONE
    return done.is_file() and done.read_bytes() == made_from
