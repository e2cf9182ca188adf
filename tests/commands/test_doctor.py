"""`saywell doctor`: the findings on machines with problems, and the commands it suggests."""

from __future__ import annotations

import socket
from dataclasses import replace
from pathlib import Path

import pytest

from machines import machine
from saywell.commands import doctor
from saywell.commands.doctor import Finding
from saywell.machine import Limits
from saywell.machine.monitor import Resources
from saywell.settings import Settings

GIB = 1 << 30
IDLE = Resources(cpu_percent=3.0, memory_limit=8 * GIB, memory_available=6 * GIB, memory_percent=25.0)


def findings(tmp_path: Path, name: str, now: Resources = IDLE, **overrides: object) -> dict[str, Finding]:
    settings = Settings(data_dir=tmp_path, **overrides)  # type: ignore[arg-type]
    return {finding.name: finding for finding in doctor.report(settings, machine(name), now)}


def test_everything_missing_comes_with_advice(tmp_path: Path) -> None:
    for name in ("i5-1334u-8gb", "m1-air-8gb", "container-1.5cpu-1gb-cgroup-v1", "rtx-3060-without-torch"):
        for finding in findings(tmp_path, name).values():
            assert finding.state == "ok" or finding.advice


def test_unmeasured_machine_is_told_to_tune(tmp_path: Path) -> None:
    report = findings(tmp_path, "i5-1334u-8gb", model="hibari")
    assert (report["Measured"].state, report["Measured"].command) == ("missing", "saywell tune --model hibari")
    assert doctor.next_command(list(report.values())) == "saywell tune --model hibari"
    assert report["Plan"].found == "hibari: cpu, onnx, int8, 8 threads"


def test_too_little_memory_is_a_problem_with_figures(tmp_path: Path) -> None:
    now = replace(IDLE, memory_available=20 << 20)
    report = findings(tmp_path, "i5-1334u-8gb", now)
    assert report["Memory"].state == "problem"
    assert "20 MB free of 8.0 GB" in report["Memory"].found
    assert "close other programs" in report["Memory"].advice


def test_small_quota_and_busy_cpus_are_reported(tmp_path: Path) -> None:
    report = findings(tmp_path, "container-1.5cpu-1gb-cgroup-v1", replace(IDLE, cpu_percent=80.0))
    assert "--cpus 2" in report["CPU time"].command
    assert "80 %" in report["Load"].found


def test_gpu_without_torch(tmp_path: Path) -> None:
    report = findings(tmp_path, "rtx-3060-without-torch")
    assert report["GPU"].command == "pip install 'saywell[torch]'"
    assert findings(tmp_path, "rtx-4090-desktop")["GPU"].state == "ok"


def test_impossible_setting_is_a_problem_of_the_plan(tmp_path: Path) -> None:
    report = findings(tmp_path, "i5-1334u-8gb", device="cuda")
    assert report["Plan"].state == "problem"
    assert "set device=cpu" in report["Plan"].found
    assert doctor.next_command(list(report.values())) == "saywell plan"


def test_port_in_use(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        report = findings(tmp_path, "i5-1334u-8gb", port=port)["Server"]
    assert (report.state, report.command) == ("missing", f"saywell serve --port {port + 1}")


def test_unwritable_data_directory(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(doctor.os, "access", lambda *_: False)
    report = findings(tmp_path, "i5-1334u-8gb")["Cache"]
    assert (report.state, report.command) == ("missing", "export SAYWELL_DATA_DIR=…")


def test_full_disk(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    usage = type("Usage", (), {"free": GIB})
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda _: usage)
    assert "1.0 GB free" in findings(tmp_path, "i5-1334u-8gb")["Cache"].found


def test_openvino_is_suggested_only_where_it_helps(tmp_path: Path) -> None:
    assert "OpenVINO" in findings(tmp_path, "i7-8550u-16gb")
    assert "OpenVINO" not in findings(tmp_path, "m1-air-8gb")


def test_container_limit_is_named() -> None:
    hardware = replace(machine("i5-1334u-8gb"), limits=Limits(cgroup="v2", memory=2 * GIB))
    report = {finding.name: finding for finding in doctor.report(Settings(), hardware, IDLE)}
    assert "the container's limit" in report["Memory"].found
