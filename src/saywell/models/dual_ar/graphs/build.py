"""The graphs of a converted model: which files are written from which tensors. Needs onnx, not torch."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from saywell.graphs import linears
from saywell.graphs.linears import Judge
from saywell.graphs.numerics import Floats, Weights
from saywell.machine import detect
from saywell.models.conversion import write_layers
from saywell.models.dual_ar import prompt
from saywell.models.dual_ar.config import Config
from saywell.models.dual_ar.convert import calibrate
from saywell.models.dual_ar.convert.activations import activations
from saywell.models.dual_ar.graphs import ar, codec
from saywell.models.dual_ar.tokenizer import Tokenizer

VERSION = "2"
"""Of the graphs. When it changes, `saywell convert` writes the graphs of converted models again."""


@dataclass(frozen=True, slots=True)
class Step:
    """A group of files that are written together."""

    name: str
    tensors: str
    """The input: "model" or "codec"."""
    build: Callable[[Weights, Path], Sequence[Path]]
    made_from: Mapping[str, str] = field(default_factory=dict)
    """Inputs other than tensors and sizes, for the manifest."""


def steps(config: Config, tokenizer: Tokenizer, precisions: Sequence[str], sentences: int) -> list[Step]:
    """All steps for these precisions, in order. `sentences`: how many the calibration reads."""
    ids = {"semantic_begin_id": tokenizer.semantic_begin_id, "im_end_id": tokenizer.im_end_id}
    prompts = [prompt.build(tokenizer, config, text) for text in calibrate.TEXTS[:sentences]]
    calibrated = {"sentences": str(sentences)}
    seen: dict[str, Floats] = {}

    def build(precision: str, weights: Weights, out: Path) -> list[Path]:
        if precision == "fp32":
            return ar.build(config, weights, out, precision, judge=Judge({}), **ids)
        if not seen:  # computed once for all precisions
            seen.update(activations(config, weights, prompts, tokenizer.semantic_begin_id))
        judge = Judge(seen)
        files = ar.build(config, weights, out, precision, judge=judge, **ids)
        return [*files, write_layers(out, precision, sentences, linears.BOUND, judge.errors, judge.kept)]

    def transformers(precision: str) -> Step:
        made_from = {} if precision == "fp32" else calibrated
        return Step(f"{precision} graphs", "model", partial(build, precision), made_from)

    def cache_scales(precision: str) -> Step:
        # Measures the graphs of the step before, in the parent of the folder that this step writes to.
        return Step(
            f"{precision} cache scales",
            "model",
            lambda _, out: calibrate.write_scales(out.parent, out, precision, prompts, detect().usable_cores),
            calibrated,
        )

    return [
        Step("tables", "model", lambda weights, out: ar.build_tables(weights, out, **ids)),
        *(transformers(precision) for precision in precisions),
        *(cache_scales(precision) for precision in precisions if precision != "fp32"),
        Step("codec graphs", "codec", lambda weights, out: codec.write_decoder(weights, config.codec, out)),
        Step("encoder graph", "codec", lambda weights, out: codec.write_encoder(weights, config.codec, out)),
    ]
