"""One model on several devices: an engine per device behind the interface of one, requests shared out by load."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

from saywell.engine import ClearedCaches, EngineHealth, SpeechEngine, State
from saywell.engine.stream import Stream
from saywell.errors import InvalidRequest, SaywellError
from saywell.plan.degradation import PressureReport
from saywell.types import Request, Voice

_log = logging.getLogger(__name__)

_STATES: tuple[State, ...] = ("ready", "loading", "hung", "draining", "failed", "closed")
"""Best first. The whole is as good as its best engine, since that one takes the requests."""


class BalancedEngine:
    """Thread-safe. The engines must speak alike: which of them takes a request is a matter of load only."""

    def __init__(self, engines: Sequence[SpeechEngine]) -> None:
        """`engines`: at least one, not yet started; all of the same model, each on a device of its own."""
        first = engines[0]
        self.engines = tuple(engines)
        self.spec = first.spec
        self.plan = replace(
            first.plan,
            max_batch_size=sum(engine.plan.max_batch_size for engine in engines),
            max_queue=sum(engine.plan.max_queue for engine in engines),
        )
        """The first device's plan, with the slots and the queue of all."""
        self._submitting = threading.Lock()

    def start(self) -> None:
        """Start all engines at the same time. Raises only if none of them starts."""
        failures: list[SaywellError] = []

        def start(engine: SpeechEngine) -> None:
            try:
                engine.start()
            except SaywellError as error:
                _log.error("the engine on %s did not start: %s", engine.plan.device, error)
                failures.append(error)

        try:
            self._on_all(start)
        except BaseException:  # an interrupt: it must not wait for the loading to end
            self.close()
            raise
        if len(failures) == len(self.engines):
            raise failures[0]

    def submit(self, request: Request, *, more: bool = False) -> Stream:
        """Raises what the least loaded engine raised, once every engine that is up has refused."""
        refusals = []
        with self._submitting:  # two requests at the same time would see the same load
            for engine in self._by_load():
                try:
                    return engine.submit(request, more=more)
                except InvalidRequest:
                    raise  # by every engine
                except SaywellError as error:
                    refusals.append(error)
        raise refusals[0]

    def _by_load(self) -> list[SpeechEngine]:
        """The engines that are up, the one for the next request first; all those in the best state if none is up."""
        states = [(engine, engine.health()) for engine in self.engines]
        best = _best(health for _, health in states)
        usable = [(engine, health) for engine, health in states if health.state == best.state]
        return [engine for engine, _ in sorted(usable, key=lambda pair: _load(pair[1]))]

    def voices(self) -> tuple[Voice, ...]:
        return next((voices for engine in self.engines if (voices := engine.voices())), ())

    def health(self) -> EngineHealth:
        """Counts are sums; `rss_bytes` is the largest process; state and pressure are those a new request meets."""
        all_health = [engine.health() for engine in self.engines]
        best = _best(all_health)
        return EngineHealth(
            state=best.state,
            slots=sum(health.slots for health in all_health),
            running=sum(health.running for health in all_health),
            waiting=sum(health.waiting for health in all_health),
            starved=sum(health.starved for health in all_health),
            steps=sum(health.steps for health in all_health),
            restarts=sum(health.restarts for health in all_health),
            rss_bytes=max(health.rss_bytes for health in all_health),
            error=best.error,
            loaded=any(health.loaded for health in all_health),
            pressure=_met([health.pressure for health in all_health if health.state == best.state]),
        )

    def clear_caches(self, *, adapt: bool = False) -> ClearedCaches:
        """Of every engine that is up. Raises Unavailable if none is, or one is too busy."""
        with ThreadPoolExecutor() as pool:
            cleared = list(pool.map(lambda engine: engine.clear_caches(adapt=adapt), self._by_load()))
        return ClearedCaches(
            freed=sum(result.freed for result in cleared),
            before=_met([result.before for result in cleared]),
            after=_met([result.after for result in cleared]),
        )

    def unload(self) -> None:
        for engine in self.engines:
            engine.unload()

    def close(self, drain_s: float = 0.0) -> None:
        self._on_all(lambda engine: engine.close(drain_s))

    def _on_all(self, call: Callable[[SpeechEngine], None]) -> None:
        threads = [threading.Thread(target=call, args=(engine,), daemon=True) for engine in self.engines]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()


def _best(states: Iterable[EngineHealth]) -> EngineHealth:
    return min(states, key=lambda health: _STATES.index(health.state))


def _load(health: EngineHealth) -> tuple[bool, bool, bool, float]:
    """Sorts the least loaded engine first. A model that must be loaded again waits until the others are full."""
    load = (health.running + health.waiting) / health.slots
    return health.pressure.refusing, load >= 1.0, not health.loaded, load


def _met(reports: list[PressureReport]) -> PressureReport:
    """The pressure that a new request meets: the worst, of the engines that do not refuse it if there are any."""
    accepting = [report for report in reports if not report.refusing]
    return max(accepting or reports, key=lambda report: report.level)
