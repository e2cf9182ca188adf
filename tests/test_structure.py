"""Rules for the source: direction of imports, access to the environment, banned functions."""

from __future__ import annotations

import ast
import re
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from paths import ROOT, TESTS

SOURCE = ROOT / "src" / "saywell"
FILES = sorted([*SOURCE.rglob("*.py"), *(ROOT / "compat").rglob("*.py")])

LAYERS = (
    "types errors __init__",
    "files manifest settings text audio machine child runtimes graphs",
    "plan hub voices",
    "models",
    "engine",
    "server cli commands tune bench integrations __main__",
    "saywell_compat",
    "s1_mini smart_backend",
)
"""From the bottom: a layer may import from itself and from those below."""
COMPAT = frozenset(f"{LAYERS[-2]} {LAYERS[-1]}".split())
LAYER = {room: height for height, rooms in enumerate(LAYERS) for room in rooms.split()}
UPWARDS = {("src/saywell/types.py", "saywell.audio.encode"): "Audio.save(), once called"}
MOST_LINES = 60

BANNED = {
    "eval": "runs text as a program",
    "exec": "runs text as a program",
    "os.system": "runs text in a shell",
    "os.popen": "runs text in a shell",
    "subprocess.getoutput": "runs text in a shell",
    "subprocess.getstatusoutput": "runs text in a shell",
    "yaml.load": "creates arbitrary objects",
    "tempfile.mktemp": "allows another process to create the file first",
    "time.time": "a clock that can be set back; use time.monotonic for deadlines",
    "os.getenv": "settings.py reads the environment",
}
OWN_CLOCK = {
    ("cache.py", "time.time"): "modification times of files use this clock",
}
UNSAFE_MODULES = ("pickle", "dill", "cloudpickle", "shelve", "joblib", "marshal")
"""Loading with them can run code. Their exceptions may be caught, but their functions not be called."""
PLACES = re.compile(r"(?<![\w.~}])/(work|root|home/(?!linuxbrew/)\w+|Users/\w+|tmp/\w+)/")
"""Local directories of a developer's machine."""
TEXT = {".py", ".md", ".toml", ".json", ".tsv", ".sh", ".yml", ".yaml", ".cfg", ""}


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


def room(path: Path) -> str:
    base = SOURCE if SOURCE in path.parents else ROOT / "compat"
    return path.relative_to(base).parts[0].removesuffix(".py")


def imported(path: Path) -> Iterator[tuple[str, int]]:
    """Modules that a file imports at any level, except for type checking only."""
    type_checking = {
        id(inner)
        for node in ast.walk(tree(path))
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        for inner in ast.walk(node)
    }
    for node in ast.walk(tree(path)):
        if id(node) in type_checking:
            continue
        if isinstance(node, ast.ImportFrom) and node.module and not node.level:
            whole = node.module == "saywell"
            yield from (((f"saywell.{alias.name}" if whole else node.module), node.lineno) for alias in node.names)
        elif isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)


def calls(path: Path) -> Iterator[tuple[str, ast.Call]]:
    """Every call with its full dotted name, resolving `from x import y`."""
    origin = {
        alias.asname or alias.name: f"{node.module}.{alias.name}"
        for node in ast.walk(tree(path))
        if isinstance(node, ast.ImportFrom) and node.module
        for alias in node.names
    }
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            head, dot, rest = called.partition(".")
            yield origin.get(head, head) + dot + rest, node


def keyword(call: ast.Call, wanted: str) -> str | None:
    return next((ast.unparse(item.value) for item in call.keywords if item.arg == wanted), None)


def test_every_package_has_a_layer() -> None:
    assert {room(path) for path in FILES} <= LAYER.keys()


@pytest.mark.parametrize("path", FILES, ids=name)
def test_imports_run_downwards(path: Path) -> None:
    here = LAYER[room(path)]
    for module, line in imported(path):
        top, _, rest = module.partition(".")
        there = top if top in COMPAT else rest.partition(".")[0] if top == "saywell" and rest else None
        if there in LAYER and (name(path), module) not in UPWARDS:
            assert LAYER[there] <= here, f"{name(path)}:{line} imports {module}, which is a higher layer"


@pytest.mark.parametrize("path", FILES, ids=name)
def test_only_settings_reads_the_environment(path: Path) -> None:
    reads = [node.lineno for node in ast.walk(tree(path)) if isinstance(node, ast.Attribute) and node.attr == "environ"]
    if name(path) not in ("src/saywell/settings.py", "src/saywell/__init__.py"):  # the latter switches telemetry off
        assert reads == [], f"{name(path)} reads os.environ; make it a setting"


@pytest.mark.parametrize("path", FILES, ids=name)
def test_banned_functions_are_not_called(path: Path) -> None:
    for called, call in calls(path):
        where = f"{name(path)}:{call.lineno}"
        if (path.name, called) not in OWN_CLOCK:
            assert called not in BANNED, f"{where} calls {called}: {BANNED[called]}"
        assert called.partition(".")[0] not in UNSAFE_MODULES, f"{where} calls {called}, which can run code"
        assert keyword(call, "shell") in (None, "False"), f"{where} runs a shell"
        if called == "torch.load":
            assert keyword(call, "weights_only") == "True", f"{where} unpickles untrusted data"
        if called in ("np.load", "numpy.load"):
            assert keyword(call, "allow_pickle") in (None, "False"), f"{where} unpickles untrusted data"


@pytest.mark.parametrize("path", FILES, ids=name)
def test_functions_are_short(path: Path) -> None:
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            length = (node.end_lineno or 0) - node.lineno + 1
            assert length <= MOST_LINES, f"{name(path)}:{node.lineno} {node.name} has {length} lines"


def test_no_test_module_is_imported() -> None:
    """Nothing under `tests/` imports a module of tests or a `conftest`."""
    wrong = [
        f"{name(path)}:{line} imports {module}"
        for path in sorted(TESTS.rglob("*.py"))
        for module, line in imported(path)
        if module.rpartition(".")[2].startswith(("test_", "conftest"))
    ]
    assert wrong == []


def test_tests_named_in_faults_exist() -> None:
    named = set(re.findall(r"`((?:\w+/)*test_\w+)`", (ROOT / "docs" / "faults.md").read_text(encoding="utf-8")))
    assert named
    assert {each for each in named if not (TESTS / f"{each}.py").is_file()} == set()


def test_no_file_names_a_local_path() -> None:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode:
        pytest.skip("not a git checkout")
    paths = [ROOT / file for file in listed.stdout.split("\0") if file and Path(file).suffix in TEXT]
    matches = {
        f"{name(path)}: {match[0]}"
        for path in paths
        if path.is_file() and path != Path(__file__)
        for match in PLACES.finditer(path.read_text(encoding="utf-8"))
    }
    assert matches == set()


def test_checks_detect_violations(tmp_path: Path) -> None:
    path = tmp_path / "bad.py"
    path.write_text("from time import time as now\nimport saywell.cli\nnow()\nsubprocess.run(x, shell=True)\n")
    assert [called for called, _ in calls(path)] == ["time.time", "subprocess.run"]
    assert [keyword(call, "shell") for _, call in calls(path)] == [None, "True"]
    assert ("saywell.cli", 2) in imported(path)
    assert PLACES.search("lies in /home/me/models") is not None
