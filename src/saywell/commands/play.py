"""Sound to the loudspeaker: the sounddevice package where it is installed, else a player of the system."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from importlib import import_module, util
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from saywell.audio.encode import save, to_int16
from saywell.errors import MissingDependency, Unavailable
from saywell.types import Samples

WAY_OUT = "write a file instead: -o hello.wav"
Command = Callable[[int], list[str]]
"""Sample rate → arguments of a program that plays signed 16-bit mono from its standard input."""

PIPED: dict[str, Command] = {
    "paplay": lambda rate: ["--raw", "--format=s16le", "--channels=1", f"--rate={rate}"],
    "aplay": lambda rate: ["-q", "-t", "raw", "-f", "S16_LE", "-c", "1", "-r", str(rate), "-"],
    "ffplay": lambda rate: ["-nodisp", "-autoexit", "-loglevel", "error", "-f", "s16le", "-ar", str(rate), "-i", "-"],
}
WHOLE = ("pw-play", "afplay")
"""Programs that want a finished file."""


class Player(Protocol):
    """Somewhere sound is heard. `write` blocks while the device is busy; `close` waits until all has been heard."""

    def write(self, samples: Samples, sample_rate: int) -> None: ...

    def close(self) -> None: ...

    def abort(self) -> None: ...


def find() -> str:
    """The best player here, by name; empty when there is none."""
    if _has_sounddevice():
        return "sounddevice"
    programs = [name for name in (*PIPED, *WHOLE) if shutil.which(name)]
    return programs[0] if programs else ("winsound" if sys.platform == "win32" else "")


def open_player() -> Player:
    """Raises MissingDependency naming the way out."""
    name = find()
    if not name:
        raise MissingDependency(
            f"nothing here can play sound: pip install 'saywell[play]', install alsa-utils or ffmpeg, or {WAY_OUT}"
        )
    if name == "sounddevice":
        return _Device()
    return _Piped(name) if name in PIPED else _Whole(name)


def _has_sounddevice() -> bool:
    """The package may be there without the PortAudio library it wraps."""
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
    """A program that plays what comes through its standard input."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._process: subprocess.Popen[bytes] | None = None
        self._said = ""

    def write(self, samples: Samples, sample_rate: int) -> None:
        if self._process is None:
            command = [self._name, *PIPED[self._name](sample_rate)]
            self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - closed in _end; a pipe could fill up
            self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stderr=self._errors, bufsize=0)
        try:
            _write_all(self._process, to_int16(samples).tobytes())
        except BrokenPipeError as error:
            self._end()
            raise self._failed() from error

    def close(self) -> None:
        if self._process is not None and self._end() != 0:
            raise self._failed()

    def abort(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._end()

    def _end(self) -> int:
        """Let it play to the end, and keep the last thing it complained about. Returns its exit code."""
        if self._process is None:
            return 0
        process, self._process = self._process, None
        if process.stdin is not None:
            process.stdin.close()
        code = process.wait()
        with self._errors as errors:
            errors.seek(0)
            self._said = "".join(errors.read().decode(errors="replace").strip().splitlines()[-1:])
        return code

    def _failed(self) -> Unavailable:
        return Unavailable(f"{self._name} cannot play ({self._said or 'it ended early'}); {WAY_OUT}")


class _Whole:
    """A program, or Windows itself, that plays a finished file."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._pieces: list[Samples] = []
        self._rate = 0

    def write(self, samples: Samples, sample_rate: int) -> None:
        self._pieces.append(samples)
        self._rate = sample_rate

    def close(self) -> None:
        if not self._pieces:
            return
        with tempfile.TemporaryDirectory() as place:
            file = save(Path(place) / "speech.wav", np.concatenate(self._pieces), self._rate)
            self._play(file)

    def abort(self) -> None:
        self._pieces.clear()

    def _play(self, file: Path) -> None:
        if self._name == "winsound":
            sound: Any = import_module("winsound")
            sound.PlaySound(str(file), sound.SND_FILENAME)
            return
        done = subprocess.run([self._name, str(file)], capture_output=True, text=True, check=False)
        if done.returncode != 0:
            said = done.stderr.strip().splitlines()
            raise Unavailable(f"{self._name} cannot play ({said[-1] if said else done.returncode}); {WAY_OUT}")


def _write_all(process: subprocess.Popen[bytes], data: bytes) -> None:
    """Unbuffered, so that what is written is on its way; a pipe takes it in pieces."""
    rest = memoryview(data)
    while rest and process.stdin is not None:
        rest = rest[process.stdin.write(rest) :]
