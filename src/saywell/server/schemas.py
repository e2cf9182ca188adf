"""Request bodies. Fields without effect are accepted and named in the `x-saywell-ignored` header."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from saywell.audio.formats import FORMATS
from saywell.errors import InvalidRequest
from saywell.types import Markup, ModelSpec, Request, SamplingParams

if TYPE_CHECKING:
    FormatName = str
else:
    FormatName = Literal[tuple(FORMATS)]
Name = Annotated[str, Field(min_length=1, max_length=256)]
Text = Annotated[str, Field(description="The text to synthesise.")]

_SAMPLING = ("temperature", "top_p", "repetition_penalty", "seed")
_PRINTABLE = re.compile(r"[A-Za-z0-9_.-]{1,64}")
_MOST_NAMES = 16


class SpeechFields(BaseModel):
    """Fields common to all speech routes."""

    model_config = ConfigDict(strict=True, extra="allow", allow_inf_nan=False)

    speed: float | None = Field(None, ge=0.25, le=4.0, description="1 is normal; the pitch is kept.")
    seed: int | None = Field(None, ge=0, le=2**63 - 1, description="The same seed gives the same audio.")
    temperature: float | None = Field(None, ge=0.0, le=2.0)
    top_p: float | None = Field(None, gt=0.0, le=1.0)
    repetition_penalty: float | None = Field(None, gt=0.0, le=2.0)
    language: Annotated[str, Field(max_length=35)] | None = Field(None, description="BCP-47 tag.")
    max_frames: int | None = Field(None, ge=1, le=1_000_000)
    timeout: float | None = Field(None, gt=0.001, le=3_600, description="Deadline of the request in seconds.")
    priority: int | None = Field(None, ge=-10, le=10)
    markup: Markup | None = Field(
        None, description="How markup in the text is read; auto (the default): whatever the text has."
    )
    lexicon: dict[str, str] | None = Field(
        None, description="Word → how to read it: in other words or, between slashes, in IPA."
    )

    def request(self, text: str, voice: str | None, spec: ModelSpec) -> Request:
        """The engine's request. Fields that the model declares as options are passed on to it."""
        return Request(
            text=text,
            voice=voice,
            language=self.language,
            speed=1.0 if self.speed is None else float(self.speed),
            sampling=SamplingParams(**{name: getattr(self, name) for name in _SAMPLING}),
            max_frames=self.max_frames,
            timeout_s=self.timeout,
            priority=self.priority or 0,
            markup=self.markup or "auto",
            lexicon=self.lexicon or {},
            options={name: value for name, value in (self.model_extra or {}).items() if name in spec.options},
        )

    def ignored(self, spec: ModelSpec) -> list[str]:
        """Names of the fields that have no effect."""
        names = [name for name in self.model_extra or {} if _PRINTABLE.fullmatch(name) and name not in spec.options]
        names += [name for name in _SAMPLING if name not in spec.options and getattr(self, name) is not None]
        return names[:_MOST_NAMES]


class VoiceChoice(BaseModel):
    """A voice as an object, as OpenAI's clients send a custom voice."""

    model_config = ConfigDict(strict=True, extra="ignore")

    id: Name


class SpeechBody(SpeechFields):
    """`POST /v1/audio/speech`."""

    model: Name | None = Field(None, description="An installed model, loaded if needed. Default: the server's own.")
    keep_alive: float | None = Field(
        None, ge=-1, le=31_536_000, description="Seconds the model stays loaded afterwards; -1: until memory is needed."
    )
    input: Text
    voice: Name | VoiceChoice | None = Field(None, description="Default: the server's default voice.")
    response_format: FormatName | None = Field(None, description="Default: mp3.")
    stream_format: Literal["audio", "sse"] | None = None
    timestamps: bool | None = Field(None, description="With `sse`: events with the times of words and phones.")
    instructions: Annotated[str, Field(max_length=4096)] | None = Field(
        None, description="Accepted for compatibility; not supported by the voices."
    )

    def request(self, text: str, voice: str | None, spec: ModelSpec) -> Request:
        if self.timestamps and self.stream_format != "sse":
            raise InvalidRequest('timestamps are events: set stream_format to "sse" with them', param="timestamps")
        return replace(super().request(text, voice, spec), timestamps=bool(self.timestamps))

    @property
    def keep_s(self) -> float | None:
        """Seconds; endless for -1."""
        return float("inf") if self.keep_alive is not None and self.keep_alive < 0 else self.keep_alive

    @property
    def voice_name(self) -> str | None:
        return self.voice.id if isinstance(self.voice, VoiceChoice) else self.voice

    def ignored(self, spec: ModelSpec) -> list[str]:
        names = super().ignored(spec)
        return ["instructions", *names] if self.instructions else names


class ClearedAnswer(BaseModel):
    """`POST /cache/clear`."""

    status: Literal["cleared"]
    freed_mb: float = Field(description="MiB that the engine's process returned to the system.")
