"""The examples printed in the smart backend's own documentation, as they stand, and what its users rely on.

Two kinds of words in them are not ours to keep: figures measured on other machines, and what a ruling replaced.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import requests

from machines import made_up
from paths import TESTS
from program import Program
from saywell.errors import InvalidText, PlanError
from saywell.machine import GIB, Hardware
from saywell.models.espeak import binding
from saywell.plan.plan import make_plan
from saywell.settings import Settings
from saywell.types import ModelSpec
from saywell_compat.variables import VARIABLES
from smart_backend import OptimalConfig, SmartAdaptiveBackend, create_smart_backend
from smart_backend.profile import HardwareProfile

pytestmark = [
    pytest.mark.skipif(not binding.installed() or sys.platform == "win32", reason="needs eSpeak NG and POSIX signals"),
    pytest.mark.filterwarnings("ignore:no checkpoint was named:RuntimeWarning"),
    pytest.mark.filterwarnings("ignore:.*Running without this setting:RuntimeWarning"),
    pytest.mark.filterwarnings("ignore:.*has no effect:RuntimeWarning"),
]
MACHINES = TESTS / "hardware"
ORIGIN = "http://localhost:8000"
"""Where the examples expect the server."""

# -- the examples of Python

APP = """
import os
from fastapi import FastAPI

app = FastAPI()

from smart_backend import SmartAdaptiveBackend

@app.on_event("startup")
async def startup_event():
    global engine

    model_path = os.getenv("MODEL_DIR", "checkpoints/openaudio-s1-mini")

    # Smart backend auto-detects everything!
    engine = SmartAdaptiveBackend(model_path=model_path)

    print(f"[OK] Smart engine initialized")
    print(f"[INFO] Device: {engine.profile.device_type}")
    print(f"[INFO] CPU Tier: {engine.profile.cpu_tier}")
    print(f"[INFO] Strategy: {engine.config.optimization_strategy}")
"""

FACTORY = """
from fastapi import FastAPI

app = FastAPI()

from smart_backend import create_smart_backend

@app.on_event("startup")
async def startup_event():
    global engine
    engine = create_smart_backend()  # Auto-reads MODEL_DIR from env
"""

CUSTOM = """
from smart_backend import SmartAdaptiveBackend, OptimalConfig

# Create custom config
custom_config = OptimalConfig(
    device='cuda',
    precision='fp16',
    quantization='int8',
    use_onnx=False,
    use_torch_compile=True,
    chunk_length=2048,      # Force larger chunks
    max_batch_size=8,       # Force larger batch
    num_threads=16,
    cache_limit=100,
    enable_thermal_management=True,
    expected_rtf=1.5,
    expected_memory_gb=6.0,
    optimization_strategy='custom',
    notes='Custom high-performance config'
)

# Initialize with custom config
backend = SmartAdaptiveBackend(model_path="checkpoints/openaudio-s1-mini")
backend.config = custom_config
backend._apply_configuration()
"""

INSIGHTS = """
import requests

response = requests.get('http://localhost:8000/health')
health = response.json()

print("Smart Insights:")
for insight in health['smart_insights']:
    print(f"  {insight}")
"""

BATCH = """
# Good - single session
for text in texts:
    engine.tts(text)  # Fast after first call
"""

BUDGET = """
# Automatic in SmartAdaptiveBackend
if not self.monitor.memory_budget_manager.enforce_limits():
    logger.warning("⚠️ Memory constraints detected")
"""

QUANTISATION = """
# Automatically switches to INT4 if memory < 6GB
if available_memory_gb < 6:
    config["quantization"] = "int4"
    logger.warning("⚠️ Aggressive quantization: INT4")
"""

ESTIMATE_FIRST = """
import requests

# Estimate memory first
estimate_response = requests.post(
    'http://localhost:8000/estimate-memory',
    data={'text': long_text}
)

if estimate_response.json()['status'] == 'warning':
    print("⚠️ Text too long for hardware")
    print(estimate_response.json()['recommendation'])
else:
    # Safe to proceed
    tts_response = requests.post(
        'http://localhost:8000/tts',
        data={'text': long_text}
    )
"""

WATCH = """
import time
import requests

while True:
    status = requests.get('http://localhost:8000/system-status').json()

    if status['throttling_risk']['memory_critical']:
        print("⚠️ Memory critical - clearing cache")
        requests.post('http://localhost:8000/cache/clear')

    if status['throttling_risk']['thermal_likely']:
        print("⚠️ Thermal throttling likely - pausing")
        time.sleep(60)  # Cool down

    time.sleep(10)  # Check every 10 seconds
"""

REOPTIMISE = """
# After several syntheses, performance may degrade
# Force re-optimization

result = requests.post('http://localhost:8000/optimize-for-hardware').json()

if result['status'] == 'adjusted':
    print("✅ Configuration adjusted:")
    print(f"  Chunk length: {result['previous_config']['chunk_length']} → {result['new_config']['chunk_length']}")
    print(f"  Threads: {result['previous_config']['num_threads']} → {result['new_config']['num_threads']}")
"""

# -- the examples of the shell

FORCED = """
# Force specific device
export DEVICE=cuda

# Force precision
export MIXED_PRECISION=fp16

# Force torch.compile
export ENABLE_TORCH_COMPILE=true

# Force ONNX (for CPU)
export USE_ONNX=true

# Then start server
python app.py
"""

FRUGAL = """
# Reduce cache limit
export CACHE_LIMIT=10

# Or force smaller chunks
export MAX_SEQ_LEN=1024
"""

SHELL = {
    "health": ("curl http://localhost:8000/health", '"smart_insights"'),
    "estimate": (
        'curl -X POST http://localhost:8000/estimate-memory \\\n  -F "text=Your long text here..."',
        '"estimate"',
    ),
    "status": ("curl http://localhost:8000/system-status", '"recommended_action"'),
    "optimise": ("curl -X POST http://localhost:8000/optimize-for-hardware", '"status"'),
    "longest text": ("curl http://localhost:8000/hardware | jq '.selected_configuration.max_text_length'", "5000\n"),
    "a file": (
        "curl -X POST http://localhost:8000/estimate-memory \\\n  -F \"text=$(cat long_text.txt)\" | jq '.status'",
        '"ok"\n',
    ),
    "watched": ('curl -s http://localhost:8000/system-status | jq ".recommended_action"', '"'),
    "optimal": ("curl -X POST http://localhost:8000/optimize-for-hardware | jq '.status'", '"'),
    "clear": ("curl -X POST http://localhost:8000/cache/clear", '"status"'),
}
"""What is printed, and what its answer holds."""


@pytest.fixture(scope="module")
def program():
    program = Program()
    yield program
    program.end()


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Runs a printed example in an empty directory; its names."""
    monkeypatch.chdir(tmp_path)

    def go(code: str, **names) -> dict:
        exec(compile(code, "<example>", "exec"), names)
        return names

    return go


@pytest.fixture
def backend(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with SmartAdaptiveBackend() as backend:
        yield backend


def as_app(code: str, cwd: Path, *exports: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    """The example as a program of its own whose server starts, and what it prints meanwhile."""
    use = "import asyncio\nasyncio.run(startup_event())\nprint(len(engine.tts('Hello.').audio))\nengine.cleanup()\n"
    (cwd / "app.py").write_text(code + use, encoding="utf-8")
    variables = dict(line.removeprefix("export ").split("=") for line in exports)
    return subprocess.run([sys.executable, "app.py"], cwd=cwd, capture_output=True, text=True, check=check,
                          env={**os.environ, **variables}, timeout=60)  # fmt: skip


def exports(example: str) -> list[str]:
    return [line for line in example.splitlines() if line.startswith("export ")]


def test_the_drop_in_replacement(named, tmp_path):
    done = as_app(APP, tmp_path)
    assert "[OK] Smart engine initialized" in done.stdout
    assert "[INFO] Device: cpu" in done.stdout
    assert "[INFO] Strategy: " in done.stdout
    assert "DETECTED HARDWARE PROFILE" in done.stderr
    assert "SELECTED OPTIMAL CONFIGURATION" in done.stderr


def test_the_factory_reads_the_place_of_the_model(named, tmp_path):
    (tmp_path / "somewhere").mkdir()
    named.rename(tmp_path / "somewhere" / "else")
    done = as_app(FACTORY, tmp_path, "export MODEL_DIR=somewhere/else")
    assert "no checkpoint" not in done.stderr


@pytest.mark.parametrize(("code", "place"), [(APP, "checkpoints/openaudio-s1-mini"), (FACTORY, "somewhere/else")])
def test_a_model_that_is_named_and_missing_is_never_another_voice(tmp_path, code, place):
    done = as_app(code, tmp_path, f"export MODEL_DIR={place}", check=False)
    assert done.returncode
    assert f"there is no checkpoint at {place}" in done.stderr


def test_unsupported_variables_are_warned_about(named, tmp_path):
    done = as_app(APP, tmp_path, *exports(FORCED))
    for setting in ("device=cuda is not possible", "no precision 'fp16'", "compile=inductor has no effect"):
        assert setting in done.stderr, done.stderr
    assert "[OK] Smart engine initialized" in done.stdout


def test_warnings_point_at_the_program_that_asked(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CACHE_LIMIT", "10")
    with pytest.warns(RuntimeWarning, match="cache_entries=10 has no effect") as told:
        create_smart_backend().cleanup()
    assert {warning.filename for warning in told} == {__file__}


def test_every_printed_variable_is_known():
    named = {line.removeprefix("export ").partition("=")[0] for line in exports(FORCED) + exports(FRUGAL)}
    assert named == {"DEVICE", "MIXED_PRECISION", "ENABLE_TORCH_COMPILE", "USE_ONNX", "CACHE_LIMIT", "MAX_SEQ_LEN"}
    assert named | {"MODEL_DIR"} <= VARIABLES.keys()


def test_the_frugal_variables_reach_the_plan(named, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for line in exports(FRUGAL):
        monkeypatch.setenv(*line.removeprefix("export ").split("="))
    with create_smart_backend() as engine:
        assert engine.config.cache_limit == 10
        assert engine.speaker.plan.max_frames == 1024


def test_a_configuration_of_the_users_own(named, run):
    backend = run(CUSTOM)["backend"]
    try:
        config, plan = backend.config, backend.speaker.plan
        assert (config.chunk_length, config.max_batch_size, config.num_threads, config.cache_limit) == (
            2048,
            8,
            16,
            100,
        )
        assert (plan.chunk_chars, plan.max_batch_size, plan.threads, plan.cache_entries) == (2048, 8, 16, 100)
        assert (config.optimization_strategy, config.notes) == ("custom", "Custom high-performance config")
        assert config.device == plan.device.kind == backend.profile.device_type
        assert config.expected_rtf != 1.5
        assert len(backend.tts("Still speaking.").audio) > 8000
    finally:
        backend.cleanup()


def test_unsupported_configuration_is_warned_about(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.warns(RuntimeWarning) as told:
        backend = run_custom()
    backend.cleanup()
    here = [str(warning.message) for warning in told if warning.filename == __file__]
    assert any("device=cuda is not possible" in text for text in here)
    assert any("no executor 'torch'" in text for text in here)
    assert sum("compile=inductor has no effect" in text for text in here) == 1
    assert any("cache_entries=5 has no effect" in text for text in here)


def run_custom() -> SmartAdaptiveBackend:
    backend = SmartAdaptiveBackend()
    backend.config = OptimalConfig(
        device="cuda", precision="fp16", quantization="none", use_onnx=False, use_torch_compile=True, chunk_length=200,
        max_batch_size=1, num_threads=1, cache_limit=5, enable_thermal_management=False,
    )  # fmt: skip
    backend._apply_configuration()
    return backend


def test_heat_is_managed_only_if_it_is_wanted(backend, monkeypatch):
    decided = backend.decision
    with_sensor = replace(decided, hardware=replace(decided.hardware, thermal=("coretemp",)))
    backend.config = backend._applied = OptimalConfig.of(with_sensor)
    assert backend.config.enable_thermal_management
    backend.config = replace(backend.config, enable_thermal_management=False, cache_limit=0)
    backend._apply_configuration()
    assert backend.speaker.plan.thermal is False
    backend.config = replace(backend.config, max_batch_size=1)
    backend._apply_configuration()
    assert backend.speaker.plan.thermal is False, "what is left as it was stays"


def test_the_fallback_precision_is_used_or_warned_about(named, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with SmartAdaptiveBackend(named) as backend:
        backend.config = replace(backend.config, quantization="int8", precision="fp16", num_threads=1)
        with pytest.warns(RuntimeWarning, match="precision=fp16 has no effect: computation with int8 weights"):
            backend._apply_configuration()
        assert backend.speaker.plan.precision == "int8"
    with SmartAdaptiveBackend(without_four_bits(tmp_path, named)) as backend:
        backend.config = replace(backend.config, quantization="int4", precision="fp32", num_threads=1)
        with pytest.warns(RuntimeWarning, match="no precision 'int4'"):
            backend._apply_configuration()
        assert backend.speaker.plan.precision == "fp32"


def without_four_bits(tmp_path: Path, named: Path) -> Path:
    """The same model as if it had been converted without four bits."""
    place = Path(shutil.copytree(named, tmp_path / "fewer"))
    manifest = json.loads((place / "saywell.json").read_text())
    manifest["files"] = {name: entry for name, entry in manifest["files"].items() if "int4" not in name}
    (place / "saywell.json").write_text(json.dumps(manifest))
    return place


def test_an_impossible_configuration_changes_nothing(backend):
    before = backend.speaker
    good = backend.config
    backend.config = replace(good, chunk_length=3)
    with pytest.raises(PlanError, match="chunk_chars"):
        backend._apply_configuration()
    assert backend.speaker is before
    assert backend.tts("Hello.").metrics["rtf"] > 0
    backend.config = good
    backend._apply_configuration()
    assert backend.speaker is before


def test_several_texts_in_one_session(backend, run):
    run(BATCH, engine=backend, texts=["One.", "Two, three.", "Four."])
    found = backend.get_metrics()
    assert found["rolling_aggregates"]["rtf"]["max"] > 0
    assert found["rolling_aggregates"]["audio_s"] > 1
    assert (found["rolling_aggregates"]["requests"], found["rolling_aggregates"]["success_rate"]) == (3, 1.0)
    assert found["rolling_aggregates"]["latency_s"]["max"] > 0
    with pytest.raises(InvalidText):
        backend.tts("")
    assert backend.get_metrics()["rolling_aggregates"]["success_rate"] == 0.75
    assert set(found["current_resources"]) >= {"cpu_percent", "memory_percent", "memory_available_gb"}
    health = backend.get_health()
    assert health["status"] == "healthy"
    assert set(health) >= {"device", "system_info", "smart_insights", "current_resources", "hardware_profile"}
    assert health["system_info"]["compile_enabled"] is False
    assert backend.clear_cache() >= 0


def test_speech_comes_as_audio_rate_and_metrics(backend, caplog):
    caplog.set_level("INFO", logger="smart_backend")
    audio, sample_rate, metrics = backend.tts("The quick brown fox.", speed=1.2)
    assert audio.dtype == np.float32
    assert 0.5 < len(audio) / sample_rate < 3
    assert metrics["latency_ms"] > 0
    assert metrics["rtf"] == pytest.approx(metrics["latency_ms"] / 1000 / (len(audio) / sample_rate), rel=0.05)
    for line in ("📊 Performance Report:", "  Latency: ", "  RTF: ", "  Memory Delta: ", "  GPU Utilization: N/A"):
        assert line in caplog.text


def test_the_memory_budget(backend, run, caplog):
    run(BUDGET, self=backend, logger=__import__("logging").getLogger("example"))
    assert "Memory constraints detected" not in caplog.text
    assert backend.monitor.memory_budget_manager.enforce_limits() is True


class Warned:
    def __init__(self) -> None:
        self.said: list[str] = []

    def warning(self, text: str) -> None:
        self.said.append(text)


@pytest.mark.parametrize("gigabytes", [4, 5, 6, 8])
def test_four_bits_below_six_gigabytes(run, gigabytes):
    """The example's rule and the plan's agree."""
    names = run(QUANTISATION, available_memory_gb=gigabytes, config={"quantization": "int8"}, logger=Warned())
    spec = ModelSpec(
        name="m", family="m", kind="autoregressive", sample_rate=24_000, frame_rate=20,
        variants=made_up(fp32=GIB, int8=GIB // 4, int4=GIB // 8),
    )  # fmt: skip
    hardware = Hardware.from_json((MACHINES / "i5-1334u-8gb.json").read_text())
    machine = replace(hardware, memory=gigabytes * GIB)
    assert make_plan(Settings(), machine, spec).precision == names["config"]["quantization"]


# -- the blocks printed at start

PROFILE = """\
🔍 Hardware detection complete
============================================================
DETECTED HARDWARE PROFILE
============================================================
System: Windows (AMD64)
CPU: 13th Gen Intel(R) Core(TM) i5-1334U
CPU Tier: i5_baseline
Cores: 10 physical, 12 logical
RAM: 7.7 GB

GPU: None
GPU Memory: 0.0 GB
Device: cpu

Thermal Monitoring: ❌ Not Available
AVX-512 VNNI: ❌ Not Supported
============================================================"""
"""As printed, but for the processor's full name, what its system leaves of the 8 GB, and AVX-512, which it has not."""

CONFIGURATION = """\
============================================================
SELECTED OPTIMAL CONFIGURATION
============================================================
Strategy: i5_onnx_thermal
Device: cpu
Precision: fp32
Quantization: int8
ONNX Runtime: ✅ Enabled
torch.compile: ❌ Disabled
Chunk Length: 512
Threads: 10

Expected Performance:
  RTF: 8.00x (slower than real-time)
  Memory: 3.5 GB

Notes: ONNX Runtime + INT8 quantization
============================================================"""
SHOWN = OptimalConfig(
    device="cpu", precision="fp32", quantization="int8", use_onnx=True, use_torch_compile=False, chunk_length=512,
    max_batch_size=1, num_threads=10, cache_limit=25, enable_thermal_management=True, expected_rtf=8.0,
    expected_memory_gb=3.5, optimization_strategy="i5_onnx_thermal", notes="ONNX Runtime + INT8 quantization",
)  # fmt: skip


def test_the_profile_block():
    hardware = Hardware.from_json((MACHINES / "i5-1334u-8gb.json").read_text())
    spec = ModelSpec(
        name="m", family="m", kind="autoregressive", sample_rate=24_000, frame_rate=20,
        variants=made_up(int8=GIB // 4),
    )  # fmt: skip
    assert HardwareProfile.of(hardware, make_plan(Settings(), hardware, spec)).block() == PROFILE


def test_the_configuration_block():
    assert SHOWN.block() == CONFIGURATION
    assert "  RTF: not measured yet" in replace(SHOWN, expected_rtf=None).block()


def test_a_configuration_converts_to_overrides_and_back():
    overrides = replace(SHOWN, device="auto").overrides()
    assert overrides == {
        "device": None, "precision": "int8", "executor": "onnx", "compile": "disabled", "chunk_chars": 512,
        "max_batch_size": 1, "threads": 10, "cache_entries": 25, "thermal": True,
    }  # fmt: skip
    assert replace(SHOWN, precision="fp16").second() == {"precision": "fp16"}
    assert replace(SHOWN, quantization="none").overrides()["precision"] == "fp32"
    with pytest.raises(ValueError, match="int3"):
        replace(SHOWN, quantization="int3")


# -- against a server


def test_insights_of_a_server(program, run, capsys):
    run(INSIGHTS.replace(ORIGIN, program.url))
    assert capsys.readouterr().out.startswith("Smart Insights:\n")


@pytest.mark.parametrize("length", [200, 6000])
def test_an_estimate_before_speech(program, run, capsys, length):
    names = run(ESTIMATE_FIRST.replace(ORIGIN, program.url), long_text="A long text. " * (length // 13))
    if length > 5000:
        assert "Text too long for hardware" in capsys.readouterr().out
    else:
        assert names["tts_response"].headers["content-type"] == "audio/wav"
        assert names["tts_response"].content[:4] == b"RIFF"


def test_a_program_that_watches_the_server(program, run, monkeypatch):
    waits: list[float] = []

    def sleep(seconds: float) -> None:
        waits.append(seconds)
        if len(waits) == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr(time, "sleep", sleep)
    with pytest.raises(KeyboardInterrupt):
        run(WATCH.replace(ORIGIN, program.url))
    assert set(waits) <= {10, 60}


def test_the_server_thinks_again(program, run):
    result = run(REOPTIMISE.replace(ORIGIN, program.url), requests=requests)["result"]
    assert result["status"] in ("optimal", "adjusted")
    if result["status"] == "optimal":
        assert result["message"] == "No adjustments needed"


@pytest.mark.parametrize(("command", "expected"), SHELL.values(), ids=SHELL)
def test_the_shell_examples(program, tmp_path, command, expected):
    (tmp_path / "long_text.txt").write_text("It was a long text. " * 20)
    here = command.replace(ORIGIN, program.url)
    done = subprocess.run(here, shell=True, cwd=tmp_path, capture_output=True, text=True, check=True, timeout=30)
    assert expected in done.stdout
