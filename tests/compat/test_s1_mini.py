"""The examples printed in the S1-Mini engine's own documentation, as they stand, and what its users rely on."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
import time
import warnings
from dataclasses import replace
from pathlib import Path

import httpx
import numpy as np
import pytest
import soundfile as sf
from prometheus_client.parser import text_string_to_metric_families

import conversion
from paths import FINCH
from s1_mini import EngineConfig, ProductionTTSEngine
from s1_mini.compilation import get_compilation_recommendations, get_platform_info
from s1_mini.config import settle
from s1_mini.server import main
from s1_mini.utils import get_vram_info
from saywell.errors import MissingDependency, UnknownModel
from saywell.machine import Cpu, Hardware, Runtime
from saywell.models.base import find_spec

pytestmark = [
    pytest.mark.filterwarnings("ignore:no checkpoint was named:RuntimeWarning"),
    pytest.mark.filterwarnings("ignore:.*Running without this setting:RuntimeWarning"),
    pytest.mark.filterwarnings("ignore:compile_model=True has no effect:RuntimeWarning"),
]


def _can_speak() -> bool:
    try:
        with ProductionTTSEngine(EngineConfig()) as engine:
            return engine.health_check()["healthy"]
    except MissingDependency:
        return False


@pytest.fixture(scope="module")
def voice() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if not _can_speak():
            pytest.skip("no synthesiser is installed")


QUICK_START = """
from s1_mini import ProductionTTSEngine, EngineConfig

# Create configuration
config = EngineConfig(
    checkpoint_path="checkpoints/openaudio-s1-mini",
    device="cuda",
    precision="float16",
    compile_model=True,  # Uses Triton on Linux, eager on Windows
)

# Create and start engine
engine = ProductionTTSEngine(config)
engine.start()

# Generate audio
response = engine.generate(
    text="Hello, this is a test of the text to speech system.",
    temperature=0.7,
    top_p=0.8,
)

if response.success:
    sample_rate, audio = response.audio
    # Save or play audio
    import soundfile as sf
    sf.write("output.wav", audio, sample_rate)

# Clean up
engine.stop()
"""

CONTEXT_MANAGER = """
from s1_mini import ProductionTTSEngine, EngineConfig

config = EngineConfig(checkpoint_path="checkpoints/openaudio-s1-mini")

with ProductionTTSEngine(config) as engine:
    response = engine.generate("Hello world!")
    # Engine automatically starts and stops
"""

OPTIONS = """
config = EngineConfig(
    # Model
    checkpoint_path="checkpoints/openaudio-s1-mini",
    device="cuda",
    precision="float16",

    # Compilation
    compile_model=True,
    compile_backend="auto",  # auto, inductor, eager, disabled
    compile_mode="reduce-overhead",

    # VRAM Management
    vram_clear_on_oom_only=True,  # Only clear cache on OOM
    vram_clear_threshold_gb=2.0,

    # Timeouts
    request_timeout_seconds=60.0,

    # Generation Defaults
    default_temperature=0.7,
    default_top_p=0.8,
    default_repetition_penalty=1.1,
)
"""

PLATFORM = """
from s1_mini.compilation import get_platform_info, get_compilation_recommendations

info = get_platform_info()
print(f"Triton available: {info.triton_available}")
print(f"Recommended backend: {info.recommended_backend}")

for rec in get_compilation_recommendations():
    print(f"  - {rec}")
"""

HEALTH = """
health = engine.health_check()
# {
#     "healthy": True,
#     "models_loaded": True,
#     "device": "cuda",
#     "vram": {"used_gb": 8.5, "total_gb": 24.0}
# }
"""

VRAM = """
# Check VRAM usage
from s1_mini.utils import get_vram_info
print(get_vram_info())

# Manually clear cache if needed
engine.model_manager.clear_cache(force=True)
"""

COMPILE_ISSUES = """
# Disable compilation if having issues
config = EngineConfig(compile_model=False)

# Or force specific backend
config = EngineConfig(compile_backend="eager")
"""

START = "python -m s1_mini.server --checkpoint checkpoints/openaudio-s1-mini --port 8080"

VARIABLES = """
export S1_MINI_CHECKPOINT_PATH=checkpoints/openaudio-s1-mini
export S1_MINI_DEVICE=cuda
python -m s1_mini.server
"""

CURL = """
curl -X POST http://localhost:8080/v1/tts \\
  -H "Content-Type: application/json" \\
  -d '{"text": "Hello world!"}' \\
  --output speech.wav
