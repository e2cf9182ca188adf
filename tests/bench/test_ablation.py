"""The ablation in a memory limit: the limit is enforced, every feature reaches the engine, the figures are right."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from machines import machine
from saywell import cli
from saywell.bench import ablation, limits, plot, service
from saywell.bench.ablation import VARIANTS, Run, Work, by_length, figures
from saywell.bench.limits import MemoryLimit, limited
from saywell.engine.launch import Decision, decide
from saywell.errors import MissingDependency
from saywell.machine import detect
from saywell.plan.memory import MIB
from saywell.plan.plan import Plan
from saywell.settings import Settings

EAT = """
import sys
from dataclasses import replace
from pathlib import Path
from saywell.bench.limits import MemoryLimit, enter
kind, size, group, eaten = sys.argv[1:]
enter(MemoryLimit(kind=kind, bytes=int(size), group=Path(group) if group else None))
try:
    held = [b"x" * (8 << 20) for _ in range(int(eaten))]
except MemoryError:
    print("no memory")
else:
    print("ate", len(held))
"""


def eat(limit: MemoryLimit, pieces: int) -> subprocess.CompletedProcess[str]:
    """Run a child in the limit that allocates `pieces` of 8 MB."""
    arguments = [limit.kind, str(limit.bytes), str(limit.group or ""), str(pieces)]
    return subprocess.run([sys.executable, "-c", EAT, *arguments], capture_output=True, text=True, check=False)


@pytest.fixture
def limit():
    with limited(96 * MIB, "test") as limit:
        if limit.group is None:
            pytest.skip("no control group can be made here")
        yield limit


def test_the_kernel_enforces_the_limit(limit):
    done = eat(limit, 3)
    assert done.stdout == "ate 3\n", done.stderr
    assert 24 * MIB < limit.peak() <= 96 * MIB
    assert limit.kills() == 0
    assert eat(limit, 30).returncode == -9
    assert limit.kills() == 1
    assert limit.peak() <= 96 * MIB
    assert "96 MB" in limit.about


def test_group_is_removed_afterwards():
    with limited(96 * MIB, "test") as limit:
        group = limit.group
    assert group is None or not group.exists()


@pytest.mark.skipif(sys.platform == "win32", reason="Windows limits no address space")
def test_without_groups_the_address_space_is_limited(monkeypatch):
    monkeypatch.setattr(limits, "own_group", lambda _: None)
    with limited(2048 * MIB, "test") as limit:
        assert (limit.kind, limit.group, limit.peak(), limit.kills()) == ("address space", None, 0, 0)
        assert "no control group" in limit.about
        assert eat(limit, 3).stdout == "ate 3\n"
        assert eat(limit, 300).stdout == "no memory\n"


def test_unsupported_system_is_reported(monkeypatch):
    monkeypatch.setattr(limits.sys, "platform", "win32")
    with pytest.raises(MissingDependency, match="measure on Linux"), limited(96 * MIB, "test"):
        pass


def test_every_switch_is_a_setting() -> None:
    limit = MemoryLimit(kind="cgroup v1", bytes=512 * MIB, group=Path("somewhere"))
    baseline, budget, affinity, estimate = (variant.overrides(limit, (0,)) for variant in VARIANTS)
    assert baseline == {"adapt": False, "check_memory": False}
    assert budget == {"adapt": True, "check_memory": False}
    assert affinity == {**budget, "affinity": [0]}
    assert estimate == {**affinity, "check_memory": True}
    assert VARIANTS[2].overrides(limit, ()) == budget, "where the system does not number performance cores"
    assert VARIANTS[1].overrides(replace(limit, group=None), ())["memory_budget_mb"] == 512


def test_threads_are_pinned_to_performance_cores() -> None:
    here = detect()
    cpu = replace(here.cpu, performance_cpus=(0, 2, 4), physical=3, performance=3, logical=6)
    machine = replace(here, os="linux", cpu=cpu, limits=replace(here.limits, cpus=(0, 1, 2, 3), quota=None))
    two = decide(Settings(threads=2))
    assert ablation.pinning(replace(two, hardware=machine)) == (0, 2)
    without = replace(machine, cpu=replace(cpu, performance_cpus=()))
    assert ablation.pinning(replace(two, hardware=without)) == ()
    assert ablation.pinning(replace(two, hardware=replace(machine, os="darwin"))) == ()


@pytest.mark.parametrize("blind", [True, False])
def test_only_the_baseline_ignores_its_limit(blind: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """A blind server plans with the machine's memory."""
    plans: list[Plan] = []

    def serve(_engine: object, decision: Decision) -> int:
        plans.append(decision.plan)
        return 0

    monkeypatch.setattr("saywell.machine.detect", lambda: machine("container-1.5cpu-1gb-cgroup-v1"))
    monkeypatch.setattr("saywell.server.app.serve", serve)
    assert service.run_server({"overrides": {"adapt": False}, "limit": None, "blind": blind}) == 0
    assert (plans[0].memory_budget < 1 << 30) is not blind


