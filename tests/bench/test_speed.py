"""`saywell bench`: the ceiling or why it is unknown, the measurements, and the table."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console
from typer.testing import CliRunner

from saywell import cli
from saywell.bench import plot, report, speed
from saywell.bench.service import text_of
from saywell.engine.launch import Decision, decide
from saywell.machine import Device
from saywell.settings import Settings
from saywell.types import ModelSpec


@pytest.fixture(scope="module")
def decision() -> Decision:
    return decide(Settings(adapt=False))


def reading(spec: ModelSpec, size: int) -> ModelSpec:
    """The same model on any device, reading `size` bytes per frame."""
    variants = (replace(variant, read_bytes_per_frame=size, devices=("cpu", "cuda")) for variant in spec.variants)
    return replace(spec, variants=tuple(variants))


def test_ceiling_is_bytes_read_over_bandwidth(decision: Decision, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(speed, "alone", lambda *_: 10.0)
    spec = replace(reading(decision.spec, 200_000_000), frame_rate=20.0)
    small = replace(decision.hardware, cpu=replace(decision.hardware.cpu, caches=()))
    top = speed.ceiling(replace(decision, spec=spec, hardware=small))
    assert isinstance(top, speed.Ceiling)
    assert (top.gb_per_s, top.rtf) == (10.0, 0.4)
    assert "4.0 GB of weights" in top.why


def test_unknown_ceiling_is_explained(decision: Decision) -> None:
    assert "is known for hibari" in str(speed.ceiling(decision))
    known = reading(decision.spec, 1000)
    assert "fits into the caches" in str(speed.ceiling(replace(decision, spec=known)))
    gpu = replace(decision, spec=known, plan=replace(decision.plan, device=Device("cuda")))
    assert "is known for cuda" in str(speed.ceiling(gpu))


def test_memory_bandwidth_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(speed, "_READ_BYTES", 64 << 20)
    assert 0.1 < speed.read_rate(1) < 10_000


@pytest.mark.timeout(300)
def test_a_run(tmp_path: Path) -> None:
    out = tmp_path / "bench.png"
    words = ["--streams", "1", "--streams", "2", "--length", "40", "--repeats", "2", "--json", "--plot", str(out)]
    done = CliRunner().invoke(cli.app, ["bench", *words])
    assert done.exit_code == 0, done.output
    result = json.loads(done.stdout)
    assert "No ceiling is known for hibari" in result["ceiling"]
    assert "No ceiling is known" in done.stderr
    assert done.stderr.index("No ceiling") < done.stderr.index("streams"), "the ceiling comes first"
    one, two = result["rows"]
    assert (one["streams"], two["streams"], one["chars"]) == (1, 2, 40)
    assert all(0 < row["rtf"] <= 2 * row["rtf_of_each"] for row in result["rows"])
    assert all(0 < row["first_ms"] <= row["first_ms_worst"] and row["memory_mb"] > 20 for row in result["rows"])
    assert result["machine"]["load"]
    assert out.read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("more", [[], ["--ablation"]])
def test_missing_matplotlib_is_reported_before_measuring(
    more: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plot.util, "find_spec", lambda _: None)
    monkeypatch.setattr("saywell.engine.launch.build", lambda *_, **__: pytest.fail("an engine was built"))
    monkeypatch.setattr("saywell.bench.ablation.serving", lambda *_, **__: pytest.fail("a server was started"))
    done = CliRunner().invoke(cli.app, ["bench", *more, "--plot", str(tmp_path / "x.png")])
    assert done.exit_code == 1
    assert "pip install 'saywell[bench]'" in done.stderr
    assert "internal error" not in done.stderr


def test_any_rows_can_be_shown() -> None:
    console = Console(record=True, width=100, file=io.StringIO())
    rows = [
        {"name": "[a]", "first_ms": 12.3456, "good": True},
        {"name": "b", "lost": {"killed": 2}, "steps": ["x", "y"]},
    ]
    report.show(console, rows, "Title")
    lines = [line.split() for line in console.export_text().splitlines()]
    assert lines[1] == ["name", "first", "ms", "good", "lost", "steps"]
    assert lines[2] == ["[a]", "12.35", "yes", "–", "–"]
    assert lines[3] == ["b", "–", "–", "2", "killed", "x,", "y"]


@pytest.mark.parametrize("chars", [10, 100, 300, 1000])
def test_texts_have_the_exact_length(chars: int) -> None:
    assert len(text_of(chars)) == chars
    assert text_of(chars).endswith(".")
