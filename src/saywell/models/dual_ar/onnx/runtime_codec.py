"""The codec at run time: streaming stages over loaded graphs; codes → samples, samples → codes.

Tiles are aligned: frame n is always row n mod tile of tile n div tile, and every tile has the same shape. An incomplete
tile runs with zeros for the missing frames and yields the outputs of the frames it has; it runs again, from the state
before it, when more frames arrive. No row of a tile depends on a later row, so the samples of a frame are the same bits
however the frames are split into calls.
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
from saywell.graphs.numerics import Codes
from saywell.models.dual_ar.config import CodecConfig
from saywell.models.dual_ar.onnx.codec_files import (
    CONV_IMPLS,
    DECODER,
    DECODER_CHANNELS,
    ENCODER,
    QUANTIZER,
    ConvImpl,
    Precision,
)
from saywell.runtimes import onnx
from saywell.runtimes.base import Threading
from saywell.types import Samples

Array = npt.NDArray[Any]


class LoadedGraph(Protocol):
    """The part of a runtime's graph that a stage uses."""

    inputs: dict[str, np.dtype[Any]]
    outputs: dict[str, np.dtype[Any]]
    shapes: dict[str, tuple[Any, ...]]

    def run(self, feeds: Mapping[str, Array]) -> list[Array]: ...


@dataclass(slots=True, eq=False)
class StageState:
    """State of one sequence in a stage."""

    past: dict[str, Array]
    """State inputs of the graph, as of the start of the incomplete tile."""
    waiting: Array
    """Frames of the incomplete tile, [n < tile, …]; their outputs have been returned."""

    @property
    def nbytes(self) -> int:
        return sum(array.nbytes for array in self.past.values()) + self.waiting.nbytes


class Stage:
    """A graph with state that maps a tile of frames `x` to `y`. Frames are the first axis of both here."""

    def __init__(self, graph: LoadedGraph, tile: int) -> None:
        """`tile`: frames in one `x`."""
        self._graph, self.tile = graph, tile
        self._x, self._y = (_by_frame(graph.shapes[name], tile) for name in ("x", "y"))
        self._outputs = [name.replace("out.", "in.", 1) for name in graph.outputs]

    def start(self) -> StageState:
        """The state before the first frame."""
        dtypes = self._graph.inputs
        past = {name: np.zeros(self._graph.shapes[name], dtypes[name]) for name in dtypes if name.startswith("in.")}
        return StageState(past, np.zeros((0, *self._x), dtypes["x"]))

    def push(self, state: StageState, frames: Array) -> Array:
        """Frames [n, …] → their outputs [n, …]. Advances `state`."""
        returned = len(state.waiting)
        waiting = np.concatenate([state.waiting, frames.reshape(-1, *self._x)])
        outputs = [np.zeros((0, *self._y), self._graph.outputs["y"])]
        while len(waiting) > returned:
            tile, rest = waiting[: self.tile], waiting[self.tile :]
            y, past = self._run(state.past, tile)
            outputs.append(y[returned : len(tile)])
            returned = 0
            if len(tile) < self.tile:
                break
            state.past, waiting = past, rest
        state.waiting = waiting.copy()
        return np.concatenate(outputs)

    def _run(self, past: dict[str, Array], tile: Array) -> tuple[Array, dict[str, Array]]:
        x = np.zeros((self.tile, *self._x), self._graph.inputs["x"])
        x[: len(tile)] = tile
        outputs = self._graph.run({"x": x.reshape(self._graph.shapes["x"]), **past})
        named = dict(zip(self._outputs, outputs, strict=True))
        return named.pop("y").reshape(self.tile, *self._y), named


def _by_frame(shape: tuple[int, ...], frames: int) -> tuple[int, ...]:
    """The shape of one frame, given the `shape` of `frames` of them."""
    rows, *rest = shape
    if rows % frames:
        raise ValueError(f"{rows} rows do not make {frames} frames")
    return rows // frames, *rest


