"""Playing sound: with the sounddevice package if it is installed, otherwise with a program of the system."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from contextlib import suppress
from importlib import import_module, util
from pathlib import Path
from typing import Any

from saywell.audio.encode import to_int16
from saywell.commands.sinks import FileSink, Sink
from saywell.errors import MissingDependency, Unavailable
from saywell.types import Samples

WAY_OUT = "write a file instead: -o hello.wav"
PIPED = {
    "paplay": "--raw --format=s16le --channels=1 --rate={rate}",
    "aplay": "-q -t raw -f S16_LE -c 1 -r {rate} -",
    "ffplay": "-nodisp -autoexit -loglevel error -f s16le -ar {rate} -i -",
}
"""Programs that play signed 16-bit mono from standard input, with their arguments."""
WINSOUND = "winsound"
FROM_FILE = ("pw-play", "afplay")
"""Programs that play a finished file."""


def find() -> str:
    """Name of the preferred player on this machine; empty if there is none."""
    if has_sounddevice():
        return "sounddevice"
    programs = [name for name in (*PIPED, *FROM_FILE) if shutil.which(name)]
    return programs[0] if programs else (WINSOUND if sys.platform == "win32" else "")


def open_player() -> Sink:
    """A sink that plays; `close` waits until everything has been heard. Raises MissingDependency."""
    name = find()
    if not name:
        raise MissingDependency(
            f"no program here can play sound: pip install 'saywell[play]', install alsa-utils or ffmpeg, or {WAY_OUT}"
        )
    if name == "sounddevice":
        return _Device()
    return _Piped(name) if name in PIPED else _FromFile(name)


def has_sounddevice() -> bool:
    """Whether the package is installed and finds the PortAudio library it wraps."""
    if util.find_spec("sounddevice") is None:
        return False
    try:
        import_module("sounddevice")
    except OSError:
        return False
    return True


class _Device:
    """PortAudio through sounddevice."""

    def __init__(self) -> None:
        self._sound: Any = import_module("sounddevice")
        self._stream: Any = None

    def write(self, samples: Samples, sample_rate: int) -> None:
        try:
            if self._stream is None:
                self._stream = self._sound.OutputStream(samplerate=sample_rate, channels=1, dtype="float32")
                self._stream.start()
            self._stream.write(samples.reshape(-1, 1))
        except self._sound.PortAudioError as error:
            raise Unavailable(f"the sound device cannot be used ({error}); {WAY_OUT}") from error

    def close(self) -> None:
        if self._stream is not None:
            self._stream.stop()
            self._stream.close()

    def abort(self) -> None:
        if self._stream is not None:
            self._stream.abort()
            self._stream.close()


class _Piped:
    """A program that plays its standard input."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._process: subprocess.Popen[bytes] | None = None

    def write(self, samples: Samples, sample_rate: int) -> None:
        if self._process is None:
            command = [self._name, *PIPED[self._name].format(rate=sample_rate).split()]
            self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - closed in _end; a pipe could fill up
            self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stderr=self._errors)
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(to_int16(samples).tobytes())
            self._process.stdin.flush()
        except BrokenPipeError as error:
            raise _failure(self._name, self._end()[1]) from error

    def close(self) -> None:
        code, complaint = self._end()
        if code != 0:
            raise _failure(self._name, complaint)

    def abort(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._end()

    def _end(self) -> tuple[int, bytes]:
        """Let it play to the end. Returns its exit code and what it wrote to standard error."""
        if self._process is None:
            return 0, b""
        process, self._process = self._process, None
        assert process.stdin is not None
        with suppress(BrokenPipeError):
            process.stdin.close()
        code = process.wait()
        with self._errors as errors:
            errors.seek(0)
            return code, errors.read()


class _FromFile:
    """A program, or Windows itself, that plays a finished file."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._folder = tempfile.TemporaryDirectory()
        self._file = Path(self._folder.name, "speech.wav")
        self._sink = FileSink(self._file, "wav")
        self.write = self._sink.write

    def close(self) -> None:
        with self._folder:
            self._sink.close()
            if not self._file.exists():
                return
            if self._name == WINSOUND:
                sound: Any = import_module(WINSOUND)
                sound.PlaySound(str(self._file), sound.SND_FILENAME)
                return
            done = subprocess.run([self._name, str(self._file)], capture_output=True, check=False)
            if done.returncode != 0:
                raise _failure(self._name, done.stderr)

    def abort(self) -> None:
        self._sink.abort()
        self._folder.cleanup()


def _failure(program: str, complaint: bytes) -> Unavailable:
    last = complaint.decode(errors="replace").strip().rpartition("\n")[2]
    return Unavailable(f"{program} cannot play ({last or 'it ended early'}); {WAY_OUT}")
