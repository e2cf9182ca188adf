"""Sealed files: one array each, proving itself.

A sealed file is a safetensors file with one array and, in its metadata, the SHA-256 of all there is in it and of the
name it was written under: a flipped bit, a truncated file and one put in another's place are told from the truth.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import stat
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError
from safetensors.numpy import load, save

Array = npt.NDArray[Any]
SUFFIX = ".safetensors"
UNFINISHED = ".unfinished-"
"""How the names of files begin that are being written."""
_TENSOR, _DIGEST = "values", "sha256"
_LINKS = (errno.ELOOP, errno.EMLINK)


class Damaged(ValueError):
    """A sealed file that is not what was written under its name."""


def seal(name: str, array: Array, metadata: Mapping[str, str] | None = None) -> bytes:
    """The content of a sealed file."""
    array, known = np.ascontiguousarray(array), dict(metadata or {})
    return save({_TENSOR: array}, {**known, _DIGEST: _digest(name, array, known)})


def unseal(name: str, data: bytes) -> tuple[Array, dict[str, str]]:
    """Array (read-only) and metadata, with the digest under `sha256`. Raises Damaged."""
    try:
        array = load(data)[_TENSOR]
        header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])  # the library has just checked it
        metadata: dict[str, str] = header["__metadata__"]
        known = {key: value for key, value in metadata.items() if key != _DIGEST}
        intact = metadata[_DIGEST] == _digest(name, array, known)
    except (SafetensorError, KeyError, TypeError, ValueError, AttributeError) as error:
        raise Damaged("it is no sealed file") from error
    if not intact:
        raise Damaged("its digest is another")
    array.flags.writeable = False
    return array, metadata


def _digest(name: str, array: Array, metadata: Mapping[str, str]) -> str:
    about = json.dumps([name, array.dtype.str, array.shape, sorted(metadata.items())])
    digest = hashlib.sha256(about.encode())
    digest.update(array.tobytes())
    return digest.hexdigest()


def read_plain(path: Path, limit: int) -> bytes:
    """A regular file of at most `limit` bytes; no link is followed, no pipe waited for. Raises OSError, Damaged."""
    flags = os.O_RDONLY
    for name in ("O_NOFOLLOW", "O_NONBLOCK", "O_BINARY"):
        flags |= getattr(os, name, 0)
    try:
        descriptor = os.open(path, flags)
    except OSError as error:
        if error.errno in _LINKS:
            raise Damaged("it is a link") from None
        raise
    try:
        about = os.fstat(descriptor)
        if not stat.S_ISREG(about.st_mode) or about.st_size > limit:
            raise Damaged("it is no regular file of a possible size")
        with os.fdopen(descriptor, "rb", closefd=False) as file:
            return file.read(limit)
    finally:
        os.close(descriptor)


def write_atomically(path: Path, data: bytes) -> None:
    """All of it or nothing, readable by the owner alone. Makes the directory if there is none. Raises OSError."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=UNFINISHED)
    temporary = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(descriptor)
        temporary.replace(path)
    except BaseException:
        with suppress(OSError):
            temporary.unlink()
        raise
