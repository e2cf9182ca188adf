"""How a speech token is drawn from logits, in the order of upstream.

Llama: guidance, repetition penalty, temperature, min-p, nucleus. GPT-2: temperature, top-k, nucleus, repetition
penalty. Then inverse transform over the ids in ascending order. A draw depends on the seed, the frame and the logits
alone, never on the other sequences of a batch.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from saywell.graphs.numerics import Floats
from saywell.models.chatterbox.t3.config import Kind, T3Config
from saywell.runtimes.draws import uniforms

TEMPERATURE_FLOOR = 1e-5


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampling:
    """Parameters of one sequence. Temperature 0 is greedy: the highest logit after guidance and penalty, the lower id
    on a tie."""

    temperature: float = 0.8
    top_p: float = 1.0
    min_p: float = 0.05
    """Tokens less likely than this share of the most likely one are left out. Llama only."""
    top_k: int = 0
    """Number of tokens kept; 0: all. GPT-2 only."""
    repetition_penalty: float = 1.2
    cfg_weight: float = 0.5
    """Weight of guidance; 0: none, at half the cost of memory and arithmetic. Llama only."""
    exaggeration: float = 0.5
    """Of emotion; part of the voice, see `runtime.T3Runtime.voice`. Llama only."""
    seed: int = 0

    @classmethod
    def of(cls, config: T3Config, seed: int, **given: Any) -> Sampling:
        """A request's parameters; the model's defaults replace those that are None."""
        return replace(DEFAULTS[config.kind], seed=seed, **{k: v for k, v in given.items() if v is not None})


DEFAULTS: dict[Kind, Sampling] = {
    "llama": Sampling(),
    "gpt2": Sampling(top_p=0.95, min_p=0.0, top_k=1000, cfg_weight=0.0, exaggeration=0.0),
}
"""Of upstream. Its release 0.1.7 has a penalty of 2 for the multilingual model, later source 1.2."""


def guided(logits: Floats, weight: float) -> Floats:
    """Logits [1 or 2, size] of a sequence, the second row without text → [size], which may be changed."""
    first = logits[0].copy()
    return first if len(logits) == 1 else np.asarray(first + np.float32(weight) * (first - logits[1]))


def draw(kind: Kind, logits: Floats, seen: npt.NDArray[np.int64], sampling: Sampling, frame: int) -> int:
    """Index into finite logits [size], which are overwritten. `seen`: the distinct indices drawn before."""
    if sampling.temperature == 0:
        return int(_penalised(logits, seen, sampling).argmax())
    ids, values = (_llama if kind == "llama" else _gpt2)(logits, seen, sampling)
    heap = np.cumsum(np.exp(values.astype(np.float64) - values.max()))
    place = np.searchsorted(heap, uniforms(sampling.seed, frame, 1)[0] * heap[-1], side="right")
    return int(ids[min(int(place), len(ids) - 1)])


_Kept = tuple[npt.NDArray[np.int64], Floats]
"""Ids in ascending order, and their logits."""


def _llama(logits: Floats, seen: npt.NDArray[np.int64], sampling: Sampling) -> _Kept:
    values = _tempered(_penalised(logits, seen, sampling), sampling)
    if sampling.min_p > 0:
        ids = np.flatnonzero(np.exp(values - values.max()) >= sampling.min_p)
    else:
        ids = np.arange(len(values))
    return _nucleus(ids, values[ids], sampling.top_p)


def _gpt2(logits: Floats, seen: npt.NDArray[np.int64], sampling: Sampling) -> _Kept:
    values, count = _tempered(logits, sampling), len(logits)
    ids = np.arange(count)
    if 0 < sampling.top_k < count:
        ids = np.flatnonzero(values >= np.partition(values, count - sampling.top_k)[count - sampling.top_k])
    ids, kept = _nucleus(ids, values[ids], sampling.top_p)
    values[:] = -np.inf
    values[ids] = kept
    return ids, _penalised(values, seen, sampling)[ids]


def _penalised(logits: Floats, seen: npt.NDArray[np.int64], sampling: Sampling) -> Floats:
    """In place."""
    penalty, old = np.float32(sampling.repetition_penalty), logits[seen]
    logits[seen] = np.where(old < 0, old * penalty, old / penalty)
    return logits


def _tempered(logits: Floats, sampling: Sampling) -> Floats:
    return np.asarray(logits / np.float32(max(sampling.temperature, TEMPERATURE_FLOOR)))


def _nucleus(ids: npt.NDArray[np.int64], values: Floats, top_p: float) -> _Kept:
    """The most likely tokens whose mass reaches `top_p`, at least one."""
    if top_p >= 1:
        return ids, values
    order = np.argsort(values, kind="stable")
    heap = np.cumsum(np.exp(values[order].astype(np.float64) - values[order[-1]]))
    kept = heap > (1 - top_p) * heap[-1]
    kept[-1] = True
    chosen = np.sort(order[kept])
    return ids[chosen], values[chosen]
