"""What the routes speak to: the engine, what was decided about it, and the state of this server."""

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
"""Answers that may be under way for each one in the making: speech is made many times faster than it is heard."""
_LOOK_S = 1.0
"""How long one look at the machine serves everybody who asks."""


class Service:
    """One server's state. Used from the event loop, except where said."""

    def __init__(self, engine: SpeechEngine, decision: Decision) -> None:
        self.engine = engine
        """Of the server's own model."""
        self.fleet = Fleet(decision, engine)
        self.decision = decision
        self.settings = decision.settings
        self.metrics = Metrics()
        self.keys = tuple(key.encode() for key in self.settings.api_keys or ())
        self.loopback = is_loopback(self.settings.host or DEFAULT_HOST)
        self.draining = False
        self.failure: SaywellError | None = None
        """Why the engine could not be started."""
        self.active = 0
        """Requests being answered, probes and scrapes not counted."""
        self.cut = 0
        """Answers that broke off while the server was stopping."""
        self.started = time.monotonic()
        self.last: Performance | None = None
        """The report of the last synthesis."""
        self.speech_paths: set[str] = set()
        """Paths counted by the request metrics; routes and extensions add theirs."""
        self.probes: set[str] = set()
        """Paths answered without a key, and while the server stops."""
        self.scrapes: set[str] = set()
        """Paths not counted among the active requests."""
        self.places = _places(engine.plan, self.settings, len(self.keys))
        self._loads: dict[str, asyncio.Task[SpeechEngine]] = {}
        """By what a client calls the model, so that all who wait for one wait for the same thread."""
        self._monitor = Monitor()
        self._look: tuple[float, Resources] | None = None
        self._watch()

    def _watch(self) -> None:
        health = self.engine.health
        self.metrics.in_flight.set_function(lambda: self.active)
        self.metrics.watch(
            queue_depth=lambda: self.fleet.queue_depth(),
            active=lambda: health().running,
            slots=lambda: health().slots,
            ready=lambda: float(self.ready),
            restarts=lambda: health().restarts,
            loaded=lambda: float(health().loaded),
            pressure=lambda: health().pressure.level,
            downs=lambda: health().pressure.downs,
            ups=lambda: health().pressure.ups,
        )

    @property
    def ready(self) -> bool:
        """Whether a request would be spoken now."""
        health = self.engine.health()
        return not self.draining and health.state == "ready" and not health.pressure.refusing

    @property
    def drain_s(self) -> float:
        return DEFAULT_DRAIN_S if self.settings.drain_s is None else self.settings.drain_s

    def model(self, name: str | None) -> str:
        """The installed model a client means by `name`. Raises UnknownModel naming what there is."""
        if name is None or is_openai(name):
            return self.engine.spec.name
        try:
            return self.fleet.find(name)
        except UnknownModel as error:
            raise UnknownModel(f"{error.message}, {', '.join(OPENAI_MODELS)}", param="model") from None

    async def load(self, name: str | None, timeout_s: float | None = None) -> SpeechEngine:
        """The engine of the model a client means, loaded if it is not. Raises what finding and loading it raise, and
        DeadlineExceeded after `timeout_s`, None: as long as the plan gives a request."""
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
            raise DeadlineExceeded("the model is still being loaded; try again in a moment")
        return task.result()

    async def _load(self, name: str) -> SpeechEngine:
        # Threads of their own: those that encode sound must not wait for a model.
        return await anyio.to_thread.run_sync(lambda: self.fleet.load(self.model(name)), limiter=CapacityLimiter(1))

    def voice(self, name: str | None, engine: SpeechEngine) -> str | None:
        """The id of the voice a client means by `name`."""
        own = self.settings.voice if engine is self.engine else None
        return resolve_voice(name, engine.voices(), own)

    def resources(self) -> Resources:
        """The state of the machine, at most a second old."""
        now = time.monotonic()
        if self._look is None or now - self._look[0] > _LOOK_S:
            self._look = (now, self._monitor.look())
        return self._look[1]

    def spoke(self, summary: Summary, engine: SpeechEngine, before: int) -> Performance:
        """Count and log a request that was spoken to its end. `before`: the engine's resident bytes before it."""
        report = performance(summary, before, engine.health().rss_bytes, self.resources())
        self.metrics.spoke(engine.spec.name, summary)
        self.last = report
        _log.info("%s", report.line())
        return report

    def broke(self) -> None:
        """Take into account that an answer ended before its end."""
        self.cut += self.draining

    def close(self) -> None:
        """Stop looking at the machine."""
        self._monitor.close()

    def start(self, then: Callable[[], None] = lambda: None) -> None:
        """Start the engine in a thread of its own, so that probes are answered while it loads; `then` runs there."""
        threading.Thread(target=self._start, args=(then,), name="saywell-load", daemon=True).start()

    def _start(self, then: Callable[[], None]) -> None:
        try:
            self.engine.start()
        except EngineClosed:
            return  # the server is stopping
        except SaywellError as error:
            _log.error("the engine could not be started: %s", error.message)
            # What can be installed is told to whoever asks, by a server that goes on.
            self.failure = None if isinstance(error, MissingDependency) else error
        else:
            then()


def _places(plan: Plan, settings: Settings, keys: int) -> Places:
    work = plan.max_batch_size + plan.max_queue
    share = max(1, work * 3 // 4) if keys > 1 else None  # one of several leaves something to the others
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
    """Raise PlanError for a server that anybody on the network could use without a key."""
    host = settings.host or DEFAULT_HOST
    if is_loopback(host) or settings.api_keys or settings.allow_public:
        return
    raise PlanError(
        f"listening on {host} would let anybody on the network use this machine; set SAYWELL_API_KEYS to a key of at "
        "least 8 characters, or listen on 127.0.0.1, or, if something in front of it asks for a key, set "
        "SAYWELL_ALLOW_PUBLIC=true",
        param="host",
    )


def listen(host: str, port: int) -> socket.socket:
    """A bound socket, before anything slow begins. Raises PlanError naming the way out.

    `host`: an address or a name; an IPv6 address also in brackets, as in a URL.
    """
    bare = host.removeprefix("[").removesuffix("]") if host.startswith("[") else host
    try:
        family, kind, proto, _, address = socket.getaddrinfo(
            bare, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except (OSError, UnicodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "no name of a host looks like that"
        raise PlanError(f"there is no address {host!r} to listen on ({why}); try 127.0.0.1", param="host") from error
    sock = socket.socket(family, kind, proto)
    try:
        if hasattr(socket, "SO_REUSEADDR") and not hasattr(socket, "SO_EXCLUSIVEADDRUSE"):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(address)
    except OSError as error:
        sock.close()
        way = "stop what uses it, or choose another port (0: any free one)"
        raise PlanError(f"cannot listen on {host} port {port}: {error.strerror}; {way}", param="port") from error
    return sock
