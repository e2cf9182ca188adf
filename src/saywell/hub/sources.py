"""Catalogue of published weights: repositories and licences."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import msgspec

from saywell.errors import UnknownModel


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """One published checkpoint."""

    repo: str
    revision: str
    """Branch, tag or commit of the first download; later ones stay at the commit it resolved to."""
    licence: str
    terms: str
    """Summary of the licence in a sentence."""
    files: tuple[str, ...]
    """Paths in the repository; downloaded into one directory, without the repository's folders."""
    optional: tuple[str, ...] = ()
    digests: Mapping[str, str] = field(default_factory=dict)
    """SHA-256 of files of which only one version is supported."""
    free: bool = False
    """Whether the licence has no conditions for use, so that it need not be accepted."""
    next: str = "saywell convert {path}"
    """The command to run after the download."""
    family: str = ""
    """The model family that declares it."""
    as_is: bool = False
    """Whether the family runs the files as published, without conversion."""

    @property
    def url(self) -> str:
        return f"https://huggingface.co/{self.repo}"


def _published() -> dict[str, Source]:
    found = dict[str, Source]()
    for file in sorted((Path(__file__).parents[1] / "models").glob("*/sources.json")):
        declared = msgspec.json.decode(file.read_bytes(), type=dict[str, Source])
        found |= {name: replace(source, family=file.parent.name) for name, source in declared.items()}
    return found


SOURCES: Mapping[str, Source] = _published()
"""By name: what the files `models/FAMILY/sources.json` declare."""


def source(name: str) -> Source:
    """A published checkpoint by name. Raises UnknownModel that lists the names."""
    if name not in SOURCES:
        raise UnknownModel(f"no weights to pull for {name!r}; available: {', '.join(sorted(SOURCES))}", param="model")
    return SOURCES[name]
