"""Checks the files of a converted model against the digests of its manifest, once, and again when a file changes.

The result is cached by size, times and inode of each file.
"""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

import msgspec

from saywell.errors import BadCheckpoint
from saywell.files import Damaged, read_plain, sha256, write_atomically
from saywell.manifest import MANIFEST, Manifest
from saywell.models.conversion import read_manifest

_log = logging.getLogger(__name__)

_MAX_CACHE_BYTES = 1 << 20
_LONG_S = 2.0
"""After which a warning says what takes so long."""


def check_sizes(directory: Path, manifest: Manifest) -> None:
    """Raise BadCheckpoint for a truncated or replaced file, before it is mapped. Loading also checks digests."""
    for name, entry in manifest.files.items():
        path = directory / name
        if not path.is_file() or path.stat().st_size != entry.bytes:
            raise BadCheckpoint(f"{path} is missing or has another size than {MANIFEST} says; convert again")


def check_files(directory: Path, names: Iterable[str], cache: Path) -> None:
    """Raises BadCheckpoint naming the first of these files that differs from the manifest. `cache`: folder for the
    result."""
    files = read_manifest(directory).files
    key = hashlib.sha256(str(directory.resolve()).encode()).hexdigest()[:16]
    path = cache / f"verified-{key}.json"
    known, began = _known(path), time.monotonic()
    marks = {}
    for name in names:
        if name not in files:
            raise BadCheckpoint(f"{directory / name} is not in {MANIFEST}; run `saywell convert` again")
        marks[name] = f"{files[name].sha256} {_mark(directory / name)}"
    changed = [name for name, mark in marks.items() if known.get(name) != mark]
    warned = False

    def warn(_done: int, _total: int) -> None:
        nonlocal warned
        if not warned and time.monotonic() - began > _LONG_S:
            warned = True
            _log.warning("verifying the files in %s; this happens once, until a file changes", directory)

    for name in changed:
        if sha256(directory / name, warn) != files[name].sha256:
            raise BadCheckpoint(
                f"{directory / name} is damaged: its digest is not the one in {MANIFEST}; run `saywell convert` again"
            )
    if changed:
        with suppress(OSError):  # without a cache the files are verified at each start
            write_atomically(path, msgspec.json.encode({**known, **marks}))


def _mark(path: Path) -> str:
    """A string that changes when the file changes."""
    try:
        stat = path.stat()
    except OSError as error:
        raise BadCheckpoint(f"{path} cannot be read: {error.strerror}") from error
    return f"{stat.st_size} {stat.st_mtime_ns} {stat.st_ctime_ns} {stat.st_ino}"


def _known(path: Path) -> dict[str, str]:
    try:
        return msgspec.json.decode(read_plain(path, _MAX_CACHE_BYTES), type=dict[str, str])
    except (OSError, Damaged, ValueError, RecursionError):
        return {}
