"""A SpeechEngine whose audio says which request it belongs to, and which fails in every way it is told to.

`python tests/fake_engine.py PORT [NAME=VALUE …]` serves one, its knobs set from the command line.
"""

from __future__ import annotations

import hashlib
import json
import sys
import threading
import time
from dataclasses import dataclass, field, replace

import numpy as np

from plans import TINY_PLAN
from saywell.engine import ClearedCaches, EngineHealth, State
from saywell.engine.admission import Admission
from saywell.engine.launch import Decision
from saywell.engine.stream import Stream
from saywell.errors import EngineClosed, ModelFailure, SaywellError, Unavailable
from saywell.machine import Cpu, Hardware
from saywell.plan.degradation import PressureReport
from saywell.plan.plan import Plan
from saywell.settings import Settings
from saywell.types import SPEED, AudioChunk, ModelSpec, Request, Samples, Summary, Variant, Voice

RATE = 24_000
SPEC = ModelSpec(
    name="fake",
    family="fake",
    kind="single-shot",
    sample_rate=RATE,
    frame_rate=10.0,
    variants=(Variant(executor="process", precision="fp32", weight_bytes=1),),
    options=SPEED,
    default_voice="heart",
)
PLAN = replace(
    TINY_PLAN,
    model="fake",
    executor="process",
    max_batch_size=16,
    max_parallel_chunks=1,
    max_queue=64,
    chunk_chars=200,
    first_frames=1,
    chunk_frames=4,
    max_frames=1000,
    timeout_s=5.0,
    buffer_s=5.0,
    stall_s=20.0,
    memory_budget=1 << 30,
    adapt=True,
)
HARDWARE = Hardware(
    os="linux",
    arch="x86_64",
    python="3.11.7",
    product="",
    cpu=Cpu(
        model="Testing 1", vendor="T", sockets=1, physical=2, logical=2, performance=2, efficiency=0,
    ),
    memory=8 << 30,
)  # fmt: skip
VOICES = tuple(
    Voice(id=name, name=name.upper(), language="en-US", sample_rate=RATE)
    for name in ("heart", "fenrir", "fable", "kore")
)


@dataclass
class Knobs:
    """What the next requests do."""

    chunks: int = 5
    chunk_s: float = 0.1
    first_delay_s: float = 0.0
    delay_s: float = 0.0
    fail_at: int | None = None
    """Fail instead of giving this chunk."""
    error: SaywellError = field(default_factory=lambda: ModelFailure("the fake model failed"))
    pressure: tuple[str, ...] = ()
    """Names of the steps that a look at the machine leads to."""
    hang_at: int | None = None
    """Give nothing any more from this chunk on."""
    refuse: SaywellError | None = None
    """Raise it on submission."""
    load_s: float = 0.0
    load_error: SaywellError | None = None


def tagged(request: Request, index: int, seconds: float) -> Samples:
    """Sound that depends on the text, the voice, the seed and its place, and on nothing else."""
    key = json.dumps([request.text, request.voice, request.sampling.seed, request.speed, index]).encode()
    seed = int.from_bytes(hashlib.sha256(key).digest()[:8], "big")
    noise = np.random.default_rng(seed).standard_normal(int(seconds * RATE))
    return (0.1 * np.clip(noise, -3, 3)).astype(np.float32)


