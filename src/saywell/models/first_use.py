"""A published checkpoint where a converted one is wanted: converted when it is first used, and kept.

    data_dir/converted/<where the checkpoint lies, hashed>/<its name>/   the converted model
                                                          made_from.json  of what, written when all of it was there

With the user's data, not beside the checkpoint: that is often a read-only volume or a cache of the hub, and never ours.
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
_MOST_BYTES = 1 << 20


def converted(path: Path, data_dir: Path) -> Path:
    """The directory that loads for the checkpoint at `path`: itself, or what it was converted to, now if need be.

    Raises UnknownModel where there is no checkpoint, MissingDependency without what converting takes, BadConfig and
    BadCheckpoint for one that is damaged, StorageFailure.
    """
    if not path.exists():
        raise UnknownModel(
            f"there is no checkpoint at {path}; name the directory of one (`saywell pull s1-mini` fetches it), or name "
            "none and the built-in voice speaks",
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
                f"{path} could not be converted into {kept}: {error.strerror or error}; make room there, or set "
                "SAYWELL_DATA_DIR to a directory that has it"
            ) from error
    return kept


def place_of(checkpoint: Path, data_dir: Path) -> Path:
    """Where what a checkpoint is converted to is kept, so that it counts as installed under the checkpoint's name."""
    source = Path(os.path.realpath(checkpoint))  # takes links that lead nowhere, too
    return data_dir / CONVERTED / hashlib.sha256(os.fsencode(source)).hexdigest()[:16] / source.name


def _made_from(source: Path) -> dict[str, Any]:
    """By what a change of the checkpoint, or of this program, is known without reading gigabytes."""
    files = {path.name: path.stat() for path in offline_for(source).sources(source)}
    return {"saywell": __version__, "files": {name: [of.st_size, of.st_mtime_ns] for name, of in files.items()}}


def _is_whole(kept: Path, made_from: dict[str, Any]) -> bool:
    try:
        record = json.loads(read_plain(kept.parent / RECORD, _MOST_BYTES))
        find_spec(None, kept)
    except (OSError, ValueError, RecursionError, SaywellError):  # Damaged is a ValueError
        return False
    return bool(record == made_from)


def _convert(source: Path, kept: Path, made_from: dict[str, Any]) -> None:
    """What a killed run has left is gone on with; until the record is written nobody loads it."""
    kept.parent.mkdir(parents=True, exist_ok=True)
    with _alone(kept):
        if _is_whole(kept, made_from):
            return  # another process was quicker
        _log.warning(
            "%s is a published checkpoint; it is converted once, into %s, which may take minutes", source, kept
        )
        told: set[str] = set()

        def progress(step: str, _done: int, _total: int) -> None:
            if step not in told and not step.startswith("verify "):
                told.add(step)
                _log.warning("converting %s: %s", source.name, step)

        offline_for(source).convert(source, kept, progress=progress)
        write_atomically(kept.parent / RECORD, json.dumps(made_from).encode())
        _log.warning("%s is converted", source.name)


@contextmanager
def _alone(kept: Path) -> Iterator[None]:
    """While no other process converts this checkpoint."""
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
