"""The codec at run time: streaming stages over loaded graphs; codes → samples, samples → codes. numpy only.

Tiles are aligned: frame n is always place n mod tile of tile n div tile, and every tile has the same shape. A tile
whose frames are not all there yet runs with zeros in their places, gives the samples of those that are, and runs again,
from the state before it, when more have come. No row of a tile depends on a later one, so a frame's samples are the
same, bit for bit, however the frames were cut into calls.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, Literal, Protocol, cast

import numpy as np
import numpy.typing as npt

from saywell.errors import MissingDependency
from saywell.models.dual_ar.config import CodecConfig
from saywell.models.dual_ar.onnx.codec_files import (
    ENCODE,
    LATENTS,
    STACK,
    STACK_CHANNELS,
    WAYS,
    Convolutions,
    Precision,
)
from saywell.runtimes import onnx
from saywell.runtimes.base import Threading

Array = npt.NDArray[Any]
Samples = npt.NDArray[np.float32]


class LoadedGraph(Protocol):
    """What a stage needs of an executor's graph."""

    inputs: dict[str, np.dtype[Any]]
    outputs: dict[str, np.dtype[Any]]
    shapes: dict[str, tuple[Any, ...]]

    def run(self, feeds: Mapping[str, Array]) -> list[Array]: ...


@dataclass(slots=True, eq=False)
class StageState:
    """One sequence's place in a stage."""

    past: dict[str, Array]
    """What the graph remembers, by input name, as it was before the unfinished tile."""
    waiting: Array
    """Frames of the unfinished tile, [n < tile, …]; what they give has been given."""

    @property
    def nbytes(self) -> int:
        return sum(each.nbytes for each in self.past.values()) + self.waiting.nbytes


class Stage:
    """A graph that maps `x`, a tile of frames, to `y`, and remembers. Frames are the first axis of both here."""

    def __init__(self, graph: LoadedGraph, tile: int) -> None:
        """`tile`: frames in one `x`."""
        self._graph, self.tile = graph, tile
        self._x, self._y = (_by_frame(graph.shapes[name], tile) for name in ("x", "y"))
        self._remembered = [name for name in graph.inputs if name.startswith("in.")]
        self._names = [name.replace("out.", "in.", 1) for name in graph.outputs]

    def start(self) -> StageState:
        """The state before the first frame."""
        shapes, kinds = self._graph.shapes, self._graph.inputs
        past = {name: np.zeros(shapes[name], kinds[name]) for name in self._remembered}
        return StageState(past, np.zeros((0, *self._x), kinds["x"]))

    def push(self, state: StageState, frames: Array) -> Array:
        """[n, …] → [n, …]: what these frames give, after all those pushed before. Advances `state`."""
        given = len(state.waiting)
        waiting = np.concatenate([state.waiting, frames.reshape(-1, *self._x)])
        found = [np.zeros((0, *self._y), self._graph.outputs["y"])]
        while len(waiting) > given:
            tile, rest = waiting[: self.tile], waiting[self.tile :]
            y, past = self._run(state.past, tile)
            found.append(y[given : len(tile)])
            given = 0
            if len(tile) < self.tile:
                break
            state.past, waiting = past, rest
        state.waiting = waiting.copy()
        return np.concatenate(found)

    def _run(self, past: dict[str, Array], tile: Array) -> tuple[Array, dict[str, Array]]:
        x = np.zeros((self.tile, *self._x), self._graph.inputs["x"])
        x[: len(tile)] = tile
        outputs = self._graph.run({"x": x.reshape(self._graph.shapes["x"]), **past})
        found = dict(zip(self._names, outputs, strict=True))
        return found.pop("y").reshape(self.tile, *self._y), found


def _by_frame(shape: tuple[int, ...], frames: int) -> tuple[int, ...]:
    """The shape one frame has where `frames` of them have `shape`."""
    rows, *rest = shape
    if rows % frames:
        raise ValueError(f"{rows} rows do not make {frames} frames")
    return rows // frames, *rest


