"""The child: `python -m saywell.models.espeak.process`, with the pipe to the engine as its standard input.

Sending blocks while the pipe is full: a slow listener slows the synthesis.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from typing import Any, NoReturn

from saywell.child import parent
from saywell.errors import SaywellError
from saywell.models.espeak import binding
from saywell.models.espeak.messages import Answer, End, Phones, Piece, Read, Speak, Voices, decode_order, encode

PIECES_PER_SECOND = 10
FIRST_PIECE = 0.5
"""Length of the first piece relative to the others: an early first sound."""


@contextmanager
def _exit_with_parent() -> Iterator[None]:
    """The pipe breaks when the engine is gone."""
    try:
        yield
    except (EOFError, OSError):
        os._exit(0)


def _send(pipe: Connection, answer: Answer) -> None:
    with _exit_with_parent():
        pipe.send_bytes(encode(answer))


class Cutter:
    """Cuts samples into pieces of equal length, however many eSpeak NG delivers at once."""

    def __init__(self, pipe: Connection, rate: int) -> None:
        self._pipe = pipe
        self._size = 2 * (rate // PIECES_PER_SECOND)
        self._due = 2 * int(FIRST_PIECE * rate / PIECES_PER_SECOND)
        self._kept = bytearray()
        self.stopped = False

    def feed(self, pcm: bytes) -> bool:
        """Send the pieces that are complete. False: stop."""
        self._kept += pcm
        while len(self._kept) > self._due and not self.stopped:  # the rest is the last piece
            self._send(self._due)
            self._due = self._size
        return not self.stopped

    def finish(self) -> None:
        if self._kept:
            self._send(len(self._kept))

    def _send(self, size: int) -> None:
        _send(self._pipe, Piece(bytes(self._kept[:size])))
        del self._kept[:size]
        with _exit_with_parent():
            if self._pipe.poll():  # only Stop comes during an utterance
                self._pipe.recv_bytes()
                self.stopped = True


def _speak(pipe: Connection, order: Speak) -> End:
    cutter = Cutter(pipe, order.sample_rate)
    try:
        binding.speak(order.text, order.source, order.speed, cutter.feed)
    except SaywellError as error:
        return End(error.code, error.message)
    if not cutter.stopped:
        cutter.finish()
    return End()


def _read(order: Read) -> Phones | End:
    try:
        return Phones(binding.phonemes(order.texts, order.source))
    except SaywellError as error:
        return End(error.code, error.message)


def main() -> None:
    _prepare()
    pipe = parent()
    _send(pipe, Voices(binding.voices()))
    while True:
        with _exit_with_parent():
            order = decode_order(pipe.recv_bytes())
        if isinstance(order, Speak):
            _send(pipe, _speak(pipe, order))
        elif isinstance(order, Read):
            _send(pipe, _read(order))


def _prepare() -> None:
    # The C library may quote the text in an error message; only Python may write to the log.
    sys.stderr = os.fdopen(os.dup(2), "w", buffering=1)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    os.close(nowhere)
    sys.unraisablehook = _die


def _die(unraisable: Any) -> NoReturn:
    """An exception in a callback would otherwise be printed and ignored, and the audio would have a gap."""
    sys.__unraisablehook__(unraisable)
    os._exit(1)


if __name__ == "__main__":
    main()
