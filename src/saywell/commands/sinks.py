"""Where the sound of `saywell say` goes: files, pipes, and a model's codes beside them."""

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
    """Where samples go. `close` completes; `abort` leaves nothing half done where that is possible."""

    def write(self, samples: Samples, sample_rate: int) -> None: ...

    def close(self) -> None: ...

    def abort(self) -> None: ...


def check_place(path: Path, option: str) -> None:
    """Raise InvalidRequest for a place that cannot be written: better now than after an hour of speech."""
    place = Path(os.path.realpath(path))  # where a link leads
    problem = ""
    if place.is_dir():
        problem = "is a directory"
    elif place.is_symlink():
        problem = "is a link that leads nowhere"
    elif not place.parent.is_dir():
        problem = "lies in a directory that does not exist"
    elif not os.access(place if place.exists() else place.parent, os.W_OK):
        problem = "cannot be written to"
    if problem:
        raise InvalidRequest(f"{path} {problem}; choose another place for {option}", param="output")


@contextmanager
def _uninterrupted() -> Iterator[None]:
    """Ctrl-C waits for an encoder: raised inside its callbacks it would be lost, and what it was writing with it."""
    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread is interrupted
        return
    ends = [signal.SIGINT, signal.SIGTERM]
    if sys.platform != "win32":
        ends.append(signal.SIGHUP)
    handlers = {int(number): signal.getsignal(number) for number in ends}
    before = {number: handler for number, handler in handlers.items() if callable(handler)}
    came: list[int] = []
    for number in before:
        signal.signal(number, lambda number, _: came.append(number))
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    for number in came[:1]:
        before[number](number, None)


def _replaceable(path: Path) -> bool:
    """Whether another file can take this one's place: not that of a pipe, nor in a directory that takes no new one."""
    return (path.is_file() or not path.exists()) and os.access(Path(os.path.realpath(path)).parent, os.W_OK)


class FileSink:
    """A complete file at the end, its header with the right length. It grows on disk: hours of sound fill no memory."""

    def __init__(self, target: Path | BinaryIO, format: str) -> None:
        self._target, self._format = target, format
        self._replaces = isinstance(target, Path) and _replaceable(target)
        self._place = ExitStack()
        self._file: BinaryIO | None = None
        self._encoder: Encoder | None = None

    def write(self, samples: Samples, sample_rate: int) -> None:
        with _uninterrupted():
            self._encoder = self._encoder or Encoder(self._format, sample_rate, patched=True)
            data = self._encoder.feed(samples)
        self._file = self._file or self._place.enter_context(self._grown())
        self._file.write(data)

    def _grown(self) -> AbstractContextManager[BinaryIO]:
        """What can be changed at the end: beside its place, or without a name if that is a stream or a device."""
        if isinstance(self._target, Path) and self._replaces:
            return replacing(self._target)
        return tempfile.TemporaryFile()

    def close(self) -> None:
        if self._encoder is None or self._file is None:
            return
        with _uninterrupted():
            data = self._encoder.finish()
        self._file.write(data)
        for at, piece in self._encoder.patches():
            self._file.seek(at)
            self._file.write(piece)
        if not self._replaces:
            self._copy(self._file)
        self._place.close()

    def _copy(self, file: BinaryIO) -> None:
        file.seek(0)
        with ExitStack() as opened:
            target = opened.enter_context(self._target.open("wb")) if isinstance(self._target, Path) else self._target
            shutil.copyfileobj(file, target)
            target.flush()

    def abort(self) -> None:
        """Leave the place as somebody who was interrupted in it: what has grown is removed."""
        with suppress(OSError):  # what is still buffered need not fit on a full disk
            self._place.__exit__(KeyboardInterrupt, KeyboardInterrupt(), None)


class StreamSink:
    """Bytes as they come."""

    def __init__(self, target: BinaryIO, format: str) -> None:
        self._target, self._format = target, format
        self._encoder: Encoder | None = None

    def write(self, samples: Samples, sample_rate: int) -> None:
        with _uninterrupted():
            self._encoder = self._encoder or Encoder(self._format, sample_rate)
            data = self._encoder.feed(samples)
        self._target.write(data)
        self._target.flush()

    def close(self) -> None:
        if self._encoder is not None:
            with _uninterrupted():
                data = self._encoder.finish()
            self._target.write(data)
        self._target.flush()

    def abort(self) -> None:
        """What has been written stays: a reader may already have it."""


class StreamingFileSink:
    """A file that grows from the first sound on, not before; one that cannot be completed is removed."""

    def __init__(self, path: Path, format: str) -> None:
        self._path, self._format = path, format
        self._piece: StreamSink | None = None
        self._file: BinaryIO | None = None

    def write(self, samples: Samples, sample_rate: int) -> None:
        if self._piece is None:
            with _uninterrupted():  # a file that is there must be known to be
                self._file = self._path.open("wb")
            self._piece = StreamSink(self._file, self._format)
        self._piece.write(samples, sample_rate)

    def close(self) -> None:
        if self._piece is not None and self._file is not None:
            self._piece.close()
            self._file.close()

    def abort(self) -> None:
        if self._file is None:
            return
        with suppress(OSError):  # what is still buffered need not fit on a full disk
            self._file.close()
        if self._path.is_file():  # not a device
            self._path.unlink()


class WithCodes:
    """Another sink, and beside it the frames' codes: int64 [1 + num_codebooks, T], the token row first."""

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
