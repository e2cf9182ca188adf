"""The engine in a worker process, behind the interface of an engine; a dead or hung worker is replaced."""

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
"""A worker without a pulse for this long is reported as hung. (It sends two pulses a second.)"""
_SILENT_S = 10.0
"""A worker without a pulse for this long is killed."""
_FIRST_PULSE_S = 60.0
"""Extra time for the first pulse: the interpreter may import everything from a cold disk."""
_WATCH_S = 0.25
_LEAVE_S = 2.0
"""Time for a worker to exit by itself before it is killed."""
CLEAR_CACHES_S = 30.0
"""How long `clear_caches` waits for the current step to end, or for the model to load."""
KILLED = -9
"""Exit status after SIGKILL: if not sent by this process, it may be the kernel's out-of-memory killer."""
_KILLED_WHY = "the previous worker was killed, which the system does when memory runs out"
_FIRST_TRIES = 3
"""The start fails after this many workers have died without one becoming ready."""
_MOST_DEATHS = 4
"""A request fails after more workers than this have died in a row while running it without sending audio for it."""
_BACKOFF_S = (0.0, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0)
"""Pause before the n-th consecutive start without a ready worker."""


@dataclass(slots=True, eq=False)
class _Active:
    """A request in flight."""

    stream: Stream
    began: float
    """Submission, on the monotonic clock."""
    first_audio_s: float | None = None
    """Submission to the first audio, without waits for text."""
    more: bool = False
    """More text follows."""
    text: list[str] = field(default_factory=list)
    """The text fed so far, for the next worker if this one dies."""
    resume: Resume = START
    """Where the next worker continues."""
    deaths: int = 0
    """Workers that died in a row while running it, without sending audio for it."""

    def message(self) -> Submit:
        request = self.stream.request
        if self.text:
            request = replace(request, text="".join(self.text))
        return Submit(request=request, resume=self.resume, more=self.more)

    @property
    def elapsed_s(self) -> float:
        return time.monotonic() - self.began - self.stream.starved_s

    def whole(self, summary: Summary) -> Summary:
        """The summary of the last worker, corrected for what earlier workers have delivered."""
        if self.resume == START:
            return summary
        total_s = self.elapsed_s
        first = self.first_audio_s or total_s
        return replace(summary, audio_s=self.stream.came_s, first_audio_s=first, total_s=total_s)


@dataclass(frozen=True, slots=True)
class Held:
    """Memory of workers and their children, in bytes."""

    idle: int
    """Peak until the engine was ready."""
    most: int
    """Peak ever."""
    running: int
    """Most sequences running at the same time."""


