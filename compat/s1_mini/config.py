"""EngineConfig, and its conversion to Saywell's settings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from saywell.engine.launch import Decision
from saywell.settings import load_settings
from saywell_compat import lenient
from saywell_compat.variables import VARIABLES, device

PRECISIONS = {"float16": "fp16", "bfloat16": "bf16", "float32": "fp32"}
BACKENDS = ("auto", "inductor", "eager", "disabled")
MODES = ("default", "reduce-overhead", "max-autotune")
USUAL_MODE = "reduce-overhead"
USUAL_THRESHOLD_GB = 2.0
TIMEOUT_S = 60.0


@dataclass(kw_only=True)
class EngineConfig:
    """The options of the S1-Mini engine. Raises ValueError for a value it did not accept."""

    checkpoint_path: str | Path | None = None
    """None: checkpoints/openaudio-s1-mini if it exists, else the built-in voice. A named one is never replaced by
    the built-in voice; a published one is converted on first use."""
    device: str = "cuda"
    """cuda, cpu, mps or auto; also as cuda:0."""
    precision: str = "float16"
    """float16, bfloat16 or float32."""
    compile_model: bool = True
    compile_backend: str = "auto"
    """auto, inductor, eager or disabled."""
    compile_mode: str = USUAL_MODE
    """default, reduce-overhead or max-autotune; has no effect: the plan decides how graphs are captured."""
    vram_clear_on_oom_only: bool = True
    """False: also when less than `vram_clear_threshold_gb` is free."""
    vram_clear_threshold_gb: float = USUAL_THRESHOLD_GB
    request_timeout_seconds: float = TIMEOUT_S
    """Deadline of a request."""
    default_temperature: float = 0.7
    default_top_p: float = 0.8
    default_repetition_penalty: float = 1.1

    def __post_init__(self) -> None:
        _one_of("device", self.device.partition(":")[0], ("cuda", "cpu", "mps", "auto"))
        _one_of("precision", self.precision, tuple(PRECISIONS))
        _one_of("compile_backend", self.compile_backend, BACKENDS)
        _one_of("compile_mode", self.compile_mode, MODES)

    def overrides(self) -> dict[str, Any]:
        """The options as Saywell's settings; None: automatic."""
        backend = self.compile_backend if self.compile_model else "disabled"
        return {
            "model_path": None if self.checkpoint_path is None else Path(self.checkpoint_path),
            "device": device(self.device, "device"),
            "precision": PRECISIONS[self.precision],
            "compile": None if backend == "auto" else backend,
            "timeout_s": self.request_timeout_seconds,
        }


def _one_of(name: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        raise ValueError(f"{name} must be one of {', '.join(known)}, not {value!r}")


def settle(overrides: Mapping[str, Any], *, variables: bool = False) -> Decision:
    """The decision for these overrides; see `lenient.settle` for unsupported ones and errors.

    `variables`: also read the S1_MINI_* variables.
    """
    settings = load_settings(overrides, variables=VARIABLES if variables else None)
    if settings.timeout_s is None:
        origins = {**settings.origins, "timeout_s": "the S1-Mini engine's default"}
        settings = replace(settings, timeout_s=TIMEOUT_S, origins=origins)
    decision = lenient.settle(settings)
    if settings.compile is None and decision.plan.compile == "disabled":
        why = next(reason.why for reason in decision.plan.reasons if reason.field == "compile")
        lenient.warn(f"compile_model=True has no effect: {why}")
    return decision
