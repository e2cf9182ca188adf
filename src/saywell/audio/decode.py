"""An uploaded file → mono samples. The file is opened in a short-lived child process with its hands tied.

A child costs 0.1 s, nearly all of it Python importing numpy and soundfile; uploads are rare, so none is kept waiting.
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
"""Of a file that whoever runs the program names: a minute of 192 kHz in stereo and floating point."""
WALL_S = 10.0
"""The child is killed after this. A minute of MP3 takes it 0.5 s."""
CPU_S = 5
MEMORY_BYTES = 128 << 20
"""What decoding may take above the bare interpreter and its libraries."""

_NEEDED = ("numpy", "soundfile", "_soundfile", "_cffi_backend", "typing_extensions", "av")
"""What the child imports; those that are not installed it does without."""
_LAUNCH = """
import sys
sys.path += sys.argv[6:]
import runpy, site
site.main()
del sys.argv[0]
runpy.run_path(sys.argv[0], run_name="__main__")
"""
"""`-I` leaves out PYTHONPATH and the user's own packages, so the child is told where ours were found. They come after
the standard library, which nothing in those directories may replace, and with `-S` before copies in site-packages."""

KNOWN = (
    "WAV, FLAC, OGG (Vorbis or Opus), MP3 and AIFF are understood, and M4A, MP4, WebM and AAC with PyAV "
    "(pip install 'saywell[aac]'); convert others first: ffmpeg -i FILE speech.wav"
)
_MAGIC = ((0, b"RIFF"), (0, b"RIFX"), (0, b"RF64"), (0, b"FORM"), (0, b"fLaC"), (0, b"OggS"), (0, b"ID3"))
_PACKETS = ((4, b"ftyp", "mov"), (0, b"\x1a\x45\xdf\xa3", "matroska"))
"""What PyAV is needed for, with FFmpeg's name of the demuxer."""


def decode(
    data: bytes, *, max_seconds: float = MAX_SECONDS, max_bytes: int = MAX_BYTES, to_hz: int | None = None
) -> tuple[Samples, int]:
    """Mono samples within [-1, 1], shape [n], and their rate in Hz: the file's own, or `to_hz`.

    Raises UnsupportedMedia (not audio we read), TooLarge (bytes or seconds), InvalidRequest (corrupt, empty, a rate
    outside 8–192 kHz, more than two channels), EngineFailure (the child could not start). Blocks; at most WALL_S.
    """
    if len(data) > max_bytes:
        raise TooLarge(f"the audio file has more than the {max_bytes:,} bytes that are allowed", param="file")
    demuxer = _demuxer(data)
    if not demuxer and not looks_like_audio(data):
        raise UnsupportedMedia(f"this is not an audio file we read: {KNOWN}", param="file")
    if demuxer and find_spec("av") is None:
        raise UnsupportedMedia(
            "reading M4A, MP4, WebM and AAC takes PyAV: pip install 'saywell[aac]', or convert the file to WAV first: "
            "ffmpeg -i x.m4a x.wav",
            param="file",
        )
    with _file_of(data) as file:
        return _run(file, demuxer, max_seconds, to_hz)


def decode_file(source: str | Path | IO[bytes]) -> tuple[Samples, int]:
    """`decode` for what the user of this process names: a path or an open file, of at most FILE_BYTES.

    Raises OSError and what `decode` raises.
    """
    if isinstance(source, (str, Path)):
        with open_file(Path(source), devices=True) as file:
            return decode_file(file)
    return decode(source.read(FILE_BYTES + 1), max_bytes=FILE_BYTES)


def looks_like_audio(data: bytes) -> bool:
    """Whether the first bytes belong to a format we read: what is plainly something else costs no process."""
    if any(data[at : at + len(magic)] == magic for at, magic in _MAGIC):
        return True
    return len(data) > 1 and data[0] == 0xFF and data[1] & 0xE0 == 0xE0  # MPEG audio's frame sync


def _demuxer(data: bytes) -> str:
    """FFmpeg's name of what reads it where libsndfile does not; empty for anything else."""
    if len(data) > 1 and data[0] == 0xFF and data[1] & 0xF6 == 0xF0:  # MPEG's frame sync, but none of its layers
        return "aac"
    return next((name for at, magic, name in _PACKETS if data[at : at + len(magic)] == magic), "")


def _file_of(data: bytes) -> IO[bytes]:
    """A nameless file with these bytes, at its beginning; in memory where the system can."""
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
        pipe.close()  # a child that has more to say finds nobody listening
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
    """The child: no arguments from the client, no environment to leak, no words on our stderr."""
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
    """Where the packages that the child needs were found, by way of this process's own `sys.path`."""
    if interpreter() != sys.executable:
        return []  # another Python has packages of its own
    specs = (find_spec(name) for name in _NEEDED)
    origins = (Path(spec.origin) for spec in specs if spec is not None and spec.origin is not None)
    places = (file.parents[1] if file.stem == "__init__" else file.parent for file in origins)
    return list(dict.fromkeys(str(place.absolute()) for place in places))


def _receive(pipe: IO[bytes], max_seconds: float, to_hz: int | None) -> tuple[Samples, int]:
    """What the child sends, resampled as it comes. It is believed in nothing: rate and length are bounded here too."""
    head = pipe.read(sandbox.RATE.size)
    rate = sandbox.RATE.unpack(head)[0] if len(head) == sandbox.RATE.size else 0
    if not sandbox.MIN_HZ <= rate <= sandbox.MAX_HZ:
        return np.zeros(0, np.float32), 0
    resampler = Resampler(rate, to_hz or rate)
    left, data = int(max_seconds * rate) * 4, bytearray()
    while left > 0 and (block := pipe.read(min(left, sandbox.BLOCK * 4))):
        left -= len(block)
        data += resampler.feed(np.frombuffer(block[: len(block) // 4 * 4], "<f4")).tobytes()
    data += resampler.feed(np.zeros(0, np.float32), last=True).tobytes()
    return np.frombuffer(data, np.float32), resampler.to_hz


def _refusal(status: int, max_seconds: float) -> SaywellError:
    """What a child's exit status stands for. Killed by a signal: the file broke the decoder or its time ran out."""
    if status == Exit.NOT_AUDIO:
        return UnsupportedMedia(f"this is not an audio file we read: {KNOWN}", param="file")
    if status == Exit.ENCODING:
        return UnsupportedMedia(f"the file holds audio in an encoding we do not read: {KNOWN}", param="file")
    if status == Exit.TOO_LONG:
        return TooLarge(f"the audio is longer than {max_seconds:g} s; send a shorter piece", param="file")
    if status == Exit.RATE:
        return InvalidRequest("the audio's sample rate must be between 8 and 192 kHz", param="file")
    if status == Exit.CHANNELS:
        return InvalidRequest("the audio must be mono or stereo", param="file")
    if status == Exit.EMPTY:
        return InvalidRequest("the audio file has no samples", param="file")
    if status == Exit.NOT_FINITE:
        return InvalidRequest("the audio contains values that are not numbers", param="file")
    if status == Exit.CORRUPT or status < 0:
        return InvalidRequest("the audio file is damaged and cannot be decoded", param="file")
    return EngineFailure(f"the audio decoder failed (exit status {status})")
