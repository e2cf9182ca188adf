"""The part of the converting process that needs torch."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from safetensors.torch import save_file

from saywell.models.dual_ar.config import Config
from saywell.models.dual_ar.convert.checkpoint import read_codec, read_model
from saywell.models.dual_ar.convert.child import REFUSED
from saywell.models.dual_ar.errors import BadCheckpoint

OLDEST = (2, 10)
"""Earlier releases can be made to run code even when they load tensors only."""
_STORED = (torch.float32, torch.float16, torch.bfloat16)


def run(kind: str, source: Path, out: Path, say: Callable[..., None]) -> int:
    """Write `source` as safetensors to `out`; the exit status."""
    if tuple(int(part) for part in torch.__version__.split(".")[:2]) < OLDEST:
        say(missing=f"torch>={OLDEST[0]}.{OLDEST[1]}")
        return REFUSED
    config = Config.read(source.parent)
    try:
        state = read_model(source, config) if kind == "model" else read_codec(source, config.codec)
    except BadCheckpoint as error:
        say(refused=error.message)
        return REFUSED
    save_file(
        {name: (each if each.dtype in _STORED else each.float()).contiguous() for name, each in state.items()}, out
    )
    return 0
