"""The engine in a worker process, behind the engine's own interface; a dead or hung worker is replaced."""

from __future__ import annotations

import logging
import subprocess
import threading
import time
from copy import copy
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import msgspec

from saywell.child import spawn
from saywell.engine import ClearedCaches, EngineHealth, State
from saywell.engine.admission import Admission
from saywell.engine.forked import Birthplace
from saywell.engine.pressure_monitor import refusal
from saywell.engine.request_state import seeded
from saywell.engine.stream import START, Resume, Stream
from saywell.engine.worker.link import Link
from saywell.engine.worker.messages import (
    Abort,
    AudioMessage,
    CachesCleared,
    ClearCaches,
    Close,
    Credit,
    Failed,
    Finished,
    FromWorker,
    Load,
    LoadFailed,
    Message,
    MoreText,
    Pulse,
    Ready,
    Starved,
    Submit,
    Unload,
    chunk,
    pack,
    unpack_from_worker,
)
from saywell.errors import EngineClosed, InvalidRequest, SaywellError, Unavailable, WorkerDied
from saywell.machine import cgroup, process_memory
from saywell.plan.degradation import PressureReport
from saywell.plan.plan import Plan
from saywell.text.check import IncomingText
from saywell.types import ModelSpec, Request, Summary, Voice

_log = logging.getLogger(__name__)

_WORKER = "saywell.engine.worker.process"
_HUNG_S = 2.5
"""Silence of a worker, which speaks twice a second, after which it is not called ready."""
_SILENT_S = 10.0
"""A worker that has sent no pulse for so long is hung. (It sends two a second.)"""
_FIRST_PULSE_S = 60.0
"""How much longer the first one may take: a cold disk under an interpreter that has everything to import."""
_WATCH_S = 0.25
_LEAVE_S = 2.0
"""How long a worker gets to leave by itself."""
TIDY_S = 30.0
"""How long `clear_caches` waits for the step that is being done, or for a model to load."""
KILLED = -9
"""Exit status of a process that got SIGKILL: where this side did not send it, the kernel did, for want of memory."""
_KILLED_WHY = "the worker before was killed, which the system does when memory runs out"
_FIRST_TRIES = 3
"""Workers that may die before the first one has ever been ready; then the start has failed."""
_MOST_DEATHS = 4
"""Workers in a row that may die without having added to an answer: what kills every worker must not do so for ever."""
_BACKOFF_S = (0.0, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0)
"""Pause before the n-th start in a row that did not get ready."""


@dataclass(slots=True, eq=False)
class _Active:
    """A request the client answers for."""

    stream: Stream
    began: float
    """When it was submitted, on the monotonic clock."""
    first_audio_s: float | None = None
    """How long after that, without waits for text, its first sound came."""
    more: bool = False
    """Its text goes on."""
    text: list[str] = field(default_factory=list)
    """What of it has been fed, for another worker to go on with."""
    resume: Resume = START
    """From where on the next worker speaks it."""
    deaths: int = 0
    """Workers that died while they had it and had nothing to show for it."""

    def order(self) -> Submit:
        """To speak it, from where on it has not come."""
        request = self.stream.request
        if self.text:
            request = replace(request, text="".join(self.text))
        return Submit(request=request, resume=self.resume, more=self.more)

    @property
    def elapsed_s(self) -> float:
        return time.monotonic() - self.began - self.stream.starved_s

    def whole(self, summary: Summary) -> Summary:
        """The summary of the worker that finished it, less what only that one knew: what came before it counts."""
        if self.resume == START:
            return summary
        total_s = self.elapsed_s
        first = self.first_audio_s or total_s
        return replace(summary, audio_s=self.stream.came_s, first_audio_s=first, total_s=total_s)


@dataclass(frozen=True, slots=True)
class Held:
    """Bytes."""

    idle: int
    """The most until the model was loaded and had spoken a word."""
    most: int
    """The most ever."""
    running: int
    """Sequences seen side by side."""


