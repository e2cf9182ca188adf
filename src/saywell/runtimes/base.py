"""What every runtime is told about the machine it may use."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Threading:
    """Arithmetic threads of one engine."""

    threads: int = 1
    """Including the calling thread."""
    affinity: tuple[int, ...] = ()
    """Logical CPUs to pin to, the calling thread's first; empty: wherever the system puts them."""
    spin: bool = True
    """Threads wait busily between operators (never between runs): faster, and a core is taken while a graph runs."""

    def __post_init__(self) -> None:
        if self.threads < 1:
            raise ValueError(f"threads must be at least 1, not {self.threads}")