def run_of(name: str, *latencies: float | None, chars: tuple[int, ...] = (100, 300)) -> Run:
    rows = [
        ablation.failed(chars[i % 2], "killed") if latency is None
        else {"chars": chars[i % 2], "error": "", "total_s": latency, "first_s": 0.1, "audio_s": 10.0}
        for i, latency in enumerate(latencies)
    ]  # fmt: skip
    return Run(variant=name, limit="a limit", kills=1, peak_mb=80.0, own_mb=60.0, rows=rows)


def test_the_spread_is_around_each_length():
    run = run_of("baseline", 1.0, 3.0, 1.2, 3.4)
    result = figures(run)
    assert result["latency_s"] == pytest.approx(2.15)
    assert result["spread_s"] == pytest.approx((2 * (0.1**2 + 0.2**2) / 4) ** 0.5, abs=1e-4)
    assert by_length(run) == {100: 1.1, 300: 3.2}
    assert (result["success"], result["rtf"]) == (1.0, 0.215)


def test_failures_are_counted_by_kind():
    result = figures(run_of("baseline", None, 3.0, None, None))
    assert (result["success"], result["failures"]) == (0.25, {"killed": 3})
    nothing = figures(run_of("baseline", None))
    assert (nothing["success"], nothing["latency_s"], nothing["spread_s"]) == (0.0, None, None)


RUNS = [
    run_of("baseline", None, 3.0, 1.0, 3.0),
    run_of("+ memory budget", 1.0, 3.0, 1.0, 3.0),
    run_of("+ CPU affinity", 1.0, 3.1, 1.1, 3.0),
    run_of("+ pre-estimation", 0.5, 1.5, 0.5, 1.5),
]


def test_verdict_says_what_did_not_help():
    budget, affinity, estimate = ablation.verdicts(RUNS)
    assert "100.0% of the time (75.0% before)" in budget
    assert "did not help" not in budget
    assert affinity.endswith("it did not help here")
    assert "× 0.49" in estimate
    assert ablation.met(RUNS)
    assert not ablation.met(RUNS[::-1])
    assert "baseline: 1 requests failed: killed" in ablation.sentences(RUNS)


def test_plot_without_any_answers(tmp_path: Path):
    plot.draw(ablation.panels([*RUNS, run_of("nothing", None, None)]), tmp_path / "a.png", "title")
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.timeout(300)
def test_one_run_in_a_limit():
    work = Work(limit_mb=400, lengths=(20, 40), repeats=1, clients=2)
    (run,) = ablation.measure(decide(Settings()), work, VARIANTS[1:2])
    summary = figures(run)
    assert (summary["requests"], summary["success"], run.starts, run.refused) == (4, 1.0, 1, "")
    if "control group" not in run.limit:
        assert 20 < run.own_mb < run.peak_mb <= 400


@pytest.mark.timeout(300)
def test_service_that_does_not_fit_is_restarted_and_counted_as_failed(limit: MemoryLimit):
    run = ablation.run(VARIANTS[0], {}, (), Work(limit_mb=48, lengths=(20,), repeats=2))
    assert run.starts == ablation.MAX_FAILED_STARTS
    assert "while it loaded" in run.refused
    assert [row["error"] for row in run.rows] == ["did not start"] * 2
    assert run.kills >= ablation.MAX_FAILED_STARTS


@pytest.mark.timeout(300)
def test_the_command(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(ablation, "measure", lambda *_: RUNS)
    out = tmp_path / "a.png"
    done = CliRunner().invoke(cli.app, ["bench", "--ablation", "--limit", "300", "--json", "--plot", str(out)])
    assert done.exit_code == 0, done.output
    result = json.loads(done.stdout)
    assert (result["limit_mb"], result["lengths"], result["model"]) == (300, [100, 300, 500, 800, 1000], "hibari")
    assert [row["variant"] for row in result["rows"]] == [variant.name for variant in VARIANTS]
    assert len(result["verdicts"]) == 3
    assert result["runs"][0]["rows"][0] == {"chars": 100, "error": "killed"}
    assert "+ CPU affinity: succeeds" in done.stderr
    assert out.read_bytes().startswith(b"\x89PNG")
    monkeypatch.setattr(ablation, "measure", lambda *_: RUNS[::-1])
    assert CliRunner().invoke(cli.app, ["bench", "--ablation"]).exit_code == 1
