"""Files read and written so that neither a pipe, a link, an endless file nor an interrupted write can harm."""

from __future__ import annotations

import errno
import os
import stat
import tempfile
from contextlib import suppress
from pathlib import Path

UNFINISHED = ".unfinished-"
"""How the names of files begin that are being written."""
_LINKS = (errno.ELOOP, errno.EMLINK)


class Damaged(ValueError):
    """A file that is not what was written under its name, or cannot be."""


def read_plain(path: Path, limit: int, *, links: bool = False) -> bytes:
    """A regular file of at most `limit` bytes; no pipe is waited for, and no link followed unless `links`: published
    files lie behind links. Raises OSError, Damaged."""
    flags = os.O_RDONLY
    for name in ("O_NONBLOCK", "O_BINARY", *(() if links else ("O_NOFOLLOW",))):
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
