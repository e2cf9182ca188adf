"""The connection to one worker process, on the parent's side."""

from __future__ import annotations

import queue
import threading

from saywell.child import Child


class Link:
    """A worker, and the thread that writes to it: `send` never waits for a worker that does not read."""

    def __init__(self, child: Child) -> None:
        self.child = child
        self.killed_by_us = False
        self._outbox: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self._writer = threading.Thread(target=self._write, name="saywell-writer", daemon=True)
        self._writer.start()

    def send(self, message: bytes) -> None:
        self._outbox.put(message)

    def _write(self) -> None:
        try:
            while (message := self._outbox.get()) is not None:
                self.child.connection.send_bytes(message)
        except OSError:
            pass  # the worker has died; the thread that reads from it sees EOF and deals with its requests

    def kill(self) -> None:
        """The thread that reads from the worker sees EOF and calls `end`."""
        self.killed_by_us = True
        self.child.process.kill()

    def end(self) -> int:
        """Kill the worker, release everything, return the exit status. Called by the thread that reads from it."""
        self.child.process.kill()
        status = self.child.process.wait()
        self._outbox.put(None)
        self._writer.join()  # writing to a dead process fails at once
        self.child.connection.close()
        return status
