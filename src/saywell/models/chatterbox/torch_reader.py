"""Tensors of Chatterbox's PyTorch files, nested dictionaries and lists by dotted names. Needs torch."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import torch

from saywell.errors import BadCheckpoint
from saywell.models.torch_tensors import State, load

_WRAPPED = "model"
"""Some files hold `{"model": [state]}`."""


def read(path: Path) -> State:
    """Raises BadCheckpoint."""
    raw = load(path)
    if isinstance(raw, dict) and isinstance(raw.get(_WRAPPED), list) and raw[_WRAPPED]:
        raw = raw[_WRAPPED][0]
    found = dict(_tensors("", raw))
    if not found:
        raise BadCheckpoint(f"{path.name} holds no tensors")
    return found


def _tensors(at: str, value: object) -> Iterator[tuple[str, torch.Tensor]]:
    if isinstance(value, torch.Tensor):
        yield at, value
    elif isinstance(value, dict):
        for name, inner in value.items():
            yield from _tensors(f"{at}.{name}" if at else str(name), inner)
