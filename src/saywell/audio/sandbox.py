"""The child process that opens an uploaded file. Run by path, never imported: it knows nothing of Saywell.

    python -I sandbox.py MAX_SECONDS CPU_SECONDS MEMORY_BYTES < file > pcm

stdin is the file, seekable. stdout: one byte when it is ready, then the sample rate as a little-endian uint32, then
mono float32 samples until the end. The exit status says how it went (see `Exit`). stderr is nobody's business.
Before it looks at the file it gives up the right to open another one, to write one, to dump core and to use more than
a set amount of memory and time, where the system has such limits.
"""

from __future__ import annotations

import io
import os
import struct
import sys
from collections.abc import Iterator
from enum import IntEnum
from pathlib import Path
from typing import Any

import numpy as np
import soundfile as sf

resource: Any
try:
    import resource
except ImportError:  # Windows
    resource = None

READY = b"R"
RATE = struct.Struct("<I")
BLOCK = 16384
MIN_HZ, MAX_HZ = 8_000, 192_000
MAX_CHANNELS = 2
CONTAINERS = frozenset({"WAV", "WAVEX", "RF64", "AIFF", "FLAC", "OGG", "MP3", "MPEG"})
SUBTYPES = frozenset(
    {"PCM_S8", "PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE", "ULAW", "ALAW"}
    | {"VORBIS", "OPUS", "MPEG_LAYER_I", "MPEG_LAYER_II", "MPEG_LAYER_III"}
)
UNKNOWN_LENGTH = 2**63 - 1
"""What libsndfile says of a FLAC stream without a length."""
_UNRECOGNISED, _UNSUPPORTED_ENCODING = 1, 4  # libsndfile's SF_ERR_*


class Exit(IntEnum):
    """Exit statuses, out of the way of the interpreter's own 1 and 2."""

    DONE = 0
    NOT_AUDIO = 40
    ENCODING = 41
    CORRUPT = 42
    RATE = 43
    CHANNELS = 44
    TOO_LONG = 45
    NOT_FINITE = 46
    EMPTY = 47


class Refused(Exception):
    """`args[0]` is the Exit."""


class Forward(sf.SoundFile):  # type: ignore[misc]
    """Read from front to end. By default soundfile seeks after each block, which breaks MP3's bit reservoir and fails
    outright in a FLAC stream without a length."""

    def seekable(self) -> bool:
        return False


def limit(cpu_seconds: int, memory_bytes: int) -> None:
    """Give up what decoding does not need. A system that knows a limit but refuses it (macOS: RLIMIT_AS) keeps going:
    the parent's clock and the bounds on rate, channels and seconds hold everywhere."""
    if resource is None:
        return
    wishes = {
        "RLIMIT_AS": _address_space() + memory_bytes,
        "RLIMIT_CPU": cpu_seconds,
        "RLIMIT_NOFILE": 0,
        "RLIMIT_NPROC": 0,
        "RLIMIT_FSIZE": 0,
        "RLIMIT_CORE": 0,
    }
    for name, most in wishes.items():
        which = getattr(resource, name, None)
        if which is not None:
            try:
                resource.setrlimit(which, (most, most))
            except (ValueError, OSError):
                continue


def _address_space() -> int:
    """Bytes of address space in use, libraries and all; 0 where that is not to be read."""
    try:
        with Path("/proc/self/statm").open("rb") as file:
            return int(file.read().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return 1 << 30


def opened() -> Forward:
    """The file on stdin. A true descriptor, since soundfile prints tracebacks for hostile files in memory; on Windows
    a descriptor means nothing to libsndfile's own C runtime."""
    source: Any = io.BytesIO(sys.stdin.buffer.read()) if os.name == "nt" else 0
    try:
        return Forward(source, closefd=False)
    except sf.LibsndfileError as error:
        if error.code == _UNRECOGNISED:
            raise Refused(Exit.NOT_AUDIO) from None
        raise Refused(Exit.ENCODING if error.code == _UNSUPPORTED_ENCODING else Exit.CORRUPT) from None


def check(file: Forward, max_seconds: float) -> None:
    """Refuse by what the header says, before a sample is decoded."""
    if file.format not in CONTAINERS:
        raise Refused(Exit.NOT_AUDIO)
    if file.subtype not in SUBTYPES:
        raise Refused(Exit.ENCODING)
    if not 1 <= file.channels <= MAX_CHANNELS:
        raise Refused(Exit.CHANNELS)
    if not MIN_HZ <= file.samplerate <= MAX_HZ:
        raise Refused(Exit.RATE)
    if file.frames != UNKNOWN_LENGTH and file.frames > max_seconds * file.samplerate:
        raise Refused(Exit.TOO_LONG)


def mono_blocks(file: Forward, max_seconds: float) -> Iterator[bytes]:
    """float32 PCM within [-1, 1], the channels averaged. Stops with Refused at the limit whatever the header said."""
    total, most = 0, int(max_seconds * file.samplerate)
    room = np.empty((BLOCK, file.channels), np.float32)
    while len(block := file.read(out=room)):
        total += len(block)
        if total > most:
            raise Refused(Exit.TOO_LONG)
        if not np.isfinite(block).all():
            raise Refused(Exit.NOT_FINITE)
        yield np.clip(block.mean(axis=1, dtype=np.float32), -1, 1).astype("<f4").tobytes()
    if total == 0:
        raise Refused(Exit.EMPTY)


def main(max_seconds: float, cpu_seconds: int, memory_bytes: int) -> Exit:
    out = sys.stdout.buffer
    limit(cpu_seconds, memory_bytes)
    out.write(READY)
    out.flush()  # before the file can crash us
    try:
        file = opened()
        check(file, max_seconds)
        out.write(RATE.pack(file.samplerate))
        for block in mono_blocks(file, max_seconds):
            out.write(block)
        out.flush()
    except Refused as refused:
        return Exit(refused.args[0])
    except (sf.SoundFileError, RuntimeError, ValueError, OverflowError, MemoryError):
        return Exit.CORRUPT
    return Exit.DONE


if __name__ == "__main__":
    sys.exit(main(float(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])))
