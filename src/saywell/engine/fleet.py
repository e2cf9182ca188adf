"""Several models in one server: each has its own engine, started by the first request for it, closed when it has been
idle for a while or when another model needs its memory.

The server's own model keeps its worker: only its weights are unloaded, and its next request loads them again.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from saywell.engine import EngineHealth, SpeechEngine
from saywell.engine.launch import Decision, build, decide, learn
from saywell.engine.stream import Stream
from saywell.errors import EngineClosed, OutOfMemory, TooManyRequests, Unavailable, UnknownModel
from saywell.models.installed import Installed, installed
from saywell.plan.memory import MIB, busy, mb
from saywell.plan.plan import Plan
from saywell.settings import OF_ONE_MODEL, default_data_dir
from saywell.types import Request

_log = logging.getLogger(__name__)

KEEP_ALIVE_S = 300.0
"""Default time a model other than the server's own stays loaded after its last request."""
FOREVER = float("inf")
_EVERY_S = 0.5
_LOAD_RETRY_S = 5.0
_UNLOAD_S = 3.0
"""How long to wait for a worker to unload its model."""


@dataclass(slots=True, eq=False)
class _Member:
    """A model that has been requested."""

    name: str
    decision: Decision
    keep_s: float
    engine: SpeechEngine | None = None
    """None while it is not loaded."""
    used: float = field(default_factory=time.monotonic)
    """Time of the last request, on the monotonic clock."""
    starting: threading.Lock = field(default_factory=threading.Lock)

    def idle_s(self) -> float:
        """Seconds since it was last in use; 0 while it is, or is loading."""
        health = self.engine.health() if self.engine is not None else None
        if health is not None and (health.running or health.waiting or health.starved or health.state == "loading"):
            self.used = time.monotonic()
            return 0.0
        return time.monotonic() - self.used

    @property
    def loaded(self) -> bool:
        return self.engine is not None and self.engine.health().loaded

    def held(self) -> int:
        """Bytes its engine holds, or by its plan will hold under load."""
        if self.engine is None:
            return 0
        health = self.engine.health()
        planned = busy(self.decision.plan, self.decision.spec, 1) if health.loaded else 0
        return max(health.rss_bytes, planned)


