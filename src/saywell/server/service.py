"""The server's state, used by the routes: its models, the decision behind its own model, and its limits."""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import socket
import threading
import time
from collections.abc import Callable

import anyio.to_thread
from anyio import CapacityLimiter

from saywell.engine import SpeechEngine
from saywell.engine.fleet import Fleet
from saywell.engine.launch import Decision
from saywell.engine.performance import Performance, performance
from saywell.errors import DeadlineExceeded, EngineClosed, MissingDependency, PlanError, SaywellError, UnknownModel
from saywell.machine.monitor import Monitor, Resources
from saywell.plan.plan import Plan
from saywell.server.metrics import Metrics
from saywell.server.names import OPENAI_MODELS, is_openai
from saywell.server.places import Places
from saywell.settings import Settings
from saywell.types import Summary
from saywell.voices.names import resolve_voice

_log = logging.getLogger(__name__)

DEFAULT_HOST, DEFAULT_PORT = "127.0.0.1", 8000
DEFAULT_DRAIN_S = 30.0
LISTENERS = 8
"""Open responses allowed per request in synthesis: synthesis is much faster than playback."""
_LOOK_S = 1.0
"""Seconds one sample of the machine's state is reused."""


class Service:
    """The state of one server. Use from the event loop only, unless noted."""

    def __init__(self, engine: SpeechEngine, decision: Decision) -> None:
        self.engine = engine
        """The engine of the server's own model."""
        self.fleet = Fleet(decision, engine)
        self.decision = decision
        self.settings = decision.settings
        self.metrics = Metrics()
        self.keys = tuple(key.encode() for key in self.settings.api_keys or ())
        self.loopback = is_loopback(self.settings.host or DEFAULT_HOST)
        self.draining = False
        self.failure: SaywellError | None = None
        """The error that kept the engine from starting."""
        self.active = 0
        """Requests in progress, without probes and scrapes."""
        self.cut = 0
        """Responses cut off during shutdown."""
        self.started = time.monotonic()
        self.last: Performance | None = None
        """Report of the last synthesis."""
        self.speech_paths: set[str] = set()
        """Paths counted by the request metrics; routes and extensions add theirs."""
        self.probes: set[str] = set()
        """Paths answered without a key, and while the server stops."""
        self.scrapes: set[str] = set()
        """Paths not counted among the active requests."""
        self.places = _places(engine.plan, self.settings, len(self.keys))
        self._loads: dict[str, asyncio.Task[SpeechEngine]] = {}
        """Loads in progress by requested name, so that concurrent requests share one load."""
        self._monitor = Monitor()
        self._look: tuple[float, Resources] | None = None
        self._connect_metrics()

    def _connect_metrics(self) -> None:
        health, metrics = self.engine.health, self.metrics
        metrics.in_flight.set_function(lambda: self.active)
        metrics.queue_depth.set_function(lambda: self.fleet.queue_depth())
        metrics.active.set_function(lambda: health().running)
        metrics.slots.set_function(lambda: health().slots)
        metrics.ready.set_function(lambda: float(self.ready))
        metrics.restarts.set_function(lambda: health().restarts)
        metrics.loaded.set_function(lambda: float(health().loaded))
        metrics.pressure.set_function(lambda: health().pressure.level)
        metrics.downs.set_function(lambda: health().pressure.downs)
        metrics.ups.set_function(lambda: health().pressure.ups)

    @property
    def ready(self) -> bool:
        """Whether a request would be accepted now."""
        health = self.engine.health()
        return not self.draining and health.state == "ready" and not health.pressure.refusing

    @property
    def drain_s(self) -> float:
        return DEFAULT_DRAIN_S if self.settings.drain_s is None else self.settings.drain_s

    def model(self, name: str | None) -> str:
        """Resolve a client's model name to an installed model. Raises UnknownModel listing the known names."""
        if name is None or is_openai(name):
            return self.engine.spec.name
        try:
            return self.fleet.find(name)
        except UnknownModel as error:
            raise UnknownModel(f"{error.message}, {', '.join(OPENAI_MODELS)}", param="model") from None

    async def load(self, name: str | None, timeout_s: float | None = None) -> SpeechEngine:
        """The engine for a client's model name, loading the model if needed.

        `timeout_s` None: the plan's request timeout. Raises DeadlineExceeded after it, UnknownModel, and errors of
        loading.
        """
        wanted = self.engine.spec.name if name is None or is_openai(name) else name
        known = self.fleet.known(wanted)
        engine = self.fleet.engine(known) if known is not None else None
        if engine is not None and engine.health().loaded:
            return engine
        with self.fleet.waiting_for_load(known or wanted):
            task = self._loads.get(wanted)
            if task is None:
                task = self._loads[wanted] = asyncio.create_task(self._load(wanted))
                task.add_done_callback(
                    lambda done: (self._loads.pop(wanted, None), done.cancelled() or done.exception())
                )
            done, _ = await asyncio.wait([task], timeout=timeout_s or self.engine.plan.timeout_s)
        if not done:
            raise DeadlineExceeded("the model is still loading; try again in a moment")
        return task.result()

    async def _load(self, name: str) -> SpeechEngine:
        # A separate thread: encoding, which uses the default pool, must not wait for loads.
        return await anyio.to_thread.run_sync(lambda: self.fleet.load(self.model(name)), limiter=CapacityLimiter(1))

    def voice(self, name: str | None, engine: SpeechEngine) -> str | None:
        """Resolve a client's voice name to a voice id."""
        own = self.settings.voice if engine is self.engine else None
        return resolve_voice(name, engine.voices(), own)

    def resources(self) -> Resources:
        """The state of the machine, at most _LOOK_S old."""
        now = time.monotonic()
        if self._look is None or now - self._look[0] > _LOOK_S:
            self._look = (now, self._monitor.look())
        return self._look[1]

    def spoke(self, summary: Summary, engine: SpeechEngine, before: int) -> Performance:
        """Count and log a complete synthesis. `before`: the engine's resident bytes at its start."""
        report = performance(summary, before, engine.health().rss_bytes, self.resources())
        self.metrics.spoke(engine.spec.name, summary)
        self.last = report
        _log.info("%s", report.line())
        return report

    def broke(self) -> None:
        """Count a response that failed midway."""
        self.cut += self.draining

    def close(self) -> None:
        """Stop monitoring the machine."""
        self._monitor.close()

    def start(self, then: Callable[[], None] = lambda: None) -> None:
        """Start the engine in a thread, so that probes are answered while it loads; then call `then` in that thread."""
        threading.Thread(target=self._start, args=(then,), name="saywell-load", daemon=True).start()

    def _start(self, then: Callable[[], None]) -> None:
        try:
            self.engine.start()
        except EngineClosed:
            return  # the server is stopping
        except SaywellError as error:
            _log.error("the engine could not be started: %s", error.message)
            # With a missing dependency the server keeps running: clients get the instructions for installing it.
            self.failure = None if isinstance(error, MissingDependency) else error
        else:
            then()


