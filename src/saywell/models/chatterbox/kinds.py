"""The published models of the family."""

from __future__ import annotations

from typing import Literal

Kind = Literal["english", "multilingual", "turbo", "nano"]
"""nano: a smaller Turbo, with the same text, voices and decoder."""
