"""The service under real pressure: another process fills the memory of its control group, or others use its CPUs.

The same texts are spoken repeatedly under memory pressure, then under CPU pressure. Measured: time to the first
degradation and to full recovery, failed or different answers, speed compared with an engine that keeps its plan, and
the cost of monitoring. All times are seconds of the monotonic clock.
"""

from __future__ import annotations

import argparse
import hashlib
import http.client
import json
import mmap
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

from rich.console import Console

from benchmarks.random_voice import spoken_overrides
from saywell.bench import plot, report
from saywell.bench.limits import MemoryLimit, enter, limited
from saywell.bench.plot import Panel, Series
from saywell.bench.service import SPEECH, Server, serving
from saywell.engine.launch import Decision, decide
from saywell.engine.pressure_monitor import PressureMonitor
from saywell.errors import BadAudio, InvalidRequest, ModelFailure
from saywell.machine.monitor import Monitor, memory
from saywell.plan.degradation import Thresholds, Timing
from saywell.plan.memory import MIB
from saywell.settings import load_settings

TEXTS = (
    "The lighthouse keeper lit the lamp before the ships came home through the fog.",
    "A small boat crossed the bay. Gulls circled over the empty harbour, and nobody was there to see it!",
    "She wrote down every number twice, because the first list was lost on a train to the north, and nobody who had "
    "been on it that evening, the guard least of all, could tell where a brown leather case had gone.",
    "Nobody expected the old clock to strike again after all of those years; it struck thirteen.",
)
KINDS = ("memory", "cpu")
DOWN_S, BACK_S, WATCH_PERCENT = 2.0, 30.0, 1.0
"""Goals: time to the first degradation, time to recovery, and CPU use of the monitor."""
REASON = {"memory": "of memory is in use", "cpu": "other programs use"}
"""Part of the reason of a degradation that this pressure caused."""
HOG = "while True: pass"
PIECE = 4 << 20
SLACK = 1.0
"""Percent above the target from which the hog releases memory again."""
_SETTLED_S = 4.0
"""Delay after the last degradation, or the start of the pressure, before requests count as under pressure."""
_SAMPLE_S, _RETRY_S, _MONITOR_S = 0.05, 0.25, 10.0
_SEEDS = 40
"""Seeds tried for a text, because random weights end most of them too early."""
Event = dict[str, Any]


def main(args: list[str]) -> int:
    """Exit code 1 if a goal is missed."""
    options = _options(args)
    if options.plot:
        plot.check(options.plot)
    console, here = Console(width=140), report.machine()
    console.print(report.about(here))
    with tempfile.TemporaryDirectory(prefix="saywell-bench-") as folder:
        runs = measure(spoken_overrides(options, Path(folder)), options)
    rows = [{"engine": name, **figures(run["events"], each)} for name, run in runs.items() for each in run["pressures"]]
    report.show(console, [{"goal": text, "met": good} for text, good in goals(runs)])
    report.show(console, rows, runs["adapts"]["limit"])
    if (gain := won_back(rows)) is not None:
        console.print(f"Under CPU pressure it is {gain:g} times as fast as an engine that keeps its plan.")
    if options.plot:
        plot.draw([panel(name, run) for name, run in runs.items()], options.plot)
    met = all(good for _, good in goals(runs))
    print(json.dumps({"bench": "pressure", "machine": here, "rows": rows, "won_back": gain, "met": met}))
    return 0 if met else 1


def _options(args: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.pressure", description=__doc__)
    parser.add_argument("--model", help="a model or the directory of a converted one (default: the default model)")
    parser.add_argument("--only", choices=KINDS, action="append", help="may repeat (default: all)")
    parser.add_argument("--limit", type=int, default=800, metavar="MB", help="of memory (default 800)")
    parser.add_argument("--full", type=float, default=90.0, metavar="%", help="how full memory is (default 90)")
    parser.add_argument("--hogs", type=int, help="number of busy processes (default: one per CPU)")
    parser.add_argument("--calm", type=float, default=6.0, metavar="S", help="before each pressure (default 6)")
    parser.add_argument("--hold", type=float, default=14.0, metavar="S", help="duration of each pressure (default 14)")
    parser.add_argument("--readers", type=int, default=2, help="concurrent clients (default 2)")
    parser.add_argument("--frames", type=int, help="frames per sentence, for random weights, which never stop")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="a setting; may repeat")
    parser.add_argument(
        "--plot", type=Path, metavar="FILE", help="plot memory, levels and speed over time into a PNG file"
    )
    options = parser.parse_args(args)
    if not 50 < options.full < 95 or options.readers < 1:
        raise InvalidRequest("--full is between 50 and 95, --readers at least 1", param="full")
    options.hogs = options.hogs or report.machine()["cpus"]
    return options


