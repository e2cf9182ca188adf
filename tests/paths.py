"""Where the repository's parts lie."""

from __future__ import annotations

from pathlib import Path

TESTS = Path(__file__).parent
ROOT = TESTS.parent
FINCH = ROOT / "voices" / "finch"
"""A small checkpoint as published; in the repository, not in the sdist."""
