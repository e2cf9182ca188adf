"""The machine, the plan and the engine under the names that programs of the smart backend know. Decides nothing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from saywell import __version__
from saywell.engine import SpeechEngine
from saywell.engine.launch import Decision
from saywell.machine import GIB
from saywell.machine.monitor import Resources
from saywell.plan import memory
from saywell.plan.degradation import in_force
from saywell.plan.insights import expected_rtf, insights
from saywell.plan.plan import Plan

INTEGER = frozenset({"int8", "int4"})
"""Precisions of stored weights; what is computed with them is fp32."""


def configuration(decision: Decision, now: Plan | None = None) -> dict[str, Any]:
    """The plan, or what is left of it `now`, as the fields of `OptimalConfig` and `max_text_length`."""
    plan = now or decision.plan
    whole = memory.estimate(plan, decision.spec, plan.max_text_chars).total
    return {
        "device": plan.device,
        "precision": "fp32" if plan.precision in INTEGER else plan.precision,
        "quantization": plan.precision if plan.precision in INTEGER else "none",
        "use_onnx": plan.executor in ("onnx", "openvino"),
        "use_torch_compile": compiled(decision),
        "chunk_length": plan.chunk_chars,
        "chunk_frames": plan.chunk_frames,
        "max_batch_size": plan.slots,
        "num_threads": plan.threads,
        "cache_limit": plan.cache_entries,
        "enable_thermal_management": plan.adapt and plan.thermal and bool(decision.hardware.thermal),
        "expected_rtf": expected_rtf(plan, decision.record),
        "expected_memory_gb": round(whole / GIB, 2),
        "optimization_strategy": plan.strategy,
        "notes": next((reason.why for reason in plan.reasons if reason.field == "executor"), ""),
        "max_text_length": plan.max_text_chars,
    }


def compiled(decision: Decision) -> bool:
    """Whether the model is compiled before it runs."""
    return decision.plan.compile == "inductor"


def current(now: Resources) -> dict[str, float]:
    """Percent and GiB; the container's where it has limits. `gpu_util` only where there is an NVIDIA GPU."""
    gpu = gpu_util(now)
    return {
        "cpu_percent": now.cpu_percent,
        "memory_percent": now.memory_percent,
        "memory_available_gb": round(now.memory_available / GIB, 2),
        **({} if gpu is None else {"gpu_util": gpu}),
    }


def gpu_util(now: Resources) -> float | None:
    """Percent of the busiest GPU's time; None: there is none that tells."""
    return max((gpu.utilisation for gpu in now.gpus), default=None)


def health(
    engine: SpeechEngine, decision: Decision, now: Resources, uptime_s: float, spoken: Mapping[str, Any]
) -> dict[str, Any]:
    """All of `/health` but its status. `spoken`: `Metrics.aggregates`."""
    plan, hardware, state = engine.plan, decision.hardware, engine.health()
    return {
        "device": plan.device,
        "system_info": _system(engine, decision, uptime_s),
        "smart_insights": insights(
            plan, hardware, now, pressure=state.pressure, record=decision.record, spoken=spoken, restarts=state.restarts
        ),
        "current_resources": current(now),
        "hardware_profile": {
            "tier": hardware.cpu_tier,
            "device": plan.device,
            "thermal_monitoring": bool(now.temperatures),
        },
        "engine": {
            "state": state.state,
            "error": state.error,
            "slots": state.slots,
            "running": state.running,
            "waiting": state.waiting,
            "worker_restarts": state.restarts,
            "memory_mb": state.rss_bytes >> 20,
            "model_loaded": state.loaded,
            "pressure": msgspec.to_builtins(state.pressure),
        },
    }


def _system(engine: SpeechEngine, decision: Decision, uptime_s: float) -> dict[str, Any]:
    plan, hardware = in_force(engine.plan, engine.health().pressure), decision.hardware
    return {
        "version": __version__,
        "model": engine.spec.name,
        "executor": plan.executor,
        "precision": plan.precision,
        "compile_enabled": compiled(decision),
        "threads": plan.threads,
        "planned": {"precision": engine.plan.precision, "threads": engine.plan.threads},
        "uptime_s": round(uptime_s, 1),
        "os": hardware.os,
        "arch": hardware.arch,
        "python": hardware.python,
        "cpu": hardware.cpu.model,
        "cpus": hardware.usable_cpus,
        "memory_gb": round(hardware.usable_memory / GIB, 1),
        "gpus": [gpu.name for gpu in hardware.gpus],
    }
