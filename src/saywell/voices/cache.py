"""Least-recently-used caches with a bound in bytes: values in memory, voice states on disk."""

from __future__ import annotations

import logging
import os
import re
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Generic, Protocol, TypeVar

from filelock import FileLock

from saywell.files import UNFINISHED, Damaged, read_plain, write_atomically
from saywell.types import VoiceState
from saywell.voices.checksummed import SUFFIX, pack, unpack

_log = logging.getLogger(__name__)

_KEY = re.compile(r"[0-9a-f]{64}")
_ENTRY_BYTES = 256
"""Memory overhead of an entry."""
_BLOCK = 4096
"""Disk space is allocated in multiples of this."""
_STALE_S = 60.0
"""A write takes milliseconds: an unfinished file this old was left by a process that died."""
_WRITING_S = 5.0
"""Longest wait for another process that writes."""


class Measured(Protocol):
    """A value that knows its size in bytes."""

    @property
    def nbytes(self) -> int: ...


M = TypeVar("M", bound=Measured)


class MemoryCache(Generic[M]):
    """Values by key; the least recently used are evicted first. Thread-safe; values are shared, never copied."""

    def __init__(self, max_bytes: int, max_entries: int | None = None) -> None:
        """`max_entries` None: only the bytes are bounded."""
        self.max_bytes, self.max_entries = max_bytes, max_entries
        self._entries: OrderedDict[str, M] = OrderedDict()
        self._nbytes = 0
        self._lock = Lock()

    @property
    def nbytes(self) -> int:
        """Bytes of all values, with the overhead of their entries."""
        return self._nbytes

    def get(self, key: str) -> M | None:
        with self._lock:
            value = self._entries.get(key)
            if value is not None:
                self._entries.move_to_end(key)
            return value

    def put(self, key: str, value: M) -> None:
        """Keep `value` unless it alone exceeds the bound."""
        with self._lock:
            self._evict(key)
            if _cost(value) > self.max_bytes:
                return
            self._entries[key] = value
            self._nbytes += _cost(value)
            self._shrink()

    def limit(self, max_bytes: int, max_entries: int | None = None) -> None:
        """Change the bounds; entries that exceed them are evicted at once."""
        with self._lock:
            self.max_bytes, self.max_entries = max_bytes, max_entries
            self._shrink()

    def clear(self) -> None:
        with self._lock:
            self._entries.clear()
            self._nbytes = 0

    def _shrink(self) -> None:
        max_entries = len(self._entries) if self.max_entries is None else self.max_entries
        while self._nbytes > self.max_bytes or len(self._entries) > max_entries:
            self._evict(next(iter(self._entries)))

    def _evict(self, key: str) -> None:
        value = self._entries.pop(key, None)
        if value is not None:
            self._nbytes -= _cost(value)


def _cost(value: Measured) -> int:
    return value.nbytes + _ENTRY_BYTES


@dataclass(frozen=True, slots=True)
class _Entry:
    path: Path
    used_ns: int
    nbytes: int


