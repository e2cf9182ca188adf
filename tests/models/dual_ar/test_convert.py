"""Conversion of published checkpoints; rejection of anything else, by name."""

from __future__ import annotations

import contextlib
import json
import os
import pickle
import random
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors
import torch

import conversion
from benchmarks import random_checkpoint
from conversion import convert_here
from saywell.errors import BadCheckpoint, MissingDependency
from saywell.files import UNFINISHED, sha256
from saywell.graphs.tensors import TensorFile
from saywell.models.conversion import read_manifest
from saywell.models.dual_ar.config import CodecConfig
from saywell.models.dual_ar.convert import convert as convert_module
from saywell.models.dual_ar.convert.checkpoint import read_codec
from saywell.models.dual_ar.convert.convert import convert


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return random_checkpoint.write(tmp_path_factory.mktemp("published"))


@pytest.fixture(scope="module")
def converted(published: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return convert_here(published, tmp_path_factory.mktemp("out") / "model", precisions=())


@pytest.fixture
def checkpoint(published: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(published, tmp_path / "checkpoint"))


@pytest.fixture
def in_process(monkeypatch: pytest.MonkeyPatch) -> None:
    conversion.in_process(monkeypatch)


def saved(checkpoint: Path, file: str, change: Callable[[dict[str, Any]], Any]) -> None:
    state = torch.load(checkpoint / file, weights_only=True)
    torch.save(change(state), checkpoint / file)


def test_tensors_are_the_published_ones(published: Path, converted: Path) -> None:
    model, codec = random_checkpoint.weights(published)
    for name, wanted in (("model", model), ("codec", codec)):
        found = TensorFile(converted / f"{name}.safetensors")
        assert found.keys() == wanted.keys()
        for tensor, array in wanted.items():
            np.testing.assert_array_equal(found[tensor], array)


def test_any_safetensors_reader_reads_them(converted: Path) -> None:
    with safetensors.safe_open(converted / "model.safetensors", framework="pt") as file:
        assert file.get_tensor("embeddings.weight").dtype == torch.bfloat16
    with safetensors.safe_open(converted / "codec.safetensors", framework="np") as file:
        assert file.get_tensor("decoder.model.6.conv.weight").dtype == np.float32


def test_wrappers_prefixes_and_both_weight_norm_names_are_read(published: Path, tmp_path: Path) -> None:
    """Weight norm is published in two spellings."""
    spellings = ("parametrizations.weight.original0", "parametrizations.weight.original1"), ("weight_g", "weight_v")
    other = {**dict(zip(*spellings, strict=True)), **dict(zip(*spellings[::-1], strict=True))}
    state: dict[str, Any] = {"discriminator.weight": torch.zeros(3)}
    for name, tensor in torch.load(published / "codec.pth", weights_only=True).items():
        parts = [part for part in other if name.endswith(part)]
        state[f"generator.{name.removesuffix(parts[0])}{other[parts[0]]}" if parts else f"generator.{name}"] = tensor
    torch.save({"state_dict": state}, tmp_path / "codec.pth")
    sizes = CodecConfig.read(published)
    wanted, found = (read_codec(path / "codec.pth", sizes) for path in (published, tmp_path))
    assert found.keys() == wanted.keys()
    assert all(torch.equal(found[name], each) for name, each in wanted.items())


def test_manifest_records_inputs_of_each_file(published: Path, converted: Path) -> None:
    manifest = read_manifest(converted)
    assert (manifest.format, manifest.family) == (1, "dual_ar")
    entry = manifest.files["model.safetensors"]
    assert entry.bytes == (converted / "model.safetensors").stat().st_size
    assert entry.made_from["model.pth"] == sha256(published / "model.pth")
    copied = {"config.json", "codec_config.json", "tokenizer.tiktoken", "special_tokens.json"}
    assert set(manifest.files) == {"model.safetensors", "codec.safetensors"} | copied


def test_licence_is_kept_by_the_next_run(published: Path, tmp_path: Path, in_process: None) -> None:
    convert(published, tmp_path, precisions=(), licence="CC-BY-NC-SA-4.0")
    convert(published, tmp_path, precisions=())
    assert read_manifest(tmp_path).licence == "CC-BY-NC-SA-4.0"


def test_graphs_are_written_once(published: Path, tmp_path: Path, in_process: None) -> None:
    said: list[tuple[str, int, int]] = []
    convert(published, tmp_path, precisions=("fp32",), progress=lambda *each: said.append(each))
    made = [name for name in read_manifest(tmp_path).files if name.endswith(".onnx")]
    assert made
    assert ("write fp32 graphs", 1, 1) in said
    assert {
        (tmp_path / name).stat().st_mode & 0o777 for name in os.listdir(tmp_path) if name.startswith(("codec_", "ar-"))
    } == {(tmp_path / "saywell.json").stat().st_mode & 0o777}
    assert all(sha256(tmp_path / name) == entry.sha256 for name, entry in read_manifest(tmp_path).files.items())
    said.clear()
    convert(published, tmp_path, precisions=("fp32",), progress=lambda *each: said.append(each))
    assert not [step for step, *_ in said if step.startswith(("write", "convert"))]
    assert not list(tmp_path.glob(f"{UNFINISHED}*"))


def test_done_steps_are_skipped(published: Path, tmp_path: Path, in_process: None) -> None:
    convert(published, tmp_path, precisions=())
    written = {path.name: path.stat().st_mtime_ns for path in tmp_path.iterdir() if path.name != ".lock"}
    convert(published, tmp_path, precisions=())
    assert {path.name: path.stat().st_mtime_ns for path in tmp_path.iterdir() if path.name != ".lock"} == written


@pytest.mark.parametrize("harm", ["delete", "flip", "truncate"])
def test_damaged_result_is_converted_again(published: Path, tmp_path: Path, in_process: None, harm: str) -> None:
    convert(published, tmp_path, precisions=())
    path = tmp_path / "codec.safetensors"
    good = path.read_bytes()
    if harm == "delete":
        path.unlink()
    else:
        path.write_bytes(good[:-9] if harm == "truncate" else good[:-9] + b"?" + good[-8:])
    convert(published, tmp_path, precisions=())
    assert path.read_bytes() == good
    assert all(sha256(tmp_path / name) == entry.sha256 for name, entry in read_manifest(tmp_path).files.items())


def test_changed_source_is_converted_again(checkpoint: Path, tmp_path: Path, in_process: None) -> None:
    out = convert(checkpoint, tmp_path / "out", precisions=())
    before = read_manifest(out).files
    saved(checkpoint, "codec.pth", with_("decoder.model.6.conv.bias", lambda bias: bias + 1))
    convert(checkpoint, out, precisions=())
    after = read_manifest(out).files
    assert {name for name in after if after[name] != before[name]} == {"codec.safetensors"}


def test_interrupted_run_is_resumed(
    published: Path, tmp_path: Path, in_process: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = convert_module.rewrite

    def dies(_reader: str, _source: Path, out: Path) -> None:
        out.write_bytes(b"half")
        raise KeyboardInterrupt

    convert_of = {"model.pth": run, "codec.pth": dies}
    monkeypatch.setattr(
        convert_module, "rewrite", lambda reader, source, out: convert_of[source.name](reader, source, out)
    )
    with pytest.raises(KeyboardInterrupt):
        convert(published, tmp_path, precisions=())
    assert "model.safetensors" in read_manifest(tmp_path).files
    assert not (tmp_path / "codec.safetensors").exists()
    (tmp_path / f"{UNFINISHED}x").write_bytes(b"left by a killed process")
    monkeypatch.setattr(
        convert_module, "rewrite", lambda reader, source, out: {"codec.pth": run}[source.name](reader, source, out)
    )
    convert(published, tmp_path, precisions=())
    assert all(sha256(tmp_path / name) == entry.sha256 for name, entry in read_manifest(tmp_path).files.items())
    assert not list(tmp_path.glob(f"{UNFINISHED}*"))


class Canary:
    """Unpickling this would create a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


@pytest.mark.parametrize("file", ["model.pth", "codec.pth"])
def test_code_in_a_checkpoint_never_runs(checkpoint: Path, tmp_path: Path, file: str) -> None:
    canary = tmp_path / "canary"
    saved(checkpoint, file, lambda state: {**state, "extra": Canary(canary)})
    with pytest.raises(BadCheckpoint, match=rf"{file} holds something other than tensors"):
        convert(checkpoint, tmp_path / "out", precisions=())
    assert not canary.exists()
    torch.load(checkpoint / file, weights_only=False)  # control: with pickle the code does run
    assert canary.exists()


def test_plain_pickle_is_rejected(checkpoint: Path, tmp_path: Path, in_process: None) -> None:
    canary = tmp_path / "canary"
    (checkpoint / "model.pth").write_bytes(pickle.dumps(Canary(canary)))
    with pytest.raises(BadCheckpoint, match=r"model\.pth is damaged or not a PyTorch file"):
        convert(checkpoint, tmp_path / "out", precisions=())
    assert not canary.exists()


def test_truncated_files_are_rejected(checkpoint: Path, tmp_path: Path, in_process: None) -> None:
    whole = (checkpoint / "model.pth").read_bytes()
    chance = random.Random(0)
    for length in [0, 1, 100, len(whole) - 1, *(chance.randrange(len(whole)) for _ in range(40))]:
        (checkpoint / "model.pth").write_bytes(whole[:length])
        with pytest.raises(BadCheckpoint, match=r"model\.pth"):
            convert(checkpoint, tmp_path / "out", precisions=())
    assert not (tmp_path / "out" / "model.safetensors").exists()


def test_flipped_bits_are_rejected_or_harmless(
    published: Path, checkpoint: Path, tmp_path: Path, in_process: None
) -> None:
    """A flip in a tensor or in the archive's structure is rejected; one in padding is harmless."""
    whole = bytearray((checkpoint / "model.pth").read_bytes())
    wanted = random_checkpoint.weights(published)[0]
    chance, accepted = random.Random(1), 0
    for place in [chance.randrange(len(whole)) for _ in range(60)]:
        harmed = bytearray(whole)
        harmed[place] ^= 1 << chance.randrange(8)
        (checkpoint / "model.pth").write_bytes(harmed)
        with contextlib.suppress(BadCheckpoint):
            convert(checkpoint, tmp_path / "out", precisions=())
            found = TensorFile(tmp_path / "out" / "model.safetensors")
            assert all(np.array_equal(found[name], each) for name, each in wanted.items())
            accepted += 1
    assert accepted < 15


def test_compressed_archive_is_rejected(checkpoint: Path, tmp_path: Path, in_process: None) -> None:
    with zipfile.ZipFile(checkpoint / "model.pth", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("model/data/0", b"\0" * 1_000_000)
    with pytest.raises(BadCheckpoint, match=r"model\.pth holds compressed"):
        convert(checkpoint, tmp_path / "out", precisions=())


def without(name: str) -> Callable[[dict[str, Any]], Any]:
    return lambda state: {each: tensor for each, tensor in state.items() if each != name}


def with_(name: str, edit: Callable[[torch.Tensor], Any]) -> Callable[[dict[str, Any]], Any]:
    return lambda state: {**state, name: edit(state[name])}


OUT = "layers.1.attention.wo.weight"
CONV = "decoder.model.0.conv"
DIRECTION, MAGNITUDE = (f"{CONV}.parametrizations.weight.original{part}" for part in (1, 0))
CHANGES: dict[str, tuple[str, Callable[[dict[str, Any]], Any], str]] = {
    "missing": ("model.pth", without(OUT), f"model.pth lacks {OUT}$"),
    "shape": ("model.pth", with_("norm.weight", lambda t: t[:5]), r"norm.weight \(5,\), expected \(64,\)"),
    "nan": ("model.pth", with_("fast_norm.weight", lambda t: t * float("nan")), "NaN or infinite numbers in fast_norm"),
    "integers": ("model.pth", with_("norm.weight", torch.Tensor.int), "no floating-point numbers in norm.weight"),
    "codec missing": ("codec.pth", without(f"{CONV}.bias"), f"codec.pth lacks {CONV}.bias"),
    "half a weight": ("codec.pth", without(MAGNITUDE), f"codec.pth lacks {CONV}.weight"),
    "zero direction": ("codec.pth", with_(DIRECTION, torch.zeros_like), f"codec.pth holds NaN .* {CONV}.weight"),
    "all missing": ("model.pth", lambda _: {"a": torch.zeros(1)}, "and 31 more"),
    "not a dict": ("model.pth", lambda _: [torch.zeros(1)], "does not hold a state dict"),
    "not tensors": ("model.pth", lambda _: {"a": 1}, "does not hold a state dict"),
    "not named": ("model.pth", lambda _: {1: torch.zeros(1)}, "does not hold a state dict"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_wrong_content_is_rejected_by_name(checkpoint: Path, tmp_path: Path, in_process: None, change: str) -> None:
    file, edit, named = CHANGES[change]
    saved(checkpoint, file, edit)
    with pytest.raises(BadCheckpoint, match=named):
        convert(checkpoint, tmp_path / "out", precisions=())


@pytest.mark.parametrize("file", ["model.pth", "codec.pth", "tokenizer.tiktoken", "config.json"])
def test_missing_file_is_rejected_by_name(checkpoint: Path, tmp_path: Path, file: str) -> None:
    (checkpoint / file).unlink()
    with pytest.raises(Exception, match=file.replace(".", r"\.")) as caught:
        convert(checkpoint, tmp_path / "out", precisions=())
    assert caught.value.status == 400  # type: ignore[attr-defined]


def test_codec_of_another_size_is_rejected(checkpoint: Path, tmp_path: Path) -> None:
    (checkpoint / "codec_config.json").unlink()
    with pytest.raises(BadCheckpoint, match=r"num_codebooks 4, the codec 10.*codec_config\.json"):
        convert(checkpoint, tmp_path / "out", precisions=())


def test_child_sets_resource_limits(published: Path, tmp_path: Path) -> None:
    pytest.importorskip("resource")
    program = (
        "import resource, sys; from saywell.models import torch_file as c; c.limit(1000);"
        "print(*(resource.getrlimit(n)[0] for n in (resource.RLIMIT_AS, resource.RLIMIT_CORE)), 'torch' in sys.modules)"
    )
    out = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.split()
    assert int(out[0]) <= (24 << 30) + 4000
    assert out[1:] == ["0", "False"]


def test_conversion_imports_torch_in_the_child_only(published: Path, tmp_path: Path) -> None:
    program = (
        "import sys; from saywell.models.dual_ar.convert.convert import convert;"
        f"convert({str(published)!r}, {str(tmp_path)!r}, precisions=('fp32',), progress=lambda *said: print(*said));"
        "print('torch' in sys.modules)"
    )
    out = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert out.endswith("False\n")
    assert "convert model.safetensors 1 1" in out
    assert "convert codec.safetensors 1 1" in out


def test_killed_child_is_reported(published: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dead = tmp_path / "python"
    dead.write_text("#!/bin/sh\necho trouble >&2\nkill -9 $$\n")
    dead.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(dead))
    with pytest.raises(BadCheckpoint, match=r"model\.pth could not be converted: .*trouble"):
        convert(published, tmp_path / "out", precisions=())


def test_missing_torch_names_the_extra(published: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    child = tmp_path / "python"
    child.write_text("""#!/bin/sh\necho '{"missing": "torch"}'\nexit 3\n""")
    child.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(child))
    with pytest.raises(MissingDependency, match=r"saywell\[convert\]"):
        convert(published, tmp_path / "out", precisions=())


@pytest.mark.parametrize("content", ["", "{", "[]", '{"files": {"a": 1}}', '{"files": {}}'])
def test_damaged_manifest_is_rejected(converted: Path, tmp_path: Path, content: str) -> None:
    (tmp_path / "saywell.json").write_text(content)
    with pytest.raises(BadCheckpoint, match=r"saywell\.json is damaged"):
        read_manifest(tmp_path)


def test_manifest_cannot_name_files_elsewhere(converted: Path, tmp_path: Path) -> None:
    entry = {"bytes": 1, "sha256": "", "from": {}}
    manifest = {"format": 1, "family": "dual_ar", "files": {"../secret": entry}}
    (tmp_path / "saywell.json").write_text(json.dumps(manifest))
    with pytest.raises(BadCheckpoint, match="secret"):
        read_manifest(tmp_path)


def header(entries: object, data: bytes = b"") -> bytes:
    text = json.dumps(entries).encode()
    return len(text).to_bytes(8, "little") + text + data


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff" * 8,
        b"\x04\0\0\0\0\0\0\0null",
        header([]),
        header({"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 4]}}, b"1234"),
        header({"a": {"dtype": "F32", "shape": [1], "data_offsets": [4, 8]}}, b"12345678"),
        header({"a": {"dtype": "F64", "shape": [1], "data_offsets": [0, 8]}}, b"12345678"),
        header({"a": {"dtype": "F32", "shape": [-1, -1], "data_offsets": [0, 4]}}, b"1234"),
        header({"a": {"dtype": "F32", "shape": [1 << 40], "data_offsets": [0, 1 << 42]}}, b"1234"),
        header({"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}, b"12345"),
        header({"a": 1}),
    ],
)
def test_hostile_tensor_files_are_rejected(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.safetensors").write_bytes(content)
    with pytest.raises(BadCheckpoint, match=r"x\.safetensors is damaged"):
        TensorFile(tmp_path / "x.safetensors")


def test_tensors_of_another_model_are_rejected(converted: Path) -> None:
    file = TensorFile(converted / "model.safetensors")
    with pytest.raises(BadCheckpoint, match=r"norm\.weight"):
        file.check({name: (1,) if name == "norm.weight" else shape for name, shape in file.shapes.items()})
