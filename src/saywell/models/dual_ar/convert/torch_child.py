"""The part of the converting process that needs torch."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from saywell.models.dual_ar.config import Config
from saywell.models.dual_ar.convert.checkpoint import State, read_codec, read_model
from saywell.models.dual_ar.convert.child import REFUSED
from saywell.models.dual_ar.convert.tensors import write_tensors
from saywell.models.dual_ar.errors import BadCheckpoint
from saywell.models.dual_ar.layout import Shape

OLDEST = (2, 10)
"""Earlier releases can be made to run code even when they load tensors only."""
_KINDS = {torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16"}


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
    total = len(state)
    write_tensors(out, _stored(state), _described(state), lambda done: say(done=done, total=total))
    return 0


def _described(state: State) -> dict[str, tuple[str, Shape]]:
    return {name: (_KINDS.get(tensor.dtype, "F32"), tuple(tensor.shape)) for name, tensor in state.items()}


def _stored(state: State) -> Iterator[tuple[str, npt.NDArray[Any], str]]:
    for name, tensor in state.items():
        kind = _KINDS.get(tensor.dtype, "F32")
        if kind == "BF16":
            yield name, tensor.contiguous().view(torch.int16).numpy().view(np.uint16), kind
        else:
            yield name, (tensor if tensor.dtype in _KINDS else tensor.float()).contiguous().numpy(), kind
