"""The speech processes, seen from the engine: started on demand, kept for the next text, killed if they do not stop."""

from __future__ import annotations

import subprocess
import time
from threading import Condition
from typing import cast

from saywell.child import spawn
from saywell.errors import ModelFailure
from saywell.models.espeak.messages import (
    Answer,
    Failed,
    Order,
    Piece,
    Ready,
    Speak,
    Stop,
    Stopped,
    decode_answer,
    encode,
)

START_S = 20.0
"""A loaded machine may need long to start Python; beyond this something is wrong."""
STOP_S = 0.5
"""A child that has not stopped by then is killed."""


class ChildDiedError(Exception):
    """The process behind the pipe is gone. The message says how."""


class Child:
    """One speech process and the engine's end of its pipe. Used by one thread at a time."""

    def __init__(self) -> None:
        """Raises OSError."""
        self._child = spawn("saywell.models.espeak.process")
        self.process, self.pipe = self._child.process, self._child.connection
        self.number = 0
        """Of the last utterance."""

    def send(self, order: Order) -> None:
        """Raises ChildDiedError."""
        try:
            self.pipe.send_bytes(encode(order))
        except OSError as error:
            raise ChildDiedError(self.obituary()) from error

    def receive(self, timeout_s: float) -> Answer | None:
        """The next message, None when none came in time. Raises ChildDiedError."""
        try:
            if not self.pipe.poll(timeout_s):
                return None
            return cast(Answer, decode_answer(self.pipe.recv_bytes()))
        except (EOFError, OSError) as error:
            raise ChildDiedError(self.obituary()) from error

    def speak(self, text: str, source: str, sample_rate: int, speed: float) -> None:
        """Begin the next utterance. Raises ChildDiedError."""
        self.number += 1
        self.send(Speak(self.number, text, source, sample_rate, speed))

    def stop(self) -> bool:
        """Stop the utterance; False for a child that does not within STOP_S. Raises ChildDiedError."""
        self.send(Stop(self.number))
        deadline = time.monotonic() + STOP_S
        while (left := deadline - time.monotonic()) > 0:
            message = self.receive(left)
            if isinstance(message, Stopped | Failed) or (isinstance(message, Piece) and message.last):
                return True
        return False

    def obituary(self) -> str:
        """How the process ended."""
        try:
            status = self.process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            return "the speech process closed its pipe"
        return f"the speech process was killed by signal {-status}" if status < 0 else f"it ended with status {status}"

    def kill(self) -> None:
        """End the process, whatever it does, and free what it holds here. Safe to call again."""
        self._child.kill()


class Children:
    """The processes that wait for a text. Used by any number of threads; each utterance has a process of its own."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._changed = Condition()
        self._idle: list[Child] = []
        self._all: set[Child] = set()
        self._closed = False

    def take(self) -> Child:
        """An idle process, or a new one: if there are enough, only when none that stops has stopped in time.

        Raises ModelFailure when none can be started.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._idle or len(self._all) < self._most, STOP_S)
            if self._idle:
                return self._idle.pop()
        child: Child | None = None
        try:
            child = Child()
            with self._changed:
                self._all.add(child)
            if not isinstance(child.receive(START_S), Ready):
                raise ChildDiedError(f"it was not ready after {START_S:g} s")
        except (ChildDiedError, OSError) as error:
            if child is not None:
                self.drop(child)
            raise ModelFailure(f"the speech process could not be started: {error}") from error
        return child

    def give_back(self, child: Child) -> None:
        """A child that has ended its utterance: kept unless there are too many."""
        with self._changed:
            keep = not self._closed and len(self._all) <= self._most
            if keep:
                self._idle.append(child)
                self._changed.notify()
        if not keep:
            self.drop(child)

    def stop(self, child: Child) -> None:
        """End an utterance before its end. Takes STOP_S at most."""
        try:
            stopped = child.stop()
        except ChildDiedError:
            stopped = False
        if stopped:
            self.give_back(child)
        else:
            self.drop(child)

    def drop(self, child: Child) -> None:
        """Kill a child and forget it."""
        child.kill()
        with self._changed:
            self._all.discard(child)
            self._changed.notify()

    def resize(self, most: int) -> None:
        """Keep another number: idle ones beyond it end now, busy ones when they are given back."""
        with self._changed:
            self._most = most
            spare = [self._idle.pop() for _ in range(min(len(self._idle), len(self._all) - most))]
        for child in spare:
            self.drop(child)

    def close(self) -> None:
        """Kill all: a child holds nothing worth saving. Whoever waits for a busy one sees the end of its pipe."""
        with self._changed:
            self._closed = True
            idle, self._idle = self._idle, []
            busy = self._all.difference(idle)
        for child in busy:
            child.process.kill()
        for child in idle:
            self.drop(child)