def _places(plan: Plan, settings: Settings, keys: int) -> Places:
    work = plan.max_batch_size + plan.max_queue
    share = max(1, work * 3 // 4) if keys > 1 else None  # several keys: none may use all capacity
    return Places(
        LISTENERS * work,
        plan.stall_s,
        each_key=settings.each_key or share,
        each_address=settings.each_address,
    )


def is_loopback(host: str) -> bool:
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def check_bind(settings: Settings) -> None:
    """Raise PlanError for a non-loopback host without API keys, unless the settings allow it."""
    host = settings.host or DEFAULT_HOST
    if is_loopback(host) or settings.api_keys or settings.allow_public:
        return
    raise PlanError(
        f"listening on {host} would let anyone on the network use this server; set SAYWELL_API_KEYS to a key of at "
        "least 8 characters, or listen on 127.0.0.1, or, if a proxy in front of it authenticates clients, set "
        "SAYWELL_ALLOW_PUBLIC=true",
        param="host",
    )


def listen(host: str, port: int) -> socket.socket:
    """A bound socket. Raises PlanError if the address is invalid or in use.

    `host`: an address or a name; an IPv6 address also in brackets, as in a URL.
    """
    bare = host.removeprefix("[").removesuffix("]") if host.startswith("[") else host
    try:
        family, kind, proto, _, address = socket.getaddrinfo(
            bare, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except (OSError, UnicodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "not a valid host name"
        raise PlanError(f"cannot listen on the address {host!r} ({why}); try 127.0.0.1", param="host") from error
    sock = socket.socket(family, kind, proto)
    try:
        if hasattr(socket, "SO_REUSEADDR") and not hasattr(socket, "SO_EXCLUSIVEADDRUSE"):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(address)
    except OSError as error:
        sock.close()
        advice = "stop the program that uses it, or choose another port (0: any free one)"
        raise PlanError(f"cannot listen on {host} port {port}: {error.strerror}; {advice}", param="port") from error
    return sock
