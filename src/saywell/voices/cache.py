"""Byte-bounded least-recently-used caches: values in memory, voice states on disk in sealed files."""

from __future__ import annotations

import logging
import os
import re
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError, Future
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Generic, Protocol, TypeVar

from filelock import FileLock

from saywell.files import UNFINISHED, Damaged, read_plain, write_atomically
from saywell.types import VoiceState
from saywell.voices.sealed import SUFFIX, seal, unseal

_log = logging.getLogger(__name__)

_KEY = re.compile(r"[0-9a-f]{64}")
_ENTRY_BYTES = 256
"""What an entry costs in memory beside its value."""
_BLOCK = 4096
"""What a file takes on disk at least, and in steps of what."""
_STALE_S = 60.0
"""A write takes milliseconds: an unfinished file this old was left behind by a process that died."""
_WRITING_S = 5.0
"""How long to wait for another process that writes."""


class Measured(Protocol):
    """A value that knows its size."""

    @property
    def nbytes(self) -> int: ...


V = TypeVar("V")
M = TypeVar("M", bound=Measured)


# -- in memory


class MemoryCache(Generic[M]):
    """Values by key, the least recently used leaving first. Safe from any thread; values are shared, never copied."""

    def __init__(self, max_bytes: int, max_entries: int | None = None) -> None:
        """`max_entries` None: as many as fit."""
        self.max_bytes, self.max_entries = max_bytes, max_entries
        self._entries: OrderedDict[str, M] = OrderedDict()
        self._nbytes = 0
        self._lock = Lock()

    @property
    def nbytes(self) -> int:
        """Bytes of all values, and what keeping them costs."""
        return self._nbytes

    def get(self, key: str) -> M | None:
        with self._lock:
            found = self._entries.get(key)
            if found is not None:
                self._entries.move_to_end(key)
            return found

    def put(self, key: str, value: M) -> None:
        """Keep `value` if it fits at all."""
        with self._lock:
            self._forget(key)
            if _cost(value) > self.max_bytes:
                return
            self._entries[key] = value
            self._nbytes += _cost(value)
            self._shrink()

    def limit(self, max_bytes: int, max_entries: int | None = None) -> None:
        """Set other bounds; what no longer fits leaves at once."""
        with self._lock:
            self.max_bytes, self.max_entries = max_bytes, max_entries
            self._shrink()

    def clear(self) -> None:
        with self._lock:
            self._entries.clear()
            self._nbytes = 0

    def _shrink(self) -> None:
        most = len(self._entries) if self.max_entries is None else self.max_entries
        while self._nbytes > self.max_bytes or len(self._entries) > most:
            self._forget(next(iter(self._entries)))

    def _forget(self, key: str) -> None:
        old = self._entries.pop(key, None)
        if old is not None:
            self._nbytes -= _cost(old)


def _cost(value: Measured) -> int:
    return value.nbytes + _ENTRY_BYTES


# -- once


class SingleFlight(Generic[V]):
    """Threads that want the same thing at the same time: one makes it, the others get what it got, or its error."""

    def __init__(self) -> None:
        self._flights: dict[str, Future[V]] = {}
        self._lock = Lock()

    def do(self, key: str, make: Callable[[], V]) -> V:
        while True:
            with self._lock:
                flying = self._flights.get(key)
                flight = self._flights[key] = flying or Future()
            if flying is None:
                return self._fly(key, flight, make)
            try:
                return flight.result()
            except CancelledError:  # who made it was interrupted, we were not
                continue

    def _fly(self, key: str, flight: Future[V], make: Callable[[], V]) -> V:
        try:
            made = make()
        except BaseException as error:
            self._land(key)
            if isinstance(error, Exception):
                flight.set_exception(error)
            else:
                flight.cancel()
            raise
        self._land(key)
        flight.set_result(made)
        return made

    def _land(self, key: str) -> None:
        with self._lock:
            del self._flights[key]


# -- on disk


@dataclass(frozen=True, slots=True)
class _Entry:
    path: Path
    used_ns: int
    nbytes: int


