"""A model family, a runtime and a recorded machine are added as files of their own; no existing file changes."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import wave
from pathlib import Path

import pytest

from machines import machine
from paths import ROOT
from saywell.machine import Hardware
from saywell.models.base import find_spec
from saywell.plan.plan import make_plan
from saywell.settings import Settings

RATE = 16_000
FAMILY = """
import numpy as np
from saywell.models.single_shot import SingleShot
from saywell.types import SPEED, ModelSpec, Variant, Voice

VOICES = tuple(Voice(id=f"hum:{name}", name=name, language="en", sample_rate=16_000) for name in ("low", "high"))

def missing():
    return ""

def spec(name, path):
    return ModelSpec(
        name=name, family="hum", kind="single-shot", sample_rate=16_000, frame_rate=10, default_voice="hum:low",
        variants=(Variant(executor="abacus", package="abacus", precision="fp32", weight_bytes=1 << 20),),
        options=SPEED, path=path,
    )

class Hum(SingleShot):
    def __init__(self, spec, plan):
        from saywell.runtimes.abacus import Graph
        self.spec, self.graph = spec, Graph()
        super().__init__(self.speak, plan)

    def voices(self):
        return VOICES

    def prepare(self, request):
        return None

    def speak(self, sequence):
        hertz = 110.0 if sequence.voice.id == "hum:low" else 220.0
        for word in sequence.text.split():
            yield self.graph.run(np.arange(16_000 * len(word) // 12) * hertz / 16_000)

def load(spec, plan):
    assert plan.executor == "abacus"
    return Hum(spec, plan)
"""
PUBLISHED = {"hum-deep": {"repo": "a/b", "revision": "main", "licence": "CC0-1.0", "terms": "None.", "files": ["x"]}}
NEEDY = """
import a_package_that_is_not_installed
"""
RUNTIME = """
from importlib import import_module, util
from saywell.runtimes.base import RuntimeSpec

def detect():
    return ("3.1", ("cpu",)) if util.find_spec("abacus") else None

RUNTIME = RuntimeSpec(
    package="abacus", title="Abacus", purpose="for people who count", install="pip install abacus",
    detect=detect, out_of_memory=("all beads are taken",),
)

class Graph:
    def __init__(self):
        self.wave = import_module("abacus").wave

    def run(self, turns):
        return self.wave(turns)
"""
PACKAGE = """
import numpy as np

def wave(turns):
    return (0.1 * np.sin(2 * np.pi * turns)).astype(np.float32)
"""


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the program with two families and a runtime added, next to the runtime's package."""
    root = tmp_path_factory.mktemp("tree")
    shutil.copytree(ROOT / "src" / "saywell", root / "saywell", ignore=shutil.ignore_patterns("__pycache__"))
    for name, text in {
        "saywell/models/hum/__init__.py": FAMILY,
        "saywell/models/hum/sources.json": json.dumps(PUBLISHED),
        "saywell/models/needy/__init__.py": NEEDY,
        "saywell/runtimes/abacus.py": RUNTIME,
        "abacus/__init__.py": PACKAGE,
    }.items():
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).write_text(text, encoding="utf-8")
    return root


def run(tree: Path, *arguments: str, code: int = 0) -> subprocess.CompletedProcess[str]:
    environ = {name: value for name, value in os.environ.items() if not name.startswith("SAYWELL_")}
    environ |= {
        "PYTHONPATH": str(tree), "PYTHONDONTWRITEBYTECODE": "1", "SAYWELL_DATA_DIR": str(tree / "data"),
        "SAYWELL_CONFIG": "", "COLUMNS": "300",
    }  # fmt: skip
    done = subprocess.run(
        [sys.executable, *arguments], cwd=tree, env=environ, capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == code, done.stderr
    return done


def ask_program(tree: Path, *arguments: str) -> dict[str, object]:
    answer: dict[str, object] = json.loads(run(tree, "-m", "saywell", *arguments, "--json").stdout)
    return answer


def test_a_family_is_listed_by_its_folder_alone(tree: Path) -> None:
    rows = ask_program(tree, "models")["models"]
    assert isinstance(rows, list)
    names = [row["name"] for row in rows]
    assert names[0] == "hibari"
    assert "hum" in names
    assert not {"dual_ar", "needy"} & set(names)  # one needs a converted checkpoint, the other a package


def test_a_variant_that_names_a_new_runtime_is_planned(tree: Path) -> None:
    found = ask_program(tree, "plan", "--model", "hum")
    plan, hardware = found["plan"], found["hardware"]
    assert isinstance(plan, dict)
    assert isinstance(hardware, dict)
    assert (plan["model"], plan["executor"], plan["precision"]) == ("hum", "abacus", "fp32")
    assert hardware["runtimes"]["abacus"] == {"version": "3.1", "devices": ["cpu"]}


def test_a_new_runtime_is_named_with_its_command_where_it_is_missing(tree: Path) -> None:
    (tree / "abacus").rename(tree / "elsewhere")
    try:
        refused = run(tree, "-m", "saywell", "plan", "--model", "hum", code=2)
        assert "install the Python package abacus" in refused.stderr
        report = json.loads(run(tree, "-m", "saywell", "doctor", "--json").stdout)
        row = next(finding for finding in report["findings"] if finding["name"] == "Abacus")
        assert (row["state"], row["command"]) == ("missing", "pip install abacus")
    finally:
        (tree / "elsewhere").rename(tree / "abacus")


def test_the_engine_speaks_with_the_new_family_and_runtime(tree: Path) -> None:
    for name, arguments in {"low": ("-m", "hum"), "high": ("-v", "hum:high")}.items():
        run(tree, "-m", "saywell", "say", "Hum a little tune.", *arguments, "-o", str(tree / f"{name}.wav"))
    with wave.open(str(tree / "low.wav")) as low, wave.open(str(tree / "high.wav")) as high:
        assert low.getframerate() == RATE
        assert low.getnframes() > RATE
        assert low.readframes(RATE) != high.readframes(RATE)


def test_an_unknown_model_and_a_missing_dependency_are_told_apart(tree: Path) -> None:
    unknown = run(tree, "-m", "saywell", "plan", "--model", "nobody", code=2)
    assert "no model 'nobody'" in unknown.stderr
    assert "hum" in unknown.stderr
    needy = run(tree, "-m", "saywell", "plan", "--model", "needy", code=1)
    assert "needs the Python package 'a_package_that_is_not_installed'" in needy.stderr


def test_weights_that_a_family_publishes_and_errors_of_a_runtime_are_known(tree: Path) -> None:
    program = (
        "from saywell.hub.sources import source\n"
        "from saywell.runtimes.out_of_memory import ran_out\n"
        "print(source('hum-deep').family, ran_out(RuntimeError('All beads are taken')), ran_out(RuntimeError('no')))"
    )
    assert run(tree, "-c", program).stdout.split() == ["hum", "True", "False"]


def test_no_other_file_of_the_copy_differs(tree: Path) -> None:
    def digests(root: Path) -> dict[str, str]:
        files = (path for path in root.rglob("*") if path.is_file() and "__pycache__" not in path.parts)
        return {str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}

    original, copy = digests(ROOT / "src" / "saywell"), digests(tree / "saywell")
    assert original.items() <= copy.items()
    added = {name for name in copy if name not in original}
    assert {Path(name).parts[:2] for name in added} == {
        ("models", "hum"), ("models", "needy"), ("runtimes", "abacus.py"),
    }  # fmt: skip


def test_a_recorded_machine_is_planned_by_its_file_alone(tmp_path: Path) -> None:
    known = machine("i5-1334u-8gb")
    recorded = json.loads(known.to_json())
    recorded["cpu"] |= {"model": "Made-up 6-core", "logical": 6, "performance": 6, "performance_cpus": []}
    recorded["limits"]["cpus"] = []
    file = tmp_path / "made-up.json"
    file.write_text(json.dumps(recorded), encoding="utf-8")
    hardware = Hardware.from_json(file.read_bytes())
    plan = make_plan(Settings(data_dir=tmp_path), hardware, find_spec("hibari"))
    assert plan.threads == hardware.usable_cores == 6
    assert all(reason.why for reason in plan.reasons)
    assert [path.name for path in tmp_path.iterdir()] == ["made-up.json"]