class FakeEngine:
    """One thread a request, no model."""

    def __init__(self, plan: Plan = PLAN, spec: ModelSpec = SPEC, *, started: bool = True, **knobs: object) -> None:
        self.spec = spec
        self.plan = plan
        self.knobs = Knobs(**knobs)  # type: ignore[arg-type]
        self.requests: list[Request] = []
        self.ended: dict[str, float] = {}
        """Request id → when its work stopped, on the monotonic clock."""
        self.tidied: list[bool] = []
        """What `clear_caches` was asked."""
        self.pressure = PressureReport()
        self.loaded = True
        """What `health` tells of both."""
        self._admission = Admission(spec, plan, VOICES)
        self._state: State = "ready" if started else "loading"
        self._error = ""
        self._running: dict[str, Stream] = {}
        self._lock = threading.Lock()

    @property
    def running(self) -> int:
        return len(self._running)

    def start(self) -> None:
        until = time.monotonic() + self.knobs.load_s
        while time.monotonic() < until:
            time.sleep(0.01)
            if self._state == "closed":
                raise EngineClosed("the engine was closed while it was loading")
        if self.knobs.load_error is not None:
            self._state, self._error = "failed", self.knobs.load_error.message
            raise self.knobs.load_error
        self._state = "ready"

    def voices(self) -> tuple[Voice, ...]:
        return VOICES if self._state != "loading" else ()

    def submit(self, request: Request, *, more: bool = False) -> Stream:
        assert not more, "text that comes piece by piece is tried with engines that speak"
        if self._state == "loading":
            raise Unavailable("the model is still loading; try again in a moment", retry_after=1.0)
        if self._state != "ready":
            raise EngineClosed("the engine is shutting down", retry_after=5.0)
        if self.knobs.refuse is not None:
            raise self.knobs.refuse
        self._admission.check(request, {other: stream.window for other, stream in self._running.items()}, 1.0)
        stream = Stream(
            request,
            window_s=self.plan.buffer_s,
            timeout_s=request.timeout_s or self.plan.timeout_s,
            on_close=lambda: self._end(request.id),
        )
        with self._lock:
            self.requests.append(request)
            self._running[request.id] = stream
        threading.Thread(target=self._speak, args=(stream, replace(self.knobs)), daemon=True).start()
        return stream

    def _speak(self, stream: Stream, knobs: Knobs) -> None:
        request, began = stream.request, time.monotonic()
        self._wait(request, knobs.first_delay_s)
        first = time.monotonic()
        for index in range(knobs.chunks):
            if index:
                self._wait(request, knobs.delay_s)
            while request.id in self._running and (index == knobs.hang_at or not stream.window.wants_more()):
                time.sleep(0.005)
            if request.id not in self._running:
                return
            if index == knobs.fail_at:
                self._end(request.id)
                stream.fail(knobs.error)
                return
            stream.put(
                AudioChunk(
                    request_id=request.id,
                    index=0,
                    samples=tagged(request, index, knobs.chunk_s),
                    sample_rate=RATE,
                    final=index == knobs.chunks - 1,
                )
            )
        self._end(request.id)
        stream.finish(self._summary(request, knobs, began, first))

    def _wait(self, request: Request, seconds: float) -> None:
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0 and request.id in self._running:
            time.sleep(min(left, 0.005))

    def _summary(self, request: Request, knobs: Knobs, began: float, first: float) -> Summary:
        return Summary(
            finish_reason="stop",
            sequences=1,
            frames=knobs.chunks,
            audio_s=knobs.chunks * knobs.chunk_s,
            queued_s=0.0,
            first_audio_s=first - began,
            total_s=time.monotonic() - began,
            seed=request.sampling.seed or 0,
        )

    def _end(self, request_id: str) -> None:
        with self._lock:
            if self._running.pop(request_id, None) is not None:
                self.ended[request_id] = time.monotonic()

    def health(self) -> EngineHealth:
        return EngineHealth(
            state=self._state, slots=self.plan.max_batch_size, running=len(self._running), waiting=0, steps=0,
            error=self._error, loaded=self.loaded, pressure=self.pressure,
        )  # fmt: skip

    def unload(self) -> None:
        self.loaded = False

    def clear_caches(self, *, adapt: bool = False) -> ClearedCaches:
        if self._state != "ready":
            raise Unavailable("the engine is not ready", retry_after=1.0)
        self.tidied.append(adapt)
        steps = self.knobs.pressure if adapt else ()
        reason = "97 % of memory is in use" if steps else ""
        after = PressureReport(level=len(steps), steps=steps, reason=reason)
        return ClearedCaches(freed=3 << 20, before=PressureReport(), after=after)

    def close(self, drain_s: float = 0.0) -> None:
        self._state = "closed"
        for stream in list(self._running.values()):
            self._end(stream.request.id)
            stream.fail(EngineClosed("the engine was closed", retry_after=5.0))


def decision(engine: FakeEngine, **overrides: object) -> Decision:
    settings = Settings(**overrides)  # type: ignore[arg-type]
    return Decision(settings=settings, hardware=HARDWARE, spec=engine.spec, plan=engine.plan)


def main() -> int:
    from saywell.server.app import serve

    port, *pairs = sys.argv[1:]
    values = {name: json.loads(value) for name, _, value in (pair.partition("=") for pair in pairs)}
    overrides = {name: values.pop(name) for name in list(values) if name in Settings.__dataclass_fields__}
    plan = replace(PLAN, **{name: values.pop(name) for name in list(values) if name in Plan.__dataclass_fields__})
    if broken := values.pop("load_error", ""):
        values["load_error"] = ModelFailure(broken)
    engine = FakeEngine(plan, started=False, **values)
    return serve(engine, decision(engine, port=int(port), **overrides))


if __name__ == "__main__":
    sys.exit(main())
