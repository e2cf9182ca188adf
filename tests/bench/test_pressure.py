"""The pressure benchmark: hogs fill memory and CPUs and are stopped, and the figures are right."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from asking import until
from benchmarks import pressure
from saywell.bench import plot
from saywell.bench.limits import MemoryLimit, limited
from saywell.bench.service import serving
from saywell.engine.launch import decide
from saywell.plan.memory import MIB
from saywell.settings import Settings

LOOK = """
import sys, time
from pathlib import Path
from saywell.bench.limits import MemoryLimit, enter
from saywell.machine.monitor import memory
enter(MemoryLimit(kind=sys.argv[1], bytes=int(sys.argv[2]), group=Path(sys.argv[3])))
until = time.monotonic() + 20
while time.monotonic() < until:
    limit, free = memory()
    if 1 - free / limit >= 0.8:
        break
    time.sleep(0.02)
print(round(100 * (1 - free / limit)))
"""


@pytest.fixture
def limit():
    with limited(128 * MIB, "test") as limit:
        if limit.group is None:
            pytest.skip("no control group can be made here")
        yield limit


def test_memory_hog_fills_the_group_to_the_target(limit: MemoryLimit) -> None:
    with pressure.eating(limit, 80.0) as since:
        assert 0 <= time.monotonic() - since < 30
        command = [sys.executable, "-c", LOOK, limit.kind, str(limit.bytes), str(limit.group)]
        seen = subprocess.run(command, capture_output=True, text=True, check=True)
    assert 80 <= int(seen.stdout) <= 92
    assert limit.kills() == 0
    assert limit.own() < 20 * MIB, "not released"


def test_cpu_hogs_run_and_are_stopped() -> None:
    with pressure.hogging(2):
        children = psutil.Process().children()
        until(lambda: sum(pressure.HOG in child.cmdline() for child in children) == 2, 20)  # after exec
        hogs = [child for child in children if pressure.HOG in child.cmdline()]
        until(lambda: all(sum(hog.cpu_times()[:2]) > 0.02 for hog in hogs), 20)
    assert not any(hog.is_running() for hog in hogs)


def test_clients_compare_their_answers() -> None:
    with serving({"adapt": False}) as server:
        speaking = pressure.Speaking(server, decide(Settings(adapt=False)), None)
        with speaking.by(2):
            until(lambda: sum(event["event"] == "spoken" for event in list(speaking.events)) >= 3, 60)
    spoken = [event for event in speaking.events if event["event"] == "spoken"]
    looks = [event for event in speaking.events if event["event"] == "look"]
    assert all((event["ok"], event["same"], event["audible"]) == (True, True, False) for event in spoken[:3])
    assert all(event["at"] > event["began"] and event["rtf"] > 0 for event in spoken[:3])
    assert 0 < looks[0]["memory"] < 100
    assert (looks[0]["level"], looks[0]["steps"]) == (0, [])


# Figures


def spoken(began: float, rtf: float, **fields: object) -> dict:
    good = {"ok": True, "same": True, "audible": False, "rtf": rtf, "first_s": rtf, "frame_s": rtf}
    return {"event": "spoken", "began": began, "at": began + 0.5, **good, **fields}


def look(at: float, *steps: str) -> dict:
    reason = "other programs use 50 % of the CPUs"
    return {"event": "look", "at": at, "memory": 50.0, "level": len(steps), "steps": list(steps), "reason": reason}


CPU = {"kind": "cpu", "calm_at": 10.0, "since": 20.0, "released": 35.0, "until": 50.0}


def runs(**fields: object) -> dict:
    events = [
        *(spoken(10 + n, 0.1) for n in range(5)),
        look(12.0),
        look(21.5, "chunks"),
        look(22.5, "chunks", "slots"),
        *(spoken(27 + n, 0.2) for n in range(5)),
        look(39.0, "chunks"),
        look(43.0),
    ]
    adapts = {"watch_percent": 0.3, "kills": 0, "limit": "…", "pressures": [CPU], "relieved": ["cpu"], "events": events}
    stays = {**adapts, "events": [*(spoken(10 + n, 0.1) for n in range(5)), *(spoken(27 + n, 0.6) for n in range(5))]}
    return {"adapts": {**adapts, **fields}, "as planned": stays}


def test_goals_met() -> None:
    measured = runs()
    rows = [{"engine": name, **pressure.figures(run["events"], CPU)} for name, run in measured.items()]
    assert (rows[0]["down_s"], rows[0]["back_s"], rows[0]["gave_up"]) == (1.5, 8.0, ["chunks", "slots"])
    assert (rows[0]["rtf_calm"], rows[0]["rtf_pressed"], rows[0]["requests"], rows[0]["failed"]) == (0.1, 0.2, 10, 0)
    assert all(met for _, met in pressure.goals(measured))
    assert pressure.won_back(rows) == 3.0
    assert pressure.won_back(rows[:1]) is None


@pytest.mark.parametrize(
    ("fields", "missed"),
    [
        ({"events": [look(19.0), look(22.5, "slots"), look(40.0)]}, "first degradation after 2.5 s"),
        ({"events": [look(19.0), look(21.0, "slots"), look(66.0)]}, "recovery never"),
        ({"events": []}, "first degradation never"),
        (
            {"events": [look(19.0), look(21.0, "slots"), look(40.0), spoken(25, 1.0, ok=False, error="no")]},
            "1 of 1 requests failed",
        ),
        ({"events": [look(19.0), look(21.0, "slots"), look(40.0), spoken(25, 1.0, same=False)]}, "1 sounded different"),
        ({"watch_percent": 1.2}, "monitoring takes 1.20 %"),
        ({"kills": 1}, "1 processes killed"),
    ],
)
def test_goals_missed(fields: dict, missed: str) -> None:
    assert any(missed in text for text, met in pressure.goals(runs(**fields)) if not met)


def test_pressure_that_no_level_relieves_has_no_goal() -> None:
    lines = pressure.goals(runs(relieved=["memory"], events=[look(19.0)]))
    assert ("cpu: no level of this model relieves it", True) in lines
    assert not any("degradation" in text for text, _ in lines)


def test_audible_level_may_change_the_sound() -> None:
    heard = [look(19.0), look(21.0, "lighter"), look(40.0), spoken(25, 1.0, same=False, audible=True)]
    assert all(met for _, met in pressure.goals(runs(events=heard)))


def test_the_plot_is_drawn(tmp_path: Path) -> None:
    plot.draw([pressure.panel(name, run) for name, run in runs().items() if name == "adapts"], tmp_path / "p.png")
    assert (tmp_path / "p.png").stat().st_size > 10_000
