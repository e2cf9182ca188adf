"""Irregular files: named pipes and endless files are rejected at once, links to files are followed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from saywell.audio.decode import decode_file
from saywell.commands import plan as plan_command
from saywell.errors import SaywellError, TooLarge
from saywell.files import Damaged, Irregular, open_file, read_plain
from saywell.graphs.tensors import TensorFile
from saywell.hub.weights import read_record
from saywell.models import hibari
from saywell.models.base import find_spec
from saywell.models.conversion import read_manifest
from saywell.models.dual_ar import offline
from saywell.models.dual_ar.config import CodecConfig, Config
from saywell.models.dual_ar.tokenizer import read_ranks
from saywell.models.hibari import package
from saywell.plan.tuning_store import model_digest
from saywell.settings import load_settings

pytestmark = pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
PROGRAM = (sys.executable, "-m", "saywell")


@contextmanager
def soon() -> Iterator[None]:
    """Fail if the code inside blocks."""

    def blocked(*_: object) -> None:
        raise AssertionError("it blocks")

    before = signal.signal(signal.SIGALRM, blocked)
    signal.setitimer(signal.ITIMER_REAL, 5)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def make_pipe(path: Path) -> None:
    os.mkfifo(path)


def make_endless(path: Path) -> None:
    path.symlink_to("/dev/zero")


def hibari_file(path: Path) -> object:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(package, "home", lambda: path.parent)
        patch.setitem(package.DIGESTS, path.name, "0" * 64)
        return package.read(path.name)


READERS: dict[str, tuple[str, Callable[[Path], Any]]] = {
    "model": ("saywell.json", lambda path: find_spec(None, path.parent)),
    "manifest": ("saywell.json", lambda path: read_manifest(path.parent)),
    "config": ("config.json", lambda path: Config.read(path.parent)),
    "codec config": ("codec_config.json", lambda path: CodecConfig.read(path.parent)),
    "tokenizer": ("tokenizer.tiktoken", read_ranks),
    "tensors": ("model.safetensors", TensorFile),
    "package": ("hibari.onnx", hibari_file),
    "settings": ("saywell.toml", lambda path: load_settings(file=path, environ={})),
    "machine": ("machine.json", plan_command.read_machine),
    "recording": ("voice.wav", decode_file),
    "audio to encode": ("voice.wav", lambda path: offline.encode(path, path.parent, path.parent / "x.npy")),
    "codes": ("codes.npy", lambda path: offline.read_codes(path, CodecConfig())),
}


@pytest.mark.parametrize("make", [make_pipe, make_endless])
@pytest.mark.parametrize("reader", READERS)
def test_endless_file_is_rejected_at_once(tmp_path: Path, reader: str, make: Callable[[Path], None]) -> None:
    name, read = READERS[reader]
    make(tmp_path / name)
    with soon(), pytest.raises((SaywellError, Irregular)) as caught:
        read(tmp_path / name)
    assert name in str(caught.value) or isinstance(caught.value, TooLarge)


def test_unreadable_optional_file_is_ignored(tmp_path: Path) -> None:
    make_pipe(tmp_path / "source.json")
    make_pipe(tmp_path / "saywell.json")
    with soon():
        assert read_record(tmp_path) == {}
        assert model_digest(replace(hibari.spec("hibari", None), path=tmp_path))


@pytest.mark.parametrize("command", [("-f",), ("hello", "--reference")])
def test_command_reports_an_irregular_file(tmp_path: Path, command: tuple[str, ...]) -> None:
    make_pipe(tmp_path / "it")
    done = subprocess.run(
        [*PROGRAM, "say", *command, str(tmp_path / "it"), "-o", str(tmp_path / "x.wav")],
        timeout=20,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr.strip() == f"saywell: it is a pipe or a device, and a regular file is needed: {tmp_path / 'it'}"


@pytest.mark.skipif(not Path("/dev/fd").exists(), reason="needs /dev/fd")
def test_descriptor_path_is_read_to_its_end() -> None:
    reading, writing = os.pipe()
    try:
        os.write(writing, b"Hello.")
        os.close(writing)
        with soon(), open_file(Path(f"/dev/fd/{reading}")) as file:
            assert file.read() == b"Hello."
    finally:
        os.close(reading)


def test_directory_is_reported_as_such(tmp_path: Path) -> None:
    with pytest.raises(IsADirectoryError):
        open_file(tmp_path)
    with pytest.raises(Damaged):
        read_plain(tmp_path, 10)


def test_deeply_nested_record_is_ignored(tmp_path: Path) -> None:
    (tmp_path / "source.json").write_text("[" * 100_000)
    assert read_record(tmp_path) == {}
