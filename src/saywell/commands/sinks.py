"""Where `saywell say` writes sound: files and pipes, and optionally a model's codes next to them."""

from __future__ import annotations

import os
import shutil
import signal
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO, Protocol

import numpy as np
import numpy.typing as npt

from saywell.audio.encode import Encoder
from saywell.errors import InvalidRequest
from saywell.files import replacing
from saywell.types import Samples


class Sink(Protocol):
    """Takes samples. `close` completes the output; `abort` removes an incomplete one where that is possible."""

    def write(self, samples: Samples, sample_rate: int) -> None: ...

    def close(self) -> None: ...

    def abort(self) -> None: ...


def check_place(path: Path, option: str) -> None:
    """Raises InvalidRequest if `path` cannot be written, before any speech is made for it."""
    target = Path(os.path.realpath(path))
    problem = ""
    if target.is_dir():
        problem = "is a directory"
    elif target.is_symlink():
        problem = "is a link that leads nowhere"
    elif not target.parent.is_dir():
        problem = "lies in a directory that does not exist"
    elif not os.access(target if target.exists() else target.parent, os.W_OK):
        problem = "cannot be written to"
    if problem:
        raise InvalidRequest(f"{path} {problem}; choose another place for {option}", param="output")


@contextmanager
def _signals_delayed() -> Iterator[None]:
    """Delay signals while an encoder runs: an exception raised inside its C callbacks would be lost."""
    if threading.current_thread() is not threading.main_thread():
        yield  # signal handlers run in the main thread only
        return
    numbers = [signal.SIGINT, signal.SIGTERM]
    if sys.platform != "win32":
        numbers.append(signal.SIGHUP)
    handlers = {int(number): signal.getsignal(number) for number in numbers}
    handlers_before = {number: handler for number, handler in handlers.items() if callable(handler)}
    received: list[int] = []
    for number in handlers_before:
        signal.signal(number, lambda number, _: received.append(number))
    try:
        yield
    finally:
        for number, handler in handlers_before.items():
            signal.signal(number, handler)
    for number in received[:1]:
        handlers_before[number](number, None)


def _replaceable(path: Path) -> bool:
    """Whether the file can be replaced by another one: it is no pipe or device, and its directory is writable."""
    return (path.is_file() or not path.exists()) and os.access(Path(os.path.realpath(path)).parent, os.W_OK)


class FileSink:
    """Writes a complete file, its header with the right length. The data is kept on disk, not in memory."""

    def __init__(self, target: Path | BinaryIO, format: str) -> None:
        self._target, self._format = target, format
        self._replaces = isinstance(target, Path) and _replaceable(target)
        self._open_files = ExitStack()
        self._file: BinaryIO | None = None
        self._encoder: Encoder | None = None

    def write(self, samples: Samples, sample_rate: int) -> None:
        with _signals_delayed():
            self._encoder = self._encoder or Encoder(self._format, sample_rate, patched=True)
            data = self._encoder.feed(samples)
        self._file = self._file or self._open_files.enter_context(self._temporary())
        self._file.write(data)

    def _temporary(self) -> AbstractContextManager[BinaryIO]:
        """A seekable file: next to the target and renamed at the end, or nameless if the target is a stream."""
        if isinstance(self._target, Path) and self._replaces:
            return replacing(self._target)
        return tempfile.TemporaryFile()

    def close(self) -> None:
        if self._encoder is None or self._file is None:
            return
        with _signals_delayed():
            data = self._encoder.finish()
        self._file.write(data)
        for position, patch in self._encoder.patches():
            self._file.seek(position)
            self._file.write(patch)
        if not self._replaces:
            self._copy(self._file)
        self._open_files.close()

    def _copy(self, file: BinaryIO) -> None:
        file.seek(0)
        with ExitStack() as opened:
            target = opened.enter_context(self._target.open("wb")) if isinstance(self._target, Path) else self._target
            shutil.copyfileobj(file, target)
            target.flush()

    def abort(self) -> None:
        with suppress(OSError):  # on a full disk, buffered data cannot be written
            self._open_files.__exit__(KeyboardInterrupt, KeyboardInterrupt(), None)


class StreamSink:
    """Writes data as it is encoded. A file is created at the first samples and removed by `abort`."""

    def __init__(self, target: Path | BinaryIO, format: str) -> None:
        self._path = target if isinstance(target, Path) else None
        self._file = None if isinstance(target, Path) else target
        self._format = format
        self._encoder: Encoder | None = None

    def write(self, samples: Samples, sample_rate: int) -> None:
        with _signals_delayed():
            if self._file is None and self._path is not None:
                self._file = self._path.open("wb")
            self._encoder = self._encoder or Encoder(self._format, sample_rate)
            data = self._encoder.feed(samples)
        self._put(data)

    def _put(self, data: bytes) -> None:
        if self._file is not None:
            self._file.write(data)
            self._file.flush()

    def close(self) -> None:
        if self._encoder is not None:
            with _signals_delayed():
                data = self._encoder.finish()
            self._put(data)
        if self._path is not None and self._file is not None:
            self._file.close()

    def abort(self) -> None:
        """Remove the file. What went into a stream may already have been read."""
        if self._path is None or self._file is None:
            return
        with suppress(OSError):  # on a full disk, buffered data cannot be written
            self._file.close()
        if self._path.is_file():  # not a device
            self._path.unlink()


class WithCodes:
    """Another sink, plus a file of the frames' codes: int64 [1 + num_codebooks, frames], the token row first."""

    def __init__(self, sink: Sink, path: Path) -> None:
        self._sink, self._path = sink, path
        self.frames: list[npt.NDArray[Any]] = []
        self.write, self.abort = sink.write, sink.abort

    def close(self) -> None:
        self._sink.close()
        if not self.frames:
            raise InvalidRequest("this model has no codes to write; leave --codes-out out", param="codes_out")
        with self._path.open("wb") as file:
            np.save(file, np.stack(self.frames, axis=1).astype(np.int64))
