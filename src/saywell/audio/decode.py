"""An uploaded file → mono samples. The file is opened in a short-lived, sandboxed child process.

A child takes 0.1 s, nearly all of it imports of numpy and soundfile; uploads are rare, so no child is kept running.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path
from threading import Timer
from typing import IO

import numpy as np

from saywell.audio import sandbox
from saywell.audio.resample import Resampler
from saywell.audio.sandbox import Exit
from saywell.child import interpreter
from saywell.errors import EngineFailure, InvalidRequest, SaywellError, TooLarge, UnsupportedMedia
from saywell.files import open_file
from saywell.types import Samples

MAX_SECONDS = 60
MAX_BYTES = 10 << 20
"""Of an upload."""
FILE_BYTES = 100_000_000
"""Of a file named by the user who runs the program: a minute of 192 kHz stereo in floating point."""
WALL_S = 10.0
"""The child is killed after this. A minute of MP3 takes it 0.5 s."""
CPU_S = 5
MEMORY_BYTES = 128 << 20
"""Address space for decoding, on top of the interpreter and its libraries."""

_NEEDED = ("numpy", "soundfile", "_soundfile", "_cffi_backend", "typing_extensions", "av")
"""Modules the child imports; av is optional."""
_LAUNCH = """
import sys
sys.path += sys.argv[6:]
import runpy, site
site.main()
del sys.argv[0]
runpy.run_path(sys.argv[0], run_name="__main__")
"""
"""`-I` ignores PYTHONPATH and the user's site-packages, so the directories of our packages are passed as arguments.
They come after the standard library, so that they cannot shadow it, and with `-S` before copies in site-packages."""

KNOWN = (
    "WAV, FLAC, OGG (Vorbis or Opus), MP3 and AIFF are supported, and M4A, MP4, WebM and AAC with PyAV "
    "(pip install 'saywell[aac]'); convert others first: ffmpeg -i FILE speech.wav"
)
_MAGIC = (b"RIFF", b"RIFX", b"RF64", b"FORM", b"fLaC", b"OggS", b"ID3")
_PACKETS = ((4, b"ftyp", "mov"), (0, b"\x1a\x45\xdf\xa3", "matroska"))
"""Formats that need PyAV, with the name of FFmpeg's demuxer."""


def decode(
    data: bytes, *, max_seconds: float = MAX_SECONDS, max_bytes: int = MAX_BYTES, to_hz: int | None = None
) -> tuple[Samples, int]:
    """Mono samples within [-1, 1], shape [n], and their rate in Hz: the file's own, or `to_hz`.

    Raises UnsupportedMedia (not audio we read), TooLarge (bytes or seconds), InvalidRequest (corrupt, empty, a rate
    outside 8–192 kHz, more than two channels), EngineFailure (the child could not start). Blocks; at most WALL_S.
    """
    if len(data) > max_bytes:
        raise TooLarge(f"the audio file is larger than the {max_bytes:,} bytes that are allowed", param="file")
    demuxer = _demuxer(data)
    if not demuxer and not looks_like_audio(data):
        raise UnsupportedMedia(f"this is not an audio file we read: {KNOWN}", param="file")
    if demuxer and find_spec("av") is None:
        raise UnsupportedMedia(
            "reading M4A, MP4, WebM and AAC needs PyAV: pip install 'saywell[aac]', or convert the file to WAV first: "
            "ffmpeg -i x.m4a x.wav",
            param="file",
        )
    with _file_of(data) as file:
        return _run(file, demuxer, max_seconds, to_hz)


def decode_file(
    source: str | Path | IO[bytes],
    *,
    max_seconds: float = MAX_SECONDS,
    max_bytes: int = FILE_BYTES,
    to_hz: int | None = None,
) -> tuple[Samples, int]:
    """`decode` for a path or an open file of the user who runs the program. Raises OSError and what `decode` raises."""
    if isinstance(source, (str, Path)):
        with open_file(Path(source), devices=True) as file:
            return decode_file(file, max_seconds=max_seconds, max_bytes=max_bytes, to_hz=to_hz)
    data = source.read(max_bytes + 1)  # bounded, because a device never ends
    return decode(data, max_seconds=max_seconds, max_bytes=max_bytes, to_hz=to_hz)


def looks_like_audio(data: bytes) -> bool:
    """Whether the first bytes belong to a supported format; others are rejected without starting a process."""
    if any(data.startswith(magic) for magic in _MAGIC):
        return True
    return len(data) > 1 and data[0] == 0xFF and data[1] & 0xE0 == 0xE0  # MPEG audio's frame sync


def _demuxer(data: bytes) -> str:
    """FFmpeg's demuxer for a format that libsndfile does not read; empty for any other."""
    if len(data) > 1 and data[0] == 0xFF and data[1] & 0xF6 == 0xF0:  # MPEG's frame sync without a layer
        return "aac"
    return next((name for offset, magic, name in _PACKETS if data.startswith(magic, offset)), "")


