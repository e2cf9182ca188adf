"""The codec at run time: streaming stages over loaded graphs; codes → samples, samples → codes. numpy only.

Tiles are aligned: frame n is always place n mod tile of tile n div tile, and every tile has the same shape. A tile whose
frames are not all there yet runs with zeros in their places, gives the samples of those that are, and runs again, from
the state before it, when more have come. No row of a tile depends on a later one, so a frame's samples are the same, bit
for bit, however the frames were cut into calls.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from saywell.models.dual_ar.config import CodecConfig

Array = npt.NDArray[Any]
Samples = npt.NDArray[np.float32]


class LoadedGraph(Protocol):
    """What a stage needs of an executor's graph."""

    inputs: dict[str, np.dtype[Any]]
    outputs: dict[str, np.dtype[Any]]
    shapes: dict[str, tuple[int, ...]]

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
        """Raises ValueError if the graph's shapes do not hold whole frames."""
        self._graph, self.tile = graph, tile
        self._rows_in, self._rows_out = graph.shapes["x"][0], graph.shapes["y"][0]
        if self._rows_in % tile or self._rows_out % tile:
            raise ValueError(f"{self._rows_in} rows do not make {tile} frames")
        self._remembered = [name for name in graph.inputs if name.startswith("in.")]
        self._names = list(graph.outputs)

    def start(self) -> StageState:
        """The state before the first frame."""
        shapes, kinds = self._graph.shapes, self._graph.inputs
        past = {name: np.zeros(shapes[name], kinds[name]) for name in self._remembered}
        return StageState(past, self._frames_of_x(np.zeros((0, *shapes["x"][1:]), kinds["x"]), 0))

    def push(self, state: StageState, frames: Array) -> Array:
        """[n, …] → [n, …]: what these frames give, after all those pushed before."""
        given = len(state.waiting)
        waiting = np.concatenate([state.waiting, frames])
        parts = []
        for first in range(0, len(waiting), self.tile):
            tile = waiting[first : first + self.tile]
            found, past = self._run(state.past, tile)
            parts.append(found[given if first == 0 else 0 : len(tile)])
            if len(tile) == self.tile:
                state.past = past
        state.waiting = waiting[len(waiting) - len(waiting) % self.tile :].copy()
        return np.concatenate(parts) if parts else self._run_shape(0)

    def _run(self, past: dict[str, Array], tile: Array) -> tuple[Array, dict[str, Array]]:
        x = np.zeros(self._graph.shapes["x"], self._graph.inputs["x"])
        self._frames_of_x(x, self.tile)[: len(tile)] = tile
        found = dict(zip(self._names, self._graph.run({"x": x, **past}), strict=True))
        y = found.pop("y")
        return y.reshape(self.tile, self._rows_out // self.tile, *y.shape[1:]), {
            f"in.{name.removeprefix('out.')}": value for name, value in found.items()
        }

    def _frames_of_x(self, x: Array, frames: int) -> Array:
        return x.reshape(frames, self._rows_in // self.tile, *self._graph.shapes["x"][1:])

    def _run_shape(self, frames: int) -> Array:
        shape = self._graph.shapes["y"]
        return np.zeros((frames, self._rows_out // self.tile, *shape[1:]), self._graph.outputs["y"])


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
        latents = self._latents.push(state.latents, frames[:, None])
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