class EngineClient:
    """Runs one engine worker. Thread-safe; its own threads read from the worker and watch it."""

    def __init__(self, spec: ModelSpec, plan: Plan, *, python: Path | None = None) -> None:
        """`python`: the interpreter of another environment to run the worker in."""
        self.spec = spec
        self.plan = plan
        self._python = python
        self._lock = threading.RLock()
        self._changed = threading.Condition(self._lock)
        self._link: Link | None = None
        self._reader: threading.Thread | None = None
        self._state: State = "loading"
        self._birthplace = Birthplace()
        self._error: SaywellError | None = None
        self._voices: tuple[Voice, ...] = ()
        self._admission: Admission | None = None
        self._active: dict[str, _Active] = {}
        self._seconds_each = 1.0
        self._health: EngineHealth | None = None
        self._heard = time.monotonic()
        self._restarts = 0
        self._misses = 0
        self._kills: int | None = None
        """Processes killed for want of memory before this worker began."""
        self._strained = ""
        """Why the next worker should begin under relief; empty: as planned."""
        self._idle_bytes = self._most_bytes = 0
        self._most_running = 0
        self._asked = 0
        self._asking: dict[int, list[CachesCleared]] = {}
        """Answers to `clear_caches`, by number."""

    # The interface of an engine

    def start(self) -> None:
        self._birthplace.check()
        self._launch()
        threading.Thread(target=self._watch, name="saywell-watch", daemon=True).start()
        with self._changed:
            self._changed.wait_for(lambda: self._state != "loading")
            if self._state != "ready":
                raise self._error or EngineClosed("the engine was closed while it was loading")

    @property
    def pid(self) -> int:
        """Of the worker; 0 while there is none."""
        link = self._link
        return link.child.process.pid if link is not None else 0

    @property
    def held(self) -> Held | None:
        """What workers and their children were seen to hold; None before one was ready."""
        if not self._idle_bytes:
            return None
        return Held(idle=self._idle_bytes, most=max(self._idle_bytes, self._most_bytes), running=self._most_running)

    def voices(self) -> tuple[Voice, ...]:
        return self._voices

    def submit(self, request: Request, *, more: bool = False) -> Stream:
        self._birthplace.check()  # before the lock, which another thread may have held as the process was forked
        with self._lock:
            if self._state == "failed" and self._error is not None:
                raise copy(self._error)  # the same object raised again and again would gather tracebacks
            if self._state in ("draining", "closed"):
                raise EngineClosed("the server is shutting down; send the request elsewhere", retry_after=5.0)
            if self._admission is None:
                raise Unavailable("the model is still loading; try again in a moment", retry_after=1.0)
            if self._pressure.refusing:
                raise refusal(self._pressure)
            others = {other: active.stream.window for other, active in self._active.items()}
            self._admission.check(request, others, self._seconds_each, loaded=self._loaded, more=more)
            request = seeded(request, self.spec)  # here, so that another worker goes on with the same one
            stream = Stream(
                request,
                window_s=self.plan.buffer_s,
                timeout_s=request.timeout_s or self.plan.timeout_s,
                on_close=lambda: self._abort(request.id),
                on_read=lambda seconds: self._credit(request.id, seconds),
                text=IncomingText(self.plan.max_text_chars) if more else None,
            )
            active = _Active(stream, time.monotonic(), more=more)
            stream.on_text = partial(self._feed, active) if more else None
            message = _packed(active.order())
            self._active[request.id] = active
            if self._state == "ready":  # while a worker is being replaced, requests wait for the new one
                self._send_packed(message)
        return stream

    def health(self) -> EngineHealth:
        if self._birthplace.elsewhere:
            return EngineHealth(state="closed", slots=self.plan.max_batch_size, running=0, waiting=0, steps=0)
        with self._lock:
            last = self._health
            running = last.running if last and self._state == "ready" else 0
            starved = sum(active.stream.window.starved for active in self._active.values())
            hung = self._state == "ready" and time.monotonic() - self._heard > _HUNG_S
            return EngineHealth(
                state="hung" if hung else self._state,
                slots=last.slots if last else self.plan.max_batch_size,
                running=running,
                waiting=max(0, len(self._active) - starved - running),
                starved=starved,
                steps=last.steps if last else 0,
                restarts=self._restarts,
                rss_bytes=last.rss_bytes if last else 0,
                error=self._error.message if self._error else "",
                loaded=self._loaded,
                pressure=self._pressure,
            )

    @property
    def _loaded(self) -> bool:
        """Whether the model was in memory when the worker last said something."""
        return self._health is None or self._health.loaded

    @property
    def _pressure(self) -> PressureReport:
        """Where the engine stood on its ladder when the worker last said something."""
        return self._health.pressure if self._health is not None else PressureReport()

    def clear_caches(self, *, adapt: bool = False) -> ClearedCaches:
        self._birthplace.check()
        with self._changed:
            number = self._asked = self._asked + 1
            answers = self._asking[number] = []
            if self._state == "ready":
                self._send(ClearCaches(number=number, adapt=adapt))
                self._changed.wait_for(lambda: answers or self._state != "ready", TIDY_S)
            del self._asking[number]
        if not answers:
            raise Unavailable("the engine is not ready or too busy for this; try again in a moment", retry_after=1.0)
        if answers[0].error is not None:
            raise answers[0].error.error()
        assert answers[0].tidied is not None
        return answers[0].tidied

    def unload(self) -> None:
        self._birthplace.check()
        with self._lock:
            if self._state == "ready":
                self._send(Unload())

    def close(self, drain_s: float = 0.0) -> None:
        if self._birthplace.elsewhere:
            return  # the worker is the other process's
        with self._changed:
            if self._state == "closed":
                return
            was_ready = self._state == "ready"
            self._state = "draining"
            self._changed.notify_all()
            if was_ready and drain_s:
                self._changed.wait_for(lambda: not self._active, drain_s)
            self._state = "closed"
            left, self._active = list(self._active.values()), {}
            link, reader = self._link, self._reader
            self._changed.notify_all()
        for active in left:
            active.stream.fail(EngineClosed("the server was shut down", retry_after=5.0))
        if link is not None:
            self._hang_up(link)
        if reader is not None and reader is not threading.current_thread():
            reader.join()

    def _hang_up(self, link: Link) -> None:
        """Ask the worker to give everything back, then make sure it is gone."""
        link.send(pack(Close(drain_s=0.0)))
        try:
            link.child.process.wait(_LEAVE_S)
        except subprocess.TimeoutExpired:
            _log.debug("the worker did not leave by itself")
        link.child.process.kill()  # the thread that reads from it sees EOF and does the rest

    # Sending

    def _send(self, message: Message) -> None:
        self._send_packed(pack(message))

    def _send_packed(self, message: bytes) -> None:
        """Never waits, so it may be called under the lock."""
        link = self._link
        if link is not None:
            link.send(message)

    def _abort(self, request_id: str) -> None:
        with self._changed:
            if self._active.pop(request_id, None) is None:
                return
            self._changed.notify_all()
        self._send(Abort(request_id=request_id))

    def _feed(self, active: _Active, text: str, last: bool) -> None:
        with self._lock:
            active.text.append(text)
            active.more = not last
            request_id = active.stream.request.id
            if self._state in ("ready", "draining") and self._active.get(request_id) is active:
                self._send(MoreText(request_id=request_id, text=text, last=last))

    def _credit(self, request_id: str, seconds: float) -> None:
        if request_id in self._active:
            self._send(Credit(request_id=request_id, seconds=seconds))

    # The worker's life

    def _launch(self) -> None:
        """Start a worker and a thread that reads from it."""
        try:
            child = spawn(_WORKER, python=self._python)
        except OSError as error:
            raise Unavailable(f"the worker could not be started with {self._python}: {error.strerror}") from error
        with self._lock:
            if self._state in ("draining", "closed"):
                child.kill()
                return
            self._link = link = Link(child)
            self._kills = cgroup.oom_kills()
            self._heard = time.monotonic() + _FIRST_PULSE_S
            link.send(pack(Load(spec=self.spec, plan=self.plan, start_degraded_reason=self._strained)))
            self._reader = threading.Thread(target=self._read, args=(link,), name="saywell-reader", daemon=True)
            self._reader.start()

    def _read(self, link: Link) -> None:
        try:
            while True:
                self._handle(unpack_from_worker(link.child.connection.recv_bytes()))
        except (EOFError, OSError):
            self._lost(link)
        except (msgspec.MsgspecError, ValueError) as error:
            # A worker of another version, or one that has lost its mind.
            _log.error("the engine worker said what cannot be understood: %s", type(error).__name__)
            link.put_down = True
            self._lost(link)

    def _handle(self, message: FromWorker) -> None:
        self._heard = time.monotonic()
        if isinstance(message, AudioMessage):
            self._sound(message)
        elif isinstance(message, Starved):
            if (active := self._active.get(message.request_id)) is not None:
                active.stream.starve(message.chars)
        elif isinstance(message, Finished):
            self._finished(message.request_id, message.summary)
        elif isinstance(message, Failed):
            self._failed(message.request_id, message.error.error())
        elif isinstance(message, Pulse):
            self._pulse(message)
        elif isinstance(message, Ready):
            self._ready(message)
        elif isinstance(message, LoadFailed):
            self._broken(message.error.error())
        elif isinstance(message, CachesCleared):
            self._tidy_done(message)

    def _tidy_done(self, message: CachesCleared) -> None:
        with self._changed:
            if message.number in self._asking:  # not if whoever asked has given up
                self._asking[message.number].append(message)
            self._changed.notify_all()

    def _sound(self, message: AudioMessage) -> None:
        active = self._active.get(message.request_id)
        if active is not None:
            active.deaths = 0
            active.first_audio_s = active.first_audio_s or active.elapsed_s
            active.stream.put(chunk(message))

    def _finished(self, request_id: str, summary: Summary) -> None:
        with self._changed:
            active = self._active.pop(request_id, None)
            self._seconds_each += 0.1 * (summary.total_s - self._seconds_each)
            self._changed.notify_all()
        if active is not None:
            active.stream.finish(active.whole(summary))

    def _failed(self, request_id: str, error: SaywellError) -> None:
        with self._changed:
            active = self._active.pop(request_id, None)
            self._changed.notify_all()
        if active is not None:
            active.stream.fail(error)

    def _pulse(self, pulse: Pulse) -> None:
        self._health = pulse.health
        self._most_bytes = max(self._most_bytes, process_memory.most(self.pid))
        self._most_running = max(self._most_running, pulse.health.running)
        if pulse.health.state == "failed" and self._state == "ready":
            self._kill("its engine has stopped")
        elif pulse.busy_s > self.plan.hang_s:
            self._kill("one step took longer than any should")

    def _ready(self, ready: Ready) -> None:
        with self._changed:
            if self._state not in ("loading", "failed"):
                return
            self._voices = ready.voices
            self._health = ready.health
            self._idle_bytes = process_memory.most(self.pid)
            self._admission = Admission(self.spec, self.plan, ready.voices)
            self._state = "ready"
            self._error = None
            self._misses = 0
            for active in self._active.values():
                self._send(active.order())
            self._changed.notify_all()

    def _broken(self, error: SaywellError) -> None:
        """Loading failed: nobody is made to wait. At the start the same would happen again; a model that has been there
        before is tried again after a while."""
        with self._changed:
            if self._state in ("draining", "closed"):
                return
            self._error = error
            self._state = "failed"
            lost, self._active = list(self._active.values()), {}
            self._changed.notify_all()
            if self._link is not None:  # it has nothing more to say
                self._link.put_down = True
                self._link.child.process.kill()
        for active in lost:
            active.stream.fail(copy(error))

    def _lost(self, link: Link) -> None:
        """A worker's connection is closed: answer for its requests and start another, unless none is wanted."""
        status = link.end()
        with self._changed:
            self._link = None
            lighter = "precision" in self._pressure.changes
            self._health = None
            short = status == KILLED and not link.put_down and self._memory_ran_out()
            self._strained = _KILLED_WHY if short else ""
            if self._state == "closed" or (self._state == "failed" and self._admission is None):
                return
            # Another worker gives the same samples, unless one of the two has lighter weights than planned.
            failed_requests = (
                self._fail_in_flight(alike=not short and not lighter) if self._state in ("ready", "draining") else []
            )
            leaving = self._state == "draining"
            if not leaving:
                if self._state != "failed":  # or the reason would be gone
                    self._state = "loading"
                self._restarts += 1
                self._misses += 1
            self._changed.notify_all()
        for active in failed_requests:
            again = "the engine worker died while it was speaking; send the request again"
            active.stream.fail(WorkerDied(again, retry_after=1.0))
        if leaving:
            return
        _log.warning("the engine worker ended with status %s; starting another", status)
        if self._admission is None and self._misses >= _FIRST_TRIES:
            self._broken(WorkerDied(f"the engine worker died {self._misses} times while loading (status {status})"))
        else:
            self._relaunch()

    def _fail_in_flight(self, *, alike: bool) -> list[_Active]:
        """Those nobody goes on with: tried too often, or no worker follows that could. Under the lock.

        `alike`: the next worker would give the same samples.
        """
        last = self._state == "draining"
        failed_requests = []
        for active in self._active.values():
            active.deaths += not active.stream.window.starved
            resume = active.stream.resume(alike=alike)
            if last or active.deaths > _MOST_DEATHS or resume is None:
                failed_requests.append(active)
            else:
                active.resume = resume
        for active in failed_requests:
            del self._active[active.stream.request.id]
        return failed_requests

    def _memory_ran_out(self) -> bool:
        """Whether the system killed a process for want of memory since the worker began; if it does not say, maybe."""
        before, now = self._kills, cgroup.oom_kills()
        return before is None or now is None or now > before

    def _relaunch(self) -> None:
        """Start the next worker after a pause; where one has been ready before, until that succeeds."""
        while True:
            pause = _BACKOFF_S[min(self._misses - (self._state != "failed"), len(_BACKOFF_S) - 1)]
            with self._changed:
                self._changed.wait_for(lambda: self._state in ("draining", "closed"), pause)
            try:
                self._launch()
            except SaywellError as error:
                self._broken(error)
                if self._admission is not None and self._state == "failed":
                    self._misses += 1
                    continue
            return

    def _watch(self) -> None:
        """Kill a worker that has gone silent."""
        while self._state != "closed":
            time.sleep(_WATCH_S)
            now = time.monotonic()
            if self._link is not None and now - self._heard > _SILENT_S:
                self._kill("it has gone silent")

    def _kill(self, why: str) -> None:
        link = self._link
        if link is not None:
            _log.error("killing the engine worker: %s", why)
            self._heard = time.monotonic()
            link.put_down = True
            link.child.process.kill()  # its reader thread sees EOF and does the rest


def _packed(order: Submit) -> bytes:
    """Raises InvalidRequest for a field of the request that cannot travel."""
    try:
        return pack(order)
    except (TypeError, ValueError, NotImplementedError) as error:  # half a surrogate pair is a ValueError
        raise InvalidRequest(f"the request cannot be sent to the engine's process: {error}") from error
