"""What keeps a service standing under a memory limit: baseline, + budget, + affinity, + estimate, one after the other.

Each is the same engine with one more thing switched on, in processes inside a memory limit of their own that the kernel
enforces. Every text is asked for in turn; where the engine's processes are killed they are started again, as a service
manager would, and the request counts as failed. What was asked, answered and how long it took is kept as JSON.
"""

from __future__ import annotations

import argparse
import json
import queue
import subprocess
import sys
import tempfile
import threading
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console

from saywell.bench import stability_report as report
from saywell.bench.limits import Cage, OwnPeak, caged
from saywell.bench.setting import check_outputs, machine, reading, spoken_wishes
from saywell.bench.stability_child import VARIANTS, Setup, Variant
from saywell.errors import InvalidRequest
from saywell.plan.memory import MIB

LENGTHS = (100, 300, 500, 800, 1000)
STARTS = 3
"""Times in a row an engine may fail to start before the rest of its texts count as failed."""
_START_S = 180.0


def main(args: list[str]) -> int:
    """Run it. 1 if the whole succeeds less often than the baseline."""
    options = _options(args)
    check_outputs(options)
    if options.merge:
        with reading("what --save has written"):
            result = report.merge([json.loads(path.read_text(encoding="utf-8")) for path in options.merge])
    else:
        result = measure(options)
    report.show(Console(width=120), result)
    if options.save:
        options.save.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    if options.plots:
        from saywell.bench import stability_plots

        stability_plots.draw(result, options.plots)
    print(json.dumps({"bench": "stability", **report.brief(result)}))  # noqa: T201 - the last line is for programs
    return 0 if report.met(result) else 1


def _options(args: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="saywell bench stability", description=__doc__)
    parser.add_argument("--model", help="a model or the directory of a converted one (default: the default model)")
    parser.add_argument("--limit", type=int, default=512, metavar="MB", help="of memory (default 512)")
    parser.add_argument("--lengths", type=int, nargs="+", default=list(LENGTHS), help="characters of the texts")
    parser.add_argument("--repeats", type=int, default=5, help="of each length (default 5)")
    parser.add_argument("--clients", type=int, default=1, help="asking at once (default 1)")
    parser.add_argument("--only", choices=[variant.name for variant in VARIANTS], action="append", help="may repeat")
    parser.add_argument("--frames", type=int, help="of each sentence, for random weights that never end by themselves")
    parser.add_argument("--timeout", type=float, default=120.0, help="seconds of one request (default 120)")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="a setting; may repeat")
    parser.add_argument("--save", type=Path, metavar="FILE", help="write every single answer as JSON")
    parser.add_argument("--merge", type=Path, nargs="+", metavar="FILE", help="show saved runs as one, run nothing")
    parser.add_argument("--plots", type=Path, metavar="DIR", help="directory for PNG files")
    options = parser.parse_args(args)
    if min(options.lengths) < 10 or options.repeats < 1 or options.clients < 1:
        raise InvalidRequest("lengths are at least 10, repeats and clients at least 1", param="lengths")
    return options


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Every variant asked for, one after the other."""
    wanted = [variant for variant in VARIANTS if not options.only or variant.name in options.only]
    with tempfile.TemporaryDirectory(prefix="saywell-bench-") as folder:
        common = spoken_wishes(options, Path(folder))
        runs = [run(variant, common, options) for variant in wanted]
    asked = {name: getattr(options, name) for name in ("clients", "repeats", "lengths", "frames")}
    model = Path(options.model).name if options.model else "the default model"
    return {"machine": machine(), "model": model, "limit_mb": options.limit, **asked, "runs": runs}


@dataclass(slots=True)
class Tally:
    """What became of one variant."""

    rows: list[dict[str, Any]] = field(default_factory=list)
    plan: dict[str, Any] | None = None
    refused: str = ""
    starts: int = 0
    steps: list[str] = field(default_factory=list)
    """Steps down the ladder that were seen."""


def run(variant: Variant, wishes: dict[str, Any], options: argparse.Namespace) -> dict[str, Any]:
    """All texts of one variant under one limit."""
    with caged(options.limit * MIB, "stability") as cage:
        setup = Setup(
            variant=variant,
            limit=cage.bytes,
            kind=cage.kind,
            group=str(cage.group) if cage.group else None,
            wishes=wishes,
            frames=options.frames,
            timeout_s=options.timeout,
        )
        tally = Tally()
        work = [(chars, repeat) for repeat in range(options.repeats) for chars in options.lengths]
        with OwnPeak(cage) as own:
            while work and tally.starts < STARTS + len(tally.rows):
                _serve(setup, work, tally, options)
                if tally.refused or (tally.plan is None and tally.starts >= STARTS):
                    break
        why = "refused at start" if tally.refused else "did not start"
        tally.rows += [{"chars": chars, "ok": False, "error": why} for chars, _ in work for _ in range(options.clients)]
        return {**_told(variant, cage, tally), "own_peak_mb": round(own.bytes / MIB, 1)}


def _serve(setup: Setup, work: list[tuple[int, int]], tally: Tally, options: argparse.Namespace) -> None:
    """One child from its start to its end; takes from `work` what was answered, or what killed it."""
    tally.starts += 1
    with _Child(setup) as child:
        first = child.read(_START_S)
        if first is None or "refused" in first:
            tally.refused = first["refused"] if first else ""
            return
        tally.plan = first["plan"]
        while work:
            chars, repeat = work[0]
            child.ask({"chars": chars, "seed": repeat, "clients": options.clients})
            found = child.read(options.timeout + _START_S)
            work.pop(0)
            if found is None:
                tally.rows += [{"chars": chars, "ok": False, "error": "killed"} for _ in range(options.clients)]
                return
            tally.rows += [{"chars": chars, **answer} for answer in found["answers"]]
            tally.steps += [step for step in found["steps"] if step not in tally.steps]


def _told(variant: Variant, cage: Cage, tally: Tally) -> dict[str, Any]:
    return {
        "variant": variant.name,
        "limit": cage.about,
        "kind": cage.kind,
        "peak_mb": round(cage.peak() / MIB, 1),
        "kills": cage.kills(),
        "starts": tally.starts,
        "refused": tally.refused,
        "steps": tally.steps,
        "plan": tally.plan,
        "rows": tally.rows,
    }


class _Child:
    """A child process that is asked and answers by lines; killed at the end with all it has started."""

    def __init__(self, setup: Setup) -> None:
        self._lines: queue.SimpleQueue[str] = queue.SimpleQueue()
        command = [sys.executable, "-m", "saywell.bench.stability_child", setup.to_json()]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._lines.put(line)
        self._lines.put("")

    def ask(self, what: dict[str, Any]) -> None:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(what) + "\n")
            self._process.stdin.flush()
        except OSError:
            return  # it is dead; reading says so

    def read(self, seconds: float) -> dict[str, Any] | None:
        """The next answer; None: the child has died, or was silent for so long."""
        try:
            line = self._lines.get(timeout=seconds)
        except queue.Empty:
            return None
        found: dict[str, Any] | None = json.loads(line) if line else None
        return found

    def __enter__(self) -> _Child:
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin is not None
        with suppress(OSError):  # a dead child's pipe
            self._process.stdin.close()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()  # its worker sees the end of its pipe and leaves
            self._process.wait()
        self._reader.join()
        assert self._process.stdout is not None
        self._process.stdout.close()
