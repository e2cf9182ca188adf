"""The loop that owns the model: schedule → prefill → step → decode → deliver."""

from __future__ import annotations

import gc
import logging
import queue
import secrets
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from copy import copy
from dataclasses import replace

import psutil

from saywell.engine import EngineHealth, State, Tidied
from saywell.engine.admission import Admission
from saywell.engine.job import Job, Track, next_seed
from saywell.engine.scheduler import Scheduler
from saywell.engine.stream import Outlet, Stream
from saywell.errors import (
    BadAudio,
    Cancelled,
    DeadlineExceeded,
    EngineClosed,
    InvalidText,
    ModelFailure,
    SaywellError,
    Unavailable,
)
from saywell.models.base import Model, SequenceError, load_family
from saywell.monitor import process_memory, resources
from saywell.plan import Plan
from saywell.relief import Depth, judge
from saywell.types import Frame, ModelSpec, Request, Samples, SamplingParams, Sequence, Voice

_log = logging.getLogger(__name__)

_IDLE_S = 0.5
"""Longest the loop sleeps with nothing to do."""
_TIDY_S = 25.0
"""How long `tidy` waits for the step that is being done."""
_PAUSED_S = 0.02
"""Longest it sleeps while every running sequence waits for its reader."""
_WARM_UP, _WARM_UP_S = "Ready.", 300.0


