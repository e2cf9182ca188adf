"""Where `scripts/meter` puts the weights the benchmarks need."""

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
    found = folder() / "whisper"
    if not (found / "model.bin").is_file():
        raise MissingDependency(f"no Whisper weights in {found}: run `scripts/meter listen`")
    return found


def others_python(folder: Path) -> Path:
    """The interpreter whose environment has the other engines. Raises MissingDependency."""
    found = folder / "venv" / "bin" / "python"
    if not found.is_file():
        raise MissingDependency(f"no engines to compare with in {folder}: run `scripts/meter others`")
    return found