class EngineClient:
    """Runs an engine in a worker process. Thread-safe; threads of its own read from the worker and watch it."""

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
        """Processes the out-of-memory killer had killed when this worker was started; None: unknown."""
        self._start_degraded_reason = ""
        """Why the next worker should start degraded; empty: it starts as planned."""
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
        """Of the worker; 0 while none is running."""
        link = self._link
        return link.child.process.pid if link is not None else 0

    @property
    def held(self) -> Held | None:
        """None before a worker has been ready."""
        if not self._idle_bytes:
            return None
        return Held(idle=self._idle_bytes, most=max(self._idle_bytes, self._most_bytes), running=self._most_running)

    def voices(self) -> tuple[Voice, ...]:
        return self._voices

    def submit(self, request: Request, *, more: bool = False) -> Stream:
        self._birthplace.check()  # before the lock: another thread may have held it during the fork
        with self._lock:
            if self._state == "failed" and self._error is not None:
                raise copy(self._error)  # raising the same object repeatedly would accumulate tracebacks
            if self._state in ("draining", "closed"):
                raise EngineClosed("the server is shutting down; send the request elsewhere", retry_after=5.0)
            if self._admission is None:
                raise Unavailable("the model is still loading; try again in a moment", retry_after=1.0)
            if self._pressure.refusing:
                raise refusal(self._pressure)
            others = {other: active.stream.window for other, active in self._active.items()}
            self._admission.check(request, others, self._seconds_each, loaded=self._loaded, more=more)
            request = seeded(request, self.spec)  # here, so that a replacement worker uses the same seed
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
            message = _packed(active.message())
            self._active[request.id] = active
            if self._state == "ready":  # while a worker is being replaced, its successor gets the requests
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
        """Whether the model was in memory at the last pulse."""
        return self._health is None or self._health.loaded

    @property
    def _pressure(self) -> PressureReport:
        """As of the last pulse."""
        return self._health.pressure if self._health is not None else PressureReport()

    def clear_caches(self, *, adapt: bool = False) -> ClearedCaches:
        self._birthplace.check()
        with self._changed:
            number = self._asked = self._asked + 1
            answers = self._asking[number] = []
            if self._state == "ready":
                self._send(ClearCaches(number=number, adapt=adapt))
                self._changed.wait_for(lambda: answers or self._state != "ready", CLEAR_CACHES_S)
            del self._asking[number]
        if not answers:
            raise Unavailable("the engine is not ready or too busy for this; try again in a moment", retry_after=1.0)
        if answers[0].error is not None:
            raise answers[0].error.error()
        assert answers[0].cleared is not None
        return answers[0].cleared

    def unload(self) -> None:
        self._birthplace.check()
        with self._lock:
            if self._state == "ready":
                self._send(Unload())

    def close(self, drain_s: float = 0.0) -> None:
        if self._birthplace.elsewhere:
            return  # the worker belongs to the other process
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
            self._shut_down(link)
        if reader is not None and reader is not threading.current_thread():
            reader.join()

    def _shut_down(self, link: Link) -> None:
        """Let the worker close its engine; kill it if it takes too long."""
        link.send(pack(Close()))
        try:
            link.child.process.wait(_LEAVE_S)
        except subprocess.TimeoutExpired:
            _log.debug("the worker did not exit by itself")
        link.kill()

    # Sending

    def _send(self, message: Message) -> None:
        self._send_packed(pack(message))

    def _send_packed(self, message: bytes) -> None:
        """Never blocks: may be called under the lock."""
        link = self._link
        if link is not None:
            link.send(message)

    def _abort(self, request_id: str) -> None:
        if self._remove(request_id) is not None:
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

    # The worker's life cycle

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
            link.send(pack(Load(spec=self.spec, plan=self.plan, start_degraded_reason=self._start_degraded_reason)))
            self._reader = threading.Thread(target=self._read, args=(link,), name="saywell-reader", daemon=True)
            self._reader.start()

    def _read(self, link: Link) -> None:
        try:
            while True:
                self._handle(unpack_from_worker(link.child.connection.recv_bytes()))
        except (EOFError, OSError):
            self._lost(link)
        except (msgspec.MsgspecError, ValueError) as error:
            # Protocol error: version mismatch or corrupted stream.
            _log.error("invalid message from the engine worker: %s", type(error).__name__)
            link.killed_by_us = True
            self._lost(link)

    def _handle(self, message: FromWorker) -> None:
        self._heard = time.monotonic()
        match message:
            case AudioMessage(chunk=chunk):
                if (active := self._active.get(chunk.request_id)) is not None:
                    active.deaths = 0
                    active.first_audio_s = active.first_audio_s or active.elapsed_s
                    active.stream.put(chunk)
            case Starved(request_id=request_id, chars=chars):
                if (active := self._active.get(request_id)) is not None:
                    active.stream.starve(chars)
            case Finished(request_id=request_id, summary=summary):
                self._seconds_each += 0.1 * (summary.total_s - self._seconds_each)
                if (active := self._remove(request_id)) is not None:
                    active.stream.finish(active.whole(summary))
            case Failed(request_id=request_id, error=error):
                if (active := self._remove(request_id)) is not None:
                    active.stream.fail(error.error())
            case Pulse():
                self._pulse(message)
            case Ready():
                self._ready(message)
            case LoadFailed(error=error):
                self._load_failed(error.error())
            case CachesCleared(number=number):
                with self._changed:
                    if number in self._asking:  # else the caller has given up
                        self._asking[number].append(message)
                    self._changed.notify_all()

    def _remove(self, request_id: str) -> _Active | None:
        with self._changed:
            active = self._active.pop(request_id, None)
            self._changed.notify_all()
            return active

    def _pulse(self, pulse: Pulse) -> None:
        self._health = pulse.health
        self._most_bytes = max(self._most_bytes, process_memory.highest_footprint(self.pid))
        self._most_running = max(self._most_running, pulse.health.running)
        if pulse.health.state == "failed" and self._state == "ready":
            self._kill("its engine has failed")
        elif pulse.busy_s > self.plan.hang_s:
            self._kill(f"one step has taken more than {self.plan.hang_s:g} s")

    def _ready(self, ready: Ready) -> None:
        with self._changed:
            if self._state not in ("loading", "failed"):
                return
            self._voices = ready.voices
            self._health = ready.health
            self._idle_bytes = process_memory.highest_footprint(self.pid)
            self._admission = Admission(self.spec, self.plan, ready.voices)
            self._state = "ready"
            self._error = None
            self._misses = 0
            for active in self._active.values():
                self._send(active.message())
            self._changed.notify_all()

    def _load_failed(self, error: SaywellError) -> None:
        """Fail all requests in flight. `_lost` starts another worker if the model has ever been ready."""
        with self._changed:
            if self._state in ("draining", "closed"):
                return
            self._error = error
            self._state = "failed"
            lost, self._active = list(self._active.values()), {}
            self._changed.notify_all()
            if self._link is not None:
                self._link.kill()
        for active in lost:
            active.stream.fail(copy(error))

    def _lost(self, link: Link) -> None:
        """A worker's connection is closed: resume or fail its requests, and start another worker if one is needed."""
        status = link.end()
        with self._changed:
            self._link = None
            lighter = "precision" in self._pressure.changes
            self._health = None
            oom_killed = status == KILLED and not link.killed_by_us and self._memory_ran_out()
            self._start_degraded_reason = _KILLED_WHY if oom_killed else ""
            if self._state == "closed" or (self._state == "failed" and self._admission is None):
                return
            # The next worker gives the same samples, unless one of the two has lighter weights than planned.
            in_flight = self._state in ("ready", "draining")
            failed = self._take_failed(alike=not oom_killed and not lighter) if in_flight else []
            leaving = self._state == "draining"
            if not leaving:
                if self._state != "failed":  # keep the reason of a failed load
                    self._state = "loading"
                self._restarts += 1
                self._misses += 1
            self._changed.notify_all()
        for active in failed:
            message = "the engine worker died during the request; send the request again"
            active.stream.fail(WorkerDied(message, retry_after=1.0))
        if leaving:
            return
        _log.warning("the engine worker ended with status %s; starting another", status)
        if self._admission is None and self._misses >= _FIRST_TRIES:
            self._load_failed(
                WorkerDied(f"the engine worker died {self._misses} times while loading (status {status})")
            )
        else:
            self._relaunch()

    def _take_failed(self, *, alike: bool) -> list[_Active]:
        """Remove and return the requests that the next worker cannot resume; set `resume` of the others.

        `alike`: the next worker gives the same samples. Called under the lock.
        """
        draining = self._state == "draining"
        failed = []
        for active in self._active.values():
            active.deaths += not active.stream.window.starved
            resume = active.stream.resume(alike=alike)
            if draining or active.deaths > _MOST_DEATHS or resume is None:
                failed.append(active)
            else:
                active.resume = resume
        for active in failed:
            del self._active[active.stream.request.id]
        return failed

    def _memory_ran_out(self) -> bool:
        """Whether the out-of-memory killer has acted since the worker was started; True if unknown."""
        before, now = self._kills, cgroup.oom_kills()
        return before is None or now is None or now > before

    def _relaunch(self) -> None:
        """Start the next worker after a pause; if one has been ready before, retry until a worker starts."""
        while True:
            pause = _BACKOFF_S[min(self._misses - (self._state != "failed"), len(_BACKOFF_S) - 1)]
            with self._changed:
                self._changed.wait_for(lambda: self._state in ("draining", "closed"), pause)
            try:
                self._launch()
            except SaywellError as error:
                self._load_failed(error)
                if self._admission is not None and self._state == "failed":
                    self._misses += 1
                    continue
            return

    def _watch(self) -> None:
        """Kill a worker that has stopped sending pulses."""
        while self._state != "closed":
            time.sleep(_WATCH_S)
            now = time.monotonic()
            if self._link is not None and now - self._heard > _SILENT_S:
                self._kill(f"no pulse for {_SILENT_S:g} s")

    def _kill(self, why: str) -> None:
        link = self._link
        if link is not None:
            _log.error("killing the engine worker: %s", why)
            self._heard = time.monotonic()
            link.kill()


def _packed(message: Submit) -> bytes:
    """Raises InvalidRequest for a field of the request that cannot be serialised."""
    try:
        return pack(message)
    except (TypeError, ValueError, NotImplementedError) as error:  # ValueError: a lone surrogate
        raise InvalidRequest(f"the request cannot be sent to the engine's process: {error}") from error
