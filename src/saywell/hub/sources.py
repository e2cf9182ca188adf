"""Published weights: which there are, where, and under which licence."""

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
    """Branch, tag or commit fetched when no other is asked for; the commit it stands for is then kept to."""
    licence: str
    terms: str
    """What the licence asks, in a sentence."""
    files: tuple[str, ...]
    """Paths in the repository; here they lie side by side, without its folders."""
    optional: tuple[str, ...] = ()
    digests: Mapping[str, str] = field(default_factory=dict)
    """SHA-256 of files that must be these and no later ones."""
    free: bool = False
    """Whether the licence asks nothing of who only uses the weights, so that nobody is asked to accept it."""
    next: str = "saywell convert {path}"
    """What to type when it is here."""
    family: str = ""
    """The model family that speaks with it: the one that declares it."""
    as_is: bool = False
    """Whether the family runs the files as published, with nothing to convert."""

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
    """A published checkpoint by name. Raises UnknownModel naming what there is."""
    found = SOURCES.get(name)
    if found is None:
        raise UnknownModel(f"no weights to pull for {name!r}; there are {', '.join(sorted(SOURCES))}", param="model")
    return found
