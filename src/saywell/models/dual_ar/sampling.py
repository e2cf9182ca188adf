"""How a token is drawn from logits.

Order: repetition penalty over the last frames, nucleus on the untempered distribution, temperature, inverse transform
over the ids in ascending order. The draw of codebook `k` in frame `t` depends on (seed, t, k) and the logits alone,
never on the other sequences of a batch.
"""

from __future__ import annotations

from dataclasses import dataclass

from saywell.types import SamplingParams

PENALTY_FRAMES = 16
TEMPERATURE_FLOOR = 1e-5
REPEAT_FRAMES = 10
"""With repetition-aware sampling, a semantic token that occurred within this many frames is drawn a second time."""
REPEAT_TEMPERATURE, REPEAT_TOP_P = 1.0, 0.9
"""Of the second draw."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampling:
    """Sampling parameters of one sequence. Temperature 0 is greedy: the highest penalised logit, the lower id on a
    tie."""

    temperature: float = 0.8
    top_p: float = 0.8
    repetition_penalty: float = 1.1
    seed: int = 0
    repetition_aware: bool = False

    @classmethod
    def of(cls, params: SamplingParams, seed: int) -> Sampling:
        """A request's parameters; the family's defaults replace those that are None."""
        overrides = {name: getattr(params, name) for name in ("temperature", "top_p", "repetition_penalty")}
        return cls(**{name: value for name, value in overrides.items() if value is not None}, seed=seed)
