"""The graphs of a converted model, step by step: which files are written from which tensors. Needs onnx, not torch."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from saywell.machine import detect
from saywell.models.dual_ar import prompt
from saywell.models.dual_ar.config import Config
from saywell.models.dual_ar.convert import calibrate
from saywell.models.dual_ar.graphs import ar, codec
from saywell.models.dual_ar.tokenizer import Tokenizer

Weights = Mapping[str, npt.NDArray[np.float32]]
VERSION = "1"


@dataclass(frozen=True, slots=True)
class Step:
    """One group of files, made again as one."""

    name: str
    tensors: str
    """Which file of tensors it is made from: "model" or "codec"."""
    build: Callable[[Weights, Path], Sequence[Path]]


def steps(config: Config, tokenizer: Tokenizer, precisions: Sequence[str]) -> list[Step]:
    """Every group of graphs for these precisions; what all precisions share comes first."""
    ids = {"semantic_begin_id": tokenizer.semantic_begin_id, "im_end_id": tokenizer.im_end_id}

    def transformers(precision: str) -> Step:
        return Step(f"{precision} graphs", "model", lambda w, out: ar.build(config, w, out, precision, **ids))

    prompts = [prompt.build(tokenizer, config, text) for text in calibrate.TEXTS]

    def cache_scales(precision: str) -> Step:
        # The graphs measured are those already in place, beside the folder this step writes to.
        return Step(
            f"{precision} cache scales",
            "model",
            lambda _, out: calibrate.write_scales(out.parent, out, precision, prompts, detect().usable_cores),
        )

    return [
        Step("tables", "model", lambda weights, out: ar.build_tables(weights, out, **ids)),
        *(transformers(precision) for precision in precisions),
        *(cache_scales(precision) for precision in precisions if precision != "fp32"),
        Step("codec graphs", "codec", lambda weights, out: codec.write_decoder(weights, config.codec, out)),
        Step("encoder graph", "codec", lambda weights, out: codec.write_encoder(weights, config.codec, out)),
    ]


def version() -> str:
    """Of the graphs that are written here: when it changes, converted models get theirs anew."""
    return VERSION
