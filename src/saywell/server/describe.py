"""The state of the machine and the engine, as reported by `/health` and `/metrics`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from saywell import __version__
from saywell.engine import EngineHealth, SpeechEngine
from saywell.engine.launch import Decision
from saywell.machine import GIB
from saywell.machine.monitor import Resources
from saywell.plan.degradation import in_force
from saywell.plan.insights import insights


def current(now: Resources) -> dict[str, float]:
    """Load in percent, memory in GiB; within a container's limits. `gpu_util` is present only with an NVIDIA GPU."""
    gpu = gpu_util(now)
    return {
        "cpu_percent": now.cpu_percent,
        "memory_percent": now.memory_percent,
        "memory_available_gb": round(now.memory_available / GIB, 2),
        **({} if gpu is None else {"gpu_util": gpu}),
    }


def gpu_util(now: Resources) -> float | None:
    """Utilisation of the busiest GPU in percent; None: no GPU reports it."""
    return max((gpu.utilisation for gpu in now.gpus), default=None)


def health(
    engine: SpeechEngine, decision: Decision, now: Resources, uptime_s: float, spoken: Mapping[str, Any]
) -> dict[str, Any]:
    """The body of `/health` without its status. `spoken`: the result of `Metrics.aggregates`."""
    plan, hardware, state = engine.plan, decision.hardware, engine.health()
    return {
        "device": str(plan.device),
        "system_info": _system(engine, decision, uptime_s),
        "smart_insights": insights(
            plan, hardware, now, pressure=state.pressure, record=decision.record, spoken=spoken, restarts=state.restarts
        ),
        "current_resources": current(now),
        "hardware_profile": {
            "tier": hardware.cpu_tier,
            "device": str(plan.device),
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


def models(states: Mapping[str, EngineHealth | None]) -> list[dict[str, Any]]:
    """The installed models, the server's own first, and whether each is loaded."""
    return [
        {
            "name": name,
            "loaded": state is not None and state.loaded,
            "running": state.running if state is not None else 0,
            "waiting": state.waiting if state is not None else 0,
            "memory_mb": state.rss_bytes >> 20 if state is not None else 0,
        }
        for name, state in states.items()
    ]


def _system(engine: SpeechEngine, decision: Decision, uptime_s: float) -> dict[str, Any]:
    plan, hardware = in_force(engine.plan, engine.health().pressure), decision.hardware
    return {
        "version": __version__,
        "model": engine.spec.name,
        "executor": plan.executor,
        "precision": plan.precision,
        "compile_enabled": plan.compile == "inductor",
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
