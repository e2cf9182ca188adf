"""No telemetry: it is switched off before the runtime is imported."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

SPEAK = "import saywell; saywell.open().say('Good morning.')"
WORKER = "import saywell; saywell.open(worker=True).say('Good morning.')"


def run(program: str, home: Path, *before: str, **variables: str) -> subprocess.CompletedProcess[str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("ORT_", "XDG_"))}
    environ = {**kept, "HOME": str(home), "XDG_DATA_HOME": str(home / "data"), **variables}
    command = [*before, sys.executable, "-c", f"if __name__ == '__main__':\n    {program}"]
    return subprocess.run(command, env=environ, capture_output=True, text=True, check=True, timeout=100)


@pytest.mark.parametrize("program", [SPEAK, WORKER])
def test_no_file_about_this_machine_is_left(tmp_path: Path, program: str) -> None:
    run(program, tmp_path)
    assert [path for path in tmp_path.rglob("*") if path.is_file() and "onnxruntime" in str(path).lower()] == []
    assert not (tmp_path / ".cache" / "Microsoft").exists()


@pytest.mark.skipif(shutil.which("strace") is None, reason="needs strace")
def test_no_network_connection_is_made(tmp_path: Path) -> None:
    trace = tmp_path / "calls"
    run(WORKER, tmp_path, "strace", "-f", "-e", "trace=connect,sendto,sendmmsg", "-o", str(trace))
    assert [line for line in trace.read_text().splitlines() if "AF_INET" in line] == []


def test_telemetry_setting_of_the_program_is_kept(tmp_path: Path) -> None:
    program = "import saywell, os; print(os.environ['ORT_DISABLE_TELEMETRY'])"
    assert run(program, tmp_path).stdout == "1\n"
    assert run(program, tmp_path, ORT_DISABLE_TELEMETRY="0").stdout == "0\n"


def test_runtime_imported_first_gives_one_warning(tmp_path: Path) -> None:
    program = "import onnxruntime, saywell; t = saywell.open(); t.say('Hi.'); t.say('Hi.')"
    assert run(program, tmp_path).stderr.count("Import saywell first") == 1


FAKE = {
    "openvino_telemetry/__init__.py": """
class Telemetry:
    one = None
    consent = True
    def __new__(cls):
        cls.one = cls.one or object.__new__(cls)
        return cls.one
print("told its maker")
""",
    "openvino/__init__.py": """
try:
    from openvino_telemetry import Telemetry
except ImportError:
    print("a stand-in")
""",
}
"""Imitates the import of OpenVINO."""


@pytest.fixture
def fake(tmp_path: Path) -> str:
    for name, content in FAKE.items():
        (tmp_path / "fake" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "fake" / name).write_text(content)
    return os.pathsep.join(filter(None, (str(tmp_path / "fake"), os.environ.get("PYTHONPATH"))))


def test_openvino_is_imported_without_its_telemetry(tmp_path: Path, fake: str) -> None:
    program = "from saywell.runtimes import openvino as o; o.package(); print('openvino_telemetry' in o.sys.modules)"
    assert run(program, tmp_path, PYTHONPATH=fake).stdout == "a stand-in\nFalse\n"


def test_openvino_that_came_first_sends_no_more_and_one_warning_says_so(tmp_path: Path, fake: str) -> None:
    program = (
        "import openvino; from saywell.runtimes.openvino import package; package(); print(openvino.Telemetry().consent)"
    )
    ran = run(program, tmp_path, PYTHONPATH=fake)
    assert ran.stdout == "told its maker\nFalse\n"
    assert ran.stderr.count("Import saywell first") == 1


@pytest.mark.skipif(find_spec("openvino") is None, reason="OpenVINO is not installed")
def test_openvino_itself_leaves_no_file(tmp_path: Path) -> None:
    run("from saywell.runtimes.openvino import package; package()", tmp_path)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []
