"""The engine in this process: admission, streams, and the thread that runs the loop."""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from copy import copy
from dataclasses import replace

import psutil

from saywell.engine import ClearedCaches, EngineHealth, State
from saywell.engine.admission import Admission
from saywell.engine.forked import Birthplace
from saywell.engine.loop import Loop, cause
from saywell.engine.model_holder import Loader, ModelHolder
from saywell.engine.pressure_monitor import Look, PressureMonitor, refusal
from saywell.engine.request_state import RequestState, seeded
from saywell.engine.stream import START, Outlet, Resume, Stream, TextSink
from saywell.errors import Cancelled, DeadlineExceeded, EngineClosed, OutOfMemory, SaywellError, Unavailable
from saywell.machine.monitor import Monitor, Resources, process_memory, resources
from saywell.models.base import load_family
from saywell.plan.degradation import PressureReport, Timing, classify
from saywell.plan.plan import Plan
from saywell.runtimes.out_of_memory import ran_out
from saywell.runtimes.pages import trim_heap
from saywell.runtimes.pinning import pin
from saywell.text.check import IncomingText
from saywell.text.lexicon import Lexicon
from saywell.types import ModelSpec, Request, SamplingParams, Voice, VoiceState

_log = logging.getLogger(__name__)

_IDLE_S = 0.5
"""Longest sleep of the loop without requests."""
_CLEAR_CACHES_S = 25.0
"""How long `clear_caches` waits for the current step to end."""
_PAUSED_S = 0.02
"""Longest sleep of the loop while every request waits for its reader."""
_RECORDINGS = 3
"""Recordings prepared in parallel, so that a cached or invalid one does not wait for another to be encoded. Few, since
encoding cannot be cancelled."""
_WARM_UP, _WARM_UP_S = "Ready.", 300.0


