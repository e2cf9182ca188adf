"""What a runtime declares, and the CPU threads it may use."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, wraps
from importlib import metadata
from threading import Lock
from typing import TypeVar

T = TypeVar("T")


def installed_version(package: str) -> str | None:
    """By the package's metadata, without importing it."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


@dataclass(frozen=True, slots=True, kw_only=True)
class RuntimeSpec:
    """The constant `RUNTIME` of a runtime's module. The module must not import the runtime at its head, so that a
    machine can be described, and a plan made, without it."""

    package: str
    """The Python package, as `Variant.package` names it."""
    title: str
    purpose: str
    """Who needs it, for `saywell doctor`."""
    install: str
    """The command that installs it."""
    detect: Callable[[], tuple[str, tuple[str, ...]] | None]
    """Version and kinds of devices of the installed build; None if it is not installed. Raises ImportError,
    AttributeError or OSError if it is damaged."""
    devices: tuple[str, ...] = ("cpu",)
    """Kinds of devices for which models use it."""
    compiles: bool = False
    """Whether the plan field `compile` applies to it."""
    useful: Callable[[frozenset[str]], bool] = lambda _traits: True
    """Whether to recommend it to a machine with these `Hardware.traits`."""
    out_of_memory: tuple[str, ...] = ()
    """Phrases, in lower case, by which its error messages report a lack of memory."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Threading:
    """CPU threads of one engine."""

    threads: int = 1
    """Including the calling thread."""
    affinity: tuple[int, ...] = ()
    """Logical CPUs to pin to, the calling thread's first; empty: no pinning."""
    spin: bool = True
    """Threads spin between operators (never between runs): faster, at full load of a core while a graph runs."""

    def __post_init__(self) -> None:
        if self.threads < 1:
            raise ValueError(f"threads must be at least 1, not {self.threads}")


def once(load: Callable[[], T]) -> Callable[[], T]:
    """Like `functools.cache` for a function without arguments, but threads that call it together load only once."""
    lock, cached = Lock(), cache(load)

    @wraps(load)
    def locked() -> T:
        with lock:
            return cached()

    return locked
