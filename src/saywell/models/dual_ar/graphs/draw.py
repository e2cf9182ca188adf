"""The sampling rule of `sampling.py` as graph nodes, in float64."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from onnx import TensorProto

from saywell.graphs.writer import GraphWriter
from saywell.models.dual_ar.sampling import PENALTY_FRAMES, REPEAT_FRAMES, REPEAT_TEMPERATURE, REPEAT_TOP_P

FIRST_LOOK = 128
"""Candidates sorted for a nucleus; if a row of the batch needs more, all are sorted."""
DOUBLE, INT64 = TensorProto.DOUBLE, TensorProto.INT64


@dataclass(frozen=True, slots=True)
class Inputs:
    """Names of the inputs with the sampling parameters of each row.

    recent: int64 [B, book, 16], codes of the last frames, oldest first; the oldest is repeated if there are fewer.
    uniforms: float64 [B, books + 1], the last for the second draw of the semantic code. temperature, top_p, penalty:
    float64 [B, 1]; again: bool [B], whether a repeated semantic code is drawn a second time. Greedy is top_p 0, no
    nucleus is top_p 2, and before the first frame penalty is 1 and again False.
    """

    recent: str
    uniforms: str
    temperature: str
    top_p: str
    penalty: str
    again: str
    books: int


def inputs(g: GraphWriter, books: int) -> Inputs:
    return Inputs(
        g.input("recent", ["B", books, PENALTY_FRAMES], INT64),
        g.input("uniforms", ["B", books + 1], DOUBLE),
        g.input("temperature", ["B", 1], DOUBLE),
        g.input("top_p", ["B", 1], DOUBLE),
        g.input("penalty", ["B", 1], DOUBLE),
        g.input("again", ["B"], TensorProto.BOOL),
        books,
    )


def residual(g: GraphWriter, logits: str, size: int, turn: str, params: Inputs) -> str:
    """Code [B] of residual book `turn` + 1 from logits [B, size]."""
    book = g.op("Add", turn, g.const(1, np.int64))
    d = _Draw(g, logits, g.op("Gather", params.recent, book, axis=1), params.penalty)
    order, mass = _sorted_enough(g, d.weights, g.op("Mul", params.top_p, d.whole), size)
    uniform = g.op("Unsqueeze", g.op("Gather", params.uniforms, book, axis=1), g.ints(1))
    return d.take(order, mass, params.top_p, params.temperature, uniform, size)


def semantic(g: GraphWriter, logits: str, size: int, params: Inputs) -> str:
    """Semantic code [B] from logits [B, size], drawn a second time if it is recent and `again` is set."""
    recent = g.op("Gather", params.recent, g.const(0, np.int64), axis=1)
    d = _Draw(g, logits, recent, params.penalty)
    free = g.const(REPEAT_TOP_P, np.float64)
    widest = g.op("Mul", g.op("Max", params.top_p, free), d.whole)
    order, mass = _sorted_enough(g, d.weights, widest, size)
    first = d.take(order, mass, params.top_p, params.temperature, _column(g, params.uniforms, 0), size)
    warm = g.const(REPEAT_TEMPERATURE, np.float64)
    second = d.take(order, mass, free, warm, _column(g, params.uniforms, params.books), size)
    latest = g.op("Slice", recent, g.ints(-REPEAT_FRAMES), g.ints(PENALTY_FRAMES), g.ints(1))
    equal = g.op("Equal", latest, g.op("Unsqueeze", first, g.ints(1)))
    repeats = g.op("Cast", g.op("ReduceMax", g.op("Cast", equal, to=INT64), g.ints(1), keepdims=0), to=TensorProto.BOOL)
    return g.op("Where", g.op("And", repeats, params.again), second, first)


def _column(g: GraphWriter, matrix: str, index: int) -> str:
    return g.op("Gather", matrix, g.ints(index), axis=1)


class _Draw:
    """Penalised logits [B, size] of one codebook and their unnormalised probabilities."""

    def __init__(self, g: GraphWriter, logits: str, recent: str, penalty: str) -> None:
        self.g = g
        wide = g.op("Cast", logits, to=DOUBLE)
        seen = g.op("GatherElements", wide, recent, axis=1)
        positive = g.op("Greater", seen, g.const(0, np.float64))
        punished = g.op("Where", positive, g.op("Div", seen, penalty), g.op("Mul", seen, penalty))
        penalised = g.op("ScatterElements", wide, recent, punished, axis=1)
        self.logits = g.op("Sub", penalised, g.op("ReduceMax", penalised, g.ints(1)))
        self.weights = g.op("Exp", self.logits)
        self.whole = g.op("ReduceSum", self.weights, g.ints(1))

    def take(self, order: str, mass: str, top_p: str, temperature: str, uniform: str, size: int) -> str:
        """Ids [B] by inverse transform over the nucleus, in ascending order of id."""
        g = self.g
        one = g.op("Slice", mass, g.ints(0), g.ints(1), g.ints(1))
        limit = g.op("Max", g.op("Mul", top_p, self.whole), one)
        kept = g.op("Cast", g.op("LessOrEqual", mass, limit), to=DOUBLE)
        none = g.op("Sub", self.weights, self.weights)
        nucleus = g.op("ScatterElements", none, order, kept, axis=1)
        tempered = g.op("Mul", g.op("Exp", g.op("Div", self.logits, temperature)), nucleus)
        heap = g.op("CumSum", tempered, g.const(1, np.int64))
        target = g.op("Mul", uniform, _column(g, heap, size - 1))
        below = g.op("Cast", g.op("LessOrEqual", heap, target), to=INT64)
        place = g.op("ReduceSum", below, g.ints(1), keepdims=0)
        return g.op("Min", place, g.const(size - 1, np.int64))


def _sorted(g: GraphWriter, weights: str, count: int) -> tuple[str, str]:
    """Ids of the `count` largest weights in descending order, equal weights by id; and their cumulative sum."""
    values, order = g.ops("TopK", 2, weights, g.ints(count), axis=1)
    return order, g.op("CumSum", values, g.const(1, np.int64))


def _sorted_enough(g: GraphWriter, weights: str, limit: str, size: int) -> tuple[str, str]:
    """`_sorted` of `FIRST_LOOK` weights if their sum exceeds `limit` [B, 1] in every row, else of all."""
    if size <= FIRST_LOOK:
        return _sorted(g, weights, size)
    order, mass = _sorted(g, weights, FIRST_LOOK)
    reached = g.op("Greater", _column(g, mass, FIRST_LOOK - 1), limit)
    enough = g.op("Cast", g.op("ReduceMin", g.op("Cast", reached, to=INT64), keepdims=0), to=TensorProto.BOOL)
    kinds = (INT64, DOUBLE)
    outside = g.begin_body()
    few = [g.op("Identity", value) for value in (order, mass)]
    then = g.end_body(outside, [], list(zip(few, kinds, strict=True)))
    outside = g.begin_body()
    every = _sorted(g, weights, size)
    otherwise = g.end_body(outside, [], list(zip(every, kinds, strict=True)))
    order, mass = g.ops("If", 2, enough, then_branch=then, else_branch=otherwise)
    return order, mass
