"""SmartAdaptiveBackend: the interface of the smart backend, on Saywell's engine."""

from __future__ import annotations

import logging
import sys
import time
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

from saywell.audio.decode import decode_file
from saywell.engine.launch import TTS, Decision, start
from saywell.errors import SaywellError
from saywell.machine import GIB
from saywell.machine.monitor import Resources
from saywell.server import describe
from saywell.server.metrics import Metrics
from saywell.settings import load_settings
from saywell.types import Reference, Samples, Summary
from saywell_compat import lenient
from saywell_compat.variables import VARIABLES
from saywell_compat.variables import device as whole_device
from smart_backend.config import OptimalConfig
from smart_backend.monitor import ResourceMonitor
from smart_backend.profile import HardwareProfile

_log = logging.getLogger("smart_backend")


class Speech(NamedTuple):
    """The result of `tts`."""

    audio: Samples
    """Mono float32 within [-1, 1], shape [n]."""
    sample_rate: int
    """Hz."""
    metrics: dict[str, Any]


class SmartAdaptiveBackend:
    """Detects the hardware, plans, loads and synthesises. A context manager; `cleanup` releases all resources.

    Reads MODEL_DIR, DEVICE, MIXED_PRECISION, ENABLE_TORCH_COMPILE, USE_ONNX, CACHE_LIMIT and MAX_SEQ_LEN, which
    SAYWELL_* override. Unsupported settings are dropped with a RuntimeWarning, except a named model: it is used,
    converted on first use, or the start fails.
    """

    def __init__(
        self, model_path: str | Path | None = None, device: str = "auto", enable_optimizations: bool = True
    ) -> None:
        """`model_path` None: MODEL_DIR, else checkpoints/openaudio-s1-mini if it exists, else the built-in voice.
        `enable_optimizations` False: no compilation. Raises SaywellError."""
        overrides = {
            "model_path": None if model_path is None else Path(model_path),
            "device": whole_device(device, "device"),
            "compile": None if enable_optimizations else "disabled",
        }
        self._settings = load_settings(overrides, variables=VARIABLES)
        self.metrics = Metrics()
        self._started = time.monotonic()
        self._begin(lenient.settle(self._settings))
        self._applied = replace(self.config)
        sys.stderr.write(f"{self.profile.block()}\n\n{self.config.block()}\n")

    def _begin(self, decision: Decision) -> None:
        self.decision = decision
        self.speaker: TTS = start(decision)
        self.profile = HardwareProfile.of(decision.hardware, decision.plan)
        self.config = OptimalConfig.of(decision)
        self.monitor = ResourceMonitor(self.speaker)

    def _apply_configuration(self) -> None:
        """Apply `config`, reloading the engine if it changed; `config` then holds the values in use.

        Raises PlanError for an impossible configuration, without changing anything.
        """
        wanted = self.config
        if wanted == self._applied:
            return
        overrides = {**self._settings.overrides(), **{k: v for k, v in wanted.overrides().items() if v is not None}}
        if wanted.enable_thermal_management == self._applied.enable_thermal_management:
            overrides["thermal"] = self.decision.settings.thermal  # unchanged: not a new setting
        decision = lenient.settle(load_settings(overrides, origin="the configuration"), wanted.second())
        for message in wanted.without_effect(OptimalConfig.of(decision)):
            lenient.warn(message)
        self.cleanup()
        self._begin(decision)
        self.config = replace(self.config, optimization_strategy=wanted.optimization_strategy, notes=wanted.notes)
        self._applied = replace(self.config)

    def tts(self, text: str, speaker_wav: str | Path | None = None, prompt_text: str = "", **fields: Any) -> Speech:
        """Synthesise `text`, in the voice of the recording `speaker_wav` if the model supports it. `fields`: other
        fields of a Request (voice, speed, temperature, seed, …) and max_new_tokens. Raises SaywellError."""
        if "max_new_tokens" in fields:
            fields["max_frames"] = fields.pop("max_new_tokens")
        if speaker_wav is not None:
            samples, rate = decode_file(speaker_wav)
            fields["reference"] = Reference(pcm=samples.tobytes(), sample_rate=rate, transcript=prompt_text)
        before, began, model = self.monitor.look(), time.monotonic(), self.speaker.spec.name
        try:
            audio = self.speaker.say(text, **fields)
        except SaywellError as error:
            self.metrics.answered("tts", model, error.status, time.monotonic() - began)
            raise
        self.metrics.answered("tts", model, 200, time.monotonic() - began)
        self.metrics.spoke(model, audio.summary)
        after = self.monitor.look()
        metrics = _metrics(audio.summary, before, after)
        _log.info("%s", report(metrics))
        return Speech(audio.samples, audio.sample_rate, metrics)

    def get_health(self) -> dict[str, Any]:
        """The body of the server's `/health`."""
        now, uptime_s = self.monitor.look(), time.monotonic() - self._started
        state = self.speaker.engine.health().state
        status = "healthy" if state == "ready" else "unhealthy"
        return {
            "status": status,
            **describe.health(self.speaker.engine, self.decision, now, uptime_s, self.metrics.aggregates()),
        }

    def get_metrics(self) -> dict[str, Any]:
        """Rolling aggregates of past requests and the state of the machine, as in the JSON of `/metrics`."""
        now = self.monitor.look()
        return {
            "rolling_aggregates": self.metrics.aggregates(),
            "current_gpu_util": describe.gpu_util(now) or 0.0,
            "current_resources": describe.current(now),
        }

    def clear_cache(self) -> int:
        """Clear the engine's caches. Returns the bytes returned to the system."""
        return self.speaker.engine.clear_caches().freed

    def cleanup(self) -> None:
        """Release all resources. Idempotent."""
        self.speaker.close()
        self.monitor.close()

    def __enter__(self) -> SmartAdaptiveBackend:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.cleanup()


def create_smart_backend(model_path: str | Path | None = None) -> SmartAdaptiveBackend:
    """A backend for the model at `model_path`, by default MODEL_DIR."""
    return SmartAdaptiveBackend(model_path)


def _metrics(summary: Summary, before: Resources, after: Resources) -> dict[str, Any]:
    """The values of `report`, and the request's other results."""
    return {
        "latency_ms": 1000 * summary.total_s,
        "first_audio_ms": 1000 * summary.first_audio_s,
        "rtf": summary.rtf,
        "audio_s": summary.audio_s,
        "memory_delta_gb": (before.memory_available - after.memory_available) / GIB,
        "gpu_util": describe.gpu_util(after),
        "finish_reason": summary.finish_reason,
        "seed": summary.seed,
    }


def report(metrics: dict[str, Any]) -> str:
    """The lines logged after each synthesis."""
    delta, gpu = metrics["memory_delta_gb"], metrics["gpu_util"]
    freed = "  (freed memory after synthesis)" if delta < 0 else ""
    return "\n".join(
        (
            "📊 Performance Report:",
            f"  Latency: {metrics['latency_ms']:.0f}ms",
            f"  RTF: {metrics['rtf']:.2f}x",
            f"  Memory Delta: {delta:+.2f} GB{freed}",
            f"  GPU Utilization: {'N/A' if gpu is None else f'{gpu:.0f}%'}",
        )
    )
