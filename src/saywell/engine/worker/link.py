"""The line to one worker process, as its parent holds it."""

from __future__ import annotations

import queue
import threading

from saywell.child import Child


class Link:
    """One worker, and the thread that writes to it: whoever sends never waits for a worker that does not read."""

    def __init__(self, child: Child) -> None:
        self.child = child
        self.put_down = False
        """This side killed it."""
        self._outbox: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self._writer = threading.Thread(target=self._write, name="saywell-writer", daemon=True)
        self._writer.start()

    def send(self, message: bytes) -> None:
        """Takes it packed: what cannot be packed is an error of whoever wrote it, not of this line."""
        self._outbox.put(message)

    def _write(self) -> None:
        try:
            while (message := self._outbox.get()) is not None:
                self.child.connection.send_bytes(message)
        except OSError:
            pass  # it has just died; the thread that reads from it sees EOF and takes care of its requests

    def end(self) -> int:
        """Kill the worker, give everything back, return its exit status. For the thread that reads from it."""
        self.child.process.kill()
        status = self.child.process.wait()
        self._outbox.put(None)
        self._writer.join()  # a write to the dead fails at once
        self.child.connection.close()
        return status