class Engine:
    """Runs one model in a thread of this process."""

    def __init__(
        self,
        spec: ModelSpec,
        plan: Plan,
        load: Loader | None = None,
        *,
        also_own: tuple[int, ...] = (),
        start_degraded_reason: str = "",
        look: Look | None = None,
        timing: Timing | None = None,
        on_end: Callable[[Exception], None] = lambda _: None,
    ) -> None:
        """`load` is called in the engine's thread; None: the spec's family loads it.

        `also_own`: processes whose load does not count as that of other programs. `start_degraded_reason`: why to start
        degraded; empty: start as planned. `look`, `timing`: how the machine is watched; None: by a monitor, with the
        times of `degradation`. `on_end(error)`: called in the engine's thread if it fails, before any request is.
        """
        self.spec = spec
        self.plan = plan
        """As decided; `health().pressure` says how it is degraded."""
        self._lexicon = Lexicon.of(plan.lexicon, spec)
        self._resident = ModelHolder(load or (lambda now: load_family(spec.family).load(spec, now)), plan)
        self._loop = Loop(spec, plan, self._resident, self._ran_out)
        self._inbox: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._state: State = "loading"
        self._birthplace = Birthplace()
        self._error: SaywellError | None = None
        self._on_end = on_end
        self._loaded = threading.Event()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="saywell-engine", daemon=True)
        self._admission: Admission
        self._voices: tuple[Voice, ...] = ()
        self._accepting = threading.Lock()
        # Two pools: a saved voice, which is read in milliseconds, never waits for recordings, which take seconds.
        self._encoding = ThreadPoolExecutor(_RECORDINGS, thread_name_prefix="saywell-encode")
        self._reading = ThreadPoolExecutor(1, thread_name_prefix="saywell-voices")
        self._admitting = False
        self._look = look or resources
        self._monitor = Monitor(also_own=also_own) if plan.adapt and look is None else None
        self._watch: PressureMonitor | None = None
        if plan.adapt:
            looking = self._monitor.look if self._monitor is not None else self._look
            self._watch = PressureMonitor(plan, self._adapt, look=looking, timing=timing)
        if start_degraded_reason:
            self._ran_out(start_degraded_reason)

    # From any thread

    @property
    def busy_since(self) -> float | None:
        """When the current call into the model started, on the monotonic clock; None between calls."""
        return self._loop.busy_since

    def start(self) -> None:
        """Load the model and synthesise a word: ready means that checked audio came out."""
        self._birthplace.check()
        self._thread.start()
        self._loaded.wait()
        if self._error is not None:
            raise self._error
        self._warm_up()
        self._state = "ready"
        if self._watch is not None:
            self._watch.start()

    def _adapt(self, plan: Plan) -> None:
        self.wake(lambda: self._loop.adapt(plan))

    def _ran_out(self, why: str) -> None:
        if self._watch is not None:
            self._watch.ran_out(why)

    def _warm_up(self) -> None:
        request = Request(text=_WARM_UP, timeout_s=_WARM_UP_S)
        if self.spec.kind == "autoregressive":
            # Greedy and short, so that the outcome is always the same.
            greedy = SamplingParams(temperature=0.0, seed=0)
            request = Request(text=_WARM_UP, sampling=greedy, max_frames=8, timeout_s=_WARM_UP_S)
        self._open(request).collect()

    def voices(self) -> tuple[Voice, ...]:
        return self._voices

    def submit(self, request: Request, *, more: bool = False) -> Stream:
        self._refuse_unless_ready()
        return self._open(request, more=more)

    def _refuse_unless_ready(self) -> None:
        self._birthplace.check()
        if self._state == "failed" and self._error is not None:
            raise copy(self._error)  # raising the same object repeatedly would accumulate tracebacks
        if self._state == "loading":
            raise Unavailable("the model is still loading; try again in a moment", retry_after=1.0)
        if self._state != "ready":
            raise EngineClosed("the engine is shutting down; send the request elsewhere", retry_after=5.0)
        if (pressure := self._pressure()).refusing:
            raise refusal(pressure)

    def _open(self, request: Request, *, more: bool = False) -> Stream:
        request = seeded(request, self.spec)
        stream = Stream(
            request,
            window_s=self.plan.buffer_s,
            timeout_s=self._timeout_s(request),
            on_close=lambda: self.abort(request.id),
            on_read=lambda *_: self.wake(_nothing),
            text=IncomingText(self.plan.max_text_chars) if more else None,
        )

        def admit() -> Voice:
            loop, loaded = self._loop, self._resident.loaded
            others = {other: outlet.window for other, outlet in list(loop.in_flight.items())}
            return self._admission.check(request, others, loop.seconds_each, loaded=loaded, more=more)

        feed = self._accept(request, stream, admit, more=more)
        if more:  # only then: it references the stream through the request's state, a reference cycle
            stream.on_text = feed
        return stream

    def _timeout_s(self, request: Request) -> float:
        return request.timeout_s or self.plan.timeout_s

    def accept(self, request: Request, outlet: Outlet, resume: Resume = START, *, more: bool = False) -> TextSink:
        """Take a request that the client has admitted; its audio goes to `outlet`. Raises a SaywellError.

        `more`: more text follows, passed to the returned function.
        """
        return self._accept(
            seeded(request, self.spec), outlet, lambda: self._admission.voice(request), resume, more=more
        )

    def _accept(
        self,
        request: Request,
        outlet: Outlet,
        admit: Callable[[], Voice],
        resume: Resume = START,
        *,
        more: bool,
    ) -> TextSink:
        loop = self._loop
        with self._accepting:
            if not self._admitting:
                raise copy(self._error) if self._error else EngineClosed("the engine has stopped", retry_after=5.0)
            voice = admit()
            # Split by the original plan, never a degraded one: other chunks would sound different.
            words = self._lexicon.words(voice.id, request.lexicon)
            state = RequestState(request, voice, self.plan, outlet, resume, more=more, words=words)
            loop.in_flight[request.id] = outlet

            def add(prepared: VoiceState | None = None) -> None:
                state.voice_state = prepared
                loop.add(state)

            # Under the lock: requests submitted after shutdown begins would be lost.
            if request.reference is None and (voice.id == self._voices[0].id or not self.spec.clones):
                self.wake(add)
            else:
                self.wake(_nothing)  # an unloaded model is loaded meanwhile
                deadline = time.monotonic() + self._timeout_s(request)
                pool = self._reading if request.reference is None else self._encoding
                pool.submit(self._prepare, replace(request, voice=voice.id), outlet, deadline, add)
        return lambda text, last: self.wake(lambda: loop.feed(state, text, last=last))

    def _prepare(
        self, request: Request, outlet: Outlet, deadline: float, add: Callable[[VoiceState | None], None]
    ) -> None:
        """Prepare the voice of a request outside the engine's thread, then add the request to the loop."""
        if self._loop.in_flight.get(request.id) is not outlet:
            return  # cancelled meanwhile
        try:
            try:
                state = self._resident.prepare(request, deadline - time.monotonic())
            except OutOfMemory:
                raise  # refused before it was attempted
            except Exception as error:
                if not ran_out(error):
                    raise
                self._ran_out("memory ran out while a voice was prepared")
                trim_heap()
                state = self._resident.prepare(request, deadline - time.monotonic())
        except TimeoutError:
            self._loop.remove(request.id, outlet)
            outlet.fail(DeadlineExceeded("the deadline passed before the model was loaded"))
        except Exception as error:  # noqa: BLE001 - reported to the reader; this is a thread of its own
            self._loop.remove(request.id, outlet)
            outlet.fail(cause(error, "the voice could not be prepared"))
        else:
            self.wake(lambda: add(state))

    def abort(self, request_id: str) -> None:
        """Stop a request and free its slots before the next step."""

        def stop() -> None:
            if (state := self._loop.scheduler.request(request_id)) is not None:
                self._loop.end(state, Cancelled("the request was cancelled"))

        self._loop.in_flight.pop(
            request_id, None
        )  # at once, so that the id and the place are free for the next request
        self.wake(stop)

    def wake(self, action: Callable[[], None]) -> None:
        """Run a short action in the engine's thread before the next step."""
        self._inbox.put(action)

    def health(self) -> EngineHealth:
        loop = self._loop
        return EngineHealth(
            state="closed" if self._birthplace.elsewhere else self._state,
            slots=loop.scheduler.slots,
            running=loop.scheduler.running,
            waiting=loop.scheduler.waiting,
            starved=loop.scheduler.starved,
            steps=loop.steps,
            rss_bytes=psutil.Process().memory_info().rss,
            error=self._error.message if self._error else "",
            loaded=self._resident.loaded,
            pressure=self._pressure(),
        )

    def clear_caches(self, *, adapt: bool = False) -> ClearedCaches:
        self._birthplace.check()
        if self._state != "ready":
            raise Unavailable("the engine is not ready; try again in a moment", retry_after=1.0)
        held, before, done = process_memory(), self._pressure(), threading.Event()

        def clear() -> None:
            self._loop.clear_caches()
            done.set()

        self.wake(clear)
        if not done.wait(_CLEAR_CACHES_S):
            raise Unavailable("the engine is too busy for this; try again in a moment", retry_after=1.0)
        if adapt:
            self._yield_to(self._look())
        return ClearedCaches(freed=max(0, held - process_memory()), before=before, after=self._pressure())

    def unload(self) -> None:
        self.wake(self._loop.unload)

    def _yield_to(self, now: Resources) -> None:
        """Take all degradation levels that the state of the machine requires."""
        if self._watch is not None:
            self._watch.hurry(now)
        elif (why := classify(now, self.plan).push.get("memory")) is not None:
            way_out = "set adapt=true, or restart it with fewer slots, fewer threads or a lighter precision"
            raise Unavailable(f"{why}, and this engine does not degrade its plan; {way_out}")

    def _pressure(self) -> PressureReport:
        return self._watch.report(self._loop.pending) if self._watch is not None else PressureReport()

    def close(self, drain_s: float = 0.0) -> None:
        if self._birthplace.elsewhere:
            return
        if self._state in ("ready", "loading"):
            self._state = "draining"
        until = time.monotonic() + drain_s
        while self._loop.in_flight and time.monotonic() < until and self._thread.is_alive():
            time.sleep(0.01)
        if self._watch is not None:
            self._watch.stop()
        if self._monitor is not None:
            self._monitor.close()
        self._stop.set()
        self.wake(_nothing)
        if self._thread.ident is not None:
            self._thread.join()
        self._state = "closed"

    # In the engine's thread

    def _run(self) -> None:
        pin(self.plan.affinity)
        self._receive(0.0)  # the plan of an engine that starts degraded
        try:
            self._loop.load()
            self._voices = self._resident.model.voices()
        except Exception as error:  # noqa: BLE001 - whatever loading raises is raised by start()
            # A SaywellError is kept whole, unlike in `cause`: the operator reads the file's name and the way out.
            self._fail(error if isinstance(error, SaywellError) else cause(error, "the model could not be loaded"))
            self._loaded.set()
            return
        self._admission = Admission(self.spec, self.plan, self._voices)
        self._admitting = True
        self._loaded.set()
        try:
            while not self._stop.is_set():
                self._iterate()
        except Exception as error:  # noqa: BLE001 - ends the thread; reported to all requests
            self._on_end(error)
            self._fail(cause(error, "the engine stopped"))
        finally:
            self._shut_down()

    def _iterate(self) -> None:
        """Run the actions of other threads, maintain the model, run one step."""
        loop = self._loop
        self._receive(0.0 if loop.has_work else _PAUSED_S if loop.scheduler else _IDLE_S)
        loop.end_idle()
        loop.maintain_model()
        loop.work()

    def _receive(self, wait_s: float) -> None:
        """Run the actions of other threads; wait at most `wait_s` for the first."""
        try:
            action = self._inbox.get(timeout=wait_s) if wait_s else self._inbox.get_nowait()
            while True:
                action()
                action = self._inbox.get_nowait()
        except queue.Empty:
            pass

    def _fail(self, why: SaywellError) -> None:
        self._error = why
        self._state = "failed"

    def _shut_down(self) -> None:
        with self._accepting:
            self._admitting = False
        why = self._error or EngineClosed("the engine was closed", retry_after=5.0)
        self._resident.give_up(why)
        self._encoding.shutdown(wait=True)
        self._reading.shutdown(wait=True)
        self._receive(0.0)
        for state in self._loop.scheduler.requests():
            state.outlet.fail(why)
        self._loop.in_flight.clear()
        self._resident.unload()


def _nothing() -> None:
    """Only wakes the loop."""
