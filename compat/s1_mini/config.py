"""EngineConfig, and what its fields are called in Saywell."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from saywell.engine import lenient
from saywell.engine.launch import Decision
from saywell.settings import load_settings

DEFAULT_CHECKPOINT = "checkpoints/openaudio-s1-mini"
PRECISIONS = {"float16": "fp16", "bfloat16": "bf16", "float32": "fp32"}
BACKENDS = ("auto", "inductor", "eager", "disabled")
MODES = ("default", "reduce-overhead", "max-autotune")


@dataclass(kw_only=True)
class EngineConfig:
    """Every option of the S1-Mini engine. Raises ValueError for a value it did not have."""

    checkpoint_path: str | Path = DEFAULT_CHECKPOINT
    device: str = "cuda"
    """cuda, cpu, mps or auto."""
    precision: str = "float16"
    """float16, bfloat16 or float32."""
    compile_model: bool = True
    compile_backend: str = "auto"
    """auto, inductor, eager or disabled."""
    compile_mode: str = "reduce-overhead"
    """Taken for old programs; how graphs are captured is the plan's business."""
    vram_clear_on_oom_only: bool = True
    """False: also whenever less than `vram_clear_threshold_gb` is free."""
    vram_clear_threshold_gb: float = 2.0
    request_timeout_seconds: float = 60.0
    """After so long all work on a request stops."""
    default_temperature: float = 0.7
    default_top_p: float = 0.8
    default_repetition_penalty: float = 1.1

    def __post_init__(self) -> None:
        _one_of("device", self.device, ("cuda", "cpu", "mps", "auto"))
        _one_of("precision", self.precision, tuple(PRECISIONS))
        _one_of("compile_backend", self.compile_backend, BACKENDS)
        _one_of("compile_mode", self.compile_mode, MODES)

    def wishes(self) -> dict[str, Any]:
        """The same in Saywell's settings. None: decide for me."""
        backend = self.compile_backend if self.compile_model else "disabled"
        return {
            "model_path": Path(self.checkpoint_path),
            "device": None if self.device == "auto" else self.device,
            "precision": PRECISIONS[self.precision],
            "compile": None if backend == "auto" else backend,
            "timeout_s": self.request_timeout_seconds,
        }


def _one_of(name: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        raise ValueError(f"{name} must be one of {', '.join(known)}, not {value!r}")


def settle(wishes: Mapping[str, Any], *, old_names: bool = False, stacklevel: int = 2) -> Decision:
    """The decision for these wishes; those that cannot be had give way, each with a warning.

    `old_names`: also read the S1_MINI_* variables. Raises PlanError for a wish that cannot give way.
    """
    return lenient.settle(
        load_settings(wishes, old_names=old_names),
        Path(DEFAULT_CHECKPOINT),
        lambda message: warnings.warn(message, RuntimeWarning, stacklevel=stacklevel + 3),
    )
