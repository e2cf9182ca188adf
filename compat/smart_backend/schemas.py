"""Bodies of the smart backend's requests and responses."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field


class TextForm(BaseModel):
    """`POST /estimate-memory`: one form field."""

    model_config = ConfigDict(extra="ignore")

    text: Annotated[str, Field(min_length=1, description="The text to synthesise; may exceed the limit.")]


class Configuration(BaseModel):
    """The plan under the smart backend's names."""

    device: str
    precision: str = Field(description="Precision of computation: fp32, fp16 or bf16.")
    quantization: str = Field(description="int8, int4 or none.")
    use_onnx: bool
    use_torch_compile: bool
    chunk_length: int = Field(description="Maximum characters per text chunk.")
    chunk_frames: int = Field(description="Frames per decoder call.")
    max_batch_size: int = Field(description="Sequences per decode step.")
    num_threads: int
    cache_limit: int = Field(description="Entries of each in-memory cache.")
    enable_thermal_management: bool
    expected_rtf: float | None = Field(description="As measured by `saywell tune` on this machine; lower is better.")
    optimization_strategy: str
    notes: str
    expected_memory_gb: float = Field(description="GiB with the longest accepted text.")
    max_text_length: int = Field(description="Maximum characters per request.")


class Choice(BaseModel):
    """One field of the plan."""

    value: str
    why: str
    source: Literal["setting", "measurement", "rule"]


class HardwareAnswer(BaseModel):
    """`GET /hardware`."""

    hardware: dict[str, Any] = Field(description="All detected facts, in the format of `saywell plan --machine`.")
    tier: str = Field(description="Class of the processor, for display only.")
    fingerprint: str = Field(description="Changes with any hardware that affects speed.")
    selected_configuration: Configuration
    plan: dict[str, Choice] = Field(description="The complete plan, each field with its reason.")


class Resources(BaseModel):
    """Load in percent, memory in GiB; within a container's limits."""

    cpu_percent: float
    memory_percent: float
    memory_available_gb: float
    gpu_util: float | None = Field(None, description="Of the busiest GPU that reports it.")


class ThrottlingRisk(BaseModel):
    memory_critical: bool = Field(description="More than 85 % in use.")
    cpu_maxed: bool = Field(description="More than 90 % busy.")
    thermal_likely: bool = Field(description="Too hot by a sensor, or a busy machine without a fan.")


class StatusAnswer(BaseModel):
    """`GET /system-status`."""

    resources: Resources
    throttling_risk: ThrottlingRisk
    memory_budget_safe: bool = Field(description="The longest accepted text would fit now.")
    recommended_action: str


class MemoryEstimate(BaseModel):
    """MiB of the whole service while it synthesises this text."""

    estimated_mb: int
    busy_mb: int = Field(description="Of engine and server with every slot in use, for any text.")
    available_mb: int = Field(description="Free memory plus what the loaded model already holds.")
    safe: bool = Field(description="It fits.")
    text_tokens: int = Field(
        description="Estimated from the length for English and common tokenizers; for display only."
    )
    text_length: int


class EstimateAnswer(BaseModel):
    """`POST /estimate-memory`."""

    status: Literal["ok", "warning"]
    estimate: MemoryEstimate
    recommendation: str


class OptimisedAnswer(BaseModel):
    """`POST /optimize-for-hardware`."""

    status: Literal["optimal", "adjusted", "exhausted"]
    message: str = Field(description="Why.")
    changes: dict[str, str] | None = Field(None, description="If adjusted: the plan's fields, before → after.")
    previous_config: Configuration | None = Field(None, description="If adjusted.")
    new_config: Configuration | None = Field(None, description="If adjusted.")
