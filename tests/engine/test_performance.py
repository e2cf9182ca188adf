"""The performance report of each synthesis: its figures, and where it is shown."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import httpx
import pytest
from typer.testing import CliRunner

from fake_engine import FakeEngine, decision
from saywell.cli import app
from saywell.engine.performance import performance
from saywell.machine.monitor import Resources
from saywell.machine.sensors.nvidia import GpuLoad
from saywell.server.app import create_app
from saywell.types import Summary

SUMMARY = Summary(
    finish_reason="stop", sequences=1, frames=1, audio_s=2.0, queued_s=0.25, first_audio_s=0.3, total_s=0.5, seed=1
)


def look(*gpus: float) -> Resources:
    loads = tuple(GpuLoad(name="T4", utilisation=each, memory_used=1, memory_total=2) for each in gpus)
    return Resources(cpu_percent=1.0, memory_limit=2, memory_available=1, memory_percent=50.0, gpus=loads)


def test_the_report_as_text_and_as_header() -> None:
    report = performance(SUMMARY, 100_000_000, 96_500_000, look(12.0, 61.0))
    assert report.json() == {
        "latency_s": 0.5, "first_audio_s": 0.3, "queued_s": 0.25, "audio_s": 2.0, "rtf": 0.25,
        "memory_bytes": 96_500_000, "memory_delta_bytes": -3_500_000, "gpu_util": 61.0,
    }  # fmt: skip
    assert report.line() == (
        "2.00 s of speech in 500 ms, the first after 300 ms; RTF 0.250; memory -3.5 MB to 96 MB; GPU 61 %"
    )
    assert report.timing() == "queue;dur=250.00, first-audio;dur=300.00, total;dur=500.00"
    assert performance(SUMMARY, 0, 0, look()).line().endswith("GPU none")


@pytest.mark.anyio
async def test_the_server_reports_it_in_log_header_and_metrics(caplog) -> None:
    engine = FakeEngine(chunks=2)
    service_app = create_app(engine, decision(engine))
    caplog.set_level(logging.INFO, "saywell.server.service")
    json_only = {"accept": "application/json"}
    async with httpx.AsyncClient(transport=httpx.ASGITransport(service_app), base_url="http://127.0.0.1") as client:
        assert (await client.get("/metrics", headers=json_only)).json()["last_synthesis"] is None
        answer = await client.post("/v1/audio/speech", json={"input": "Hello there."})
        figures = (await client.get("/metrics", headers=json_only)).json()
    assert answer.status_code == 200
    assert "first-audio;dur=" in answer.headers["server-timing"]
    assert "total;dur=" not in answer.headers["server-timing"]
    assert figures["last_synthesis"]["audio_s"] == pytest.approx(0.2)
    assert figures["last_synthesis"]["gpu_util"] is None
    assert figures["rolling_aggregates"]["spoken"] == 1
    assert any(message.startswith("0.20 s of speech in") for message in caplog.messages)
    assert not any("Hello" in message for message in caplog.messages), "what is said is nobody's business"


def test_say_prints_it(tmp_path: Path) -> None:
    out = str(tmp_path / "out.wav")
    done = CliRunner().invoke(app, ["say", "Good morning.", "-o", out, "--json"])
    assert done.exit_code == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["performance"]["latency_s"] == told["total_s"]
    assert told["performance"]["memory_bytes"] > 20_000_000
    shown = CliRunner().invoke(app, ["say", "Good morning.", "-o", out, "--verbose"])
    assert "MB while speaking" in shown.stdout + shown.stderr
