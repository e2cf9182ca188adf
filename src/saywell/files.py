"""Files read and written so that neither a pipe, a link, an endless file nor an interrupted write can harm."""

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
"""How the names of files begin that are being written."""
_CHUNK = 4 << 20
_LINKS = (errno.ELOOP, errno.EMLINK)
_SOCKETS = (errno.ENXIO, errno.EOPNOTSUPP)
_HANDED_OVER = re.compile(r"/dev/(stdin|fd/\d+)|/proc/self/fd/\d+")


class Damaged(ValueError):
    """A file that is not what was written under its name, or cannot be."""


class Irregular(OSError):
    """No file that can be read to its end lies there; `strerror` says why, `filename` which."""


def open_file(path: Path, *, links: bool = True, devices: bool = False) -> BinaryIO:
    """A regular file, for reading; a named pipe or a socket is refused at once. Raises OSError, Irregular.

    `devices`: take those too, for somebody who reads so much and no more. What the shell has opened for this process,
    `<(…)` among it, is read like standard input.
    """
    if _HANDED_OVER.fullmatch(str(path)):
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
    """A regular file of at most `limit` bytes; no pipe is waited for, and no link followed unless `links`: published
    files lie behind links. Raises OSError, Damaged."""
    try:
        with open_file(path, links=links) as file:
            data = file.read(limit + 1)
    except OSError as error:
        if error.errno in _LINKS:
            raise Damaged("it is a link") from None
        if isinstance(error, Irregular | IsADirectoryError):
            raise Damaged("it is no regular file of a possible size") from None
        raise
    if len(data) > limit:
        raise Damaged("it is no regular file of a possible size")
    return data


@contextmanager
def replacing(path: Path, *, private: bool = False) -> Iterator[BinaryIO]:
    """A file that takes the place of `path` once it is complete and on disk; nothing is left of it if the block raises.

    It replaces what a link leads to, with the mode and, where the system lets us, the owner of what was there; a pipe
    or a device is written to. `private`: it replaces whatever is there, and only the owner may read it.
    """
    if not private:
        if path.exists() and not path.is_file():
            with path.open("wb") as file:
                yield file
            return
        path = Path(os.path.realpath(path))
        if path.is_symlink():  # to itself
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), str(path))
    temporary = path.with_name(f"{UNFINISHED}{secrets.token_hex(8)}")
    try:
        with open(temporary, "xb", opener=_open_private if private else None) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        if not private and path.exists():
            _become(temporary, path.stat())
        temporary.replace(path)
    finally:
        with suppress(OSError):
            temporary.unlink()


def _open_private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _become(file: Path, like: os.stat_result) -> None:
    if hasattr(os, "chown"):
        with suppress(PermissionError):  # only root gives files away
            os.chown(file, like.st_uid, like.st_gid)
    file.chmod(stat.S_IMODE(like.st_mode))


def write_atomically(path: Path, data: bytes) -> None:
    """All of it or nothing, readable by the owner alone. Makes the directory if there is none. Raises OSError."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with replacing(path, private=True) as file:
        file.write(data)


def sha256(path: Path, progress: Callable[[int, int], None] = lambda _done, _total: None) -> str:
    """Hex digest of a regular file; `progress` hears bytes done and bytes in all. Raises OSError, Irregular."""
    digest, done, total = hashlib.sha256(), 0, path.stat().st_size
    with open_file(path) as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
            done += len(chunk)
            progress(done, total)
    return digest.hexdigest()
