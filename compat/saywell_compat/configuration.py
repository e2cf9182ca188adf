"""A plan under the names of the smart backend's OptimalConfig."""

from __future__ import annotations

import re
from typing import Any

from saywell.engine.launch import Decision
from saywell.machine import GIB, Hardware, tier
from saywell.plan import memory
from saywell.plan.insights import expected_rtf
from saywell.plan.plan import Plan

INTEGER = frozenset({"int8", "int4"})
"""Precisions of stored weights; computation with them is fp32."""
_CLASSES = {
    tier.LOW: "low_end",
    tier.ARM_BOARD: "arm_board",
    tier.ARM_LAPTOP: "arm_laptop",
    tier.I5: "i5",
    tier.RYZEN5: "ryzen_5",
    tier.SERVER: "server",
    tier.ARM_SERVER: "arm_server",
    tier.UNKNOWN: "cpu",
}
"""CPU tier → its name in a strategy; other tiers are high_end."""


def configuration(decision: Decision, now: Plan | None = None) -> dict[str, Any]:
    """The plan as the fields of `OptimalConfig` plus `chunk_frames` and `max_text_length`. `now`: a degraded plan."""
    plan = now or decision.plan
    whole = memory.estimate(plan, decision.spec, plan.max_text_chars).total
    return {
        "device": plan.device.kind,
        "precision": "fp32" if plan.precision in INTEGER else plan.precision,
        "quantization": plan.precision if plan.precision in INTEGER else "none",
        "use_onnx": plan.executor in ("onnx", "openvino"),
        "use_torch_compile": plan.compile == "inductor",
        "chunk_length": plan.chunk_chars,
        "chunk_frames": plan.chunk_frames,
        "max_batch_size": plan.max_batch_size,
        "num_threads": plan.threads,
        "cache_limit": plan.cache_entries,
        "enable_thermal_management": _thermal(plan) and bool(decision.hardware.thermal),
        "expected_rtf": expected_rtf(plan, decision.record),
        "expected_memory_gb": round(whole / GIB, 2),
        "optimization_strategy": strategy(plan, decision.hardware),
        "notes": next((reason.why for reason in plan.reasons if reason.field == "executor"), ""),
        "max_text_length": plan.max_text_chars,
    }


def strategy(plan: Plan, hardware: Hardware) -> str:
    """The smart backend's name for this plan and machine: `i5_onnx_thermal`, `gpu_optimized`, `m1_pro_sustained`, …

    `_thermal`: a laptop processor, and the plan reacts to temperature.
    """
    if plan.device.kind == "cuda":
        return "gpu_optimized"
    if hardware.os == "darwin" and hardware.arch == "arm64":
        return f"{hardware.cpu_tier}_thermal_aware" if tier.fanless(hardware) else f"{hardware.cpu_tier}_sustained"
    label = _CLASSES.get(hardware.cpu_tier, "high_end")
    if hardware.cpu_tier in (tier.LOW, tier.ARM_BOARD):
        return f"{label}_conservative"
    return f"{label}_{plan.executor}" + ("_thermal" if _thermal(plan) and mobile(hardware) else "")


def mobile(hardware: Hardware) -> bool:
    """Whether the CPU's name is that of a laptop processor."""
    name = re.sub(r"\((R|TM)\)", "", hardware.cpu.model, flags=re.IGNORECASE)
    lines = r"i[3579]-|Ultra [3579] |Ryzen (?:AI )?(?:Max\+? )?[3579]? ?(?:PRO )?|Core [3579] "
    letters = re.search(rf"\b(?:{lines})(\w*)", name)
    return bool(letters and re.search(r"\d(U|P|Y|H|HX|HK|HS|HQ|V|G[1-7])$", letters[1])) or "Snapdragon" in name


def _thermal(plan: Plan) -> bool:
    return plan.adapt and plan.thermal
