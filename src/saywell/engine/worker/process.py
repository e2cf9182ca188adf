"""The engine worker: one process, one model, driven by messages that come by the pipe on its standard input."""

from __future__ import annotations

import faulthandler
import logging
import os
import sys
import threading
import time
from multiprocessing.connection import Connection
from typing import NoReturn

from saywell.child import parent
from saywell.engine.engine import Engine
from saywell.engine.loop import cause
from saywell.engine.stream import TextSink, Window
from saywell.engine.worker.messages import (
    Abort,
    CachesCleared,
    ClearCaches,
    Close,
    Credit,
    Failed,
    Fault,
    Finished,
    Load,
    LoadFailed,
    Message,
    MoreText,
    Pulse,
    Ready,
    Starved,
    Submit,
    Unload,
    pack,
    sound,
    unpack_to_worker,
)
from saywell.errors import SaywellError
from saywell.types import AudioChunk, Summary

_log = logging.getLogger(__name__)

_PULSE_S = 0.5
STOPPED = 70
"""Exit status of a worker whose engine could not go on."""


class Line:
    """The connection, shared by the threads that send."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._lock = threading.Lock()

    def send(self, message: Message) -> None:
        try:
            with self._lock:
                self._connection.send_bytes(pack(message))
        except OSError:
            leave()


def leave() -> NoReturn:
    """The parent is gone: nothing is left to do, and nobody to wait for."""
    os._exit(0)


class RemoteOutlet:
    """Sends a request's audio down the line; pauses by the reader's credits. Used in the engine's thread."""

    def __init__(self, line: Line, request_id: str, window_s: float) -> None:
        self.window = Window(window_s)
        self.feed: TextSink | None = None
        self._line = line
        self._id = request_id

    def put(self, chunk: AudioChunk) -> None:
        self.window.put(len(chunk.samples) / chunk.sample_rate)
        self._line.send(sound(chunk))

    def starve(self, chars: int) -> None:
        self._line.send(Starved(request_id=self._id, chars=chars))

    def finish(self, summary: Summary) -> None:
        self._line.send(Finished(request_id=self._id, summary=summary))

    def fail(self, error: SaywellError) -> None:
        self._line.send(Failed(request_id=self._id, error=Fault.of(error)))


def _end(error: Exception) -> None:
    """The engine cannot go on. Another worker can: it is given the answers where they were."""
    _log.error("the engine stopped, and its worker with it", exc_info=error)
    os._exit(STOPPED)


class Worker:
    """Turns messages into calls of the engine."""

    def __init__(self, line: Line, load: Load) -> None:
        self._line = line
        self._plan = load.plan
        self._engine = Engine(
            load.spec,
            load.plan,
            also_own=(os.getppid(),),
            start_degraded_reason=load.start_degraded_reason,
            on_end=_end,
        )
        self._outlets: dict[str, RemoteOutlet] = {}
        threading.Thread(target=self._start, name="saywell-start", daemon=True).start()
        threading.Thread(target=self._pulse, name="saywell-pulse", daemon=True).start()

    def _start(self) -> None:
        try:
            self._engine.start()
        except Exception as error:  # noqa: BLE001 - on a thread of its own, and whoever waits for it must be told
            why = error if isinstance(error, SaywellError) else cause(error, "the model could not be loaded")
            self._line.send(LoadFailed(error=Fault.of(why)))
        else:
            self._line.send(Ready(voices=self._engine.voices(), health=self._engine.health()))

    def _pulse(self) -> None:
        while True:
            since = self._engine.busy_since
            busy_s = time.monotonic() - since if since is not None else 0.0
            self._line.send(Pulse(health=self._engine.health(), busy_s=busy_s))
            time.sleep(_PULSE_S)

    def handle(self, message: Submit | MoreText | Abort | Credit | ClearCaches | Unload | Close) -> None:
        if isinstance(message, Submit):
            self._submit(message)
        elif isinstance(message, MoreText):
            self._feed(message)
        elif isinstance(message, Abort):
            self._outlets.pop(message.request_id, None)
            self._engine.abort(message.request_id)
        elif isinstance(message, Credit):
            self._credit(message)
        elif isinstance(message, ClearCaches):
            threading.Thread(
                target=self._clear_caches, args=(message,), name="saywell-clear_caches", daemon=True
            ).start()
        elif isinstance(message, Unload):
            self._engine.unload()
        else:
            # On a thread of its own: credits must still come in, or what drains would pause for ever.
            threading.Thread(target=self._close, args=(message.drain_s,), name="saywell-close").start()

    def _submit(self, order: Submit) -> None:
        request = order.request
        outlet = _Tracked(self._line, request.id, self._plan.buffer_s, self._outlets)
        self._outlets[request.id] = outlet
        try:
            feed = self._engine.accept(request, outlet, order.resume, more=order.more)
            outlet.feed = feed if order.more else None
        except SaywellError as error:
            outlet.fail(error)

    def _feed(self, more: MoreText) -> None:
        outlet = self._outlets.get(more.request_id)
        if outlet is not None and outlet.feed is not None:
            outlet.feed(more.text, more.last)

    def _credit(self, credit: Credit) -> None:
        outlet = self._outlets.get(credit.request_id)
        if outlet is not None:
            self._engine.wake(lambda: outlet.window.read(credit.seconds))

    def _clear_caches(self, clear_caches: ClearCaches) -> None:
        try:
            tidied = self._engine.clear_caches(adapt=clear_caches.adapt)
        except SaywellError as error:
            self._line.send(CachesCleared(number=clear_caches.number, error=Fault.of(error)))
        else:
            self._line.send(CachesCleared(number=clear_caches.number, tidied=tidied))

    def _close(self, drain_s: float) -> None:
        self._engine.close(drain_s)
        leave()


class _Tracked(RemoteOutlet):
    """Leaves the worker's table when its request is over."""

    def __init__(self, line: Line, request_id: str, window_s: float, table: dict[str, RemoteOutlet]) -> None:
        super().__init__(line, request_id, window_s)
        self._table = table

    def finish(self, summary: Summary) -> None:
        self._table.pop(self._id, None)
        super().finish(summary)

    def fail(self, error: SaywellError) -> None:
        self._table.pop(self._id, None)
        super().fail(error)


def main() -> None:
    faulthandler.enable()
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    connection = parent()
    worker: Worker | None = None
    while True:
        try:
            message = unpack_to_worker(connection.recv_bytes())
        except (EOFError, OSError):
            leave()
        if isinstance(message, Load):
            worker = Worker(Line(connection), message)
        elif worker is not None:
            worker.handle(message)


if __name__ == "__main__":
    main()
