"""How a token is drawn from logits: the rule every executor of this family follows, in plain numpy.

Order: repetition penalty over the last frames, nucleus on the untempered distribution, temperature, draw. The draw of
codebook `k` in frame `t` depends on (seed, t, k) and the logits alone, so a place in a batch cannot matter.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from saywell.errors import ModelFailure
from saywell.types import SamplingParams

Logits = npt.NDArray[np.floating[Any]]
Ids = npt.NDArray[np.int64]

PENALTY_FRAMES = 16
TEMPERATURE_FLOOR = 1e-5
REPEAT_FRAMES = 10
"""With repetition-aware sampling, a semantic token seen this recently is drawn again, more freely."""
REPEAT_TEMPERATURE, REPEAT_TOP_P = 1.0, 0.9
_FIRST_LOOK = 64
"""Candidates looked at first for the nucleus; most distributions need no more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampling:
    """How one sequence is drawn. Temperature 0 is greedy: the highest penalised logit, the lower id on a tie."""

    temperature: float = 0.8
    top_p: float = 0.8
    repetition_penalty: float = 1.1
    seed: int = 0
    repetition_aware: bool = False

    @classmethod
    def of(cls, params: SamplingParams, seed: int) -> Sampling:
        """A request's overrides, the family's defaults where there are none."""
        overrides = {name: getattr(params, name) for name in ("temperature", "top_p", "repetition_penalty")}
        return cls(**{name: value for name, value in overrides.items() if value is not None}, seed=seed)


def uniforms(seed: int, frame: int, count: int) -> npt.NDArray[np.float64]:
    """Numbers in [0, 1) for one frame of a sequence: one for each codebook, one more for a second draw."""
    return np.random.Generator(np.random.Philox(key=seed, counter=[0, frame, 0, 0])).random(count)


def penalise(logits: Logits, recent: Ids, penalty: float) -> npt.NDArray[np.float64]:
    """Logits of ids seen lately divided by the penalty where positive, multiplied where negative; once each."""
    out = logits.astype(np.float64)
    if penalty != 1.0 and len(recent):
        seen = np.unique(recent)
        out[seen] = np.where(out[seen] > 0, out[seen] / penalty, out[seen] * penalty)
    return out


def nucleus(logits: npt.NDArray[np.float64], top_p: float) -> Ids:
    """Ids, likeliest first, whose summed probability stays within `top_p`; at least one. Sorts only what it keeps."""
    weights = np.exp(logits - logits.max())
    limit, look = top_p * weights.sum(), _FIRST_LOOK
    while True:
        order = _likeliest(weights, look)
        mass = np.cumsum(weights[order])
        if len(order) == len(weights) or mass[-1] > limit:
            return order[: max(1, int(np.searchsorted(mass, limit, side="right")))]
        look *= 4


def _likeliest(weights: npt.NDArray[np.float64], count: int) -> Ids:
    """At least `count` ids in descending order of weight; equal weights in order of id."""
    if count >= len(weights):
        return np.argsort(-weights, kind="stable")
    floor = np.partition(weights, -count)[-count]
    candidates = np.flatnonzero(weights >= floor)
    return candidates[np.argsort(-weights[candidates], kind="stable")]


def draw(logits: npt.NDArray[np.float64], temperature: float, top_p: float, uniform: float) -> int:
    """An id by inverse transform over the kept ids in ascending order; `uniform` in [0, 1). Temperature 0: the best."""
    if temperature == 0:
        return int(logits.argmax())
    kept = np.sort(nucleus(logits, top_p)) if top_p < 1 else np.arange(len(logits))
    tempered = (logits[kept] - logits[kept].max()) / max(temperature, TEMPERATURE_FLOOR)
    mass = np.cumsum(np.exp(tempered))
    place = int(np.searchsorted(mass, uniform * mass[-1], side="right"))
    return int(kept[min(place, len(kept) - 1)])


@dataclass(slots=True, eq=False)
class Sampler:
    """The draws of one sequence, frame by frame: `semantic`, then `residual` for book 1, 2, …, then `end_frame`.

    Semantic ids count from 0; the id after the last one is the end of the sequence.
    """

    sampling: Sampling
    num_codebooks: int
    frame: int = 0
    _recent: deque[list[int]] = field(default_factory=lambda: deque(maxlen=PENALTY_FRAMES))
    _drawn: list[int] = field(default_factory=list)
    _uniforms: npt.NDArray[np.float64] = field(default_factory=lambda: np.empty(0))

    def semantic(self, logits: Logits) -> int:
        """Logits [codebook_size + 1] → id; the last id ends the sequence. Raises ModelFailure on NaN."""
        s = self.sampling
        self._uniforms = uniforms(s.seed, self.frame, self.num_codebooks + 1)
        penalised = self._penalised(logits, 0)
        token = draw(penalised, s.temperature, s.top_p, self._uniforms[0])
        if s.repetition_aware and s.temperature > 0 and token in self._seen(0)[-REPEAT_FRAMES:]:
            token = draw(penalised, REPEAT_TEMPERATURE, REPEAT_TOP_P, self._uniforms[-1])
        self._drawn = [token]
        return token

    def residual(self, logits: Logits) -> int:
        """Logits [residual size] of the next book → its code."""
        book, s = len(self._drawn), self.sampling
        code = draw(self._penalised(logits, book), s.temperature, s.top_p, self._uniforms[book])
        self._drawn.append(code)
        return code

    def end_frame(self) -> list[int]:
        """Codes of the frame, book by book; the next one begins."""
        frame, self._drawn = self._drawn, []
        self._recent.append(frame)
        self.frame += 1
        return frame

    def _seen(self, book: int) -> Ids:
        return np.array([codes[book] for codes in self._recent], dtype=np.int64)

    def _penalised(self, logits: Logits, book: int) -> npt.NDArray[np.float64]:
        if not np.isfinite(logits).all():
            raise ModelFailure(f"the model gave NaN or infinite logits in frame {self.frame}, codebook {book}")
        return penalise(logits, self._seen(book), self.sampling.repetition_penalty)
