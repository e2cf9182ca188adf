"""Request → Sequences → Frames → AudioChunks: scheduling, streaming, and the worker process.

`Engine` runs in this process, `EngineClient` runs an engine in a worker process, `BalancedEngine` shares requests
out to several engines; each is a `SpeechEngine`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, Protocol

from saywell.plan.degradation import PressureReport

if TYPE_CHECKING:
    from saywell.engine.stream import Stream
    from saywell.plan.plan import Plan
    from saywell.types import ModelSpec, Request, Voice

State = Literal["loading", "ready", "hung", "draining", "failed", "closed"]
"""hung: the worker has sent no pulse for a while; it recovers or is replaced."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineHealth:
    """The state of an engine; reading it never blocks."""

    state: State
    slots: int
    running: int
    """Sequences that hold a slot."""
    waiting: int
    """Requests that wait for their next slot and hold none."""
    starved: int = 0
    """Requests whose text so far has been spoken and that wait for more text."""
    steps: int
    """Model steps since the start."""
    restarts: int = 0
    """Workers replaced since the start."""
    rss_bytes: int = 0
    """Resident memory of the process that holds the model; of several, the largest."""
    error: str = ""
    """Why the state is `failed`."""
    loaded: bool = True
    """Whether the model is in memory; if it is not while `ready`, the next request loads it."""
    pressure: PressureReport = field(default_factory=PressureReport)
    """How the plan is degraded."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClearedCaches:
    """What `clear_caches` did."""

    freed: int
    """Bytes returned to the system; 0 if the process grew meanwhile."""
    before: PressureReport
    after: PressureReport


class SpeechEngine(Protocol):
    """An engine, as used by the server, the command line and the Python API."""

    spec: ModelSpec
    plan: Plan

    def start(self) -> None:
        """Load the model and wait until it has produced checked audio. Raises a SaywellError if it cannot."""
        ...

    def submit(self, request: Request, *, more: bool = False) -> Stream:
        """Admit a request and return the stream of its audio. Never waits for the model. Raises a SaywellError.

        `more`: `request.text` is empty, and the text is fed to the stream as it arrives (`feed`, `end_text`). The audio
        is the same as of the whole text.
        """
        ...

    def voices(self) -> tuple[Voice, ...]: ...

    def health(self) -> EngineHealth: ...

    def clear_caches(self, *, adapt: bool = False) -> ClearedCaches:
        """Empty the model's caches and return memory to the system, between two steps. Blocks until it is done.

        `adapt`: then degrade at once as far as the state of the machine requires. Raises Unavailable if the engine is
        not ready or too busy.
        """
        ...

    def unload(self) -> None:
        """Unload the model if it is idle; the next request loads it again. Does not block."""
        ...

    def close(self, drain_s: float = 0.0) -> None:
        """Refuse new requests, let running ones finish for at most `drain_s`, then release everything."""
        ...