"""


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Runs a printed example in an empty directory; its names."""
    monkeypatch.chdir(tmp_path)

    def go(code: str, **names) -> dict:
        exec(compile(code, "<example>", "exec"), names)
        return names

    return go


def test_the_quick_start(named, run):
    names = run(QUICK_START)
    assert names["response"].success, names["response"].error
    data, rate = sf.read("output.wav")
    assert rate == names["sample_rate"]
    assert rate == find_spec(None, named).sample_rate, "the model that was named"
    assert 1.5 < len(data) / rate < 6
    assert names["audio"].dtype == np.float32
    assert names["audio"].ndim == 1


def test_the_context_manager(named, run):
    names = run(CONTEXT_MANAGER)
    assert names["response"].success
    assert names["engine"].health_check()["healthy"] is False


def test_all_options(run):
    config = run(OPTIONS, EngineConfig=EngineConfig)["config"]
    assert replace(config, checkpoint_path=None) == EngineConfig()
    assert config.overrides()["model_path"] == Path("checkpoints/openaudio-s1-mini")
    assert config.overrides()["timeout_s"] == 60.0


def test_the_platform_without_loading_torch(capsys, run):
    run(PLATFORM)
    shown = capsys.readouterr().out
    assert re.search(r"Recommended backend: (inductor|eager|disabled)", shown)
    assert "  - " in shown
    code = PLATFORM + "\nimport sys; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


def test_health_and_memory(voice, run, capsys):
    with ProductionTTSEngine(EngineConfig()) as engine:
        health = run(HEALTH, engine=engine)["health"]
        assert set(health) == {"healthy", "models_loaded", "device", "vram"}
        assert health["healthy"] is health["models_loaded"] is True
        assert set(health["vram"]) == {"used_gb", "total_gb"}
        run(VRAM, engine=engine)
        assert "used_gb" in capsys.readouterr().out
        assert engine.generate("Still here.").success


def test_compilation_can_be_switched_off(run):
    assert run(COMPILE_ISSUES, EngineConfig=EngineConfig)["config"].overrides()["compile"] == "eager"
    assert EngineConfig(compile_model=False).overrides()["compile"] == "disabled"


# Beyond the printed examples


@pytest.mark.parametrize(
    "bad", [{"device": "tpu"}, {"precision": "int3"}, {"compile_backend": "x"}, {"compile_mode": ""}]
)
def test_a_value_that_never_was_is_refused(bad):
    with pytest.raises(ValueError, match=next(iter(bad))):
        EngineConfig(**bad)


def test_unsupported_options_are_dropped_with_a_warning(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.warns(RuntimeWarning) as said:
        decision = settle(EngineConfig().overrides())
    messages = [str(warning.message) for warning in said]
    assert any("none at checkpoints/openaudio-s1-mini: using the built-in voice" in message for message in messages)
    if decision.plan.device.kind == "cpu":
        assert any("device=cuda is not possible" in message for message in messages)
    assert decision.settings.timeout_s == 60.0


def test_the_built_in_voice_speaks_only_if_no_model_was_named(tmp_path, monkeypatch, caplog):
    monkeypatch.chdir(tmp_path)
    for name in ("typo", "checkpoints/openaudio-s1-mini"):
        engine = ProductionTTSEngine(EngineConfig(checkpoint_path=name))
        with pytest.raises(UnknownModel, match=f"there is no checkpoint at {name}"):
            engine.start()
    monkeypatch.setenv("S1_MINI_CHECKPOINT_PATH", "elsewhere")
    with pytest.raises(UnknownModel, match="there is no checkpoint at elsewhere"):
        settle({}, variables=True)
    monkeypatch.setenv("SAYWELL_MODEL_PATH", "third")
    with pytest.raises(UnknownModel, match="there is no checkpoint at third"):
        ProductionTTSEngine(EngineConfig()).start()


def test_a_model_at_the_default_path_is_used_unnamed(named, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert settle(EngineConfig().overrides()).spec.name == named.name
    monkeypatch.setenv("SAYWELL_MODEL", "hibari")
    assert settle(EngineConfig().overrides()).spec.name == "hibari"


def test_a_published_checkpoint_is_converted_when_it_is_first_used(tmp_path, monkeypatch, caplog):
    random_checkpoint = pytest.importorskip("benchmarks.random_checkpoint", exc_type=ImportError)
    conversion.in_process(monkeypatch)
    place = random_checkpoint.write(tmp_path / "published")
    for _ in range(2):
        decision = settle(EngineConfig(checkpoint_path=place).overrides())
        assert (decision.spec.name, decision.spec.family) == ("published", "dual_ar")
    assert caplog.text.count("published is a published checkpoint; it is converted once") == 1
    assert decision.spec.path != place


@pytest.mark.slow
def test_a_server_converts_a_published_checkpoint_and_speaks_with_it(tmp_path):
    pytest.importorskip("torch")
    server = Server(f"python -m s1_mini.server --checkpoint {FINCH} --port 0", tmp_path)
    try:
        answer = httpx.post(server.url + "/v1/tts", json={"text": "Hello world!"})
        assert (answer.status_code, answer.headers["x-saywell-model"]) == (200, "finch")
    finally:
        assert "finch is converted" in server.end()


def test_a_server_without_its_model_does_not_start(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["--checkpoint", "typo", "--port", "0"]) == 1
    assert "s1_mini.server: there is no checkpoint at typo; name" in capsys.readouterr().err


def test_the_request_timeout_defaults_to_a_minute(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    decision = settle({}, variables=True)
    assert decision.plan.timeout_s == 60.0
    assert "S1-Mini" in next(reason.why for reason in decision.plan.reasons if reason.field == "timeout_s")
    monkeypatch.setenv("SAYWELL_TIMEOUT_S", "7")
    assert settle({}, variables=True).plan.timeout_s == 7.0
    monkeypatch.setenv("S1_MINI_REQUEST_TIMEOUT", "9")
    monkeypatch.delenv("SAYWELL_TIMEOUT_S")
    assert settle({}, variables=True).plan.timeout_s == 9.0


def test_options_without_effect_are_warned_about_once(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = EngineConfig(
        device="cuda:0", compile_backend="inductor", compile_mode="max-autotune", vram_clear_on_oom_only=False
    )
    with pytest.warns(RuntimeWarning) as told, ProductionTTSEngine(config) as engine:
        device = engine.health_check()["device"]
    said = [str(warning.message) for warning in told if warning.filename == __file__]
    for setting in (
        "compile=inductor",
        "compile_mode=max-autotune",
        *(["vram_clear_on_oom_only"] if device == "cpu" else []),
    ):
        assert len([text for text in said if setting in text and "has no effect" in text]) == 1, said
    with pytest.warns(RuntimeWarning) as told:
        settle(EngineConfig().overrides())
    assert len([each for each in told if str(each.message).startswith("compile_model=True has no effect: ")]) == 1
    with warnings.catch_warnings():
        warnings.filterwarnings("error", "compile", RuntimeWarning)
        settle(EngineConfig(compile_model=False).overrides())


def test_clearing_empties_the_engines_own_caches(named, tmp_path, monkeypatch, caplog):
    monkeypatch.chdir(tmp_path)
    caplog.set_level("INFO", "s1_mini")
    engine = ProductionTTSEngine(EngineConfig(checkpoint_path=named))
    assert not engine.model_manager.clear_cache(force=True)
    with engine:
        assert engine.generate("Hello.").success
        kept = engine._speaker.engine._resident.model._prefixes
        assert kept.nbytes > 0
        assert not engine.model_manager.clear_cache()
        assert kept.nbytes > 0
        cleared = engine.model_manager.clear_cache(force=True)
        assert cleared
        assert cleared.freed_bytes >= 0
        assert kept.nbytes == 0
        assert "caches cleared; " in caplog.text
    assert not engine.model_manager.clear_cache(force=True)


def test_errors_are_answers(voice):
    engine = ProductionTTSEngine()
    assert "start()" in engine.generate("Hello.").error
    with engine:
        for text, fields in (("", {}), ("Hello.", {"temperature": 7.0}), ("Hello.", {"voice": "nobody"})):
            response = engine.generate(text, **fields)
            assert (response.success, response.audio) == (False, None)
            assert response.error
        assert engine.generate("Hello.", seed=3).seed == 3
    engine.stop()


def test_a_request_that_takes_too_long_is_stopped(voice):
    with ProductionTTSEngine(EngineConfig(request_timeout_seconds=0.4)) as engine:
        response = engine.generate("This will take longer than a moment. " * 130)
        assert not response.success
        assert "deadline" in response.error


def test_recommendations_by_platform():
    cpu = Cpu(model="x", vendor="", sockets=1, physical=4, logical=4, performance=4, efficiency=0)
    torch = {"torch": Runtime(version="2.10")}
    bare = Hardware(os="windows", arch="x86_64", python="3.12", product="", cpu=cpu, memory=1 << 33)
    info = get_platform_info(bare)
    assert (info.recommended_backend, info.torch_version, info.cuda_available) == ("disabled", None, False)
    info = get_platform_info(Hardware(os="windows", arch="x86_64", python="3.12", product="", cpu=cpu, memory=1 << 33,
                                      runtimes=torch))  # fmt: skip
    assert info.recommended_backend == "eager"
    assert "WSL2" in " ".join(get_compilation_recommendations(info))


def test_no_gpu_is_zero_and_not_an_error():
    found = get_vram_info()
    assert 0 <= found["utilization"] <= 1
    assert found["available"] == (found["total_gb"] > 0)


class Server:
    def __init__(self, command: str, cwd: Path, **variables: str) -> None:
        program, *rest = shlex.split(command)
        assert program == "python"
        self.process = subprocess.Popen(
            [sys.executable, *rest], cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            env={**os.environ, **variables},
        )  # fmt: skip
        line = self.process.stdout.readline()
        found = re.search(r"http://[\d.:]+", line)
        assert found, line + self.process.stderr.read()
        self.url = found[0]
        until = time.monotonic() + 20
        while httpx.get(self.url + "/ready").status_code != 200:
            assert time.monotonic() < until
            time.sleep(0.05)

    def end(self) -> str:
        self.process.terminate()
        _, err = self.process.communicate(timeout=10)
        assert self.process.returncode == 0
        return err


def test_the_server_and_its_metrics(named, tmp_path):
    server = Server(START.replace("8080", "0"), tmp_path)
    try:
        words = shlex.split(CURL.replace("\\\n", " "))
        body = words[words.index("-d") + 1]
        assert words[3] == "http://localhost:8080/v1/tts"
        answer = httpx.post(server.url + "/v1/tts", content=body, headers={"Content-Type": "application/json"})
        assert answer.status_code == 200
        assert answer.headers["x-saywell-model"] == named.name
        (tmp_path / "speech.wav").write_bytes(answer.content)
        assert sf.info(tmp_path / "speech.wav").duration > 0.4
        with httpx.stream("POST", server.url + "/v1/tts/stream", json={"text": "Hello world!"}) as streamed:
            assert streamed.headers["transfer-encoding"] == "chunked"
            assert streamed.read()[:4] == b"RIFF"
        httpx.post(server.url + "/v1/tts", json={"text": ""})
        assert httpx.get(server.url + "/health").json()["status"] == "healthy"
        text = httpx.get(server.url + "/metrics").text
        values = {
            (s.name, s.labels.get("le")): s.value for f in text_string_to_metric_families(text) for s in f.samples
        }
        assert values["s1_mini_requests_total", None] == 3
        assert values["s1_mini_requests_success_total", None] == 2
        assert values["s1_mini_requests_error_total", None] == 1
        assert 0 <= values["s1_mini_request_duration_seconds_bucket", "1.0"] <= 3
        assert values["s1_mini_request_duration_seconds_bucket", "+Inf"] == 3
        assert 0 <= values["s1_mini_vram_utilization", None] <= 1
    finally:
        err = server.end()
    assert "Traceback" not in err


def test_the_server_reads_its_variables(named, tmp_path):
    *exports, command = VARIABLES.strip().split("\n")
    variables = dict(line.removeprefix("export ").split("=") for line in exports)
    more = {"S1_MINI_PRECISION": "float32", "S1_MINI_COMPILE": "true", "S1_MINI_COMPILE_BACKEND": "auto",
            "S1_MINI_REQUEST_TIMEOUT": "0.4"}  # fmt: skip
    server = Server(f"{command} --port 0", tmp_path, **variables, **more)
    try:
        answer = httpx.post(server.url + "/v1/tts", json={"text": "This is a rather long text to speak. " * 130})
        assert answer.status_code == 504
    finally:
        server.end()


def test_the_default_port_is_the_documented_one():
    from s1_mini.server import PORT, _parser

    assert f"--port {PORT}" in START
    assert _parser().parse_args([]).port == 8080


def test_a_threshold_without_effect_is_warned_about(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    engine = ProductionTTSEngine(EngineConfig(vram_clear_threshold_gb=4.0))
    with pytest.warns(RuntimeWarning, match="vram_clear_threshold_gb has no effect as long as"):
        engine.start()
    engine.stop()
