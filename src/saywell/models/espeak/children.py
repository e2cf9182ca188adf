"""The pool of speech processes: started on demand, reused, killed if they do not stop."""

from __future__ import annotations

import subprocess
import time
from contextlib import suppress
from threading import Condition

from saywell.child import spawn
from saywell.errors import ModelFailure
from saywell.models.espeak.messages import Answer, End, KnownVoice, Order, Stop, Voices, decode_answer, encode

START_S = 20.0
"""A loaded machine may need long to start Python."""
STOP_S = 0.5
"""A process that has not stopped its utterance by then is killed."""


class ChildDiedError(Exception):
    """The process at the other end of the pipe is gone. The message says how it ended."""


class Child:
    """One speech process. Used by one thread at a time."""

    def __init__(self) -> None:
        """Raises ChildDiedError, OSError, Unavailable."""
        self._child = spawn("saywell.models.espeak.process")
        self.process = self._child.process
        try:
            answer = self.receive(START_S)
            if not isinstance(answer, Voices):
                raise ChildDiedError(f"it was not ready after {START_S:g} s")
        except ChildDiedError:
            self.kill()
            raise
        self.voices: list[KnownVoice] = answer.voices

    def send(self, order: Order) -> None:
        """Raises ChildDiedError."""
        try:
            self._child.connection.send_bytes(encode(order))
        except OSError as error:
            raise ChildDiedError(self._exit_status()) from error

    def receive(self, timeout_s: float) -> Answer | None:
        """The next message; None: none came in time. Raises ChildDiedError."""
        try:
            if not self._child.connection.poll(timeout_s):
                return None
            answer: Answer = decode_answer(self._child.connection.recv_bytes())
        except (EOFError, OSError) as error:
            raise ChildDiedError(self._exit_status()) from error
        return answer

    def stop(self) -> bool:
        """End the utterance early; False: the process is gone or did not stop within STOP_S."""
        deadline = time.monotonic() + STOP_S
        with suppress(ChildDiedError):
            self.send(Stop())
            while (left := deadline - time.monotonic()) > 0:
                if isinstance(self.receive(left), End):
                    return True
        return False

    def _exit_status(self) -> str:
        try:
            status = self.process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            return "the speech process closed its pipe"
        return f"the speech process was killed by signal {-status}" if status < 0 else f"it ended with status {status}"

    def kill(self) -> None:
        """Safe to call again."""
        self._child.kill()


class Children:
    """Thread-safe; each utterance has a process of its own."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._changed = Condition()
        self._idle: list[Child] = []
        self._all: set[Child] = set()
        self._closed = False

    def take(self) -> Child:
        """An idle process, or a new one; at the limit a new one only if none becomes idle within STOP_S.

        Raises ModelFailure if it cannot be started.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._idle or len(self._all) < self._most, STOP_S)
            while self._idle:
                idle = self._idle.pop()
                if idle.process.poll() is None:
                    return idle
                self._all.discard(idle)
                idle.kill()
        try:
            started = Child()
        except (ChildDiedError, OSError) as error:
            raise ModelFailure(f"the speech process could not be started: {error}") from error
        with self._changed:
            self._all.add(started)
        return started

    def release(self, child: Child, *, ended: bool) -> None:
        """Keep a process for the next utterance, or kill it if there are too many.

        `ended`: its utterance has; else it is stopped, which takes STOP_S at most.
        """
        ended = ended or child.stop()
        with self._changed:
            keep = ended and not self._closed and len(self._all) <= self._most
            if keep:
                self._idle.append(child)
            else:
                self._all.discard(child)
            self._changed.notify()
        if not keep:
            child.kill()

    def resize(self, most: int) -> None:
        """Idle processes beyond the new limit end now, busy ones when they are released."""
        with self._changed:
            self._most = most
            spare = [self._idle.pop() for _ in range(min(len(self._idle), len(self._all) - most))]
            self._all.difference_update(spare)
        for process in spare:
            process.kill()

    def close(self) -> None:
        """Kill all processes. A thread that waits for one sees the end of its pipe."""
        with self._changed:
            self._closed = True
            idle, self._idle = self._idle, []
            self._all.difference_update(idle)
            busy = tuple(self._all)
        for process in busy:
            process.process.kill()
        for process in idle:
            process.kill()
