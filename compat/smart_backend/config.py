"""OptimalConfig: the plan under the names of the smart backend, and back again as overrides."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

from saywell.engine.launch import Decision
from saywell_compat import variables
from saywell_compat.configuration import INTEGER, configuration

RULE = "=" * 60


@dataclass(kw_only=True)
class OptimalConfig:
    """What was chosen, or what you choose. Raises ValueError for a quantisation there never was."""

    device: str
    """cpu, cuda, mps, also as cuda:0, or auto: decide for me."""
    precision: str
    """What products are computed in: fp32, fp16 or bf16; auto. Beside int8 or int4 it counts where those are not to be
    had."""
    quantization: str
    """Of the stored weights: int8, int4 or none."""
    use_onnx: bool
    use_torch_compile: bool
    chunk_length: int
    """Characters of a text chunk, at most."""
    max_batch_size: int
    """Sequences that share a step."""
    num_threads: int
    cache_limit: int
    """Entries of each in-memory cache."""
    enable_thermal_management: bool
    expected_rtf: float | None = None
    """Seconds of work per second of audio, lower is better, as measured here; None: not measured yet."""
    expected_memory_gb: float | None = None
    """GiB with the longest text that is taken."""
    optimization_strategy: str = "custom"
    notes: str = ""

    def __post_init__(self) -> None:
        if self.quantization not in (*INTEGER, "none"):
            raise ValueError(f"quantization must be int8, int4 or none, not {self.quantization!r}")

    @staticmethod
    def of(decision: Decision) -> OptimalConfig:
        """A decision's plan."""
        found = configuration(decision)
        return OptimalConfig(**{item.name: found[item.name] for item in fields(OptimalConfig)})

    def overrides(self) -> dict[str, Any]:
        """The same in Saywell's settings. What is only expected or told is no setting."""
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
        """What to setting for where the first setting cannot be had."""
        precision = variables.precision(self.precision)
        return {"precision": precision} if self.quantization in INTEGER and precision else {}

    def without_effect(self, now: OptimalConfig) -> list[str]:
        """What was asked for and has no part in what was decided, though nothing of it was refused."""
        found = []
        if (
            self.quantization in INTEGER
            and now.quantization in INTEGER
            and variables.precision(self.precision) not in (None, now.precision)
        ):
            computed = f"what is computed with {now.quantization} weights is {now.precision}"
            found.append(f"precision={self.precision} has no effect: {computed}; set quantization=none for it")
        if self.enable_thermal_management and not now.enable_thermal_management:
            found.append("enable_thermal_management=True has no effect: no temperature sensor, or adapt=false")
        return found

    def block(self) -> str:
        """The lines shown at start."""
        rtf = f"{self.expected_rtf:.2f}x ({_pace(self.expected_rtf)})" if self.expected_rtf else "not measured yet"
        memory = f"{self.expected_memory_gb:.1f} GB" if self.expected_memory_gb is not None else "not known"
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
