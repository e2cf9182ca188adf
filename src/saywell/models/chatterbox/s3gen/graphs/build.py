"""All graphs of the decoder, written from the published tensors."""

from __future__ import annotations

import json
from collections.abc import Collection
from dataclasses import asdict
from pathlib import Path

from saywell.graphs.linears import Format, with_activation_bits
from saywell.graphs.numerics import Weights
from saywell.graphs.writer import External
from saywell.models.chatterbox.s3gen.config import S3GenConfig
from saywell.models.chatterbox.s3gen.files import (
    CONFIG,
    FUNDAMENTAL,
    PRECISIONS,
    SOURCE,
    VOCODER,
    Precision,
    activation_bits,
    data_file,
    encoder_file,
    estimator_file,
)
from saywell.models.chatterbox.s3gen.graphs import vocoder
from saywell.models.chatterbox.s3gen.graphs.encoder import encoder
from saywell.models.chatterbox.s3gen.graphs.estimator import estimator
from saywell.models.chatterbox.s3gen.layout import Folded

_FORMATS: dict[Precision, Format] = {"fp32": "fp32", "int8": "w8a8"}


def build(
    weights: Weights, config: S3GenConfig, out: Path, precisions: Collection[Precision] = PRECISIONS
) -> list[Path]:
    """Write the graphs of these precisions and those that all share into `out`. Returns the files."""
    files = [path for precision in precisions for path in flow(weights, config, out, precision)]
    folded = Folded(weights)
    for write, name in (
        (vocoder.fundamental, FUNDAMENTAL),
        (vocoder.source, SOURCE),
        (vocoder.vocoder, VOCODER),
    ):
        files += write(folded, config).save(out / name)
    (out / CONFIG).write_text(json.dumps(asdict(config), indent=1) + "\n", encoding="utf-8")
    return [*files, out / CONFIG]


def flow(weights: Weights, config: S3GenConfig, out: Path, precision: Precision) -> list[Path]:
    """The encoder and the estimator in one precision. Returns the files."""
    external = External(out / data_file(precision))
    fmt = _FORMATS[precision]
    models = [write(weights, config, fmt, external).model() for write in (encoder, estimator)]
    external.close()
    files = [external.path]
    for bits in activation_bits(precision):
        for model, name in zip(models, (encoder_file, estimator_file), strict=True):
            files.append(out / name(precision, bits))
            files[-1].write_bytes(with_activation_bits(model, bits).SerializeToString())
    return files