@dataclass(slots=True, eq=False)
class DecoderState:
    """State of one sequence in the decoder."""

    quantizer: StageState
    decoder: StageState

    @property
    def nbytes(self) -> int:
        return self.quantizer.nbytes + self.decoder.nbytes


class CodecDecoder:
    """Codes → samples, streaming. The caller keeps the states of sequences."""

    def __init__(self, codec: CodecConfig, quantizer: LoadedGraph, decoder: LoadedGraph) -> None:
        self._quantizer = Stage(quantizer, quantizer.shapes["x"][0])
        self._decoder = Stage(decoder, decoder.shapes["x"][0] * codec.hop // codec.frame)
        self._sizes = np.array([codec.book_size(book) for book in range(codec.num_codebooks)])[:, None]

    def start(self) -> DecoderState:
        """The state of a new sequence."""
        return DecoderState(self._quantizer.start(), self._decoder.start())

    def decode(self, state: DecoderState, codes: npt.NDArray[np.integer[Any]]) -> Samples:
        """Codes of the next frames [num_codebooks, T] → their samples [T · frame] within (-1, 1).

        Codes outside a codebook are clamped. Advances `state`.
        """
        frames = np.clip(codes, 0, self._sizes - 1).T.astype(np.int64)
        latents = self._quantizer.push(state.quantizer, frames)
        return self._decoder.push(state.decoder, latents).reshape(-1)


class CodecEncoder:
    """Samples → codes of whole recordings, in bounded memory."""

    def __init__(self, codec: CodecConfig, graph: LoadedGraph) -> None:
        self._codec = codec
        self._stage = Stage(graph, graph.shapes["y"][0])

    def encode(self, audio: Samples) -> Codes:
        """Mono samples [n] at the codec's rate → codes [num_codebooks, ⌈n / frame⌉]; zeros complete the last frame."""
        padded = np.pad(audio, (0, -len(audio) % self._codec.frame)).astype(np.float32)
        codes = self._stage.push(self._stage.start(), padded.reshape(-1, self._codec.frame))
        return np.ascontiguousarray(codes.reshape(-1, self._codec.num_codebooks).T)


def load_decoder(
    directory: Path,
    codec: CodecConfig,
    threading: Threading,
    *,
    quantizer: Precision = "int8",
    conv_impl: ConvImpl = "winograd",
    executor: Literal["onnx", "openvino"] = "onnx",
) -> CodecDecoder:
    """The decoder of a converted model.

    `executor` runs the convolutions; the quantizer always runs in ONNX Runtime. Raises GraphError naming the file,
    MissingDependency, ValueError if the executor does not support `conv_impl`.
    """
    if conv_impl not in CONV_IMPLS[executor]:
        raise ValueError(f"{executor} has no {conv_impl} convolutions; it has {', '.join(CONV_IMPLS[executor])}")
    first = onnx.Graph(directory / QUANTIZER[quantizer], threading)
    if executor == "onnx":
        return CodecDecoder(codec, first, onnx.Graph(directory / DECODER[conv_impl], threading))
    name = DECODER["winograd"] if conv_impl == "winograd" else DECODER_CHANNELS
    return CodecDecoder(codec, first, _openvino_graph(directory / name, threading, conv_impl == "bf16"))


def _openvino_graph(path: Path, threading: Threading, bf16: bool) -> LoadedGraph:
    try:
        runtime = import_module("saywell.runtimes.openvino")  # by name: an optional extra
    except ModuleNotFoundError as error:
        raise MissingDependency(
            f"the executor openvino needs {error.name}, which is not installed: pip install 'saywell[openvino]'"
        ) from error
    return cast(LoadedGraph, runtime.Graph(path, threading, bf16=bf16))


def load_encoder(directory: Path, codec: CodecConfig, threading: Threading) -> CodecEncoder:
    """The encoder of a converted model: about 0.8 GB, so load it for a reference and drop it. Raises GraphError."""
    return CodecEncoder(codec, onnx.Graph(directory / ENCODER, threading))