def measure(overrides: Mapping[str, Any], options: argparse.Namespace) -> dict[str, dict[str, Any]]:
    """An engine that adapts, under every pressure, and one that keeps its plan, under CPU pressure."""
    kinds = options.only or list(KINDS)
    runs = {"adapts": _run(options, {**overrides, "adapt": True}, kinds)}
    if "cpu" in kinds:
        runs["as planned"] = _run(options, {**overrides, "adapt": False}, ["cpu"])
    return runs


def _run(options: argparse.Namespace, overrides: dict[str, Any], kinds: list[str]) -> dict[str, Any]:
    """One service under these pressures, one after the other."""
    decision = decide(load_settings(overrides))
    cost = watched(decision)
    with limited(options.limit * MIB, "pressure") as limit, serving(overrides, limit) as server:
        speaking = Speaking(server, decision, options.frames)
        with speaking.by(options.readers):
            pressures = [_press(speaking, kind, limit, options, adapts=overrides["adapt"]) for kind in kinds]
        relieved = sorted({cause for level in decision.plan.levels for cause in level.against})
        return {"limit": limit.about, "watch_percent": cost, "kills": limit.kills(), "pressures": pressures,
                "relieved": relieved, "events": speaking.events}  # fmt: skip


def _press(
    speaking: Speaking, kind: str, limit: MemoryLimit, options: argparse.Namespace, *, adapts: bool
) -> dict[str, Any]:
    """A calm, a pressure, and a wait for recovery."""
    calm_at = time.monotonic()
    time.sleep(options.calm)
    with eating(limit, options.full) if kind == "memory" else hogging(options.hogs) as since:
        time.sleep(options.hold)
    released = time.monotonic()
    while adapts and speaking.level and time.monotonic() < released + 2 * BACK_S:
        time.sleep(_SAMPLE_S)
    time.sleep(1.0)
    return {"kind": kind, "calm_at": calm_at, "since": since, "released": released, "until": time.monotonic()}


# -- speech


class Speaking:
    """Clients that repeat texts and compare each answer with the first one, and a thread that polls /health."""

    def __init__(self, server: Server, decision: Decision, frames: int | None) -> None:
        self.events: list[Event] = []
        """spoken: began, at, ok, …; look: at, memory in percent, and the degradation: level, steps, reason."""
        self.level = 0
        self._server, self._frames, self._rate = server, frames, decision.spec.sample_rate
        self._audible = {level.name for level in decision.plan.levels if level.audible}
        self._steps: set[str] = set()
        self._stop = threading.Event()
        self._seeds, self._heard = zip(*map(self._first, TEXTS), strict=True)

    @contextmanager
    def by(self, readers: int) -> Iterator[None]:
        """Run `readers` clients and the poller inside the context."""
        threads = [threading.Thread(target=self._read, args=(n,)) for n in range(readers)]
        threads.append(threading.Thread(target=self._watch))
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            self._stop.set()
            for thread in threads:
                thread.join()

    def _first(self, text: str) -> tuple[int, str]:
        """The first seed that succeeds, and the digest of its audio."""
        for seed in range(_SEEDS):
            event = self._say(text, seed)
            if event["ok"]:
                return seed, event["sound"]
        raise BadAudio(f"no seed of {_SEEDS} gave complete speech")

    def _read(self, first: int) -> None:
        number = first
        while not self._stop.is_set():
            index = number % len(TEXTS)
            steps_before = set(self._steps)
            event = self._say(TEXTS[index], self._seeds[index])
            audible = bool(self._audible & (steps_before | self._steps))
            self.events.append({"event": "spoken", **event, "same": event.pop("sound", "") == self._heard[index],
                                "audible": audible})  # fmt: skip
            if not event["ok"]:
                time.sleep(_RETRY_S)  # a refused client waits before it retries
            number += 1

    def _say(self, text: str, seed: int) -> Event:
        fields = {"input": text, "seed": seed, "response_format": "pcm"}
        body = json.dumps({**fields, "max_frames": self._frames} if self._frames else fields)
        began = time.monotonic()
        with closing(http.client.HTTPConnection("127.0.0.1", self._server.port, timeout=300)) as connection:
            try:
                connection.request("POST", SPEECH, body, {"Content-Type": "application/json"})
                answer = connection.getresponse()
                sound = answer.read(1)
                first_s = time.monotonic() - began
                sound += answer.read()
            except (OSError, http.client.HTTPException) as error:
                return {"began": began, "at": time.monotonic(), "ok": False, "error": type(error).__name__}
        at = time.monotonic()
        if answer.status != 200:
            return {"began": began, "at": at, "ok": False, "error": json.loads(sound)["error"]["message"]}
        audio_s = len(sound) / 2 / self._rate
        return {"began": began, "at": at, "ok": True, "sound": hashlib.sha256(sound).hexdigest(), "first_s": first_s,
                "rtf": (at - began) / audio_s}  # fmt: skip

    def _watch(self) -> None:
        """Poll memory and degradation from /health."""
        while not self._stop.wait(_SAMPLE_S):
            health = self._server.get("/health")
            pressure = health["engine"]["pressure"]
            self.level, self._steps = pressure["level"], set(pressure["steps"])
            self.events.append({"event": "look", "at": time.monotonic(), **pressure,
                                "memory": health["current_resources"]["memory_percent"]})  # fmt: skip


