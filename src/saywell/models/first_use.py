"""Converts a published checkpoint when it is first used, and keeps the result.

    data_dir/converted/<hash of the checkpoint's path>/<its name>/   the converted model
                                                       made_from.json   its sources; written last

The result is not stored next to the checkpoint, which is often a read-only volume or a cache of the hub.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from saywell import __version__
from saywell.errors import MissingDependency, SaywellError, StorageFailure, UnknownModel
from saywell.files import read_plain, write_atomically
from saywell.manifest import MANIFEST
from saywell.models.base import find_spec, offline_for
from saywell.models.installed import CONVERTED

_log = logging.getLogger(__name__)

RECORD = "made_from.json"
_MAX_BYTES = 1 << 20


def converted(path: Path, data_dir: Path) -> Path:
    """The converted model of the checkpoint at `path`: `path` itself, or the result of converting it.

    Raises UnknownModel if there is no checkpoint, MissingDependency, BadConfig and BadCheckpoint for a damaged one,
    StorageFailure.
    """
    if not path.exists():
        raise UnknownModel(
            f"there is no checkpoint at {path}; name the directory of one (`saywell pull s1-mini` fetches it), or "
            "leave it out to use the built-in voice",
            param="model_path",
        )
    if (path / MANIFEST).is_file():
        return path
    source = path.resolve()
    made_from = _made_from(source)
    kept = place_of(source, data_dir)
    if not _is_whole(kept, made_from):
        try:
            _convert(source, kept, made_from)
        except MissingDependency as error:
            raise MissingDependency(f"{path} has to be converted before it can speak: {error.message}") from error
        except OSError as error:
            raise StorageFailure(
                f"{path} could not be converted into {kept}: {error.strerror or error}; free some space, or set "
                "SAYWELL_DATA_DIR to a directory on another disk"
            ) from error
    return kept


def place_of(checkpoint: Path, data_dir: Path) -> Path:
    """The directory of the converted model, in which it is installed under the checkpoint's name."""
    source = Path(os.path.realpath(checkpoint))  # also resolves broken links
    return data_dir / CONVERTED / hashlib.sha256(os.fsencode(source)).hexdigest()[:16] / source.name


def _made_from(source: Path) -> dict[str, Any]:
    """Identifies the checkpoint and the version of this program without reading gigabytes."""
    files = {path.name: path.stat() for path in offline_for(source).sources(source)}
    return {"saywell": __version__, "files": {name: [of.st_size, of.st_mtime_ns] for name, of in files.items()}}


def _is_whole(kept: Path, made_from: dict[str, Any]) -> bool:
    try:
        record = json.loads(read_plain(kept.parent / RECORD, _MAX_BYTES))
        find_spec(None, kept)
    except (OSError, ValueError, RecursionError, SaywellError):  # Damaged is a ValueError
        return False
    return bool(record == made_from)


def _convert(source: Path, kept: Path, made_from: dict[str, Any]) -> None:
    """Continues an interrupted conversion; the result is not used before the record is written."""
    kept.parent.mkdir(parents=True, exist_ok=True)
    with _locked(kept):
        if _is_whole(kept, made_from):
            return  # another process has converted it
        _log.warning(
            "%s is a published checkpoint; it is converted once, into %s, which may take minutes", source, kept
        )
        logged: set[str] = set()

        def progress(step: str, _done: int, _total: int) -> None:
            if step not in logged and not step.startswith("verify "):
                logged.add(step)
                _log.warning("converting %s: %s", source.name, step)

        offline_for(source).convert(source, kept, progress=progress)
        write_atomically(kept.parent / RECORD, json.dumps(made_from).encode())
        _log.warning("%s is converted", source.name)


@contextmanager
def _locked(kept: Path) -> Iterator[None]:
    """Only one process converts a checkpoint at a time."""
    lock = FileLock(kept.parent / ".lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        _log.warning("another process is converting %s; waiting for it", kept.name)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()
