"""The engine under pressure made for real: memory eaten in its own control group, and hogs on its CPUs.

The same texts are spoken again and again while another process takes memory, then while others take the CPUs. Measured:
how soon the engine gives something up, how soon it is as planned again once the pressure is gone, whether a request
failed or sounded different, what its steps win back against an engine that keeps to its plan, and what watching costs.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

from rich.console import Console

from saywell.bench import pressure_report as report
from saywell.bench.limits import Cage, caged
from saywell.bench.pressure_child import Setup
from saywell.bench.setting import check_outputs, machine, spoken_wishes
from saywell.errors import InvalidRequest, ModelFailure
from saywell.plan.memory import MIB

EATER, HOG = "saywell.bench.pressure_eater", "while True: pass"
_START_S, _EAT_S, _BACK_S = 180.0, 30.0, 60.0
KINDS = ("memory", "cpu")


def main(args: list[str]) -> int:
    """Run it. 1 if a goal is missed."""
    options = _options(args)
    check_outputs(options)
    result = measure(options)
    report.show(Console(width=120), result)
    if options.save:
        options.save.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    if options.plots:
        from saywell.bench import pressure_plots

        pressure_plots.draw(result, options.plots)
    print(json.dumps({"bench": "pressure", **report.brief(result)}))  # noqa: T201 - the last line is for programs
    return 0 if report.met(result) else 1


def _options(args: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="saywell bench pressure", description=__doc__)
    parser.add_argument("--model", help="a model or the directory of a converted one (default: the default model)")
    parser.add_argument("--only", choices=KINDS, action="append", help="may repeat (default: all)")
    parser.add_argument("--limit", type=int, default=800, metavar="MB", help="of memory (default 800)")
    parser.add_argument("--full", type=float, default=90.0, metavar="%", help="how full memory is made (default 90)")
    parser.add_argument("--hogs", type=int, help="programs that take a CPU each (default: one a CPU)")
    parser.add_argument("--calm", type=float, default=6.0, metavar="S", help="before each pressure (default 6)")
    parser.add_argument("--hold", type=float, default=14.0, metavar="S", help="how long each lasts (default 14)")
    parser.add_argument("--readers", type=int, default=2, help="asking at once (default 2)")
    parser.add_argument("--frames", type=int, help="of each sentence, for random weights that never end by themselves")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="a setting; may repeat")
    parser.add_argument("--save", type=Path, metavar="FILE", help="write every single event as JSON")
    parser.add_argument("--plots", type=Path, metavar="DIR", help="directory for PNG files")
    options = parser.parse_args(args)
    if not 50 < options.full < 95 or options.readers < 1:
        raise InvalidRequest("--full is between 50 and 95, --readers at least 1", param="full")
    return options


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """An engine that adapts under every pressure, then one that keeps to its plan under the hogs."""
    kinds = options.only or list(KINDS)
    with tempfile.TemporaryDirectory(prefix="saywell-bench-") as folder:
        wishes = spoken_wishes(options, Path(folder))
        runs = {"adapts": _run(options, {**wishes, "adapt": True}, kinds)}
        if "cpu" in kinds:
            runs["as planned"] = _run(options, {**wishes, "adapt": False}, ["cpu"])
    model = Path(options.model).name if options.model else "the default model"
    asked = {name: getattr(options, name) for name in ("readers", "frames", "full", "hold")}
    hogs = options.hogs or machine()["cpus"]
    return {"machine": machine(), "model": model, "limit_mb": options.limit, "hogs": hogs, **asked, "runs": runs}


def _run(options: argparse.Namespace, wishes: dict[str, Any], kinds: list[str]) -> dict[str, Any]:
    """One engine from start to end under these pressures, one after the other."""
    with caged(options.limit * MIB, "pressure") as cage:
        setup = Setup(
            limit=cage.bytes, kind=cage.kind, group=str(cage.group) if cage.group else None, wishes=wishes,
            frames=options.frames, readers=options.readers,
        )  # fmt: skip
        with Child(setup) as child:
            plan = child.wait(lambda event: event["event"] == "ready", _START_S)["plan"]
            child.tell("watch")
            cost = child.wait(lambda event: event["event"] == "watched", _START_S)["percent"]
            child.tell("go")
            found = [_press(child, kind, cage, options, adapts=wishes["adapt"]) for kind in kinds]
        return {"plan": plan, "watch_percent": cost, "kills": cage.kills(), "limit": cage.about,
                "pressures": found, "events": child.events}  # fmt: skip


def _press(child: Child, kind: str, cage: Cage, options: argparse.Namespace, *, adapts: bool) -> dict[str, Any]:
    """A calm, a pressure, and the time until the engine is as planned again. Times are of the monotonic clock."""
    calm_at = time.monotonic()
    time.sleep(options.calm)
    with _eating(cage, options.full) if kind == "memory" else _hogging(options.hogs or machine()["cpus"]) as since:
        time.sleep(options.hold)
    released = time.monotonic()
    if adapts:
        with suppress(TimeoutError):  # the report says so
            child.wait(lambda event: event.get("level") == 0 and event["at"] > released, _BACK_S)
    time.sleep(1.0)
    return {"kind": kind, "calm_at": calm_at, "since": since, "released": released, "until": time.monotonic()}


@contextmanager
def _eating(cage: Cage, full: float) -> Iterator[float]:
    """Another process in the same group takes memory until it is as full as asked. When that began."""
    arguments = [cage.kind, str(cage.bytes), str(cage.group or ""), str(full)]
    eater = subprocess.Popen([sys.executable, "-m", EATER, *arguments], stdout=subprocess.PIPE, text=True)
    try:
        assert eater.stdout is not None
        line = eater.stdout.readline()
        if not line:
            raise ModelFailure("the process that eats memory has died; give --limit more")
        yield float(line)
    finally:
        eater.kill()
        eater.communicate()


@contextmanager
def _hogging(count: int) -> Iterator[float]:
    """So many programs that each take all of a CPU they are given."""
    with ExitStack() as stack:
        since = time.monotonic()
        for _ in range(count):
            hog = subprocess.Popen([sys.executable, "-c", HOG])
            stack.callback(hog.wait)
            stack.callback(hog.kill)
        yield since


class Child:
    """A child process that is told by lines and tells by lines; killed at the end with all it has started."""

    def __init__(self, setup: Setup) -> None:
        self.events: list[dict[str, Any]] = []
        self._news = threading.Condition()
        self._over = False
        command = [sys.executable, "-m", "saywell.bench.pressure_child", setup.to_json()]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            with self._news:
                self.events.append(json.loads(line))
                self._news.notify_all()
        with self._news:
            self._over = True
            self._news.notify_all()

    def tell(self, what: str) -> None:
        assert self._process.stdin is not None
        with suppress(OSError):  # it is dead; waiting says so
            self._process.stdin.write(f"{what}\n")
            self._process.stdin.flush()

    def wait(self, wanted: Callable[[dict[str, Any]], bool], seconds: float) -> dict[str, Any]:
        """The first event like this. Raises TimeoutError, and ModelFailure if the child has died."""
        with self._news:
            self._news.wait_for(lambda: self._over or any(map(wanted, self.events)), seconds)
            found = next(filter(wanted, self.events), None)
            if found is None:
                raise ModelFailure("the engine under pressure has ended") if self._over else TimeoutError()
            return found

    def __enter__(self) -> Child:
        return self

    def __exit__(self, *_: object) -> None:
        self.tell("stop")
        try:
            self._process.wait(_START_S)
        except subprocess.TimeoutExpired:
            self._process.kill()  # its worker sees the end of its pipe and leaves
            self._process.wait()
        self._reader.join()
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            with suppress(OSError):
                pipe.close()