def watched(decision: Decision) -> float:
    """CPU time of a pressure monitor like the worker's, in percent of one CPU."""
    monitor = Monitor()
    never = Timing(confirm=1e9, down=1e9, up=1e9)
    watch = PressureMonitor(decision.plan, lambda _: None, look=monitor.look, timing=never)
    watch.start()
    clock = time.pthread_getcpuclockid(watch.thread_id)
    began, spent = time.monotonic(), time.clock_gettime(clock)
    time.sleep(_MONITOR_S)
    percent = 100 * (time.clock_gettime(clock) - spent) / (time.monotonic() - began)
    watch.stop()
    monitor.close()
    return percent


# -- pressure


@contextmanager
def eating(limit: MemoryLimit, full: float) -> Iterator[float]:
    """Run a process that fills the group's memory to `full` percent. Yields the time when it began."""
    arguments = [limit.kind, str(limit.bytes), str(limit.group or ""), str(full)]
    command = [sys.executable, "-m", "benchmarks.pressure", "eat", *arguments]
    hog = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert hog.stdout is not None
        line = hog.stdout.readline()
        if not line:
            raise ModelFailure("the process that fills the memory has died; use a larger --limit")
        yield float(line)
    finally:
        hog.kill()
        hog.communicate()


def eat(kind: str, size: str, group: str, full: str) -> None:
    """In the child: keep memory `full` percent full, by allocating and releasing, until killed."""
    enter(MemoryLimit(kind=kind, bytes=int(size), group=Path(group) if group else None))
    print(time.monotonic(), flush=True)
    held: list[mmap.mmap] = []
    while True:
        limit, free = memory()
        used = 100 * (1 - free / limit)
        if used < float(full):
            held.append(mmap.mmap(-1, PIECE))
            held[-1].write(b"x" * PIECE)
        elif held and used > float(full) + SLACK:
            held.pop().close()
        else:
            time.sleep(_SAMPLE_S)


@contextmanager
def hogging(count: int) -> Iterator[float]:
    """Run busy loops in `count` processes. Yields the time when they were started."""
    with ExitStack() as stack:
        since = time.monotonic()
        for _ in range(count):
            hog = subprocess.Popen([sys.executable, "-c", HOG])
            stack.callback(hog.wait)
            stack.callback(hog.kill)
        yield since


# -- figures


