"""`scripts/count`: what it counts, and the times of a report of pytest."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import pytest

from paths import ROOT
from script import load_script

JUNIT = """<testsuites><testsuite name="pytest" tests="2" time="7.6">
<testcase classname="a" name="one" time="1.5" /><testcase classname="a" name="two" time="8.1" />
</testsuite></testsuites>"""


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    return load_script("count", monkeypatch)


def test_source_is_counted(script: ModuleType) -> None:
    figures = dict(script.count(ROOT))
    assert int(figures["lines, src/saywell"]) > int(figures["lines, src/saywell without bench"]) > 1000
    assert int(figures["settings"]) > 10
    assert int(figures["direct dependencies"]) > 5


def test_times_are_read_from_a_report(script: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "junit.xml").write_text(JUNIT)
    assert script.seconds(tmp_path / "junit.xml") == {
        "tests run": "2", "seconds of the run": "8", "seconds of all tests": "10",
    }  # fmt: skip
