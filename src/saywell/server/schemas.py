"""What clients may send. Fields that mean nothing here are taken and named in the `x-saywell-ignored` header."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from saywell.errors import InvalidRequest
from saywell.types import ModelSpec, Request, SamplingParams

FormatName = Literal["mp3", "opus", "aac", "flac", "wav", "pcm"]
Name = Annotated[str, Field(min_length=1, max_length=256)]
Text = Annotated[str, Field(description="What is to be spoken.")]

_SAMPLING = ("temperature", "top_p", "repetition_penalty", "seed")
_PRINTABLE = re.compile(r"[A-Za-z0-9_.-]{1,64}")
_MOST_NAMES = 16


class Speaking(BaseModel):
    """The fields every way to ask for speech has in common."""

    model_config = ConfigDict(strict=True, extra="allow", allow_inf_nan=False)

    speed: float | None = Field(None, ge=0.25, le=4.0, description="1 is normal; the pitch is kept.")
    seed: int | None = Field(None, ge=0, le=2**63 - 1, description="The same seed gives the same audio.")
    temperature: float | None = Field(None, ge=0.0, le=2.0)
    top_p: float | None = Field(None, gt=0.0, le=1.0)
    repetition_penalty: float | None = Field(None, gt=0.0, le=2.0)
    language: Annotated[str, Field(max_length=35)] | None = Field(None, description="BCP-47 tag.")
    max_frames: int | None = Field(None, ge=1, le=1_000_000)
    timeout: float | None = Field(None, gt=0.001, le=3_600, description="Seconds until all work on this stops.")
    priority: int | None = Field(None, ge=-10, le=10)

    def request(self, text: str, voice: str | None, spec: ModelSpec) -> Request:
        """What the engine is asked. Fields that only the model knows become its options."""
        return Request(
            text=text,
            voice=voice,
            language=self.language,
            speed=1.0 if self.speed is None else float(self.speed),
            sampling=SamplingParams(**{name: getattr(self, name) for name in _SAMPLING}),
            max_frames=self.max_frames,
            timeout_s=self.timeout,
            priority=self.priority or 0,
            options={name: value for name, value in (self.model_extra or {}).items() if name in spec.options},
        )

    def ignored(self, spec: ModelSpec) -> list[str]:
        """Names of the fields sent that change nothing."""
        names = [name for name in self.model_extra or {} if _PRINTABLE.fullmatch(name) and name not in spec.options]
        names += [name for name in _SAMPLING if name not in spec.options and getattr(self, name) is not None]
        return names[:_MOST_NAMES]


class VoiceChoice(BaseModel):
    """A voice as an object, the way OpenAI's clients send one of their own making."""

    model_config = ConfigDict(strict=True, extra="ignore")

    id: Name


class SpeechBody(Speaking):
    """`POST /v1/audio/speech`."""

    model: Name | None = Field(None, description="Left out: the model that is loaded.")
    input: Text
    voice: Name | VoiceChoice | None = Field(None, description="Left out: the default voice.")
    response_format: FormatName | None = Field(None, description="mp3 unless named.")
    stream_format: Literal["audio", "sse"] | None = None
    timestamps: bool | None = Field(None, description="With `sse`: events that say when each word and phone is heard.")
    instructions: Annotated[str, Field(max_length=4096)] | None = Field(
        None, description="Taken for the sake of clients; the voices here cannot follow them."
    )

    def request(self, text: str, voice: str | None, spec: ModelSpec) -> Request:
        if self.timestamps and self.stream_format != "sse":
            raise InvalidRequest('timestamps are events: set stream_format to "sse" with them', param="timestamps")
        return replace(super().request(text, voice, spec), timestamps=bool(self.timestamps))

    @property
    def voice_name(self) -> str | None:
        return self.voice.id if isinstance(self.voice, VoiceChoice) else self.voice

    def ignored(self, spec: ModelSpec) -> list[str]:
        names = super().ignored(spec)
        return ["instructions", *names] if self.instructions else names


class TtsBody(Speaking):
    """`POST /v1/tts` and `/v1/tts/stream`."""

    text: Text
    voice: Name | None = Field(None, description="Left out: the default voice.")
    format: FormatName | None = Field(None, description="wav unless named.")


class TtsForm(TtsBody):
    """`POST /tts`: the same as form fields, which are all text."""

    model_config = ConfigDict(strict=False, extra="allow", allow_inf_nan=False)


class TextForm(BaseModel):
    """`POST /estimate-memory`: one form field."""

    model_config = ConfigDict(extra="ignore")

    text: Annotated[str, Field(min_length=1, description="The text that would be spoken; it may be over the limit.")]


# What the routes about the machine answer


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
    source: Literal["wish", "measurement", "rule"]


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


class ClearedAnswer(BaseModel):
    """`POST /cache/clear`."""

    status: Literal["cleared"]
    freed_mb: float = Field(description="What the engine's process gave back to the system.")


class OptimisedAnswer(BaseModel):
    """`POST /optimize-for-hardware`."""

    status: Literal["optimal", "adjusted"]
    message: str = Field(description="Why.")
    previous_config: Configuration | None = Field(None, description="If adjusted.")
    new_config: Configuration | None = Field(None, description="If adjusted.")
