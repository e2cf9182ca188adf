"""What happens in the engine's thread: start → step → decode → deliver, under the plan that holds at the moment."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import replace

from saywell.engine.request_state import RequestState, SequenceOutput, next_seed
from saywell.engine.resident import READ, ModelHolder, trim_heap
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
from saywell.types import Frame, ModelSpec, Samples, Sequence

_log = logging.getLogger(__name__)

_HOLD_S = 10.0
"""How long new requests wait for those under way, so that the model can be loaded in another precision: only lighter
weights, which memory is won by, are worth that."""
_REDRAW = 1 << 20
"""Steps from a sequence's seed to that of its second draw: far beyond the number of sequences, whose seeds are a step
apart."""
_AGAIN_S = 2.0
"""Pause after a failed attempt to load."""


class Loop:
    """Requests, their sequences, and the model they run on. Every method is called from the engine's thread."""

    def __init__(self, spec: ModelSpec, plan: Plan, resident: ModelHolder, on_ran_out: Callable[[str], None]) -> None:
        """`on_ran_out` is told why when memory has run out and the work is begun anew."""
        self.spec = spec
        self._planned = plan
        self.plan = plan
        """The one that holds now."""
        self.scheduler = Scheduler(plan.max_batch_size, plan.max_parallel_chunks)
        self.in_flight: dict[str, Outlet] = {}
        """Requests admitted and not yet over; others add to it under their own lock."""
        self.steps = 0
        self.seconds_each = 1.0
        self.busy_since: float | None = None
        self._idle_since = time.monotonic()
        self._hold_until = 0.0
        self._load_after = 0.0
        self._stays = False
        """The model has not loaded as the plan in force says: until there is another, it is loaded as planned."""
        self._resident = resident
        self._outputs: dict[Sequence, SequenceOutput] = {}
        self._on_ran_out = on_ran_out

    @property
    def has_work(self) -> bool:
        """Whether some sequence can make a step."""
        return any(sequence.state is not None for sequence in self.scheduler.batch())

    @property
    def _model(self) -> Model:
        return self._resident.model

    @property
    def pending(self) -> tuple[str, ...]:
        """Fields of the plan that the loaded model has not got yet."""
        return self._resident.stale(self.plan)

    # The plan and the model

    def adapt(self, plan: Plan) -> None:
        """Apply a new plan: what the model can change at once, the rest when nothing that has begun is left."""
        fixed, before = self.pending, self.plan
        same = bool(fixed) and all(getattr(plan, name) == getattr(before, name) for name in fixed)
        self._stays = self._stays and same
        self.plan = plan
        self.scheduler.resize(plan.max_batch_size, plan.max_parallel_chunks)
        self._hold_until = time.monotonic() + _HOLD_S
        if not self._resident.loaded:
            return
        try:
            self._model.adapt(plan)
        except Exception as error:  # noqa: BLE001 - half changed it is no use; whatever it was, it is loaded anew
            self._fail_running(error)
            self._resident.unload()
        if plan.cache_bytes < before.cache_bytes:
            trim_heap()

    def maintain_model(self) -> None:
        """Load, load again or unload the model, if this is the moment for it."""
        now = time.monotonic()
        if self.in_flight:
            self._idle_since = now
        if not self._resident.loaded:
            if self._resident.finish_unload() and self.in_flight and now >= self._load_after:
                self._load_for_those_waiting()
            return
        waits = bool(self.pending) and not self._stays and not self._resident.preparing
        self.scheduler.hold = waits and "precision" in self.pending and now < self._hold_until
        if waits and not self.scheduler.started:
            self._load_again()
        elif self.plan.idle_unload_s and now - self._idle_since > self.plan.idle_unload_s:
            _log.info("unloading the model: nothing to do for %g s", self.plan.idle_unload_s)
            self._resident.unload()

    def _load_for_those_waiting(self) -> None:
        begun = time.monotonic()
        try:
            self.load()
        except Exception as error:  # noqa: BLE001 - whoever waits for it is told; the next request tries again
            why = cause(error, "the model could not be loaded")
            for state in self.scheduler.requests():
                self.end(state, why)
            self._load_after = time.monotonic() + _AGAIN_S
        else:
            _log.info("the model was loaded in %.1f s", time.monotonic() - begun)

    def load(self) -> None:
        """Load under the plan in force; if it does not load so, with what no loaded model can change as planned.

        Raises what loading raises.
        """
        planned = replace(self.plan, **{name: getattr(self._planned, name) for name in READ})
        if not self._stays and self.plan != planned:
            try:
                self._resident.load(self.plan)
                return
            except Exception as error:  # noqa: BLE001 - whatever it is, it is known to load as planned
                wanted = ", ".join(f"{name} {change}" for name, change in changed(planned, self.plan).items())
                _log.error("the model cannot be loaded with %s, so it stays as planned", wanted, exc_info=error)
                self._stays = True
            trim_heap()  # what the attempt has left behind
        self._resident.load(planned)
        if self.plan != planned:
            self._model.adapt(self.plan)

    def clear_caches(self) -> None:
        """Forget what can be made anew, and give the memory back to the system. The plan stays."""
        if self._resident.loaded:
            self._model.clear_caches()
        trim_heap()

    def unload(self) -> None:
        """Unload the model if nobody waits for it."""
        if self._resident.loaded and not self.in_flight and not self._resident.preparing:
            self._resident.unload()

    def _load_again(self) -> None:
        wanted = ", ".join(f"{name}={getattr(self.plan, name)}" for name in self.pending)
        _log.warning("the model is loaded again with %s", wanted)
        self._resident.unload()
        if self._resident.finish_unload():  # else on a later turn
            self._load_for_those_waiting()

    # Requests

    def add(self, state: RequestState) -> None:
        if self.in_flight.get(state.request.id) is not state.outlet:
            return  # cancelled meanwhile; the id may be another request's by now
        self.scheduler.add(state)
        self._look_ahead(state)

    def feed(self, state: RequestState, text: str, *, last: bool) -> None:
        """More text of a request, which may not have been added yet, or be over."""
        state.feed(text, last=last)
        if self.scheduler.request(state.request.id) is state:
            self._look_ahead(state)

    def _look_ahead(self, state: RequestState) -> None:
        """See what there is to say next. If nothing is, the request is over, or waits for the rest of its text."""
        try:
            state.look_ahead()
        except Exception as error:  # noqa: BLE001 - a text nobody foresaw ends its own request, not the engine
            self.end(state, cause(error, "the text could not be prepared"))
            return
        if state.starved:
            state.outlet.starve(state.chars)
        elif state.done and state.spoken:
            self._finish(state)
        elif state.done:
            self.end(state, InvalidText("there is nothing to speak in this text", param="text"))

    def end_idle(self) -> None:
        """End requests whose next piece of text does not come for as long as a reader would wait for sound.

        No sound is due, so their readers' clocks stand still; and each holds a stream, a thread or a connection.
        """
        for state in self.scheduler.requests():
            limit_s = state.request.timeout_s or self.plan.timeout_s
            if state.idle_s > limit_s:
                why = f"no text came for {limit_s:g} s; send it sooner, say when it is complete, or raise timeout_s"
                self.end(state, DeadlineExceeded(why, param="timeout_s"))

    def end(self, state: RequestState, error: SaywellError) -> None:
        """End a request before its time."""
        for sequence in self.scheduler.remove(state):
            self._forget(sequence)
        self.leave(state.request.id, state.outlet)
        state.outlet.fail(error)

    def leave(self, request_id: str, outlet: Outlet) -> None:
        """A request is over. Its id may have been taken by another one that is not."""
        if self.in_flight.get(request_id) is outlet:
            del self.in_flight[request_id]

    # One step

    def work(self) -> None:
        """Start who may start, make one step, deliver what it gave."""
        if not self._resident.loaded:
            return
        try:
            self.busy_since = time.monotonic()
            self._start()
            batch = [sequence for sequence in self.scheduler.batch() if sequence.state is not None]
            if batch:
                frames = self._model.step(batch)
                self.steps += 1
                self._deliver(frames)
        except ModelBroken:
            raise  # to the engine, which ends
        except SequenceError as error:
            if ran_out(error.cause):
                self._retry_after_oom(error.cause)
            else:
                self.end(self._outputs[error.sequence].owner, cause(error.cause, "a sequence failed"))
        except Exception as error:  # noqa: BLE001 - a broken step fails the sequences in it, not the engine
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
            except Exception as error:  # noqa: BLE001 - a text nobody foresaw ends its own request, not the others
                self.end(state, cause(error, "the text could not be prepared"))
            else:
                self._outputs[sequence] = SequenceOutput(state, sequence)
        # One that failed is gone from the outputs, and those after it are still to be prefilled on the next turn.
        fresh = [sequence for sequence in self._outputs if sequence.state is None]
        if retrying:
            fresh = fresh[:1] if len(fresh) == len(self._outputs) else []
        if fresh:
            self._model.prefill(fresh)

    def _deliver(self, frames: list[Frame]) -> None:
        """Frames to their outputs; what is due is decoded together, judged and sent."""
        for frame in frames:
            output = self._outputs.get(frame.sequence)  # None if a sibling's failure has just ended its request
            if output is not None and frame.error is not None:
                self.end(output.owner, frame.error)
            elif output is not None:
                output.add(frame, self.plan)
        due = [output for frame in frames if (output := self._outputs.get(frame.sequence)) is not None and output.due]
        for job, samples in self._decode([output.decode_job(self.plan) for output in due]):
            if (output := self._outputs.get(job.sequence)) is not None:  # None: a sibling's failure has ended it
                self._send(output, samples)

    def _decode(self, jobs: list[DecodeJob]) -> list[tuple[DecodeJob, Samples]]:
        """Samples of each job, but of those whose request fails meanwhile."""
        while jobs:
            try:
                return list(zip(jobs, self._model.decode(jobs), strict=True))
            except SequenceError as error:
                if ran_out(error.cause):
                    raise
                self.end(self._outputs[error.sequence].owner, cause(error.cause, "a sequence failed"))
                jobs = [job for job in jobs if job.sequence in self._outputs]
        return []

    def _send(self, output: SequenceOutput, samples: Samples) -> None:
        state = output.owner
        try:
            chunk = output.chunk(samples)
            self._refuse_bad_end(output)
        except BadAudio as error:
            if self._may_draw_again(output):
                self._draw_again(output)
            else:
                self.end(state, error)
            return
        state.put(output.sequence, chunk)
        if output.finish is None:
            return
        self._forget(output.sequence)
        state.finish_sequence(output.sequence, output.finish)
        self._look_ahead(state)

    def _refuse_bad_end(self, output: SequenceOutput) -> None:
        """An end nobody asked for is an error, never a short answer under a success."""
        sequence = output.sequence
        limited = sequence.request.max_frames is not None and sequence.frames >= sequence.max_frames
        asked = output.finish == "length" and limited
        if output.finish in ("length", "loop", "empty") and not asked:
            raise BadAudio(
                f"generation ended with {output.finish!r} instead of by itself; "
                "try another seed, a lower temperature or a shorter text"
            )

    def _may_draw_again(self, output: SequenceOutput) -> bool:
        """Whether another draw may do better: it would be another one, nothing was heard, and it is the first time."""
        greedy = output.sequence.request.sampling.temperature == 0
        return self.spec.kind == "autoregressive" and not (greedy or output.heard or output.redrawn)

    def _draw_again(self, output: SequenceOutput) -> None:
        _log.info("drawing a sequence again after a bad end")
        sequence = output.sequence
        self._reset(sequence)
        sequence.seed = next_seed(sequence.seed, _REDRAW)
        self._outputs[sequence] = SequenceOutput(output.owner, sequence, redrawn=True)  # prefilled on the next turn

    def _finish(self, state: RequestState) -> None:
        self.scheduler.remove(state)
        self.leave(state.request.id, state.outlet)
        summary = state.summary()
        self.seconds_each += 0.1 * (summary.total_s - self.seconds_each)
        state.outlet.finish(summary)

    def _forget(self, sequence: Sequence) -> None:
        self._outputs.pop(sequence, None)
        self.scheduler.finish(sequence)
        self._model.release(sequence)

    def _reset(self, sequence: Sequence) -> None:
        """As if it had just been given its slot."""
        self._model.release(sequence)
        sequence.state, sequence.frames = None, 0

    # Failures

    @property
    def _retry_mode(self) -> bool:
        """While sequences that met a lack of memory are spoken again, one after the other and nothing beside them."""
        return any(output.retrying_oom for output in self._outputs.values())

    @property
    def _alone(self) -> SequenceOutput | None:
        """The sequence that is spoken while the others wait; None if they are not made to wait."""
        outputs = list(self._outputs.values())
        running = [output for output in outputs if output.sequence.state is not None]
        return (running or outputs)[0] if self._retry_mode else None

    def _retry_after_oom(self, error: Exception) -> None:
        """Free what can be freed and speak what was running again, alone, from where it was heard to. Once: a second
        time the one that was being spoken alone is ended, and the others get their turn."""
        _log.warning("memory ran out (%s); beginning anew with less", type(error).__name__)
        alone = self._alone
        for state in self.scheduler.requests():
            outputs = [output for output in self._outputs.values() if output.owner is state]
            between = len(outputs) < state.running  # one has been forgotten here and not in the state
            if between or alone in outputs:
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
            if state.running:  # asked of the state: its output may have been forgotten just before the step failed
                self.end(state, why)


def cause(error: Exception, what: str) -> SaywellError:
    """An error for the reader; what is not meant for readers goes to the log, with its traceback.

    A family's or a runtime's own errors are not: they name files and nodes of graphs.
    """
    if isinstance(error, SaywellError) and type(error).__module__ == SaywellError.__module__:
        return error
    _log.error("%s", what, exc_info=error)
    return out_of_memory() if ran_out(error) else ModelFailure(f"{what}: {type(error).__name__}")


def out_of_memory() -> OutOfMemory:
    return OutOfMemory(
        "memory ran out, and again with less work at once; send a shorter text, close other programs, raise the memory "
        "limit, or set fewer slots or a lighter precision",
        retry_after=5.0,
    )