@dataclass(slots=True, eq=False)
class DecoderState:
    """One sequence's place in the decoder."""

    latents: StageState
    stack: StageState

    @property
    def nbytes(self) -> int:
        return self.latents.nbytes + self.stack.nbytes


class CodecDecoder:
    """Codes → samples, streaming. Holds no sequence: states are the caller's."""

    def __init__(self, codec: CodecConfig, latents: LoadedGraph, stack: LoadedGraph) -> None:
        self._codec = codec
        steps = codec.frame // codec.hop
        self._latents = Stage(latents, latents.shapes["x"][0])
        self._stack = Stage(stack, stack.shapes["x"][0] // steps)
        self._sizes = np.array([codec.book_size(book) for book in range(codec.num_codebooks)])[:, None]

    @property
    def tile(self) -> int:
        """Frames a call should be a multiple of; any other number is as exact, and dearer."""
        return max(self._latents.tile, self._stack.tile)

    def start(self) -> DecoderState:
        """The state of a new sequence."""
        return DecoderState(self._latents.start(), self._stack.start())

    def decode(self, state: DecoderState, codes: npt.NDArray[np.integer[Any]]) -> Samples:
        """The next frames' codes [num_codebooks, T] → their samples [T · frame] within (-1, 1).

        Indices beyond a book are clamped to it. Advances `state`.
        """
        frames = np.clip(codes, 0, self._sizes - 1).T.astype(np.int64)
        latents = self._latents.push(state.latents, frames)
        return self._stack.push(state.stack, latents).reshape(-1)


class CodecEncoder:
    """Samples → codes, whole recordings in bounded memory."""

    def __init__(self, codec: CodecConfig, graph: LoadedGraph) -> None:
        self._codec = codec
        self._stage = Stage(graph, graph.shapes["y"][0])

    def encode(self, audio: Samples) -> npt.NDArray[np.int64]:
        """Mono samples [n] at the codec's rate → codes [num_codebooks, ⌈n / frame⌉]; zeros complete the last frame."""
        padded = np.pad(audio, (0, -len(audio) % self._codec.frame)).astype(np.float32)
        codes = self._stage.push(self._stage.start(), padded.reshape(-1, self._codec.frame))
        return np.ascontiguousarray(codes.reshape(-1, self._codec.num_codebooks).T)


def load_decoder(
    directory: Path,
    codec: CodecConfig,
    threading: Threading,
    *,
    latents: Precision = "int8",
    convolutions: Convolutions = "winograd",
    executor: Literal["onnx", "openvino"] = "onnx",
) -> CodecDecoder:
    """The decoder of a converted model.

    `executor` runs the convolutions in one of its `WAYS`; the latents always run in ONNX Runtime. Raises GraphError
    naming the file, MissingDependency, ValueError for a way the executor has not.
    """
    if convolutions not in WAYS[executor]:
        raise ValueError(f"{executor} has no {convolutions} convolutions; it has {', '.join(WAYS[executor])}")
    first = onnx.Graph(directory / LATENTS[latents], threading)
    if executor == "onnx":
        return CodecDecoder(codec, first, onnx.Graph(directory / STACK[convolutions], threading))
    name = STACK_CHANNELS if convolutions != "winograd" else STACK[convolutions]
    return CodecDecoder(codec, first, _openvino_stack(directory / name, threading, convolutions == "bf16"))


def _openvino_stack(path: Path, threading: Threading, bf16: bool) -> LoadedGraph:
    try:
        runtime = import_module("saywell.runtimes.openvino")  # by name: an optional extra
    except ModuleNotFoundError as error:
        raise MissingDependency(
            f"the executor openvino needs {error.name}, which is not installed: pip install 'saywell[openvino]'"
        ) from error
    return cast(LoadedGraph, runtime.Graph(path, threading, bf16=bf16))


def load_encoder(directory: Path, codec: CodecConfig, threading: Threading) -> CodecEncoder:
    """The encoder of a converted model; about 0.8 GB, so load it for a reference and let it go. Raises GraphError."""
    return CodecEncoder(codec, onnx.Graph(directory / ENCODE, threading))
