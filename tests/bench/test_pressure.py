"""The bench that makes pressure for real: the memory is eaten, the hogs die, the figures say what happened."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from rich.console import Console

from asking import until
from saywell.bench import pressure, pressure_plots, pressure_report
from saywell.bench.limits import Cage, caged
from saywell.bench.pressure_child import TEXTS, Setup
from saywell.plan.memory import MIB

LOOK = """
import sys, time
from pathlib import Path
from saywell.bench.limits import Cage, enter
from saywell.machine.monitor import memory
enter(Cage(kind=sys.argv[1], bytes=int(sys.argv[2]), group=Path(sys.argv[3])))
until = time.monotonic() + 20
while time.monotonic() < until:
    limit, free = memory()
    if 1 - free / limit >= 0.8:
        break
    time.sleep(0.02)
print(round(100 * (1 - free / limit)))
"""


@pytest.fixture
def cage():
    with caged(128 * MIB, "test") as cage:
        if cage.group is None:
            pytest.skip("no control group can be made here")
        yield cage


def test_the_eater_fills_the_group_as_far_as_asked_and_no_further(cage: Cage) -> None:
    with pressure._eating(cage, 80.0) as since:
        assert 0 <= time.monotonic() - since < 30
        command = [sys.executable, "-c", LOOK, cage.kind, str(cage.bytes), str(cage.group)]
        seen = subprocess.run(command, capture_output=True, text=True, check=True)
    assert 80 <= int(seen.stdout) <= 92
    assert cage.kills() == 0
    assert cage.own() < 20 * MIB, "given back"


def test_hogs_take_cpus_and_are_gone_afterwards() -> None:
    with pressure._hogging(2):
        children = psutil.Process().children()
        until(lambda: sum(pressure.HOG in each.cmdline() for each in children) == 2, 20)  # once each is its own program
        hogs = [each for each in children if pressure.HOG in each.cmdline()]
        until(lambda: all(sum(hog.cpu_times()[:2]) > 0.02 for hog in hogs), 20)
    assert not any(hog.is_running() for hog in hogs)


def test_an_engine_in_a_child_speaks_and_compares_what_it_hears() -> None:
    setup = Setup(limit=1 << 40, kind="none", group=None, wishes={"adapt": False}, frames=None, readers=1)
    with pressure.Child(setup) as child:
        ready = child.wait(lambda event: event["event"] == "ready", 60)
        assert ready["texts"] == len(TEXTS)
        child.tell("go")
        spoken = child.wait(lambda event: event["event"] == "spoken", 60)
        child.wait(lambda event: event["event"] == "look", 60)
    assert (spoken["ok"], spoken["same"], spoken["audible"]) == (True, True, False)
    assert spoken["at"] > spoken["began"]
    with pytest.raises(Exception, match="has ended"):
        child.wait(lambda event: event["event"] == "never", 1)


# Figures


def spoken(began: float, rtf: float, **fields: object) -> dict:
    good = {"ok": True, "same": True, "audible": False, "rtf": rtf, "first_s": rtf, "frame_s": rtf}
    return {"event": "spoken", "began": began, "at": began + 0.5, **good, **fields}


def level(at: float, *steps: str) -> dict:
    return {
        "event": "level",
        "at": at,
        "level": len(steps),
        "steps": list(steps),
        "reason": "other programs take 50 % of the CPUs",
    }


def result(**fields: object) -> dict:
    events = [
        *(spoken(10 + n, 0.1) for n in range(5)),
        level(21.5, "chunks"),
        level(22.5, "chunks", "slots"),
        *(spoken(27 + n, 0.2) for n in range(5)),
        level(39.0, "chunks"),
        level(43.0),
        {"event": "look", "at": 12.0, "memory": 50.0},
    ]
    cpu = {"kind": "cpu", "calm_at": 10.0, "since": 20.0, "released": 35.0, "until": 50.0}
    adapts = {
        "plan": {}, "watch_percent": 0.3, "kills": 0, "limit": "…", "pressures": [cpu], "events": events,
    }  # fmt: skip
    stays = {**adapts, "events": [*(spoken(10 + n, 0.1) for n in range(5)), *(spoken(27 + n, 0.6) for n in range(5))]}
    run = {**adapts, **fields}
    return {
        "machine": {"cpu": "Testing 1", "cpus": 2, "memory_gb": 8}, "model": "m", "readers": 1, "hogs": 2,
        "runs": {"adapts": run, "as planned": stays},
    }  # fmt: skip


def test_goals_met() -> None:
    found = result()
    row = pressure_report.figures(found["runs"]["adapts"], found["runs"]["adapts"]["pressures"][0])
    assert (row["down_s"], row["back_s"], row["steps"]) == (1.5, 8.0, ["chunks", "slots"])
    assert (row["rtf_calm"], row["rtf_pressed"], row["requests"], row["failed"]) == (0.1, 0.2, 10, 0)
    assert pressure_report.met(found)
    assert pressure_report.won_back(found) == 3.0
    assert pressure_report.brief(found)["won_back"] == 3.0
    console = Console(record=True, width=120, quiet=True)
    pressure_report.show(console, found)
    assert "Beside the hogs the steps win back a factor of 3 " in pressure_report.sentences(found)[-1]


@pytest.mark.parametrize(
    ("fields", "missed"),
    [
        ({"events": [level(22.5, "slots"), level(40.0)]}, "first step down after 2.5 s"),
        ({"events": [level(21.0, "slots"), level(66.0)]}, "as planned again never"),
        ({"events": []}, "first step down after never"),
        (
            {"events": [level(21.0, "slots"), level(40.0), spoken(25, 1.0, ok=False, error="no")]},
            "1 of 1 requests failed",
        ),
        ({"events": [level(21.0, "slots"), level(40.0), spoken(25, 1.0, same=False)]}, "1 sounded different"),
        ({"watch_percent": 1.2}, "watching takes 1.20 %"),
        ({"kills": 1}, "1 processes killed"),
    ],
)
def test_goals_missed(fields: dict, missed: str) -> None:
    found = result(**fields)
    assert not pressure_report.met(found)
    assert any(missed in text for text, good in pressure_report.goals(found) if not good)


def test_lighter_weights_may_be_heard() -> None:
    heard = [level(21.0, "lighter"), level(40.0), spoken(25, 1.0, same=False, audible=True)]
    assert pressure_report.met(result(events=heard))


def test_the_plot_is_drawn(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    assert pressure_plots.draw(result(), tmp_path).stat().st_size > 10_000