class DiskCache:
    """Voice states by SHA-256, one sealed file each, shared with every process that uses the directory.

    Nothing it does raises for the state of the disk: what cannot be read is a miss, what cannot be written is not kept,
    and the next call tries again. What is damaged is deleted. Other files in the directory are left alone.
    """

    def __init__(
        self,
        directory: Path,
        max_bytes: int,
        *,
        max_files: int = 4096,
        patience_s: float = 60.0,
    ) -> None:
        """`patience_s`: how long to wait for another process that computes the same."""
        self.directory, self.max_bytes, self.max_files = directory, max_bytes, max_files
        self._patience_s = patience_s
        self._flights: SingleFlight[VoiceState] = SingleFlight()
        self._writing = Lock()
        self._told: set[str] = set()

    def get(self, key: str) -> VoiceState | None:
        """Raises ValueError for a key that is no SHA-256."""
        return self._read(self._path(key), key)

    def put(self, key: str, state: VoiceState) -> bool:
        """Keep `state`; False if that was not possible."""
        path, data = self._path(key), seal(key, state)
        if _on_disk(len(data)) > self.max_bytes:
            return False
        try:
            # Else two processes would take the same room.
            with self._writing, self._locked("write", min(_WRITING_S, self._patience_s)):
                self._make_room(path, _on_disk(len(data)))
                write_atomically(path, data)
        except OSError as error:
            self._tell("disk", f"the cache {self.directory} goes unused for now: {error.strerror}")
            return False
        self._told.discard("disk")
        return True

    def compute(self, key: str, make: Callable[[], VoiceState]) -> VoiceState:
        """The state, made if it is not there; by one thread of one process at a time, as far as locks can be had."""
        found = self.get(key)
        return found if found is not None else self._flights.do(key, lambda: self._make(key, make))

    def _make(self, key: str, make: Callable[[], VoiceState]) -> VoiceState:
        # A lock file cannot be deleted safely, so there is a fixed number of them, each for many keys.
        with self._locked(key[:2], self._patience_s):
            found = self._read(self._path(key), key)  # another process may have been quicker
            if found is None:
                found = make()
                self.put(key, found)
            return found

    @contextmanager
    def _locked(self, name: str, patience_s: float) -> Iterator[None]:
        """Hold a lock among processes; go on without it where there can be none, or whoever holds it hangs."""
        lock = FileLock(self.directory / f".lock-{name}")
        try:
            self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            lock.acquire(timeout=patience_s, poll_interval=0.02)
            self._told.discard("lock")
        except (OSError, NotImplementedError) as error:  # a timeout is an OSError
            self._tell("lock", f"no lock to be had in the cache {self.directory}: {type(error).__name__}")
        try:
            yield
        finally:
            with suppress(OSError):
                lock.release()

    def _path(self, key: str) -> Path:
        if not _KEY.fullmatch(key):
            raise ValueError("a key of the cache is a SHA-256 in lower-case hex")
        return self.directory / f"{key}{SUFFIX}"

    def _read(self, path: Path, key: str) -> VoiceState | None:
        try:
            state, _ = unseal(key, read_plain(path, self.max_bytes))
        except FileNotFoundError:
            return None
        except Damaged:
            self._tell("damage", f"a damaged file in the cache {self.directory} was deleted")
            _unlink(path)
            return None
        except OSError as error:
            self._tell("disk", f"the cache {self.directory} goes unused for now: {error.strerror}")
            return None
        with suppress(OSError):
            os.utime(path)
        return state

    def _make_room(self, path: Path, nbytes: int) -> None:
        """Delete what was used longest ago until one more file of this size fits, and what dead processes left."""
        entries = sorted(self._entries(), key=lambda entry: entry.used_ns)
        total = sum(entry.nbytes for entry in entries if entry.path != path)
        count = sum(entry.path != path for entry in entries)
        for entry in entries:
            if total + nbytes <= self.max_bytes and count < self.max_files:
                return
            if entry.path != path:
                _unlink(entry.path)
                total, count = total - entry.nbytes, count - 1

    def _entries(self) -> list[_Entry]:
        """Every entry there is. Deletes, on the way, what dead processes left unfinished. Raises OSError."""
        found: list[_Entry] = []
        with suppress(FileNotFoundError), os.scandir(self.directory) as listed:
            for each in listed:
                with suppress(FileNotFoundError):
                    about = each.stat(follow_symlinks=False)
                    if each.name.endswith(SUFFIX) and _KEY.fullmatch(each.name[: -len(SUFFIX)]):
                        found.append(_Entry(Path(each.path), about.st_mtime_ns, _on_disk(about.st_size)))
                    elif each.name.startswith(UNFINISHED) and abs(time.time() - about.st_mtime) > _STALE_S:
                        _unlink(Path(each.path))
        return found

    def _tell(self, kind: str, message: str) -> None:
        """Log each kind of trouble once, until it is over."""
        if kind not in self._told:
            self._told.add(kind)
            _log.warning("%s", message)


def _on_disk(nbytes: int) -> int:
    return -(-nbytes // _BLOCK) * _BLOCK


def _unlink(path: Path) -> None:
    """Delete if that is possible: another process may have done it, and a read-only disk keeps what it has."""
    with suppress(OSError):
        path.unlink()
