"""Watches the machine while the engine works, and degrades or restores the plan."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import replace

import psutil

from saywell.errors import Unavailable
from saywell.machine.monitor import Resources
from saywell.plan.degradation import DegradationLadder, Pressure, PressureReport, Timing, classify, in_force, relieved
from saywell.plan.plan import Plan, changed

_log = logging.getLogger(__name__)

Look = Callable[[], Resources]
EVERY_S = 0.5
RETRY_S = 2.0


class PressureMonitor:
    """Feeds the degradation ladder in a thread of its own, and passes every new plan to `apply`."""

    def __init__(
        self,
        plan: Plan,
        apply: Callable[[Plan], None],
        *,
        look: Look,
        timing: Timing | None = None,
        every_s: float = EVERY_S,
    ) -> None:
        self._planned = plan
        self._apply = apply
        self._look = look
        self._every_s = every_s
        self._ladder = DegradationLadder(plan.levels, timing)
        self._lock = threading.Lock()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="saywell-watch", daemon=True)

    @property
    def thread_id(self) -> int:
        """0 before the start."""
        return self._thread.ident or 0

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._over.set()
        if self._thread.ident is not None:
            self._thread.join()

    def see(self, now: Resources) -> None:
        """Process one sample."""
        self._take(lambda ladder: ladder.feed(classify(now, self._planned)))

    def hurry(self, now: Resources) -> None:
        """Take all levels that help at once instead of one by one. Thread-safe."""
        self._take(lambda ladder: ladder.drop(classify(now, self._planned)))

    def ran_out(self, why: str) -> None:
        """Take all levels that free memory, at once. Thread-safe."""
        self._take(lambda ladder: ladder.drop(Pressure(push={"memory": why}, hold={"memory": why})))

    def _take(self, step: Callable[[DegradationLadder], bool]) -> None:
        """Change the level; log any change and pass the plan on, under the lock so that plans arrive in order."""
        with self._lock:
            ladder = self._ladder
            before = ladder.taken
            if not step(ladder):
                return
            plan = relieved(self._planned, ladder.steps)
            values = "; ".join(f"{name} {value}" for name, value in changed(self._planned, plan).items())
            levels = f"{', '.join(ladder.steps) or 'none'} ({ladder.reason})"
            _log.warning("degradation levels: %s; changed: %s", levels, values or "nothing")
            if ladder.taken is not before:
                self._apply(plan)

    def report(self, pending: tuple[str, ...] = ()) -> PressureReport:
        """The current level. `pending`: fields of the plan that the loaded model has not applied yet."""
        with self._lock:
            ladder = self._ladder
            waits = [level for level in ladder.taken if not set(level.fields).isdisjoint(pending)]
            report = PressureReport(
                level=len(ladder.steps),
                steps=ladder.steps,
                pending=tuple(level.name for level in waits),
                frees=sum(level.frees for level in ladder.taken if level not in waits),
                reason=ladder.reason,
                since_s=time.monotonic() - ladder.since if ladder.reason else 0.0,
                downs=ladder.downs,
                ups=ladder.ups,
            )
        return replace(report, changes=changed(self._planned, in_force(self._planned, report)))

    def _run(self) -> None:
        failing = False
        while not self._over.wait(self._every_s):
            try:
                now = self._look()
            except (OSError, psutil.Error) as error:
                if not failing:
                    _log.warning("the state of the machine cannot be read: %s", error)
                failing = True
                continue
            failing = False
            self.see(now)


def refusal(report: PressureReport) -> Unavailable:
    """The error for new requests while `report.refusing`."""
    return Unavailable(
        f"no new requests at the moment: {report.reason}; try again in {RETRY_S:g} s", retry_after=RETRY_S
    )
