"""The child: `python -m saywell.models.espeak.process`, with the pipe to the engine as its standard input.

A thread reads the pipe beside the synthesis, so that a Stop and the end of the engine are noticed whatever
eSpeak NG is doing. Sending blocks while the pipe is full: that is how a slow listener slows the synthesis.
"""

from __future__ import annotations

import os
import sys
from queue import SimpleQueue
from threading import Thread
from typing import Any, NoReturn

from saywell.child import parent
from saywell.errors import ModelFailure, SaywellError
from saywell.models.espeak import binding
from saywell.models.espeak.messages import (
    Answer,
    Failed,
    ListVoices,
    Piece,
    Ready,
    Speak,
    Stop,
    Stopped,
    Voices,
    decode_order,
    encode,
)

PIECES_PER_SECOND = 10
FIRST_PIECE = 0.5
"""Length of the first piece beside the others, for an early first sound."""


class Pipe:
    """The pipe to the engine. When it breaks, the engine is gone and this process exits."""

    def __init__(self) -> None:
        self.connection = parent()
        self.jobs: SimpleQueue[Speak | ListVoices] = SimpleQueue()
        self.stopped = -1
        """The number of the last utterance that was told to stop."""
        Thread(target=self._read, daemon=True).start()

    def send(self, answer: Answer) -> None:
        try:
            self.connection.send_bytes(encode(answer))
        except OSError:
            os._exit(0)

    def _read(self) -> NoReturn:
        while True:
            try:
                order = decode_order(self.connection.recv_bytes())
            except (EOFError, OSError):
                os._exit(0)
            if isinstance(order, Stop):
                self.stopped = order.number
            else:
                self.jobs.put(order)


class Cutter:
    """Cuts samples into pieces of equal length, however many eSpeak NG hands over at once."""

    def __init__(self, pipe: Pipe, number: int, rate: int) -> None:
        self._pipe = pipe
        self._number = number
        self._size = 2 * (rate // PIECES_PER_SECOND)
        self._due = 2 * int(FIRST_PIECE * rate / PIECES_PER_SECOND)
        self._kept = bytearray()

    def feed(self, pcm: bytes) -> bool:
        """False: stop."""
        self._kept += pcm
        while len(self._kept) > self._due and not self.stopped:  # what is kept makes the last piece
            self._send(self._due, last=False)
            self._due = self._size
        return not self.stopped

    def finish(self) -> None:
        self._send(len(self._kept), last=True)

    @property
    def stopped(self) -> bool:
        return self._pipe.stopped == self._number

    def _send(self, size: int, *, last: bool) -> None:
        piece = bytes(self._kept[:size])
        del self._kept[:size]
        self._pipe.send(Piece(self._number, piece, last))


def answer(job: Speak, pipe: Pipe) -> None:
    """Speak one job and end it with exactly one message."""
    cutter = Cutter(pipe, job.number, job.sample_rate)
    try:
        binding.speak(job.text, job.source, job.speed, cutter.feed)
    except SaywellError as error:
        pipe.send(Failed(job.number, error.code, error.message))
    except OSError as error:  # a library that is there but does not load
        pipe.send(Failed(job.number, ModelFailure.code, f"eSpeak NG does not load: {error}"))
    else:
        if cutter.stopped:
            pipe.send(Stopped(job.number))
        else:
            cutter.finish()


def main() -> None:
    _prepare()
    pipe = Pipe()
    pipe.send(Ready())
    while True:
        job = pipe.jobs.get()
        if isinstance(job, Speak):
            answer(job, pipe)
        else:
            pipe.send(Voices(binding.voices()))


def _prepare() -> None:
    # The C library may complain about a text by quoting it; only Python keeps the way to the log.
    sys.stderr = os.fdopen(os.dup(2), "w", buffering=1)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    os.close(nowhere)
    sys.unraisablehook = _die


def _die(unraisable: Any) -> NoReturn:
    """A bug in a callback would otherwise be printed and forgotten, and the audio would have a hole."""
    sys.__unraisablehook__(unraisable)
    os._exit(1)


if __name__ == "__main__":
    main()
