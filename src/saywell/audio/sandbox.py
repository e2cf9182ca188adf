"""The child process that opens an uploaded file. Run by path and independent of the rest of Saywell.

    python -I sandbox.py MAX_SECONDS CPU_SECONDS MEMORY_BYTES DEMUXER < file > pcm

stdin is the file, seekable. stdout: one byte when it is ready, then the sample rate as a little-endian uint32, then
mono float32 samples until the end. The exit status is an `Exit`; stderr is discarded.
libsndfile reads the file; if DEMUXER is not empty, PyAV reads it with that FFmpeg demuxer only.
Before it reads the file it gives up, as far as the system supports it, opening and writing files, core dumps, and more
than the given memory and CPU time.
"""

from __future__ import annotations

import io
import os
import struct
import sys
from collections.abc import Callable, Iterator
from enum import IntEnum
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt
import soundfile as sf

resource: Any
try:
    import resource
except ImportError:  # Windows
    resource = None

Floats = npt.NDArray[np.float32]
"""Samples of each channel, [n, channels]."""

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
DECODERS = frozenset(
    {"aac", "alac", "flac", "mp3", "mp3float", "opus", "libopus", "vorbis", "libvorbis", "pcm_s16le", "pcm_f32le"}
)
"""FFmpeg decoders that may be used."""
CANCELLED = 0.2
"""Channels cancel each other out if their mean has less than this share of the louder channel's energy. With one silent
channel the mean has a quarter, with uncorrelated channels a half."""
UNKNOWN_LENGTH = 2**63 - 1
"""libsndfile's number of frames for a FLAC stream without a length."""
_UNRECOGNISED, _UNSUPPORTED_ENCODING = 1, 4  # libsndfile's SF_ERR_*


class Exit(IntEnum):
    """Exit statuses, distinct from the interpreter's own 1 and 2."""

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


class SequentialFile(sf.SoundFile):  # type: ignore[misc]
    """Reads sequentially. By default soundfile seeks after each block, which breaks MP3's bit reservoir and fails in a
    FLAC stream without a length."""

    def seekable(self) -> bool:
        return False


def limit(cpu_seconds: int, memory_bytes: int) -> None:
    """Set resource limits. A limit that the system refuses (macOS: RLIMIT_AS) is skipped: the parent's timeout and the
    bounds on rate, channels and seconds always apply."""
    if resource is None:
        return
    limits = {
        "RLIMIT_AS": _address_space() + memory_bytes,
        "RLIMIT_CPU": cpu_seconds,
        "RLIMIT_NOFILE": 0,
        "RLIMIT_NPROC": 0,
        "RLIMIT_FSIZE": 0,
        "RLIMIT_CORE": 0,
    }
    for name, value in limits.items():
        which = getattr(resource, name, None)
        if which is not None:
            try:
                resource.setrlimit(which, (value, value))
            except (ValueError, OSError):
                continue