class Engine:
    """Runs one model in a thread of this process."""

    def __init__(self, spec: ModelSpec, plan: Plan, load: Callable[[], Model] | None = None) -> None:
        """`load` is called in the engine's thread; None: the spec's family loads it."""
        self.spec = spec
        self.plan = plan
        self._load = load or (lambda: load_family(spec.family).load(spec, plan))
        self._inbox: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._scheduler = Scheduler(plan.slots, plan.lookahead)
        self._tracks: dict[Sequence, Track] = {}
        self._state: State = "loading"
        self._error: SaywellError | None = None
        self._loaded = threading.Event()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="saywell-engine", daemon=True)
        self._admission: Admission
        self._model: Model
        self._voices: tuple[Voice, ...] = ()
        self._in_flight: set[str] = set()
        self._door = threading.Lock()
        self._preparing = ThreadPoolExecutor(1, thread_name_prefix="saywell-prepare")
        self._open_to_jobs = False
        self._seconds_each = 1.0
        self._steps = 0
        self.busy_since: float | None = None
        """Monotonic time the current call into the model began; None between calls."""

    # From any thread

    def start(self) -> None:
        """Load, then speak a word through the whole path: ready means checked audio came out."""
        self._thread.start()
        self._loaded.wait()
        if self._error is not None:
            raise self._error
        self._warm_up()
        self._state = "ready"

    def _warm_up(self) -> None:
        request = Request(text=_WARM_UP, timeout_s=_WARM_UP_S)
        if self.spec.kind == "autoregressive":
            # Greedy and cut short, so that a start either always succeeds or never does.
            greedy = SamplingParams(temperature=0.0, seed=0)
            request = Request(text=_WARM_UP, sampling=greedy, max_frames=8, timeout_s=_WARM_UP_S)
        self._open(request).collect()

    def voices(self) -> tuple[Voice, ...]:
        return self._voices

    def submit(self, request: Request) -> Stream:
        self._refuse_unless_ready()
        return self._open(request)

    def _refuse_unless_ready(self) -> None:
        if self._state == "failed" and self._error is not None:
            raise copy(self._error)  # the same object raised again and again would gather tracebacks
        if self._state == "loading":
            raise Unavailable("the model is still loading; try again in a moment", retry_after=1.0)
        if self._state != "ready":
            raise EngineClosed("the engine is shutting down; send the request elsewhere", retry_after=5.0)

    def _open(self, request: Request) -> Stream:
        deadline = self._deadline(request)
        stream = Stream(
            request,
            window_s=self.plan.buffer_s,
            deadline=deadline,
            on_close=lambda: self.abort(request.id),
            on_read=lambda *_: self.wake(_nothing),
        )
        self._accept(request, stream, deadline)
        return stream

    def _seed(self, request: Request) -> int:
        """The one asked for; else a new one, for a model whose draws are a matter of luck."""
        if request.sampling.seed is not None:
            return request.sampling.seed
        return secrets.randbits(63) if self.spec.kind == "autoregressive" else 0

    def _deadline(self, request: Request) -> float:
        return time.monotonic() + (request.timeout_s or self.plan.timeout_s)

    def accept(self, request: Request, outlet: Outlet) -> None:
        """Admit a request whose audio goes to `outlet`. Raises if it is refused."""
        self._refuse_unless_ready()
        self._accept(request, outlet, self._deadline(request))

    def _accept(self, request: Request, outlet: Outlet, deadline: float) -> None:
        seed = self._seed(request)
        with self._door:
            if not self._open_to_jobs:
                raise copy(self._error) if self._error else EngineClosed("the engine has stopped", retry_after=5.0)
            voice = self._admission.check(request, len(self._in_flight), self._seconds_each)
            self._in_flight.add(request.id)

        def add() -> None:
            if request.id in self._in_flight:  # not if it was cancelled meanwhile
                self._add(lambda: Job(request, voice, self.plan, outlet, seed, deadline), outlet, request.id)

        if request.reference is None:
            self.wake(add)
        else:
            self._preparing.submit(self._prepare, request, outlet, add)

    def _prepare(self, request: Request, outlet: Outlet, add: Callable[[], None]) -> None:
        """Encode a reference beside the engine's thread, then let the request in."""
        try:
            self._model.prepare(request)
        except Exception as error:  # noqa: BLE001 - on a thread of its own, where nobody else would hear of it
            self._in_flight.discard(request.id)
            outlet.fail(_cause(error, "the reference could not be prepared"))
        else:
            self.wake(add)

    def abort(self, request_id: str) -> None:
        """Stop a request and free its slots before the next step."""

        def stop() -> None:
            if (job := self._scheduler.job(request_id)) is not None:
                self._end(job, Cancelled("the request was cancelled"))

        self._in_flight.discard(request_id)  # at once: whoever cancels may send the next request in the same breath
        self.wake(stop)

    def wake(self, action: Callable[[], None]) -> None:
        """Run something short in the engine's thread before the next step."""
        self._inbox.put(action)

    def health(self) -> EngineHealth:
        return EngineHealth(
            state=self._state,
            slots=self.plan.slots,
            running=self._scheduler.running,
            waiting=self._scheduler.waiting,
            steps=self._steps,
            rss_bytes=psutil.Process().memory_info().rss,
            error=self._error.message if self._error else "",
        )

    def tidy(self, *, adapt: bool = False) -> Tidied:
        if self._state != "ready":
            raise Unavailable("the engine is not ready; try again in a moment", retry_after=1.0)
        held, done = process_memory(), threading.Event()

        def clear() -> None:
            self._model.adapt(replace(self.plan, cache_entries=0))
            self._model.adapt(self.plan)
            gc.collect()
            done.set()

        self.wake(clear)
        if not done.wait(_TIDY_S):
            raise Unavailable("the engine is too busy for this; try again in a moment", retry_after=1.0)
        if adapt and (pressure := judge(resources())).push > Depth.WORK:
            out = "restart it with fewer slots, fewer threads or a lighter precision"
            raise Unavailable(f"{pressure.why}, and the engine keeps to its plan while it runs; {out}")
        here = self.health().pressure
        return Tidied(freed=max(0, held - process_memory()), before=here, after=here)

    def close(self, drain_s: float = 0.0) -> None:
        if self._state in ("ready", "loading"):
            self._state = "draining"
        until = time.monotonic() + drain_s
        while self._in_flight and time.monotonic() < until and self._thread.is_alive():
            time.sleep(0.01)
        self._stop.set()
        self.wake(_nothing)
        if self._thread.ident is not None:
            self._thread.join()
        self._state = "closed"

    # In the engine's thread

    def _run(self) -> None:
        try:
            self._model = self._load()
            self._voices = self._model.voices()
        except Exception as error:  # noqa: BLE001 - whatever loading raises is handed to start()
            self._fail(error, "the model could not be loaded")
            self._loaded.set()
            return
        self._admission = Admission(self.spec, self.plan, self._voices)
        self._open_to_jobs = True
        self._loaded.set()
        try:
            while not self._stop.is_set():
                self._turn()
        except Exception as error:  # noqa: BLE001 - the thread ends here, and everybody who waits is told why
            self._fail(error, "the engine stopped")
        finally:
            self._shut()

    def _fail(self, error: Exception, what: str) -> None:
        self._error = _cause(error, what)
        self._state = "failed"

    def _shut(self) -> None:
        with self._door:
            self._open_to_jobs = False
        self._preparing.shutdown(wait=True, cancel_futures=True)
        self._receive(0.0)
        for job in self._scheduler.jobs():
            job.outlet.fail(self._error or EngineClosed("the engine was closed", retry_after=5.0))
        self._in_flight.clear()
        self._model.close()

    def _turn(self) -> None:
        """One turn of the loop: what others asked for, who starts, one step, what it gave."""
        able = bool(self._scheduler.batch())
        self._receive(0.0 if able else _PAUSED_S if self._scheduler else _IDLE_S)
        self._expire()
        try:
            self.busy_since = time.monotonic()
            self._start()
            if batch := self._scheduler.batch():
                frames = self._model.step(batch)
                self._steps += 1
                self._deliver(frames)
        except SequenceError as error:
            self._end(self._tracks[error.sequence].job, error.cause)
        except Exception as error:  # noqa: BLE001 - a broken step fails the sequences in it, not the engine
            self._fail_running(error)
        finally:
            self.busy_since = None

    def _receive(self, wait_s: float) -> None:
        """Do what other threads asked for; wait for the first of it at most `wait_s`."""
        try:
            action = self._inbox.get(timeout=wait_s) if wait_s else self._inbox.get_nowait()
            while True:
                action()
                action = self._inbox.get_nowait()
        except queue.Empty:
            pass

    def _add(self, make: Callable[[], Job], outlet: Outlet, request_id: str) -> None:
        try:
            job = make()
        except Exception as error:  # noqa: BLE001 - a text nobody foresaw ends its own request, not the engine
            self._in_flight.discard(request_id)
            outlet.fail(_cause(error, "the text could not be prepared"))
            return
        self._scheduler.add(job)
        if not job.more:
            self._end(job, InvalidText("there is nothing to speak in this text", param="text"))

    def _expire(self) -> None:
        """End the jobs whose deadline has passed and those nobody has read from for too long."""
        now = time.monotonic()
        for job in self._scheduler.jobs():
            if now >= job.deadline:
                self._end(job, DeadlineExceeded("the deadline passed before the speech was finished"))
            elif job.outlet.window.idle_s(now) > self.plan.stall_s:
                self._end(job, Cancelled(f"nothing was read for {self.plan.stall_s:g} s"))

    def _start(self) -> None:
        while (job := self._scheduler.neediest()) is not None:
            try:
                sequence = self._scheduler.place(job)
            except Exception as error:  # noqa: BLE001 - a text nobody foresaw ends its own request, not the others
                self._end(job, _cause(error, "the text could not be prepared"))
            else:
                self._tracks[sequence] = Track(job, sequence)
        # One that failed is gone from the tracks, and those after it are still to be prefilled on the next turn.
        fresh = [sequence for sequence in self._tracks if sequence.state is None]
        if fresh:
            self._model.prefill(fresh)

    def _deliver(self, frames: list[Frame]) -> None:
        """Frames to their tracks; what is due is decoded together, judged and sent."""
        for frame in frames:
            track = self._tracks.get(frame.sequence)  # None if a sibling's failure has just ended its job
            if track is not None and frame.error is not None:
                self._end(track.job, frame.error)
            elif track is not None:
                track.add(frame, self.plan)
        due = [track for frame in frames if (track := self._tracks.get(frame.sequence)) is not None and track.due]
        decoded = self._model.decode([track.decode_job(self.plan) for track in due]) if due else []
        for track, samples in zip(due, decoded, strict=True):
            if track.sequence in self._tracks:  # not if the verdict on a sibling has just ended its job
                self._send(track, samples)

    def _send(self, track: Track, samples: Samples) -> None:
        job = track.job
        try:
            chunk = track.chunk(samples)
            self._refuse_bad_end(track)
        except BadAudio as error:
            if self._may_draw_again(track):
                self._draw_again(track)
            else:
                self._end(job, error)
            return
        job.put(track.sequence, chunk)
        if track.finish is None:
            return
        self._forget(track.sequence)
        job.leave(track.sequence, track.finish)
        if job.done:
            self._finish(job)

    def _refuse_bad_end(self, track: Track) -> None:
        """An end nobody asked for is an error, never a short answer under a success."""
        asked = track.finish == "length" and track.sequence.request.max_frames is not None
        if track.finish in ("length", "loop", "empty") and not asked:
            raise BadAudio(
                f"generation ended with {track.finish!r} instead of by itself; "
                "try another seed, a lower temperature or a shorter text"
            )

    def _may_draw_again(self, track: Track) -> bool:
        """Whether another draw may do better: it would be another one, nothing was heard, and it is the first time."""
        greedy = track.sequence.request.sampling.temperature == 0
        return self.spec.kind == "autoregressive" and not (greedy or track.heard or track.redrawn)

    def _draw_again(self, track: Track) -> None:
        sequence = track.sequence
        _log.info("drawing a sequence again after a bad end")
        self._model.release(sequence)
        sequence.state, sequence.frames = None, 0
        sequence.seed = next_seed(sequence.seed)
        self._tracks[sequence] = Track(track.job, sequence, redrawn=True)  # prefilled on the next turn

    def _finish(self, job: Job) -> None:
        self._scheduler.remove(job)
        self._in_flight.discard(job.request.id)
        summary = job.summary()
        self._seconds_each += 0.1 * (summary.total_s - self._seconds_each)
        job.outlet.finish(summary)

    def _end(self, job: Job, error: SaywellError) -> None:
        """End a job before its time."""
        for sequence in self._scheduler.remove(job):
            self._forget(sequence)
        self._in_flight.discard(job.request.id)
        job.outlet.fail(error)

    def _forget(self, sequence: Sequence) -> None:
        del self._tracks[sequence]
        self._scheduler.finish(sequence)
        self._model.release(sequence)

    def _fail_running(self, error: Exception) -> None:
        cause = _cause(error, "a model step failed")
        for job in self._scheduler.jobs():
            if job.running:  # asked of the job: the step may have failed between forgetting a track and leaving it
                self._end(job, cause)


def _cause(error: Exception, what: str) -> SaywellError:
    """An error for the reader; what is not meant for readers goes to the log, with its traceback."""
    if isinstance(error, SaywellError):
        return error
    _log.error("%s", what, exc_info=error)
    return ModelFailure(f"{what}: {type(error).__name__}")


def _nothing() -> None:
    """Only wakes the loop."""
