"""Locations of the weights that `scripts/meter` downloads."""

from __future__ import annotations

import os
from pathlib import Path

from saywell.errors import MissingDependency

ROOT = Path(__file__).parents[1]


def folder() -> Path:
    """$METER, or `.venv/meter` in the repository."""
    return Path(os.environ.get("METER") or ROOT / ".venv" / "meter").absolute()


def whisper() -> Path:
    """Directory of Whisper base in CTranslate2's format. Raises MissingDependency."""
    path = folder() / "whisper"
    if not (path / "model.bin").is_file():
        raise MissingDependency(f"no Whisper weights in {path}: run `scripts/meter listen`")
    return path


def kokoro() -> Path:
    """Kokoro-82M's published int8 graph. Raises MissingDependency."""
    return _there("kokoro/kokoro-int8.onnx")


def kokoro_voices() -> Path:
    """NumPy archive of five of its voices. Raises MissingDependency."""
    return _there("kokoro/ja.npz")


def _there(name: str) -> Path:
    path = folder() / name
    if not path.is_file():
        raise MissingDependency(f"no {path}: run `scripts/meter listen`")
    return path


def others_python(folder: Path) -> Path:
    """Python interpreter of the environment with the other engines. Raises MissingDependency."""
    python = folder / "venv" / "bin" / "python"
    if not python.is_file():
        raise MissingDependency(f"no engines to compare with in {folder}: run `scripts/meter others`")
    return python
