"""Whether the files a converted model is run from are what was converted: read through once, and again if they change.

What was found is kept: a file of this size, these times and this inode had the digest of the manifest.
"""

from __future__ import annotations

import hashlib
import json
import logging
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from saywell.files import Damaged, read_plain, sha256, write_atomically
from saywell.manifest import MANIFEST
from saywell.models.dual_ar.convert.convert import CODEC, MODEL, PRECISIONS, read_manifest
from saywell.models.dual_ar.errors import BadCheckpoint
from saywell.models.dual_ar.onnx.ar_files import data_file
from saywell.models.dual_ar.onnx.codec_files import ENCODER

_log = logging.getLogger(__name__)

_MOST_BYTES = 1 << 20
_LONG_S = 2.0


def check_files(directory: Path, names: Iterable[str], kept: Path) -> None:
    """Raises BadCheckpoint naming the first of these files that is not the one that was converted. `kept`: the folder
    for what was found."""
    files = read_manifest(directory).files
    key = hashlib.sha256(str(directory.resolve()).encode()).hexdigest()[:16]
    place = kept / f"verified-{key}.json"
    known, began = _known(place), time.monotonic()
    names = list(names)
    for name in names:
        if name not in files:
            raise BadCheckpoint(f"{directory / name} is not in {MANIFEST}; run `saywell convert` again")
    found = {name: f"{files[name].sha256} {_mark(directory / name)}" for name in names}
    new = [name for name, mark in found.items() if known.get(name) != mark]
    told = False

    def tell(_done: int, _total: int) -> None:
        nonlocal told
        if not told and time.monotonic() - began > _LONG_S:
            told = True
            _log.warning("the files in %s are read through, once, until one changes", directory)

    for name in new:
        if sha256(directory / name, tell) != files[name].sha256:
            raise BadCheckpoint(
                f"{directory / name} is damaged: its digest is not the one in {MANIFEST}; run `saywell convert` again"
            )
    if new:
        with suppress(OSError):  # where nothing can be kept they are read through each time
            write_atomically(place, json.dumps({**known, **found}).encode())


def run_from(directory: Path, precision: str) -> list[str]:
    """Names of the files a model at this precision is run from, but for the encoder, which few ever need."""
    others = {data_file(each) for each in PRECISIONS if each != precision}
    encoder = {ENCODER, f"{ENCODER}.data"}
    return [name for name in read_manifest(directory).files if name not in {MODEL, CODEC, *others, *encoder}]


def encoder_files() -> list[str]:
    return [ENCODER, f"{ENCODER}.data"]


def _mark(path: Path) -> str:
    """Changes when the file does."""
    try:
        of = path.stat()
    except OSError as error:
        raise BadCheckpoint(f"{path} cannot be read: {error.strerror}") from error
    return f"{of.st_size} {of.st_mtime_ns} {of.st_ctime_ns} {of.st_ino}"


def _known(place: Path) -> dict[str, str]:
    try:
        found = json.loads(read_plain(place, _MOST_BYTES))
    except (OSError, Damaged, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}
