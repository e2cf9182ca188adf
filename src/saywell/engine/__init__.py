"""Request → Sequences → Frames → AudioChunks: scheduling, streaming and the process that does it.

`Engine` runs in this process, `EngineClient` runs the same engine in a worker process; both are a `SpeechEngine`.
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
"""hung: the worker has said nothing for a while; it may go on, or be replaced."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineHealth:
    """A glance at an engine; taking it never waits for the engine."""

    state: State
    slots: int
    running: int
    """Sequences in a slot."""
    waiting: int
    """Requests without a slot."""
    starved: int = 0
    """Requests that have said all they can and wait for more of their text."""
    steps: int
    """Model steps since the start."""
    restarts: int = 0
    """Workers replaced since the start."""
    rss_bytes: int = 0
    """ModelHolder memory of the process that holds the model."""
    error: str = ""
    """Why the state is `failed`."""
    loaded: bool = True
    """Whether the model is in memory; if not while `ready`, the next request loads it."""
    pressure: PressureReport = field(default_factory=PressureReport)
    """What has been given up under pressure."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClearedCaches:
    """What `clear_caches` did."""

    freed: int
    """Bytes the process that holds the model gave back to the system; 0 if it grew meanwhile."""
    before: PressureReport
    after: PressureReport


class SpeechEngine(Protocol):
    """What the server, the command line and the Python API speak to."""

    spec: ModelSpec
    plan: Plan

    def start(self) -> None:
        """Load the model and wait until it has produced checked audio. Raises what went wrong."""
        ...

    def submit(self, request: Request, *, more: bool = False) -> Stream:
        """Admit a request and return its audio on the way. Never waits for the model. Raises a SaywellError.

        `more`: `request.text` is empty, and the text is fed to the stream as it arrives (`feed`, `end_text`). What is
        heard is what the whole text would have given.
        """
        ...

    def voices(self) -> tuple[Voice, ...]: ...

    def health(self) -> EngineHealth: ...

    def clear_caches(self, *, adapt: bool = False) -> ClearedCaches:
        """Between two steps: empty the model's caches and give memory back to the system.

        `adapt`: then look at the machine and go at once where the ladder would lead. Waits for it; raises Unavailable.
        """
        ...

    def unload(self) -> None:
        """Give the model's memory back if nothing is being spoken; the next request loads it. Does not wait for it."""
        ...

    def close(self, drain_s: float = 0.0) -> None:
        """Take no more requests, let the running ones finish for at most `drain_s`, give everything back."""
        ...
