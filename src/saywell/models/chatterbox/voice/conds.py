"""Reads `conds.pt` in the child process of `models.torch_file`. Needs torch."""

from __future__ import annotations

from pathlib import Path

from saywell.errors import BadCheckpoint
from saywell.models.torch_tensors import State, load, unwrap

PARTS = ("t3", "gen")


def read(path: Path) -> State:
    """`PART.NAME` → tensor, without the entries that are None. Raises BadCheckpoint."""
    raw = load(path)
    if not isinstance(raw, dict) or not all(isinstance(raw.get(part), dict) for part in PARTS):
        raise BadCheckpoint(f"{path.name} does not hold the conditions of a voice")
    flat = {f"{part}.{name}": each for part in PARTS for name, each in raw[part].items() if each is not None}
    return unwrap(flat, path.name)
