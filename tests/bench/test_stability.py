"""The ablation under a memory limit: the limit is real, every switch reaches the engine, the figures add up."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from saywell.bench import limits, stability, stability_report
from saywell.bench.limits import Cage, caged
from saywell.bench.stability_child import VARIANTS, Setup, decision_for, text_of
from saywell.plan.memory import MIB

EAT = """
import sys
from dataclasses import replace
from pathlib import Path
from saywell.bench.limits import Cage, enter
kind, size, group, eaten = sys.argv[1:]
enter(Cage(kind=kind, bytes=int(size), group=Path(group) if group else None))
try:
    held = [b"x" * (8 << 20) for _ in range(int(eaten))]
except MemoryError:
    print("no memory")
else:
    print("ate", len(held))
"""


def eat(cage: Cage, pieces: int) -> subprocess.CompletedProcess[str]:
    """A child in the cage that takes so many pieces of 8 MB."""
    arguments = [cage.kind, str(cage.bytes), str(cage.group or ""), str(pieces)]
    return subprocess.run([sys.executable, "-c", EAT, *arguments], capture_output=True, text=True, check=False)


@pytest.fixture
def cage():
    with caged(96 * MIB, "test") as cage:
        if cage.group is None:
            pytest.skip("no control group can be made here")
        yield cage


def test_the_kernel_enforces_the_limit(cage):
    done = eat(cage, 3)
    assert done.stdout == "ate 3\n", done.stderr
    assert 24 * MIB < cage.peak() <= 96 * MIB
    assert cage.kills() == 0
    assert eat(cage, 30).returncode == -9
    assert cage.kills() == 1
    assert cage.peak() <= 96 * MIB
    assert "96 MB" in cage.about


def test_the_group_is_gone_afterwards():
    with caged(96 * MIB, "test") as cage:
        group = cage.group
    assert group is None or not group.exists()


@pytest.mark.skipif(sys.platform == "win32", reason="Windows limits no address space")
def test_without_groups_the_address_space_is_limited(monkeypatch):
    monkeypatch.setattr(limits, "own_group", lambda _: None)
    with caged(2048 * MIB, "test") as cage:
        assert (cage.kind, cage.group, cage.peak(), cage.kills()) == ("address space", None, 0, 0)
        assert "no control group" in cage.about
        assert eat(cage, 3).stdout == "ate 3\n"
        assert eat(cage, 300).stdout == "no memory\n"


@pytest.mark.parametrize("chars", [10, 100, 300, 1000])
def test_texts_have_their_length(chars):
    assert len(text_of(chars)) == chars
    assert text_of(chars).endswith(".")


def setup_of(variant, **wishes) -> Setup:
    return Setup(variant=variant, limit=512 * MIB, kind="cgroup v1", group="somewhere", wishes=wishes, frames=None,
                 timeout_s=10.0)  # fmt: skip


def test_every_switch_reaches_the_plan():
    baseline, budget, affinity, estimate = (decision_for(setup_of(variant)).plan for variant in VARIANTS)
    assert (baseline.adapt, baseline.affinity, baseline.check_memory) == (False, (), False)
    assert (budget.adapt, budget.affinity, budget.check_memory) == (True, (), False)
    assert (affinity.adapt, affinity.check_memory) == (True, False)
    assert (estimate.adapt, estimate.affinity, estimate.check_memory) == (True, affinity.affinity, True)
    assert decision_for(replace(setup_of(VARIANTS[1]), group=None)).plan.memory_budget == 512 * MIB


def test_a_setup_travels_as_json():
    setup = setup_of(VARIANTS[2], threads=1)
    assert Setup.from_json(setup.to_json()) == setup


def run_of(name: str, *latencies: float | None, chars: tuple[int, ...] = (100, 300)) -> dict:
    rows = [
        {"chars": chars[i % 2], "ok": False, "error": "killed"} if latency is None
        else {"chars": chars[i % 2], "ok": True, "latency_s": latency, "first_s": 0.1, "audio_s": 10.0}
        for i, latency in enumerate(latencies)
    ]  # fmt: skip
    return {"variant": name, "limit": "a limit", "kind": "cgroup v1", "peak_mb": 80.0, "own_peak_mb": 60.0,
            "kills": 1, "starts": 1, "refused": "", "steps": [], "plan": None, "rows": rows}  # fmt: skip


def test_the_spread_is_around_each_length():
    found = stability_report.figures(run_of("baseline", 1.0, 3.0, 1.2, 3.4))
    assert found["latency_s"] == pytest.approx(2.15)
    assert found["spread_s"] == pytest.approx((2 * (0.1**2 + 0.2**2) / 4) ** 0.5, abs=1e-4)
    assert found["by_length_s"] == {100: 1.1, 300: 3.2}
    assert (found["success"], found["rtf"]) == (1.0, 0.215)


def test_failures_are_counted_by_kind():
    found = stability_report.figures(run_of("baseline", None, 3.0, None, None))
    assert (found["success"], found["failures"]) == (0.25, {"killed": 3})
    nothing = stability_report.figures(run_of("baseline", None))
    assert (nothing["success"], nothing["latency_s"], nothing["spread_s"]) == (0.0, None, None)


def test_what_did_not_help_is_said():
    result = {"runs": [
        run_of("baseline", None, 3.0, 1.0, 3.0),
        run_of("+ memory budget", 1.0, 3.0, 1.0, 3.0),
        run_of("+ CPU affinity", 1.0, 3.1, 1.1, 3.0),
        run_of("+ pre-estimation", 0.5, 1.5, 0.5, 1.5),
    ]}  # fmt: skip
    budget, affinity, estimate = stability_report.verdicts(result)
    assert "100.0% of the time (75.0% before)" in budget
    assert "did not help" not in budget
    assert affinity.endswith("it did not help here")
    assert "× 0.49" in estimate
    assert stability_report.met(result)
    assert not stability_report.met({"runs": result["runs"][::-1]})


def test_runs_of_one_variant_are_merged():
    about = {"repeats": 1, "limit_mb": 1}
    parts = [{**about, "runs": [run_of("baseline", 1.0, None)]}, {**about, "runs": [run_of("baseline", 2.0, 3.0)]},
             {**about, "runs": [run_of("+ memory budget", 2.0, 3.0)]}]  # fmt: skip
    parts += [parts[2]]
    merged = stability_report.merge(parts)
    assert [run["variant"] for run in merged["runs"]] == ["baseline", "+ memory budget"]
    assert [len(run["rows"]) for run in merged["runs"]] == [4, 4]
    assert (merged["runs"][0]["kills"], merged["repeats"]) == (2, 2)


def test_one_run_from_limit_to_plot(tmp_path: Path, capsys):
    saved = [tmp_path / "one.json", tmp_path / "two.json"]
    common = ["--limit", "400", "--lengths", "20", "40", "--repeats", "1"]
    assert stability.main([*common, "--only", "baseline", "--save", str(saved[0])]) == 0
    assert stability.main([*common, "--only", "+ memory budget", "--clients", "1", "--save", str(saved[1])]) == 0
    capsys.readouterr()
    assert stability.main(["--merge", *map(str, saved), "--plots", str(tmp_path)]) == 0
    told = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert [row["variant"] for row in told["rows"]] == ["baseline", "+ memory budget"]
    assert [row["requests"] for row in told["rows"]] == [2, 2]
    assert all(row["success"] == 1.0 for row in told["rows"])
    if told["limited_by"].startswith("cgroup"):
        assert all(20 < row["own_peak_mb"] < row["peak_mb"] <= 400 for row in told["rows"])
    assert (tmp_path / "stability.png").stat().st_size > 5_000
