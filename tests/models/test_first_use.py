"""A published checkpoint is converted on first use, once, completely, by one process; anything else is rejected."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from typer.testing import CliRunner

import conversion
from saywell import cli
from saywell.engine.launch import decide
from saywell.errors import MissingDependency, StorageFailure, UnknownModel
from saywell.models import first_use
from saywell.models.base import find_spec
from saywell.models.dual_ar.convert import convert as convert_module
from saywell.models.first_use import converted
from saywell.models.installed import installed
from saywell.settings import Settings

pytest.importorskip("torch")


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from benchmarks import random_checkpoint

    return random_checkpoint.write(tmp_path_factory.mktemp("published"))


@pytest.fixture
def checkpoint(published: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(published, tmp_path / "mine"))


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The conversions, which run in this process and for one precision."""
    conversion.in_process(monkeypatch)
    made: list[Path] = []
    convert = convert_module.convert

    def counted(source: Path, out: Path, **more: object) -> Path:
        made.append(out)
        return convert(source, out, **{**more, "precisions": ("fp32",)})

    monkeypatch.setattr(convert_module, "convert", counted)
    return made


def test_checkpoint_is_converted_once_into_the_data_directory(checkpoint, tmp_path, runs, caplog):
    data, before = tmp_path / "data", sorted(each.name for each in checkpoint.iterdir())
    found = converted(checkpoint, data)
    assert (data in found.parents, found.name) == (True, "mine")
    assert find_spec(None, found).name == "mine"
    assert "is converted once" in caplog.text
    assert "write fp32 graphs" in caplog.text
    assert [converted(checkpoint, data) for _ in range(2)] == [found, found]
    assert runs == [found]
    assert sorted(each.name for each in checkpoint.iterdir()) == before


def test_convert_without_output_installs_under_the_checkpoints_name(checkpoint, tmp_path, runs):
    data = tmp_path / "data"
    done = CliRunner().invoke(cli.app, ["convert", str(checkpoint), "--precision", "fp32", "--set", f"data_dir={data}"])
    assert done.exit_code == 0, done.output
    assert runs == [installed(data)["mine"].path]
    assert decide(Settings(model="mine", data_dir=data)).spec.path == runs[0]


def test_converted_model_is_used_in_place(checkpoint, tmp_path, runs):
    found = converted(checkpoint, tmp_path / "data")
    assert converted(found, tmp_path / "other") == found
    assert not (tmp_path / "other").exists()


def test_replaced_checkpoint_is_converted_again(checkpoint, tmp_path, runs):
    found = converted(checkpoint, tmp_path / "data")
    specials = checkpoint / "special_tokens.json"
    specials.write_text(json.dumps(json.loads(specials.read_text()), indent=3))
    assert converted(checkpoint, tmp_path / "data") == found
    assert len(runs) == 2
    assert (found / "special_tokens.json").read_bytes() == specials.read_bytes()


def test_damaged_conversion_is_repeated(checkpoint, tmp_path, runs):
    found = converted(checkpoint, tmp_path / "data")
    (found / "codec.safetensors").unlink()
    assert converted(checkpoint, tmp_path / "data") == found
    assert (find_spec(None, found).name, len(runs)) == ("mine", 2)


def test_killed_conversion_is_continued_and_not_used(checkpoint, tmp_path, runs):
    code = "import sys; from pathlib import Path; from saywell.models.first_use import converted\n"
    code += "converted(*map(Path, sys.argv[1:]))"
    child = subprocess.Popen(
        [sys.executable, "-c", code, checkpoint, tmp_path / "data"], stderr=subprocess.PIPE, text=True
    )
    for line in child.stderr:
        if "write fp32 graphs" in line:
            break
    child.kill()
    child.communicate()
    begun = next((tmp_path / "data").rglob("saywell.json"))
    assert not list((tmp_path / "data").rglob(first_use.RECORD))
    before = (begun.parent / "model.safetensors").stat().st_mtime_ns
    found = converted(checkpoint, tmp_path / "data")
    assert found == begun.parent
    assert (found / "model.safetensors").stat().st_mtime_ns == before, "what was done is kept"
    assert not list(found.glob(".unfinished*"))
    assert find_spec(None, found).precisions == ("fp32",)


def test_concurrent_processes_convert_once(checkpoint, tmp_path, runs, caplog):
    found: list[Path] = []
    threads = [threading.Thread(target=lambda: found.append(converted(checkpoint, tmp_path / "d"))) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(found) == 3
    assert len(set(found)) == len(runs) == 1
    assert caplog.text.count("another process is converting mine") == 2


def test_missing_dependency_names_the_command(checkpoint, tmp_path, monkeypatch):
    (tmp_path / "without" / "torch").mkdir(parents=True)
    (tmp_path / "without" / "torch" / "__init__.py").write_text("raise ModuleNotFoundError('no', name='torch')\n")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path / "without"), os.environ.get("PYTHONPATH", "")]))
    with pytest.raises(MissingDependency, match=r"mine has to be converted .* torch.*pip install 'saywell\[convert\]'"):
        converted(checkpoint, tmp_path / "data")


def test_conversion_without_onnx_fails_before_it_starts(checkpoint, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "saywell.models.dual_ar.graphs.build", None)
    with pytest.raises(MissingDependency, match=r"pip install 'saywell\[convert\]'"):
        converted(checkpoint, tmp_path / "data")
    assert not list((tmp_path / "data").rglob("*.safetensors"))


@pytest.mark.parametrize(
    ("place", "why"),
    [("typo", "no checkpoint at .*typo; name"), ("", "holds no checkpoint"), ("file", "holds no check")],
)
def test_other_directories_are_rejected_by_name(place, why, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UnknownModel, match=why):
        converted(tmp_path / place, tmp_path / "data")
    assert not (tmp_path / "data").exists()


def test_full_disk_is_reported(checkpoint, tmp_path):
    (tmp_path / "data").write_text("not a directory")
    with pytest.raises(StorageFailure, match=r"could not be converted into .*SAYWELL_DATA_DIR"):
        converted(checkpoint, tmp_path / "data")
