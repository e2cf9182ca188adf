"""The engine's watch: looks at the machine beside the work, and says which plan holds."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable

import psutil

from saywell.errors import Unavailable
from saywell.machine.monitor import Resources
from saywell.plan.degradation import Depth, Ladder, PressureReport, Timing, changed, judge, relieve, steps
from saywell.plan.plan import Plan
from saywell.types import ModelSpec

_log = logging.getLogger(__name__)

Look = Callable[[], Resources]
EVERY_S = 0.5
RETRY_S = 2.0


class Watch:
    """Feeds the ladder in a thread of its own, and hands every new plan to `apply`."""

    def __init__(
        self,
        plan: Plan,
        spec: ModelSpec,
        apply: Callable[[Plan], None],
        *,
        look: Look,
        timing: Timing | None = None,
        every_s: float = EVERY_S,
    ) -> None:
        self._planned = plan
        self._spec = spec
        self._apply = apply
        self._look = look
        self._every_s = every_s
        self._ladder = Ladder(steps(plan, spec), timing)
        self._lock = threading.Lock()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="saywell-watch", daemon=True)
        self._now: Resources | None = None

    @property
    def now(self) -> Resources | None:
        """The newest look at the machine."""
        return self._now

    @property
    def thread_id(self) -> int:
        """Of the thread that looks; 0 before it starts."""
        return self._thread.ident or 0

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._over.set()
        if self._thread.ident is not None:
            self._thread.join()

    def see(self, now: Resources) -> None:
        """Take one look into account."""
        self._now = now
        self._take(lambda ladder: ladder.feed(judge(now, heat=self._planned.thermal)))

    def hurry(self, now: Resources) -> None:
        """Go down at once as far as this look pushes, instead of step by step. From any thread."""
        pressure = judge(now, heat=self._planned.thermal)
        self._take(lambda ladder: ladder.drop(pressure.why, pressure.push))

    def ran_out(self, why: str) -> None:
        """Memory has run out: all steps but the last at once. From any thread."""
        self._take(lambda ladder: ladder.drop(why, Depth.MEMORY))

    def _take(self, steps: Callable[[Ladder], bool]) -> None:
        """Move on the ladder; if that changed anything, say so and hand on the plan, in the order of the moves."""
        with self._lock:
            before = self._ladder.level
            if steps(self._ladder):
                self._move(before)

    def report(self, pending: Iterable[str] = ()) -> PressureReport:
        """Where the engine stands. `pending`: fields of the plan in force that the loaded model does not have yet."""
        waiting = set(pending)
        with self._lock:
            ladder = self._ladder
            plan = relieve(self._planned, self._spec, ladder.level, ladder.reason)
            return PressureReport(
                level=ladder.level,
                steps=tuple(step.name for step in ladder.taken),
                pending=tuple(step.name for step in ladder.taken if waiting & set(step.changes)),
                changes=changed(self._planned, plan),
                reason=ladder.reason,
                since_s=time.monotonic() - ladder.since if ladder.reason else 0.0,
                downs=ladder.downs,
                ups=ladder.ups,
            )

    def _run(self) -> None:
        blind = False
        while not self._over.wait(self._every_s):
            try:
                now = self._look()
            except (OSError, psutil.Error) as error:
                if not blind:
                    _log.warning("the state of the machine cannot be read: %s", error)
                blind = True
                continue
            blind = False
            self.see(now)

    def _move(self, before: int) -> None:
        ladder = self._ladder
        plan = relieve(self._planned, self._spec, ladder.level, ladder.reason)
        low, high = sorted((before, ladder.level))
        names = ", ".join(step.name for step in ladder.rungs[low:high])
        what = "gives up" if ladder.level > before else "takes up again"
        values = "; ".join(f"{name} {value}" for name, value in changed(self._planned, plan).items())
        _log.warning("the engine %s: %s (%s). Now %s", what, names, ladder.moved, values or "as planned")
        self._apply(plan)


def refusal(report: PressureReport) -> Unavailable:
    """What new requests are told while `report.refusing`."""
    return Unavailable(
        f"no new requests at the moment: {report.reason}; try again in {RETRY_S:g} s", retry_after=RETRY_S
    )
