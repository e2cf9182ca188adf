"""The models installed on this machine: those that come with the program, and those converted or pulled."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from saywell.errors import SaywellError
from saywell.manifest import MANIFEST
from saywell.models.base import built_in, family_in, missing

CONVERTED, PULLED = "converted", "checkpoints"
"""Folders of `data_dir`: conversion writes into the first, `saywell pull` into the second."""


@dataclass(frozen=True, slots=True)
class Installed:
    """A model whose dependencies are installed."""

    name: str
    family: str
    path: Path | None = None
    """Its directory; None: it comes with the program."""


def installed(data_dir: Path) -> dict[str, Installed]:
    """By name, those that come with the program first. Loads no model."""
    found = {name: Installed(name, family) for name, family in built_in().items() if not missing(family)}
    for path in _directories(data_dir):
        with suppress(SaywellError):  # a damaged manifest, or an unknown family
            family = family_in(path)
            if not missing(family):
                found.setdefault(path.name, Installed(path.name, family, path))
    return found


def _directories(data_dir: Path) -> Iterator[Path]:
    for pattern in (f"{PULLED}/*/{MANIFEST}", f"{CONVERTED}/*/*/{MANIFEST}"):
        yield from (manifest.parent for manifest in sorted(data_dir.glob(pattern)))
