"""The loop of the engine's thread: start → step → decode → deliver, under the plan in force."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import replace

from saywell.engine.model_holder import READ, ModelHolder
from saywell.engine.request_state import RequestState, SequenceOutput, next_seed
from saywell.engine.scheduler import Scheduler
from saywell.engine.stream import Outlet
from saywell.errors import (
    BadAudio,
    DeadlineExceeded,
    InvalidText,
    ModelFailure,
    OutOfMemory,
    SaywellError,
)
from saywell.models.base import DecodeJob, Model, ModelBroken, SequenceError
from saywell.plan.plan import Plan, changed
from saywell.runtimes.out_of_memory import ran_out
from saywell.runtimes.pages import trim_heap
from saywell.types import Frame, ModelSpec, Samples, Sequence

_log = logging.getLogger(__name__)

_HOLD_S = 10.0
"""How long new requests are held back so that running ones drain and the model can be reloaded in another precision.
Other changes are not worth it: only lighter weights free much memory."""
_RESAMPLE = 1 << 20
"""Steps from a sequence's seed to the seed of its retry: more than a request has sequences, whose seeds are one step
apart."""
_LOAD_RETRY_S = 2.0
"""Pause after a failed load."""


class Loop:
    """Runs the sequences of all requests on the model. Every method is called from the engine's thread."""

    def __init__(self, spec: ModelSpec, plan: Plan, resident: ModelHolder, on_ran_out: Callable[[str], None]) -> None:
        """`on_ran_out(reason)`: called when memory ran out and sequences are retried."""
        self.spec = spec
        self._planned = plan
        self.plan = plan
        """The plan in force."""
        self.scheduler = Scheduler(plan.max_batch_size, plan.max_parallel_chunks)
        self.in_flight: dict[str, Outlet] = {}
        """Requests admitted and not over, by id; the engine adds to it under its own lock."""
        self.steps = 0
        self.seconds_each = 1.0
        self.busy_since: float | None = None
        self._idle_since = time.monotonic()
        self._hold_until = 0.0
        self._load_after = 0.0
        self._load_as_planned = False
        """Loading under the degraded plan failed; use the original precision until the plan changes."""
        self._resident = resident
        self._outputs: dict[Sequence, SequenceOutput] = {}
        self._on_ran_out = on_ran_out

    @property
    def has_work(self) -> bool:
        """Whether any sequence is ready for a step."""
        return any(sequence.state is not None for sequence in self.scheduler.batch())

    @property
    def _model(self) -> Model:
        return self._resident.model

    @property
    def pending(self) -> tuple[str, ...]:
        """Fields of the plan in force that the loaded model has not applied yet."""
        return self._resident.stale(self.plan)

    # The plan and the model

    def adapt(self, plan: Plan) -> None:
        """Apply a new plan: live fields immediately; the others by a reload once in-flight requests have drained."""
        fixed, before = self.pending, self.plan
        same = bool(fixed) and all(getattr(plan, name) == getattr(before, name) for name in fixed)
        self._load_as_planned = self._load_as_planned and same
        self.plan = plan
        self.scheduler.resize(plan.max_batch_size, plan.max_parallel_chunks)
        self._hold_until = time.monotonic() + _HOLD_S
        if not self._resident.loaded:
            return
        try:
            self._model.adapt(plan)
        except Exception as error:  # noqa: BLE001 - a model that is half adapted must be reloaded, whatever the error
            self._fail_running(error)
            self._resident.unload()
        if plan.cache_bytes < before.cache_bytes:
            trim_heap()

    def maintain_model(self) -> None:
        """Load, reload or idle-unload the model if due."""
        now = time.monotonic()
        if self.in_flight:
            self._idle_since = now
        if not self._resident.loaded:
            if self._resident.finish_unload() and self.in_flight and now >= self._load_after:
                self._load_for_waiting()
            return
        reload = bool(self.pending) and not self._load_as_planned and not self._resident.preparing
        self.scheduler.hold = reload and "precision" in self.pending and now < self._hold_until
        if reload and not self.scheduler.started:
            self._reload()
        elif self.plan.idle_unload_s and now - self._idle_since > self.plan.idle_unload_s:
            _log.info("unloading the model: idle for %g s", self.plan.idle_unload_s)
            self._resident.unload()

    def _load_for_waiting(self) -> None:
        """Load the model; if that fails, fail the waiting requests. A later request tries again."""
        started = time.monotonic()
        try:
            self.load()
        except Exception as error:  # noqa: BLE001 - whatever loading raises is reported to the waiting requests
            why = cause(error, "the model could not be loaded")
            for state in self.scheduler.requests():
                self.end(state, why)
            self._load_after = time.monotonic() + _LOAD_RETRY_S
        else:
            _log.info("the model was loaded in %.1f s", time.monotonic() - started)

    def load(self) -> None:
        """Load under the plan in force; if that fails, with its fixed fields as originally planned.

        Raises what loading raises.
        """
        planned = replace(self.plan, **{name: getattr(self._planned, name) for name in READ})
        if not self._load_as_planned and self.plan != planned:
            try:
                self._resident.load(self.plan)
                return
            except Exception as error:  # noqa: BLE001 - whatever the error, the original plan is known to load
                wanted = ", ".join(f"{name} {change}" for name, change in changed(planned, self.plan).items())
                _log.error("loading with %s failed; loading as planned", wanted, exc_info=error)
                self._load_as_planned = True
            trim_heap()  # after the failed attempt
        self._resident.load(planned)
        if self.plan != planned:
            self._model.adapt(self.plan)

    def clear_caches(self) -> None:
        """Empty the model's caches and return memory to the system. The plan does not change."""
        if self._resident.loaded:
            self._model.clear_caches()
        trim_heap()

    def unload(self) -> None:
        """Unload the model if it is idle."""
        if self._resident.loaded and not self.in_flight and not self._resident.preparing:
            self._resident.unload()

    def _reload(self) -> None:
        wanted = ", ".join(f"{name}={getattr(self.plan, name)}" for name in self.pending)
        _log.warning("reloading the model with %s", wanted)
        self._resident.unload()
        if self._resident.finish_unload():  # otherwise on a later turn
            self._load_for_waiting()

    # Requests

    def add(self, state: RequestState) -> None:
        if self.in_flight.get(state.request.id) is not state.outlet:
            return  # cancelled meanwhile; the id may be another request's by now
        self.scheduler.add(state)
        self._look_ahead(state)

    def feed(self, state: RequestState, text: str, *, last: bool) -> None:
        """Add text to a request, which may not have been added yet or may be over."""
        state.feed(text, last=last)
        if self.scheduler.request(state.request.id) is state:
            self._look_ahead(state)

    def _look_ahead(self, state: RequestState) -> None:
        """Prepare the request's next chunk of text. If there is none, the request is over or waits for more text."""
        try:
            state.look_ahead()
        except Exception as error:  # noqa: BLE001 - text preparation that fails ends its own request only
            self.end(state, cause(error, "the text could not be prepared"))
            return
        if state.starved:
            state.outlet.starve(state.chars)
        elif state.done and state.spoken:
            self._finish(state)
        elif state.done:
            self.end(state, InvalidText("there is nothing to speak in this text", param="text"))

    def end_idle(self) -> None:
        """End requests that have waited longer than their timeout for more text.

        Their readers' deadlines do not run while no audio is due, and each holds a stream, a thread or a connection.
        """
        for state in self.scheduler.requests():
            limit_s = state.request.timeout_s or self.plan.timeout_s
            if state.idle_s > limit_s:
                why = f"no text came for {limit_s:g} s; send it sooner, end the text, or raise timeout_s"
                self.end(state, DeadlineExceeded(why, param="timeout_s"))

    def end(self, state: RequestState, error: SaywellError) -> None:
        """End a request with an error and free its slots."""
        for sequence in self.scheduler.remove(state):
            self._forget(sequence)
        self.remove(state.request.id, state.outlet)
        state.outlet.fail(error)

    def remove(self, request_id: str, outlet: Outlet) -> None:
        """Remove a request from those in flight, unless a newer one has taken its id."""
        if self.in_flight.get(request_id) is outlet:
            del self.in_flight[request_id]

    # One step

    def work(self) -> None:
        """Start sequences, run one step, deliver its audio."""
        if not self._resident.loaded:
            return
        try:
            self.busy_since = time.monotonic()
            self._start()
            batch = [each for each in self.scheduler.batch() if each.state is not None and not self._over(each)]
            if batch:
                frames = self._model.step(batch)
                self.steps += 1
                self._add(frames)
            self._decode()
        except ModelBroken:
            raise  # ends the engine
        except SequenceError as error:
            if ran_out(error.cause):
                self._retry_after_oom(error.cause)
            else:
                self.end(self._outputs[error.sequence].owner, cause(error.cause, "a sequence failed"))
        except Exception as error:  # noqa: BLE001 - a step that fails ends the requests in it, not the engine
            if ran_out(error):
                self._retry_after_oom(error)
            else:
                self._fail_running(error)
        finally:
            self.busy_since = None

    def _start(self) -> None:
        retrying = self._retry_mode
        while not retrying and (state := self.scheduler.next_request()) is not None:
            try:
                sequence = self.scheduler.schedule(state)
            except Exception as error:  # noqa: BLE001 - text preparation that fails ends its own request only
                self.end(state, cause(error, "the text could not be prepared"))
            else:
                self._outputs[sequence] = SequenceOutput(state, sequence)
        # After a prefill that failed, the sequences behind the failed one are prefilled on the next turn.
        fresh = [sequence for sequence in self._outputs if sequence.state is None]
        if retrying:
            fresh = fresh[:1] if len(fresh) == len(self._outputs) else []
        if fresh:
            self._model.prefill(fresh)

    def _over(self, sequence: Sequence) -> bool:
        """Whether a sequence has its last frame, which may still be decoded."""
        return self._outputs[sequence].finish is not None

    def _add(self, frames: list[Frame]) -> None:
        for frame in frames:
            output = self._outputs.get(frame.sequence)  # None: another sequence's failure has ended the request
            if output is not None and frame.error is not None:
                self.end(output.owner, frame.error)
            elif output is not None:
                output.add(frame, self.plan)

    def _decode(self) -> None:
        """Decode what is due; check and send the audio of the jobs that are done."""
        for each in self._outputs.values():
            if each.due:
                each.begin_job(self.plan)
        for job, samples in self._decoded([each.job for each in self._outputs.values() if each.job is not None]):
            output = self._outputs.get(job.sequence)  # None: another sequence's failure has ended the request
            if output is not None and samples is not None:
                self._send(output, samples, last=job.last)

    def _decoded(self, jobs: list[DecodeJob]) -> list[tuple[DecodeJob, Samples | None]]:
        """The samples of each job. A job that fails ends its request, and the others are decoded without it."""
        while jobs:
            try:
                return list(zip(jobs, self._model.decode(jobs), strict=True))
            except SequenceError as error:
                if ran_out(error.cause):
                    raise
                self.end(self._outputs[error.sequence].owner, cause(error.cause, "a sequence failed"))
                jobs = [job for job in jobs if job.sequence in self._outputs]
        return []

    def _send(self, output: SequenceOutput, samples: Samples, *, last: bool) -> None:
        state = output.owner
        try:
            chunk = output.chunk(samples, last=last)
            if last:
                self._check_finish(output)
        except BadAudio as error:
            if self._may_resample(output):
                self._resample(output)
            else:
                self.end(state, error)
            return
        state.put(output.sequence, chunk)
        if not last:
            return
        assert output.finish is not None
        self._forget(output.sequence)
        state.finish_sequence(output.sequence, output.finish)
        self._look_ahead(state)

    def _check_finish(self, output: SequenceOutput) -> None:
        """Raise BadAudio for a sequence that did not end by itself, unless it has reached the request's own limit."""
        sequence = output.sequence
        limited = sequence.request.max_frames is not None and sequence.frames >= sequence.max_frames
        asked = output.finish == "length" and limited
        if output.finish in ("length", "loop", "empty") and not asked:
            raise BadAudio(
                f"generation ended with {output.finish!r} instead of by itself; "
                "try another seed, a lower temperature or a shorter text"
            )

    def _may_resample(self, output: SequenceOutput) -> bool:
        """Whether to resample: sampling is not greedy, no audio has been sent, and this is the first retry."""
        greedy = output.sequence.request.sampling.temperature == 0
        return self.spec.kind == "autoregressive" and not (greedy or output.sent or output.resampled)

    def _resample(self, output: SequenceOutput) -> None:
        _log.info("resampling a sequence whose audio was refused")
        sequence = output.sequence
        self._reset(sequence)
        sequence.seed = next_seed(sequence.seed, _RESAMPLE)
        self._outputs[sequence] = SequenceOutput(output.owner, sequence, resampled=True)  # prefilled on the next turn

    def _finish(self, state: RequestState) -> None:
        self.scheduler.remove(state)
        self.remove(state.request.id, state.outlet)
        summary = state.summary()
        self.seconds_each += 0.1 * (summary.total_s - self.seconds_each)
        state.outlet.finish(summary)

    def _forget(self, sequence: Sequence) -> None:
        self._outputs.pop(sequence, None)
        self.scheduler.finish(sequence)
        self._model.release(sequence)

    def _reset(self, sequence: Sequence) -> None:
        """Return a sequence to its state before prefill."""
        self._model.release(sequence)
        sequence.state, sequence.frames = None, 0

    # Failures

    @property
    def _retry_mode(self) -> bool:
        """True while sequences hit by OOM are being retried; they run one at a time."""
        return any(output.retrying_oom for output in self._outputs.values())

    @property
    def _alone(self) -> SequenceOutput | None:
        """The sequence that is being retried; None outside the retry mode."""
        outputs = list(self._outputs.values())
        running = [output for output in outputs if output.sequence.state is not None]
        return (running or outputs)[0] if self._retry_mode else None

    def _retry_after_oom(self, error: Exception) -> None:
        """Degrade, free memory and retry the running sequences one at a time; audio already sent is not sent again.
        A sequence that runs out of memory alone as well ends its request."""
        _log.warning("memory ran out (%s); retrying with less", type(error).__name__)
        alone = self._alone
        for state in self.scheduler.requests():
            outputs = [output for output in self._outputs.values() if output.owner is state]
            ended = len(outputs) < state.running  # memory ran out after the last audio of a sequence
            if ended or alone in outputs:
                self.end(state, out_of_memory())
                continue
            for output in outputs:
                self._reset(output.sequence)
                self._outputs[output.sequence] = output.retry()
        self._on_ran_out("memory ran out in the middle of a step")
        trim_heap()

    def _fail_running(self, error: Exception) -> None:
        why = cause(error, "a model step failed")
        for state in self.scheduler.requests():
            if state.running:  # the state, not the outputs: an output may have been removed just before the failure
                self.end(state, why)


def cause(error: Exception, what: str) -> SaywellError:
    """The error to report to the reader. Errors of families and runtimes, which name files and graph nodes, go to the
    log with their tracebacks and are replaced by a general one."""
    if isinstance(error, SaywellError) and type(error).__module__ == SaywellError.__module__:
        return error
    _log.error("%s", what, exc_info=error)
    return out_of_memory() if ran_out(error) else ModelFailure(f"{what}: {type(error).__name__}")


def out_of_memory() -> OutOfMemory:
    return OutOfMemory(
        "memory ran out, also when retried alone; send a shorter text, close other programs, raise the memory limit, "
        "or set a smaller max_batch_size or a lighter precision",
        retry_after=5.0,
    )