def figures(events: list[Event], pressure: Event) -> dict[str, Any]:
    """Figures of one pressure on one engine. RTF and first audio are medians over requests."""
    there = [each for each in events if pressure["calm_at"] <= each["at"] <= pressure["until"]]
    looks, spoken = ([each for each in there if each["event"] == kind] for kind in ("look", "spoken"))
    since, released, reason = _begins(looks, pressure), pressure["released"], REASON[pressure["kind"]]
    moves = [after for before, after in pairwise(looks) if after["level"] > before["level"] and after["at"] >= since]
    downs = [each for each in moves if reason in each["reason"]]
    back = next((each["at"] for each in looks if downs and each["at"] > released and not each["level"]), None)
    settled = max([since, *(each["at"] for each in downs if each["at"] <= released)])
    settled += _SETTLED_S if settled + _SETTLED_S < released else 0
    good = [each for each in spoken if each["ok"]]
    calm = [each for each in good if each["at"] <= since]
    pressed = [each for each in good if each["began"] >= settled and each["at"] <= released]
    return {
        "kind": pressure["kind"],
        "down_s": round(downs[0]["at"] - since, 2) if downs else None,
        "gave_up": max((each["steps"] for each in looks), key=len, default=[]),
        "back_s": None if back is None else round(back - released, 2),
        "requests": len(spoken),
        "failed": len(spoken) - len(good),
        "errors": sorted({each["error"] for each in spoken if not each["ok"]}),
        "changed": sum(not each["same"] and not each["audible"] for each in good),
        "audible": sum(each["audible"] for each in good),
        "rtf_calm": _median(calm, "rtf"),
        "rtf_pressed": _median(pressed, "rtf"),
        "first_s_calm": _median(calm, "first_s"),
        "first_s_pressed": _median(pressed, "first_s"),
    }


def _begins(looks: list[Event], pressure: Event) -> float:
    """When the pressure began: CPU at once, memory when it was first fuller than the engine allows."""
    full = (each["at"] for each in looks if each["at"] >= pressure["since"] and each["memory"] > Thresholds().memory)
    return float(pressure["since"] if pressure["kind"] == "cpu" else next(full, pressure["since"]))


def _median(rows: list[Event], name: str) -> float | None:
    return round(statistics.median(row[name] for row in rows), 4) if rows else None


def goals(runs: Mapping[str, dict[str, Any]]) -> list[tuple[str, bool]]:
    """The goals with the measured figures, and whether they are met."""
    run, lines = runs["adapts"], list[tuple[str, bool]]()
    for row in (figures(run["events"], each) for each in run["pressures"]):
        kind = row["kind"]
        timed = [("down_s", DOWN_S, "first degradation"), ("back_s", BACK_S, "recovery")]
        if kind not in run["relieved"]:
            timed = []
            lines.append((f"{kind}: no level of this model relieves it", True))
        for name, goal, what in timed:
            took = "never" if row[name] is None else f"after {row[name]:.1f} s"
            lines.append((f"{kind}: {what} {took} (goal {goal:g} s)", row[name] is not None and row[name] <= goal))
        lines.append((f"{kind}: {row['failed']} of {row['requests']} requests failed (goal 0)", not row["failed"]))
        lines.append((f"{kind}: {row['changed']} sounded different though no active level is audible (goal 0)",
                     not row["changed"]))  # fmt: skip
    cost = run["watch_percent"]
    lines.append((f"monitoring takes {cost:.2f} % of one CPU (goal {WATCH_PERCENT:g} %)", cost < WATCH_PERCENT))
    lines.append((f"{run['kills']} processes killed for memory (goal 0)", not run["kills"]))
    return lines


def won_back(rows: list[dict[str, Any]]) -> float | None:
    """Speed under CPU pressure, relative to an engine that keeps its plan."""
    pressed = {row["engine"]: row["rtf_pressed"] for row in rows if row["kind"] == "cpu"}
    ours, planned = pressed.get("adapts"), pressed.get("as planned")
    return float(round(planned / ours, 2)) if ours and planned else None


def panel(name: str, run: dict[str, Any]) -> Panel:
    """Memory, level and RTF over time, the pressures shaded."""
    begin = run["pressures"][0]["calm_at"]
    looks = [each for each in run["events"] if each["event"] == "look" and each["at"] >= begin]
    good = [each for each in run["events"] if each["event"] == "spoken" and each["ok"] and each["at"] >= begin]

    def over(label: str, rows: list[Event], value: Callable[[Event], float], mark: Any) -> Series:
        return Series(name=label, x=[each["at"] - begin for each in rows], y=[value(each) for each in rows], mark=mark)

    most = max((each["rtf"] for each in good), default=1.0)
    return Panel(
        title=name, x="seconds", y="%",
        series=[
            over("memory", looks, lambda each: each["memory"], "step"),
            over("level × 20", looks, lambda each: 20 * each["level"], "step"),
            over(f"RTF, of {most:.3g}", good, lambda each: 100 * each["rtf"] / most, "dots"),
        ],
        spans=[(each["kind"], each["since"] - begin, each["released"] - begin) for each in run["pressures"]],
    )  # fmt: skip


if __name__ == "__main__":
    if sys.argv[1:2] == ["eat"]:
        eat(*sys.argv[2:])
    sys.exit(main(sys.argv[1:]))