def _address_space() -> int:
    """Bytes of address space in use, including libraries; 1 GiB where /proc is missing."""
    try:
        with Path("/proc/self/statm").open("rb") as file:
            return int(file.read().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return 1 << 30


def open_stdin() -> Any:
    """The file on stdin, from its start. A descriptor, since soundfile prints tracebacks for malformed files in memory;
    on Windows a file in memory, since libsndfile has a C runtime of its own that does not know our descriptors."""
    if os.name == "nt":
        sys.stdin.buffer.seek(0)
        return io.BytesIO(sys.stdin.buffer.read())
    os.lseek(0, 0, os.SEEK_SET)
    return 0


class SndfileSource:
    """A file read by libsndfile."""

    def __init__(self, max_seconds: float) -> None:
        try:
            self._file = file = SequentialFile(open_stdin(), closefd=False)
        except sf.LibsndfileError as error:
            if error.code == _UNRECOGNISED:
                raise Refused(Exit.NOT_AUDIO) from None
            raise Refused(Exit.ENCODING if error.code == _UNSUPPORTED_ENCODING else Exit.CORRUPT) from None
        if file.format not in CONTAINERS:
            raise Refused(Exit.NOT_AUDIO)
        if file.subtype not in SUBTYPES:
            raise Refused(Exit.ENCODING)
        self.rate, self.channels, self.unbounded = file.samplerate, file.channels, file.subtype in ("FLOAT", "DOUBLE")
        known = file.frames != UNKNOWN_LENGTH
        check(self, file.frames if known else 0, max_seconds)

    def __iter__(self) -> Iterator[Floats]:
        room = np.empty((BLOCK, self.channels), np.float32)
        while len(block := self._file.read(out=room)):
            yield block


class FfmpegSource:
    """A file read by FFmpeg with one demuxer, the listed decoders and no protocol, so that the file cannot make it open
    other files or addresses."""

    unbounded = False

    def __init__(self, demuxer: str, max_seconds: float) -> None:
        import av

        source = open_stdin()
        try:
            container: Any = av.open(
                source if os.name == "nt" else io.FileIO(source, closefd=False),
                format=demuxer,
                options={"protocol_whitelist": "", "format_whitelist": demuxer, "codec_whitelist": ",".join(DECODERS)},
                io_open=_refuse_to_open,
            )
        except av.FFmpegError:
            raise Refused(Exit.NOT_AUDIO) from None
        if not container.streams.audio:
            raise Refused(Exit.NOT_AUDIO)
        self._container, self._stream = container, container.streams.audio[0]
        codec = self._stream.codec_context
        if codec is None or codec.name not in DECODERS:
            raise Refused(Exit.ENCODING)
        self.rate, self.channels = codec.sample_rate, codec.channels
        length, unit = self._stream.duration, self._stream.time_base
        check(self, float(length * unit) * self.rate if length and unit else 0, max_seconds)

    def __iter__(self) -> Iterator[Floats]:
        for frame in self._container.decode(self._stream):
            if (frame.sample_rate, frame.layout.nb_channels) != (self.rate, self.channels):
                raise Refused(Exit.CORRUPT)
            values = frame.to_ndarray()
            values = values.T if frame.format.is_planar else values.reshape(-1, self.channels)
            if values.dtype.kind == "i":  # ALAC, FLAC and PCM
                values = values / -float(np.iinfo(values.dtype).min)
            yield np.asarray(values, np.float32)


def preload_av() -> type[Exception]:
    """Decode a generated file, so that PyAV imports its modules while that is possible. Returns PyAV's error class."""
    import av

    file = io.BytesIO()
    sf.write(file, np.zeros(MIN_HZ // 100, np.int16), MIN_HZ, format="WAV")
    file.seek(0)
    container: Any = av.open(file, format="wav")
    for frame in container.decode(audio=0):
        frame.to_ndarray()
    return av.FFmpegError


def _refuse_to_open(*_: object) -> None:
    raise Refused(Exit.NOT_AUDIO)


Source = SndfileSource | FfmpegSource


def check(source: Source, frames: float, max_seconds: float) -> None:
    """Refuse by the header, before a sample is decoded."""
    if not 1 <= source.channels <= MAX_CHANNELS:
        raise Refused(Exit.CHANNELS)
    if not MIN_HZ <= source.rate <= MAX_HZ:
        raise Refused(Exit.RATE)
    if frames > max_seconds * source.rate:
        raise Refused(Exit.TOO_LONG)


def checked(source: Source, max_seconds: float) -> Iterator[Floats]:
    """The blocks of a source. Raises Refused at the limits whatever the header said."""
    total, limit_frames = 0, int(max_seconds * source.rate)
    for block in source:
        total += len(block)
        if total > limit_frames:
            raise Refused(Exit.TOO_LONG)
        if not np.isfinite(block).all():
            raise Refused(Exit.NOT_FINITE)
        yield block
    if total == 0:
        raise Refused(Exit.EMPTY)


def weights(source: Source, max_seconds: float) -> list[float]:
    """Factors of the channels for mixing down to mono: the mean, or the louder channel alone if they cancel each other
    out. Floating-point audio over full scale is scaled down to it."""
    energy, mixed, peak = np.zeros(source.channels), 0.0, 1.0
    for block in checked(source, max_seconds):
        energy += np.square(block, dtype=np.float64).sum(axis=0)
        mixed += float(np.square(block.mean(axis=1), dtype=np.float64).sum())
        peak = max(peak, float(np.abs(block).max()))
    scale = 1 / peak if source.unbounded else 1.0
    if mixed < CANCELLED * energy.max():
        return [scale if channel == energy.argmax() else 0.0 for channel in range(source.channels)]
    return [scale / source.channels] * source.channels


def send(open_source: Callable[[], Source], max_seconds: float, out: BinaryIO) -> None:
    """Write the rate, then mono float32 PCM within [-1, 1]. Stereo and floating-point sources are read twice."""
    source = open_source()
    factors = [1.0]
    if source.channels > 1 or source.unbounded:
        factors = weights(source, max_seconds)
        source = open_source()
    out.write(RATE.pack(source.rate))
    for block in checked(source, max_seconds):
        mono = sum(block[:, channel] * np.float32(factor) for channel, factor in enumerate(factors))
        out.write(np.clip(mono, -1, 1).astype("<f4").tobytes())
    out.flush()


def main(max_seconds: float, cpu_seconds: int, memory_bytes: int, demuxer: str = "") -> Exit:
    out, errors = sys.stdout.buffer, [sf.SoundFileError, RuntimeError, ValueError, OverflowError, MemoryError]
    if demuxer:
        errors.append(preload_av())
    limit(cpu_seconds, memory_bytes)
    out.write(READY)
    out.flush()  # before a malformed file can crash the process
    try:
        send(lambda: FfmpegSource(demuxer, max_seconds) if demuxer else SndfileSource(max_seconds), max_seconds, out)
    except Refused as refused:
        return Exit(refused.args[0])
    except tuple(errors):
        return Exit.CORRUPT
    return Exit.DONE


if __name__ == "__main__":
    sys.exit(main(float(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]))
