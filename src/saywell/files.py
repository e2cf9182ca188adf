"""Files read and written so that neither a pipe, a link, an endless file nor an interrupted write can harm."""

from __future__ import annotations

import errno
import os
import re
import stat
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

UNFINISHED = ".unfinished-"
"""How the names of files begin that are being written."""
MANIFEST = "saywell.json"
"""In the directory of a converted model: its family, and the digest of each of its files."""
_MAX_MANIFEST = 4 << 20
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


def read_manifest(directory: Path) -> bytes:
    """The manifest of a converted model, as it lies there. Raises OSError, Damaged."""
    return read_plain(directory / MANIFEST, _MAX_MANIFEST, links=True)


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
