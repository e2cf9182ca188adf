"""A real quota of CPU time: the facts show it, the plan follows it, the bench measures in it."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from saywell.bench import limits, quota
from saywell.errors import MissingDependency

LOOK = """
import json, sys
from pathlib import Path
from saywell.bench import limits
from saywell.machine import detect
limits.join(Path(sys.argv[1]))
found = detect()
print(json.dumps([found.limits.quota, found.usable_cpus]))
"""


@pytest.fixture
def group() -> Iterator[Path]:
    try:
        with limits.throttled(1.5, "test") as made:
            yield made
    except MissingDependency:
        pytest.skip("no control group with a quota can be made here")


def test_a_quota_is_a_fact_of_the_machine(group: Path) -> None:
    command = [sys.executable, "-c", LOOK, str(group)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == [1.5, 1]


def test_the_group_is_gone_afterwards(group: Path) -> None:
    with limits.throttled(0.5, "other") as other:
        assert other.is_dir()
        assert other != group
    assert not other.exists()


def test_without_control_groups_the_way_out_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "own_group", lambda _: None)
    with pytest.raises(MissingDependency, match="run it as root on Linux"), limits.throttled(1.5, "test"):
        pass


@pytest.mark.timeout(300)
def test_every_number_of_threads_is_measured_in_it(
    group: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "quota.json"
    quota.main(["--model", "hibari", "--rounds", "1", "--seconds", "5", "--save", str(file)])
    result = json.loads(file.read_text())
    assert result == json.loads(capsys.readouterr().out.splitlines()[-1])
    assert (result["quota"], result["planned"]) == (1.5, 1)
    assert all(row["rtf"] > 0 for row in result["threads"].values())
    assert "1" in result["threads"]
