"""The engine worker: one process, one model, driven by messages from the pipe on its standard input."""

from __future__ import annotations

import faulthandler
import logging
import os
import sys
import threading
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import NoReturn

from saywell.child import parent
from saywell.engine.engine import Engine
from saywell.engine.loop import cause
from saywell.engine.stream import TextSink, Window
from saywell.engine.worker.messages import (
    Abort,
    AudioMessage,
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
    ToWorker,
    Unload,
    pack,
    unpack_to_worker,
)
from saywell.errors import SaywellError
from saywell.types import AudioChunk, Summary

_log = logging.getLogger(__name__)

_PULSE_S = 0.5
STOPPED = 70
"""Exit status of a worker whose engine has failed."""


class Line:
    """The connection to the parent, shared by the threads that send."""

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
    """Exit immediately: the parent is gone, or has asked for it."""
    os._exit(0)


class RemoteOutlet:
    """Sends a request's audio to the parent; its window is opened by the reader's credits. Used in the engine's thread.

    Removes itself from `outlets` when the request is over.
    """

    def __init__(self, line: Line, request_id: str, window_s: float, outlets: dict[str, RemoteOutlet]) -> None:
        self.window = Window(window_s)
        self.feed: TextSink | None = None
        self._line = line
        self._id = request_id
        self._outlets = outlets

    def put(self, chunk: AudioChunk) -> None:
        self.window.put(len(chunk.samples) / chunk.sample_rate)
        self._line.send(AudioMessage(chunk=chunk))

    def starve(self, chars: int) -> None:
        self._line.send(Starved(request_id=self._id, chars=chars))

    def finish(self, summary: Summary) -> None:
        self._outlets.pop(self._id, None)
        self._line.send(Finished(request_id=self._id, summary=summary))

    def fail(self, error: SaywellError) -> None:
        self._outlets.pop(self._id, None)
        self._line.send(Failed(request_id=self._id, error=Fault.of(error)))


def _end(error: Exception) -> None:
    """Exit at once: the parent's next worker resumes the requests in flight."""
    _log.error("the engine failed; the worker exits", exc_info=error)
    os._exit(STOPPED)


class Worker:
    """Turns messages into calls to the engine."""

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
        _in_thread(self._start)
        _in_thread(self._pulse)

    def _start(self) -> None:
        try:
            self._engine.start()
        except Exception as error:  # noqa: BLE001 - reported to the parent, which waits for the start
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

    def handle(self, message: ToWorker) -> None:
        match message:
            case Submit():
                self._submit(message)
            case MoreText(request_id=request_id):
                outlet = self._outlets.get(request_id)
                if outlet is not None and outlet.feed is not None:
                    outlet.feed(message.text, message.last)
            case Credit(request_id=request_id, seconds=seconds):
                if (outlet := self._outlets.get(request_id)) is not None:
                    window = outlet.window
                    self._engine.wake(lambda: window.read(seconds))
            case Abort(request_id=request_id):
                self._outlets.pop(request_id, None)
                self._engine.abort(request_id)
            case Unload():
                self._engine.unload()
            # In their own threads: they wait for the current step, and the running requests need their credits.
            case ClearCaches():
                _in_thread(lambda: self._clear_caches(message))
            case Close():
                _in_thread(self._close)

    def _submit(self, message: Submit) -> None:
        request = message.request
        outlet = RemoteOutlet(self._line, request.id, self._plan.buffer_s, self._outlets)
        self._outlets[request.id] = outlet
        try:
            feed = self._engine.accept(request, outlet, message.resume, more=message.more)
            outlet.feed = feed if message.more else None
        except SaywellError as error:
            outlet.fail(error)

    def _clear_caches(self, message: ClearCaches) -> None:
        try:
            cleared = self._engine.clear_caches(adapt=message.adapt)
        except SaywellError as error:
            self._line.send(CachesCleared(number=message.number, error=Fault.of(error)))
        else:
            self._line.send(CachesCleared(number=message.number, cleared=cleared))

    def _close(self) -> None:
        self._engine.close()
        leave()


def _in_thread(target: Callable[[], None]) -> None:
    threading.Thread(target=target, daemon=True).start()


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