class DiskCache:
    """Voice states by SHA-256, one checksummed file each, shared with every process that uses the directory.

    The state of the disk never raises: an unreadable file is a miss, an unwritable one is not kept, and the next call
    tries again. Damaged files are deleted; other files in the directory are left alone.
    """

    def __init__(
        self,
        directory: Path,
        max_bytes: int,
        *,
        max_files: int = 4096,
        patience_s: float = 60.0,
    ) -> None:
        """`patience_s`: longest wait for another process that computes the same state."""
        self.directory, self.max_bytes, self.max_files = directory, max_bytes, max_files
        self._patience_s = patience_s
        self._locks: dict[str, Lock] = {}
        self._logged: set[str] = set()

    def get(self, key: str) -> VoiceState | None:
        """Raises ValueError for a key that is not a SHA-256."""
        return self._read(self._path(key), key)

    def put(self, key: str, state: VoiceState) -> bool:
        """Keep `state`; False if that is not possible."""
        path, data = self._path(key), pack(key, state)
        if _on_disk(len(data)) > self.max_bytes:
            return False
        try:
            with self._locked("write", min(_WRITING_S, self._patience_s)):  # the same room is not taken twice
                self._make_room(path, _on_disk(len(data)))
                write_atomically(path, data)
        except OSError as error:
            self._log_once("disk", f"the cache {self.directory} is not used for now: {error.strerror}")
            return False
        self._logged.discard("disk")
        return True

    def compute(self, key: str, make: Callable[[], VoiceState]) -> VoiceState:
        """The cached state, else the result of `make`, which runs once for all threads and processes that ask.

        If it raises, or the disk does not keep its result, each of them calls `make` itself, one after the other.
        """
        state = self.get(key)
        if state is not None:
            return state
        # A lock file cannot be deleted safely, so there is a fixed number of them, each shared by many keys.
        with self._locked(key[:2], self._patience_s):
            state = self.get(key)  # another thread or process may have been faster
            if state is None:
                state = make()
                self.put(key, state)
            return state

    @contextmanager
    def _locked(self, name: str, patience_s: float) -> Iterator[None]:
        """Hold a lock among threads, and among processes unless the file system has no locks or its holder hangs."""
        lock = FileLock(self.directory / f".lock-{name}")
        with self._locks.setdefault(name, Lock()):
            try:
                self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
                lock.acquire(timeout=patience_s, poll_interval=0.02)
                self._logged.discard("lock")
            except (OSError, NotImplementedError) as error:  # a timeout is an OSError
                self._log_once("lock", f"the cache {self.directory} cannot be locked: {type(error).__name__}")
            try:
                yield
            finally:
                with suppress(OSError):
                    lock.release()

    def _path(self, key: str) -> Path:
        if not _KEY.fullmatch(key):
            raise ValueError("a cache key is a SHA-256 in lower-case hex")
        return self.directory / f"{key}{SUFFIX}"

    def _read(self, path: Path, key: str) -> VoiceState | None:
        try:
            state, _ = unpack(key, read_plain(path, self.max_bytes))
        except FileNotFoundError:
            return None
        except Damaged:
            self._log_once("damage", f"a damaged file in the cache {self.directory} was deleted")
            _unlink(path)
            return None
        except OSError as error:
            self._log_once("disk", f"the cache {self.directory} is not used for now: {error.strerror}")
            return None
        with suppress(OSError):
            os.utime(path)
        return state

    def _make_room(self, path: Path, nbytes: int) -> None:
        """Delete the least recently used entries until another file of this size fits."""
        entries = [entry for entry in self._entries() if entry.path != path]
        total, count = sum(entry.nbytes for entry in entries), len(entries)
        for entry in sorted(entries, key=lambda entry: entry.used_ns):
            if total + nbytes <= self.max_bytes and count < self.max_files:
                return
            _unlink(entry.path)
            total, count = total - entry.nbytes, count - 1

    def _entries(self) -> list[_Entry]:
        """All entries. Also deletes unfinished files of processes that died. Raises OSError."""
        entries: list[_Entry] = []
        with suppress(FileNotFoundError), os.scandir(self.directory) as files:
            for file in files:
                with suppress(FileNotFoundError):
                    stat = file.stat(follow_symlinks=False)
                    if file.name.endswith(SUFFIX) and _KEY.fullmatch(file.name[: -len(SUFFIX)]):
                        entries.append(_Entry(Path(file.path), stat.st_mtime_ns, _on_disk(stat.st_size)))
                    elif file.name.startswith(UNFINISHED) and abs(time.time() - stat.st_mtime) > _STALE_S:
                        _unlink(Path(file.path))
        return entries

    def _log_once(self, kind: str, message: str) -> None:
        """Log each kind of trouble once, until it is over."""
        if kind not in self._logged:
            self._logged.add(kind)
            _log.warning("%s", message)


def _on_disk(nbytes: int) -> int:
    return -(-nbytes // _BLOCK) * _BLOCK


def _unlink(path: Path) -> None:
    """Delete if possible: another process may have done it, and the disk may be read-only."""
    with suppress(OSError):
        path.unlink()
