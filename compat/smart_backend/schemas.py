"""What the smart backend's routes take and answer."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field


class TextForm(BaseModel):
    """`POST /estimate-memory`: one form field."""

    model_config = ConfigDict(extra="ignore")

    text: Annotated[str, Field(min_length=1, description="The text that would be spoken; it may be over the limit.")]


class Configuration(BaseModel):
    """The plan under the names of the adaptive backend."""

    device: str
    precision: str = Field(description="What products are computed in: fp32, fp16 or bf16.")
    quantization: str = Field(description="int8, int4 or none.")
    use_onnx: bool
    use_torch_compile: bool
    chunk_length: int = Field(description="Characters of a text chunk, at most.")
    chunk_frames: int = Field(description="Frames decoded at once.")
    max_batch_size: int = Field(description="Sequences that share a step.")
    num_threads: int
    cache_limit: int = Field(description="Entries of each in-memory cache.")
    enable_thermal_management: bool
    expected_rtf: float | None = Field(description="As `saywell tune` measured it here; lower is better.")
    optimization_strategy: str
    notes: str
    expected_memory_gb: float = Field(description="GiB with the longest text that is taken.")
    max_text_length: int = Field(description="Characters of one request, at most.")


class Choice(BaseModel):
    """One field of the plan."""

    value: str
    why: str
    source: Literal["setting", "measurement", "rule"]


class HardwareAnswer(BaseModel):
    """`GET /hardware`."""

    hardware: dict[str, Any] = Field(description="Every fact found, as `saywell plan --machine` takes it.")
    tier: str = Field(description="The processor's class, a label for people.")
    fingerprint: str = Field(description="Changes when something that matters for speed does.")
    selected_configuration: Configuration
    plan: dict[str, Choice] = Field(description="The whole plan, each field with its reason.")


class Resources(BaseModel):
    """Percent and GiB; the container's where it has limits."""

    cpu_percent: float
    memory_percent: float
    memory_available_gb: float
    gpu_util: float | None = Field(None, description="Of the busiest GPU, where there is one that tells.")


class ThrottlingRisk(BaseModel):
    memory_critical: bool = Field(description="More than 85 % in use.")
    cpu_maxed: bool = Field(description="More than 90 % busy.")
    thermal_likely: bool = Field(description="Too hot by a sensor, or a machine without a fan that has much to do.")


class StatusAnswer(BaseModel):
    """`GET /system-status`."""

    resources: Resources
    throttling_risk: ThrottlingRisk
    memory_budget_safe: bool = Field(description="The longest text that is taken would fit now.")
    recommended_action: str


class MemoryEstimate(BaseModel):
    """MiB of the whole engine while it speaks this text."""

    estimated_mb: int
    busy_mb: int = Field(description="Of engine and server with every slot speaking, whatever the text.")
    available_mb: int = Field(description="What is free, and what the loaded model already holds.")
    safe: bool = Field(description="It fits.")
    text_tokens: int = Field(
        description="A guess from the length: so many tokens English has with usual tokenizers. Nothing depends on it."
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