def _file_of(data: bytes) -> IO[bytes]:
    """An anonymous file with these bytes, positioned at its start; in memory if the system supports it."""
    in_memory = hasattr(os, "memfd_create")
    file: IO[bytes] = os.fdopen(os.memfd_create("upload"), "w+b") if in_memory else tempfile.TemporaryFile()  # noqa: SIM115
    file.write(data)
    file.seek(0)
    return file


def _run(file: IO[bytes], demuxer: str, max_seconds: float, to_hz: int | None) -> tuple[Samples, int]:
    child = _start(file, demuxer, max_seconds)
    clock = Timer(WALL_S, child.kill)
    clock.start()
    pipe = child.stdout
    assert pipe is not None
    try:
        ready = pipe.read(1) == sandbox.READY
        samples, rate = _receive(pipe, max_seconds, to_hz)
        pipe.close()  # a child that sends more gets a broken pipe
        status = child.wait()
    finally:
        clock.cancel()
        child.kill()
        child.wait()
        pipe.close()
    if not ready:
        raise EngineFailure(f"the audio decoder did not start (exit status {status}): is libsndfile installed?")
    if status != Exit.DONE:
        raise _refusal(status, max_seconds)
    return samples, rate


def _start(file: IO[bytes], demuxer: str, max_seconds: float) -> subprocess.Popen[bytes]:
    """Start the child without client-controlled arguments, environment variables or access to our stderr."""
    limits = [str(max_seconds), str(CPU_S), str(MEMORY_BYTES), demuxer]
    return subprocess.Popen(
        [interpreter(), "-I", "-S", "-c", _LAUNCH, str(Path(sandbox.__file__)), *limits, *_directories()],
        stdin=file,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=None if os.name == "nt" else {"OPENBLAS_NUM_THREADS": "1", "PATH": os.defpath},
        creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0),
    )


def _directories() -> list[str]:
    """Directories of the packages the child needs, as this process imports them."""
    if interpreter() != sys.executable:
        return []  # another Python has its own packages
    specs = (find_spec(name) for name in _NEEDED)
    origins = (Path(spec.origin) for spec in specs if spec is not None and spec.origin is not None)
    directories = (file.parents[1] if file.stem == "__init__" else file.parent for file in origins)
    return list(dict.fromkeys(str(directory.absolute()) for directory in directories))


def _receive(pipe: IO[bytes], max_seconds: float, to_hz: int | None) -> tuple[Samples, int]:
    """The child's output, resampled as it arrives. The child is not trusted: rate and length are bounded here too."""
    head = pipe.read(sandbox.RATE.size)
    rate = sandbox.RATE.unpack(head)[0] if len(head) == sandbox.RATE.size else 0
    if not sandbox.MIN_HZ <= rate <= sandbox.MAX_HZ:
        return np.zeros(0, np.float32), 0
    resampler = Resampler(rate, to_hz or rate)
    remaining, data = int(max_seconds * rate) * 4, bytearray()
    while remaining > 0 and (block := pipe.read(min(remaining, sandbox.BLOCK * 4))):
        remaining -= len(block)
        data += resampler.feed(np.frombuffer(block[: len(block) // 4 * 4], "<f4")).tobytes()
    data += resampler.feed(np.zeros(0, np.float32), last=True).tobytes()
    return np.frombuffer(data, np.float32), resampler.to_hz


def _refusal(status: int, max_seconds: float) -> SaywellError:
    """The error for a child's exit status. Killed by a signal: the file crashed the decoder or exceeded its time."""
    if status < 0:
        status = Exit.CORRUPT
    if status not in _REFUSALS:
        return EngineFailure(f"the audio decoder failed (exit status {status})")
    kind, message = _REFUSALS[status]
    return kind(message.format(seconds=max_seconds), param="file")


_REFUSALS: dict[int, tuple[type[SaywellError], str]] = {
    Exit.NOT_AUDIO: (UnsupportedMedia, f"this is not an audio file we read: {KNOWN}"),
    Exit.ENCODING: (UnsupportedMedia, f"the file holds audio in an encoding we do not read: {KNOWN}"),
    Exit.TOO_LONG: (TooLarge, "the audio is longer than {seconds:g} s; send a shorter piece"),
    Exit.RATE: (InvalidRequest, "the audio's sample rate must be between 8 and 192 kHz"),
    Exit.CHANNELS: (InvalidRequest, "the audio must be mono or stereo"),
    Exit.EMPTY: (InvalidRequest, "the audio file has no samples"),
    Exit.NOT_FINITE: (InvalidRequest, "the audio contains values that are not numbers"),
    Exit.CORRUPT: (InvalidRequest, "the audio file is damaged and cannot be decoded"),
}
