"""Safe reading and writing of files: pipes, devices, links and endless files are refused, and writes are atomic."""

from __future__ import annotations

import errno
import hashlib
import os
import re
import secrets
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

UNFINISHED = ".unfinished-"
"""Prefix of the names of files that are being written."""
_CHUNK = 4 << 20
_LINKS = (errno.ELOOP, errno.EMLINK)
_SOCKETS = (errno.ENXIO, errno.EOPNOTSUPP)
_OPEN_FILE = re.compile(r"/dev/(stdin|fd/\d+)|/proc/self/fd/\d+")


class Damaged(ValueError):
    """The content of a file is not what was written, or it is not a regular file."""


class Irregular(OSError):
    """The path is not a file that can be read to its end; `strerror` says why, `filename` which."""


def open_file(path: Path, *, links: bool = True, devices: bool = False) -> BinaryIO:
    """Open a regular file for reading, without blocking on a named pipe or socket. Raises OSError, Irregular.

    `devices` also allows character devices, for callers that bound what they read. Open descriptors of this process
    (`/dev/fd/…`, as in the shell's `<(…)`) are always allowed.
    """
    if _OPEN_FILE.fullmatch(str(path)):
        return path.open("rb")
    flags = os.O_RDONLY
    for name in ("O_NONBLOCK", "O_BINARY", *(() if links else ("O_NOFOLLOW",))):
        flags |= getattr(os, name, 0)
    try:
        descriptor = os.open(path, flags)
    except OSError as error:
        if error.errno in _SOCKETS:
            raise _irregular(path) from None
        raise
    mode = os.fstat(descriptor).st_mode
    if stat.S_ISREG(mode) or (devices and stat.S_ISCHR(mode)):
        return os.fdopen(descriptor, "rb")
    os.close(descriptor)
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    raise _irregular(path)


def _irregular(path: Path) -> Irregular:
    return Irregular(errno.EINVAL, "it is a pipe or a device, and a regular file is needed", str(path))


def read_plain(path: Path, limit: int, *, links: bool = False) -> bytes:
    """The content of a regular file of at most `limit` bytes. Links are followed only with `links`: published files may
    be links into a cache. Raises OSError, Damaged."""
    try:
        with open_file(path, links=links) as file:
            data = file.read(limit + 1)
    except OSError as error:
        if error.errno in _LINKS:
            raise Damaged("it is a link") from None
        if isinstance(error, Irregular | IsADirectoryError):
            raise Damaged("it is not a regular file of an acceptable size") from None
        raise
    if len(data) > limit:
        raise Damaged("it is not a regular file of an acceptable size")
    return data


@contextmanager
def replacing(path: Path, *, private: bool = False) -> Iterator[BinaryIO]:
    """A temporary file that replaces `path` when the block ends, and is deleted if the block raises.

    The target of a link is replaced, keeping its mode and, if permitted, its owner; a pipe or device is written to
    directly. `private`: `path` itself is replaced, by a file that only the owner can read.
    """
    if not private:
        if path.exists() and not path.is_file():
            with path.open("wb") as file:
                yield file
            return
        path = Path(os.path.realpath(path))
        if path.is_symlink():  # a loop
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), str(path))
    temporary = path.with_name(f"{UNFINISHED}{secrets.token_hex(8)}")
    try:
        with open(temporary, "xb", opener=_open_private if private else None) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        if not private and path.exists():
            _copy_attributes(path.stat(), temporary)
        temporary.replace(path)
    finally:
        with suppress(OSError):
            temporary.unlink()


def _open_private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _copy_attributes(original: os.stat_result, file: Path) -> None:
    if hasattr(os, "chown"):
        with suppress(PermissionError):  # only root may change the owner
            os.chown(file, original.st_uid, original.st_gid)
    file.chmod(stat.S_IMODE(original.st_mode))


def write_atomically(path: Path, data: bytes) -> None:
    """Write a file that only the owner can read; creates missing directories. Raises OSError."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with replacing(path, private=True) as file:
        file.write(data)


def sha256(path: Path, progress: Callable[[int, int], None] = lambda _done, _total: None) -> str:
    """Hex digest of a regular file; `progress` is called with (bytes done, total bytes). Raises OSError, Irregular."""
    digest, done, total = hashlib.sha256(), 0, path.stat().st_size
    with open_file(path) as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
            done += len(chunk)
            progress(done, total)
    return digest.hexdigest()
