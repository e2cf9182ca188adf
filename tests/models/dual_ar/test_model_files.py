"""Pipes, endless files, flipped bits, truncation and other versions in a model's files are rejected by name."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks import random_checkpoint
from conversion import convert_here
from machines import fitted
from plans import TINY_PLAN
from saywell.errors import BadCheckpoint, SaywellError, UnknownModel
from saywell.files import sha256
from saywell.manifest import MANIFEST
from saywell.models import verified
from saywell.models.base import find_spec
from saywell.models.dual_ar.convert.convert import convert
from saywell.models.dual_ar.model import DualArModel

DATA = [
    "ar-fp32.data",
    "embeddings.npy",
    "codebook_embeddings.npy",
    "slow-fp32-kv-fp32.onnx",
    "codec_stack.fp32.onnx.data",
]


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return random_checkpoint.write(tmp_path_factory.mktemp("published"))


@pytest.fixture(scope="module")
def converted(published: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return convert_here(published, tmp_path_factory.mktemp("converted") / "model")


@pytest.fixture
def model(converted: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(converted, tmp_path / "model"))


def load(model: Path, tmp_path: Path) -> None:
    spec = find_spec(None, model)
    plan = replace(TINY_PLAN, max_batch_size=1, kv_length=200, data_dir=tmp_path / "data")
    DualArModel(spec, fitted(plan, spec)).close()


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


# Pipes and endless files


def pipe(path: Path) -> None:
    path.unlink(missing_ok=True)
    os.mkfifo(path)


def endless(path: Path) -> None:
    path.unlink(missing_ok=True)
    path.symlink_to("/dev/zero")


@pytest.mark.timeout(20)
@pytest.mark.parametrize("make", [pipe, endless])
@pytest.mark.parametrize("name", [MANIFEST, "config.json", "codec_config.json", "tokenizer.tiktoken", "ar.json"])
def test_pipes_and_endless_files_are_rejected_at_once(
    model: Path, tmp_path: Path, make: Callable[[Path], None], name: str
) -> None:
    make(model / name)
    with pytest.raises(SaywellError, match=name.replace(".", r"\.")):
        load(model, tmp_path)


@pytest.mark.timeout(20)
@pytest.mark.parametrize("make", [pipe, endless])
@pytest.mark.parametrize("name", ["config.json", "tokenizer.tiktoken", "special_tokens.json"])
def test_checkpoint_with_pipes_or_endless_files_is_rejected_at_once(
    published: Path, tmp_path: Path, make: Callable[[Path], None], name: str
) -> None:
    checkpoint = Path(shutil.copytree(published, tmp_path / "checkpoint"))
    make(checkpoint / name)
    with pytest.raises(SaywellError, match=name.replace(".", r"\.")):
        convert(checkpoint, tmp_path / "out")


def test_links_to_files_are_followed(converted: Path, tmp_path: Path) -> None:
    """As in the cache of huggingface_hub."""
    linked = tmp_path / "linked"
    linked.mkdir()
    for file in converted.iterdir():
        if file.is_file():
            (linked / file.name).symlink_to(file)
    load(linked, tmp_path)


# Digests


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the files that were verified."""
    names: list[str] = []

    def count(path: Path, progress: Callable[[int, int], None]) -> str:
        names.append(path.name)
        return sha256(path, progress)

    monkeypatch.setattr(verified, "sha256", count)
    return names


@pytest.mark.parametrize("name", DATA)
def test_flipped_bit_is_detected_at_load(model: Path, tmp_path: Path, name: str) -> None:
    flip(model / name)
    with pytest.raises(BadCheckpoint, match=rf"{name} is damaged.*`saywell convert` again"):
        load(model, tmp_path)


def test_files_are_verified_once_and_again_if_they_change(model: Path, tmp_path: Path, read: list[str]) -> None:
    load(model, tmp_path)
    assert "ar-fp32.data" in read
    assert "ar-int8.data" not in read, "files of other precisions are not verified"
    read.clear()
    load(model, tmp_path)
    assert read == []
    os.utime(model / "embeddings.npy", ns=(1, 1))
    load(model, tmp_path)
    assert read == ["embeddings.npy"]
    flip(model / "ar-fp32.data")
    with pytest.raises(BadCheckpoint, match=r"ar-fp32\.data is damaged"):
        load(model, tmp_path)


def test_files_are_verified_each_time_without_a_cache(model: Path, tmp_path: Path, read: list[str]) -> None:
    (tmp_path / "data").write_text("no directory")
    for _ in range(2):
        read.clear()
        load(model, tmp_path)
        assert "ar-fp32.data" in read


def test_change_that_keeps_size_and_mtime_is_detected(model: Path, tmp_path: Path) -> None:
    load(model, tmp_path)
    about = (model / "embeddings.npy").stat()
    flip(model / "embeddings.npy")
    os.utime(model / "embeddings.npy", ns=(about.st_atime_ns, about.st_mtime_ns))
    with pytest.raises(BadCheckpoint, match=r"embeddings\.npy is damaged"):
        load(model, tmp_path)


@pytest.mark.parametrize("content", ["", "[]", '{"embeddings.npy": 1}', "[" * 100_000])
def test_damaged_cache_is_ignored(model: Path, tmp_path: Path, read: list[str], content: str) -> None:
    for _ in range(2):
        verified.check_files(model, ["embeddings.npy"], tmp_path / "data")
        (kept,) = (tmp_path / "data").iterdir()
        kept.write_text(content)
    assert read == ["embeddings.npy"] * 2


def test_long_verification_is_logged(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(verified, "_LONG_S", 0.0)
    load(model, tmp_path)
    assert caplog.text.count("this happens once, until a file changes") == 1


def test_file_missing_in_the_manifest_is_rejected(model: Path, tmp_path: Path) -> None:
    (model / "other.npy").touch()
    with pytest.raises(BadCheckpoint, match=r"other\.npy is not in saywell\.json"):
        verified.check_files(model, ["other.npy"], tmp_path)


@pytest.mark.parametrize("entry", [{"bytes": "many"}, {"sha256": 5}, {"from": []}])
def test_manifest_entry_of_a_wrong_type_is_reported_as_damage(model: Path, entry: dict[str, object]) -> None:
    manifest = json.loads((model / MANIFEST).read_text())
    manifest["files"]["ar.json"] |= entry
    (model / MANIFEST).write_text(json.dumps(manifest))
    with pytest.raises(UnknownModel, match=r"saywell\.json is damaged"):
        find_spec(None, model)


@pytest.mark.parametrize("name", DATA)
def test_truncated_file_with_a_matching_manifest_is_named(model: Path, tmp_path: Path, name: str) -> None:
    path = model / name
    path.write_bytes(path.read_bytes()[:200])
    manifest = json.loads((model / MANIFEST).read_text())
    manifest["files"][name] |= {"bytes": 200, "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}
    (model / MANIFEST).write_text(json.dumps(manifest))
    with pytest.raises(SaywellError, match=name.removesuffix(".data").removesuffix("-fp32").replace(".", r"\.")):
        load(model, tmp_path)


# Versions


def test_model_of_another_format_must_be_converted_again(model: Path) -> None:
    manifest = json.loads((model / MANIFEST).read_text())
    (model / MANIFEST).write_text(json.dumps({**manifest, "format": 999}))
    with pytest.raises(BadCheckpoint, match=r"format 999, here 1.*`saywell convert` on the published checkpoint again"):
        find_spec(None, model)
