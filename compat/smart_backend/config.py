"""OptimalConfig: the plan under the smart backend's names, convertible to overrides."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

from saywell.engine.launch import Decision
from saywell_compat import variables
from saywell_compat.configuration import INTEGER, configuration

RULE = "=" * 60


@dataclass(kw_only=True)
class OptimalConfig:
    """A chosen or requested configuration. Raises ValueError for an unknown quantisation."""

    device: str
    """cpu, cuda, mps (or cuda:0, …), or auto."""
    precision: str
    """Precision of computation: fp32, fp16, bf16 or auto. With int8 or int4 weights: the fallback if those are not
    supported."""
    quantization: str
    """Of the stored weights: int8, int4 or none."""
    use_onnx: bool
    use_torch_compile: bool
    chunk_length: int
    """Maximum characters per text chunk."""
    max_batch_size: int
    """Sequences per decode step."""
    num_threads: int
    cache_limit: int
    """Entries of each in-memory cache."""
    enable_thermal_management: bool
    expected_rtf: float | None = None
    """Real-time factor measured on this machine; lower is better. None: not measured yet."""
    expected_memory_gb: float | None = None
    """GiB with the longest accepted text."""
    optimization_strategy: str = "custom"
    notes: str = ""

    def __post_init__(self) -> None:
        if self.quantization not in (*INTEGER, "none"):
            raise ValueError(f"quantization must be int8, int4 or none, not {self.quantization!r}")

    @staticmethod
    def of(decision: Decision) -> OptimalConfig:
        """The plan of a decision."""
        values = configuration(decision)
        return OptimalConfig(**{field.name: values[field.name] for field in fields(OptimalConfig)})

    def overrides(self) -> dict[str, Any]:
        """The configuration as Saywell's settings, without estimates and notes."""
        return {
            "device": variables.device(self.device, "device"),
            "precision": self.quantization if self.quantization in INTEGER else variables.precision(self.precision),
            "executor": "onnx" if self.use_onnx else "torch" if self.use_torch_compile else None,
            "compile": "inductor" if self.use_torch_compile else "disabled",
            "chunk_chars": self.chunk_length,
            "max_batch_size": self.max_batch_size,
            "threads": self.num_threads,
            "cache_entries": self.cache_limit,
            "thermal": self.enable_thermal_management,
        }

    def second(self) -> dict[str, Any]:
        """Fallback values for unsupported settings."""
        precision = variables.precision(self.precision)
        return {"precision": precision} if self.quantization in INTEGER and precision else {}

    def without_effect(self, now: OptimalConfig) -> list[str]:
        """Messages about requested values that were accepted but have no effect under the configuration `now`."""
        messages = []
        if (
            self.quantization in INTEGER
            and now.quantization in INTEGER
            and variables.precision(self.precision) not in (None, now.precision)
        ):
            computed = f"computation with {now.quantization} weights is {now.precision}"
            messages.append(f"precision={self.precision} has no effect: {computed}; set quantization=none for it")
        if self.enable_thermal_management and not now.enable_thermal_management:
            messages.append("enable_thermal_management=True has no effect: no temperature sensor, or adapt=false")
        return messages

    def block(self) -> str:
        """The lines printed at start."""
        rtf = f"{self.expected_rtf:.2f}x ({_pace(self.expected_rtf)})" if self.expected_rtf else "not measured yet"
        memory = f"{self.expected_memory_gb:.1f} GB" if self.expected_memory_gb is not None else "unknown"
        return "\n".join(
            (
                RULE,
                "SELECTED OPTIMAL CONFIGURATION",
                RULE,
                f"Strategy: {self.optimization_strategy}",
                f"Device: {self.device}",
                f"Precision: {self.precision}",
                f"Quantization: {self.quantization}",
                f"ONNX Runtime: {_switch(self.use_onnx)}",
                f"torch.compile: {_switch(self.use_torch_compile)}",
                f"Chunk Length: {self.chunk_length}",
                f"Threads: {self.num_threads}",
                "",
                "Expected Performance:",
                f"  RTF: {rtf}",
                f"  Memory: {memory}",
                "",
                f"Notes: {self.notes}",
                RULE,
            )
        )


def _pace(rtf: float) -> str:
    return "slower than real-time" if rtf > 1 else "faster than real-time"


def _switch(on: bool) -> str:
    return "✅ Enabled" if on else "❌ Disabled"
