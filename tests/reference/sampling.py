"""The sampling rule of `saywell.models.dual_ar.sampling` in NumPy, one sequence at a time."""

from __future__ import annotations

from collections import deque

import numpy as np

from saywell.errors import ModelFailure
from saywell.models.dual_ar.sampling import (
    PENALTY_FRAMES,
    REPEAT_FRAMES,
    REPEAT_TEMPERATURE,
    REPEAT_TOP_P,
    TEMPERATURE_FLOOR,
    Sampling,
)
from saywell.runtimes.draws import uniforms


def penalise(logits: np.ndarray, recent: np.ndarray, penalty: float) -> np.ndarray:
    """Logits of recent ids divided by the penalty where positive, multiplied where negative; once for each id."""
    out = logits.astype(np.float64)
    seen = np.unique(recent)
    out[seen] = np.where(out[seen] > 0, out[seen] / penalty, out[seen] * penalty)
    return out


def nucleus(logits: np.ndarray, top_p: float) -> np.ndarray:
    """Ids, likeliest first, whose summed probability stays within `top_p`; at least one."""
    weights = np.exp(logits - logits.max())
    order = np.argsort(-weights, kind="stable")
    count = np.searchsorted(np.cumsum(weights[order]), top_p * weights.sum(), side="right")
    return order[: max(1, count)]


def draw(logits: np.ndarray, temperature: float, top_p: float, uniform: float) -> int:
    """An id by inverse transform over the kept ids in ascending order; `uniform` in [0, 1). Temperature 0: argmax."""
    if temperature == 0:
        return int(logits.argmax())
    kept = np.sort(nucleus(logits, top_p)) if top_p < 1 else np.arange(len(logits))
    tempered = (logits[kept] - logits[kept].max()) / max(temperature, TEMPERATURE_FLOOR)
    mass = np.cumsum(np.exp(tempered))
    index = int(np.searchsorted(mass, uniform * mass[-1], side="right"))
    return int(kept[min(index, len(kept) - 1)])


class Sampler:
    """Draws one sequence, frame by frame: `semantic`, then `residual` for book 1, 2, …, then `end_frame`.

    Semantic ids count from 0; the id after the last one is the end of the sequence.
    """

    def __init__(self, sampling: Sampling, num_codebooks: int, recent: list[list[int]] | None = None) -> None:
        """`recent`: frames before the first draw, oldest first."""
        self.sampling, self.num_codebooks = sampling, num_codebooks
        self.recent = deque(recent or [], maxlen=PENALTY_FRAMES)
        self.frame = len(self.recent)
        self.drawn: list[int] = []
        self.uniforms = np.empty(0)

    def semantic(self, logits: np.ndarray) -> int:
        """Logits [codebook_size + 1] → id. Raises ModelFailure on NaN."""
        s = self.sampling
        self.uniforms = uniforms(s.seed, self.frame, self.num_codebooks + 1)
        penalised = self._penalised(logits, 0)
        token = draw(penalised, s.temperature, s.top_p, self.uniforms[0])
        if s.repetition_aware and s.temperature > 0 and token in self._recent_codes(0)[-REPEAT_FRAMES:]:
            token = draw(penalised, REPEAT_TEMPERATURE, REPEAT_TOP_P, self.uniforms[-1])
        self.drawn = [token]
        return token

    def residual(self, logits: np.ndarray) -> int:
        """Logits [residual size] of the next book → its code."""
        book, s = len(self.drawn), self.sampling
        code = draw(self._penalised(logits, book), s.temperature, s.top_p, self.uniforms[book])
        self.drawn.append(code)
        return code

    def end_frame(self) -> list[int]:
        """Finish the frame; its codes, book by book."""
        self.recent.append(self.drawn)
        self.frame += 1
        return self.drawn

    def _recent_codes(self, book: int) -> np.ndarray:
        return np.array([codes[book] for codes in self.recent], dtype=np.int64)

    def _penalised(self, logits: np.ndarray, book: int) -> np.ndarray:
        if not np.isfinite(logits).all():
            raise ModelFailure(f"the model gave NaN or infinite logits in frame {self.frame}, codebook {book}")
        return penalise(logits, self._recent_codes(book), self.sampling.repetition_penalty)