class Fleet:
    """Thread-safe. The first model is the server's own, used by requests that name none."""

    def __init__(
        self,
        first: Decision,
        engine: SpeechEngine,
        *,
        make: Callable[[Decision], SpeechEngine] = lambda decision: build(decision, worker=True),
        there: Callable[[], Mapping[str, Installed]] | None = None,
    ) -> None:
        """`engine`: of the first model; the caller starts it. `make`: returns an engine that is not started. `there`:
        the installed models; None: those in the data directory."""
        self.first = first
        settings = first.settings
        data_dir = settings.data_dir or default_data_dir()
        self._installed = there or (lambda: installed(data_dir))
        self._make = make
        self._keep_s = KEEP_ALIVE_S if settings.keep_alive_s is None else settings.keep_alive_s
        self._own = _Member(first.spec.name, first, FOREVER, engine)
        self._members = {self._own.name: self._own}
        self._awaiting_load: Counter[str] = Counter()
        """Requests that wait for a model to be loaded, by its name in lower case."""
        self._lock = threading.RLock()
        self._room = threading.Lock()
        """Held while one model makes room and starts, so that no other counts on the same memory."""
        self._starting: SpeechEngine | None = None
        self._closing = threading.Event()
        self._sweeper = threading.Thread(target=self._sweep, name="saywell-fleet", daemon=True)

    def names(self) -> list[str]:
        """The installed models, the server's own first."""
        return list(dict.fromkeys((self.first.spec.name, *self._installed())))

    def find(self, name: str | None) -> str:
        """The installed model of this name, in any case of letters. Reads the disk unless the model is `known`.

        Raises UnknownModel, which lists the installed models.
        """
        if name is None:
            return self.first.spec.name
        if (known := self.known(name)) is not None:
            return known
        names = self.names()
        for installed_name in names:
            if installed_name.lower() == name.lower():
                return installed_name
        raise UnknownModel(f"there is no such model here; this server has {', '.join(names)}", param="model")

    def known(self, name: str) -> str | None:
        """As `find`, among the models requested before. Does not read the disk."""
        with self._lock:
            return next((known for known in self._members if known.lower() == name.lower()), None)

    def health(self) -> dict[str, EngineHealth | None]:
        """Of each installed model; None for one that is neither loaded nor being loaded for a request."""
        return {name: self._health(name) for name in self.names()}

    def _health(self, name: str) -> EngineHealth | None:
        with self._lock:
            engine, waiting = self.engine(name), self._awaiting_load[name.lower()]
            slots = self._plan(name).max_batch_size
        if engine is not None:
            health = engine.health()
            return replace(health, waiting=health.waiting + waiting)
        loading = EngineHealth(state="loading", slots=slots, running=0, waiting=waiting, steps=0, loaded=False)
        return loading if waiting else None

    def queue_depth(self) -> int:
        """Requests, of all models, that wait for a slot or for their model to be loaded."""
        with self._lock:
            engines = [member.engine for member in self._members.values() if member.engine is not None]
            awaiting_load = sum(self._awaiting_load.values())
        return awaiting_load + sum(engine.health().waiting for engine in engines)

    @contextmanager
    def waiting_for_load(self, name: str) -> Iterator[None]:
        """Count a request in a model's queue while it waits for the model to be loaded.

        Raises TooManyRequests if as many are waiting as the plan admits: the model's, or the first model's if the model
        has not been planned yet.
        """
        with self._lock:
            plan = self._plan(name)
            limit = plan.max_batch_size + plan.max_queue
            if self._awaiting_load[name.lower()] >= limit:
                raise TooManyRequests(
                    f"{limit} requests are waiting for the model {name} to load, which is the limit; try again in "
                    f"{_LOAD_RETRY_S:g} s",
                    retry_after=_LOAD_RETRY_S,
                )
            self._awaiting_load[name.lower()] += 1
        try:
            yield
        finally:
            with self._lock:
                self._awaiting_load -= Counter([name.lower()])  # drops zeros

    def _plan(self, name: str) -> Plan:
        known = self.known(name)
        return (self._members[known] if known is not None else self._own).decision.plan

    def engine(self, name: str) -> SpeechEngine | None:
        """The engine of an installed model, if it is loaded."""
        with self._lock:
            member = self._members.get(name)
            return member.engine if member is not None else None

    def load(self, name: str) -> SpeechEngine:
        """The engine of an installed model; starts it if needed and waits until it is ready.

        Raises what starting raises, and OutOfMemory if the models in use leave too little memory.
        """
        member = self._member(name)
        with member.starting:
            with self._lock:
                member.used = time.monotonic()
                if member.engine is not None and (member.loaded or member is not self._own):
                    return member.engine
            with self._room:
                if member.engine is not None:
                    self._make_room(member)
                    return member.engine  # its next request loads the weights again
                member.decision = self._planned(member)
                engine = self._make(member.decision)
                _log.info("loading the model %s", name)
                with self._lock:
                    if self._closing.is_set():
                        raise EngineClosed("the server is shutting down; send the request elsewhere", retry_after=5.0)
                    self._starting = engine
                try:
                    engine.start()
                except BaseException:
                    engine.close()
                    raise
                finally:
                    with self._lock:
                        self._starting = None
            with self._lock:
                member.engine, member.used = engine, time.monotonic()
                self._start_sweeper()
            return engine

    def submit(self, name: str, request: Request, keep_s: float | None = None) -> Stream:
        """Submit a request to a loaded model. `keep_s`: how long the model then stays loaded; None: unchanged.

        Never blocks. Raises Unavailable if the model has been closed meanwhile: load it again.
        """
        with self._lock:  # the engine must not be closed meanwhile
            member = self._members[name]
            if member.engine is None:
                raise Unavailable(f"the model {name} was unloaded; try again in a moment", retry_after=1.0)
            if keep_s is not None:
                member.keep_s = keep_s
                self._start_sweeper()
            member.used = time.monotonic()
            return member.engine.submit(request)

    def close(self, drain_s: float = 0.0) -> None:
        """Close all engines in parallel, each as `SpeechEngine.close`; one that is being started aborts."""
        with self._lock:
            self._closing.set()
            starting = self._starting
        if starting is not None:
            starting.close()
        closing = [threading.Thread(target=_close, args=(member, drain_s)) for member in self._running()]
        for thread in closing:
            thread.start()
        for thread in closing:
            thread.join()
        if self._sweeper.ident is not None:
            self._sweeper.join()

    def _member(self, name: str) -> _Member:
        with self._lock:
            if name in self._members:
                return self._members[name]
        member = _Member(name, self._decide(name), self._keep_s)  # outside the lock: planning reads files
        with self._lock:
            return self._members.setdefault(name, member)

    def _decide(self, name: str, budget: int | None = None) -> Decision:
        """Plan a model other than the server's own, without the settings that apply to that one only."""
        model = self._installed()[name]
        changes: dict[str, Any] = dict.fromkeys(OF_ONE_MODEL)
        changes.update(model=name, model_path=model.path)
        if budget is not None:
            changes["memory_budget_mb"] = max(1, budget // MIB)
        settings = replace(self.first.settings, **changes)
        return decide(settings, self.first.hardware)

    def _planned(self, member: _Member) -> Decision:
        """Plan a model for the memory that is left once idle models have been unloaded for it."""
        member.decision = self._decide(member.name)
        left = self._make_room(member)
        return member.decision if left >= self.first.plan.memory_budget else self._decide(member.name, left)

    def _make_room(self, member: _Member) -> int:
        """Unload the models idle for longest until a model fits. Returns the bytes left. Raises OutOfMemory."""
        need = busy(member.decision.plan, member.decision.spec, 1)
        while True:
            others = [other for other in self._running() if other is not member]
            left = self.first.plan.memory_budget - sum(other.held() for other in others)
            if need <= left or not others:
                return left
            idle = sorted((other for other in others if other.loaded), key=_Member.idle_s, reverse=True)
            if not any(self._unload(other, 0.0, f"{member.name} needs its memory") for other in idle):
                names, rest = ", ".join(other.name for other in others), mb(max(0, left))
                raise OutOfMemory(
                    f"{member.name} needs {mb(need)} of memory, and {rest} of the budget is left by {names}; "
                    "try again when they are idle, or raise memory_budget_mb",
                    retry_after=5.0,
                )

    def _start_sweeper(self) -> None:
        """Called under the lock, once a model's time may run out."""
        if self._sweeper.ident is None and not self._closing.is_set():
            self._sweeper.start()

    def _running(self) -> list[_Member]:
        with self._lock:
            return [member for member in self._members.values() if member.engine is not None]

    def _unload(self, member: _Member, idle_s: float, why: str) -> bool:
        """Unload a model if it has been idle for more than `idle_s`. Returns whether it was unloaded."""
        with self._lock:  # no request can be submitted meanwhile
            engine = member.engine
            if engine is None or member.idle_s() <= idle_s:
                return False
            if member is not self._own:
                member.engine = None
        _log.info("unloading the model %s: %s", member.name, why)
        if member is not self._own:
            engine.close()
            learn(member.decision, engine)
            return True
        engine.unload()
        until = time.monotonic() + _UNLOAD_S
        while engine.health().loaded and time.monotonic() < until:
            time.sleep(0.02)
        return not engine.health().loaded

    def _sweep(self) -> None:
        """Unload models that have been idle for longer than they are kept."""
        while not self._closing.wait(_EVERY_S):
            for member in self._running():
                if member.loaded and member.idle_s() > member.keep_s:
                    self._unload(member, member.keep_s, f"it was idle for {member.keep_s:g} s")


def _close(member: _Member, drain_s: float) -> None:
    if member.engine is not None:
        member.engine.close(drain_s)
        learn(member.decision, member.engine)
