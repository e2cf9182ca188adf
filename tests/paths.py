"""Directories of the repository."""

from __future__ import annotations

from pathlib import Path

TESTS = Path(__file__).parent
ROOT = TESTS.parent
FINCH = ROOT / "voices" / "finch"
"""A small checkpoint in the published layout; not in the sdist."""
