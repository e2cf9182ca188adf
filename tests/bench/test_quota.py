"""A real quota of CPU time is a fact of the machine."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from saywell.bench import limits
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
