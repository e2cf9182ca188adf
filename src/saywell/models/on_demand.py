"""A large model part that is only needed now and then, such as an encoder of recordings."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Lock
from typing import Generic, TypeVar

T = TypeVar("T")


class OnDemand(Generic[T]):
    """Loaded for the first caller, used by one at a time, dropped when no caller waits for it."""

    def __init__(self, load: Callable[[], T]) -> None:
        self._load = load
        self._running, self._counting = Lock(), Lock()
        self._callers = 0
        self._loaded: T | None = None

    @contextmanager
    def get(self) -> Iterator[T]:
        """Raises what loading raises."""
        with self._counting:
            self._callers += 1
        try:
            with self._running:
                if self._loaded is None:
                    self._loaded = self._load()
                yield self._loaded
        finally:
            with self._counting:
                self._callers -= 1
                if not self._callers:
                    self._loaded = None
