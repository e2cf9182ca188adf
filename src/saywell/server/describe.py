"""The machine and the plan under the names that programs of the adaptive backend know. Renames; decides nothing."""

from __future__ import annotations

from typing import Any

from saywell import memory
from saywell.hardware import GIB
from saywell.plan import Plan
from saywell.types import ModelSpec

INTEGER = frozenset({"int8", "int4"})
"""Precisions of stored weights; what is computed with them is fp32."""


def configuration(plan: Plan, spec: ModelSpec) -> dict[str, Any]:
    """The plan as the fields of `selected_configuration`."""
    whole = memory.estimate(plan, spec, plan.max_text_chars).total
    return {
        "device": plan.device,
        "precision": "fp32" if plan.precision in INTEGER else plan.precision,
        "quantization": plan.precision if plan.precision in INTEGER else "none",
        "use_onnx": plan.executor in ("onnx", "openvino"),
        "use_torch_compile": plan.executor == "torch",
        "chunk_length": plan.chunk_chars,
        "max_batch_size": plan.slots,
        "num_threads": plan.threads,
        "expected_memory_gb": round(whole / GIB, 2),
        "max_text_length": plan.max_text_chars,
    }
