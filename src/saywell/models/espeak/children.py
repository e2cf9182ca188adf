"""The speech processes, seen from the engine: started on demand, stopped, replaced when they die or do not stop."""

from __future__ import annotations

import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
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
    """One speech process and the engine's end of its pipe."""

    def __init__(self) -> None:
        """Raises OSError."""
        self._child = spawn("saywell.models.espeak.process")
        self.process, self.pipe = self._child.process, self._child.connection
        self.number = 0

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


class Pool:
    """At most `size` children. The engine's thread takes and returns them; starting and stopping happen beside it."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._changed = Condition()
        self._idle: list[Child] = []
        self._children: set[Child] = set()
        self._starting = 0
        self._failure: ModelFailure | None = None
        self._closed = False
        self._errands = ThreadPoolExecutor(2 * size, thread_name_prefix="saywell-speech")

    def take(self) -> Child | None:
        """An idle child. None while there is none: one is then being started or stopped, so ask again.

        Raises ModelFailure when the last attempt to start one failed; the next call tries again.
        """
        with self._changed:
            if self._idle:
                return self._idle.pop()
            failure, self._failure = self._failure, None
            if failure is not None:
                raise failure
            if len(self._children) + self._starting < self._size:
                self._starting += 1
                self._errands.submit(self._start)
            return None

    def resize(self, size: int) -> None:
        """Another number of children; idle ones beyond it end now, busy ones when they are given back."""
        with self._changed:
            self._size = size
            spare = [self._idle.pop() for _ in range(min(len(self._idle), len(self._children) - size))]
        for child in spare:
            self.drop(child)

    def wait_idle(self, timeout_s: float) -> None:
        """Wait until a child is idle or could not be started."""
        with self._changed:
            self._changed.wait_for(lambda: self._idle or self._failure, timeout_s)

    def give_back(self, child: Child) -> None:
        """A child that has ended its utterance."""
        if len(self._children) > self._size:
            self.drop(child)
            return
        with self._changed:
            self._idle.append(child)
            self._changed.notify_all()

    def stop(self, child: Child) -> None:
        """Stop what the child is saying. It comes back by itself, or is killed."""
        try:
            child.send(Stop(child.number))
        except ChildDiedError:
            self.drop(child)
        else:
            self._errands.submit(self._settle, child)

    def drop(self, child: Child) -> None:
        """Kill a child and forget it."""
        child.kill()
        with self._changed:
            self._children.discard(child)

    def pids(self) -> list[int]:
        with self._changed:
            return [child.process.pid for child in self._children]

    def close(self) -> None:
        """Kill all: a child holds nothing worth saving."""
        with self._changed:
            self._closed = True
            children = list(self._children)
        for child in children:
            child.process.kill()  # its pipe is closed only when no errand reads it any more
        self._errands.shutdown(wait=True)
        for child in children:
            child.kill()
        self._idle.clear()
        self._children.clear()

    def _start(self) -> None:
        child: Child | None = None
        failure: ModelFailure | None = None
        try:
            child = Child()
            with self._changed:
                self._children.add(child)
            if not isinstance(child.receive(START_S), Ready):
                raise ChildDiedError(f"it was not ready after {START_S:g} s")
        except (ChildDiedError, OSError) as error:
            failure = ModelFailure(f"the speech process could not be started: {error}")
        with self._changed:
            self._starting -= 1
            self._failure = failure
            if child is not None and (failure or self._closed):
                self._children.discard(child)
                child.kill()
            elif child is not None:
                self._idle.append(child)
            self._changed.notify_all()

    def _settle(self, child: Child) -> None:
        deadline = time.monotonic() + STOP_S
        try:
            while (left := deadline - time.monotonic()) > 0:
                message = child.receive(left)
                if message is not None and ends(message):
                    self.give_back(child)
                    return
        except ChildDiedError:
            pass  # dropped below like one that does not stop
        self.drop(child)


def ends(message: Answer) -> bool:
    """Whether this is the last message of an utterance."""
    return isinstance(message, (Stopped, Failed)) or (isinstance(message, Piece) and message.last)


def speak(child: Child, text: str, source: str, sample_rate: int, speed: float) -> None:
    """Give an idle child its next utterance. Raises ChildDiedError."""
    child.number += 1
    child.send(Speak(child.number, text, source, sample_rate, speed))
