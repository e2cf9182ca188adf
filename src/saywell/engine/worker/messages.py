"""What the API process and an engine worker say to each other. MessagePack with a type tag; samples as raw bytes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from saywell.engine import ClearedCaches, EngineHealth
from saywell.engine.stream import START, Resume
from saywell.errors import EngineFailure, SaywellError, by_code, public_code
from saywell.plan.plan import Plan
from saywell.types import AudioChunk, ModelSpec, Request, Summary, Timestamp, Voice


class Message(msgspec.Struct, tag=True, kw_only=True):
    """Base of all messages."""


# To the worker


class Load(Message):
    """The first message: what to load and how."""

    spec: ModelSpec
    plan: Plan
    start_degraded_reason: str = ""
    """Why the worker should begin under relief: how the one before it ended. Empty: as planned."""


class Submit(Message):
    request: Request
    resume: Resume = START
    more: bool = False
    """Its text goes on."""


class MoreText(Message):
    """The next piece of a request's text."""

    request_id: str
    text: str
    last: bool


class Abort(Message):
    request_id: str


class Credit(Message):
    """The reader has read so much."""

    request_id: str
    seconds: float


class ClearCaches(Message):
    """Answered by a CachesCleared of the same number."""

    number: int
    adapt: bool


class Unload(Message):
    """Give the model's memory back if nothing is being spoken."""


class Close(Message):
    drain_s: float


# From the worker


class Ready(Message):
    """The model is loaded and has produced checked audio."""

    voices: tuple[Voice, ...]
    health: EngineHealth


class LoadFailed(Message):
    """The model could not be loaded, or the engine stopped for good."""

    error: Fault


class Pulse(Message):
    """Sent twice a second."""

    health: EngineHealth
    busy_s: float
    """How long the current call into the model has taken so far."""


class AudioMessage(Message):
    """An AudioChunk."""

    request_id: str
    index: int
    sample_rate: int
    final: bool
    text: str
    pcm: bytes
    """float32, native byte order."""
    timestamps: tuple[Timestamp, ...] = ()


class Starved(Message):
    """All that the first `chars` characters of the text give has been sent, and more text is waited for."""

    request_id: str
    chars: int


class Finished(Message):
    request_id: str
    summary: Summary


class Failed(Message):
    request_id: str
    error: Fault


class CachesCleared(Message):
    number: int
    tidied: ClearedCaches | None = None
    error: Fault | None = None
    """Why it could not be done."""


class Fault(msgspec.Struct, kw_only=True):
    """A SaywellError on the wire."""

    code: str
    message: str
    param: str | None = None
    retry_after: float | None = None

    @classmethod
    def of(cls, error: SaywellError) -> Fault:
        return cls(code=public_code(error), message=error.message, param=error.param, retry_after=error.retry_after)

    def error(self) -> SaywellError:
        kind = by_code().get(self.code, EngineFailure)
        return kind(self.message, param=self.param, retry_after=self.retry_after)


def sound(chunk: AudioChunk) -> AudioMessage:
    return AudioMessage(
        request_id=chunk.request_id,
        index=chunk.index,
        sample_rate=chunk.sample_rate,
        final=chunk.final,
        text=chunk.text,
        pcm=chunk.samples.tobytes(),
        timestamps=chunk.timestamps,
    )


def chunk(message: AudioMessage) -> AudioChunk:
    return AudioChunk(
        request_id=message.request_id,
        index=message.index,
        samples=np.frombuffer(message.pcm, dtype=np.float32),
        sample_rate=message.sample_rate,
        final=message.final,
        text=message.text,
        timestamps=message.timestamps,
    )


ToWorker = Load | Submit | MoreText | Abort | Credit | ClearCaches | Unload | Close
FromWorker = Ready | LoadFailed | Pulse | AudioMessage | Starved | Finished | Failed | CachesCleared


def _plain(value: Any) -> Any:
    if isinstance(value, Path):
        return str(value)
    raise NotImplementedError(f"{type(value).__name__} does not travel")


def _typed(kind: type, value: Any) -> Any:
    if issubclass(kind, Path):
        return Path(value)
    raise NotImplementedError(f"{kind.__name__} does not travel")


_encoder = msgspec.msgpack.Encoder(enc_hook=_plain)
_to_worker: msgspec.msgpack.Decoder[ToWorker] = msgspec.msgpack.Decoder(ToWorker, dec_hook=_typed)
_from_worker: msgspec.msgpack.Decoder[FromWorker] = msgspec.msgpack.Decoder(FromWorker, dec_hook=_typed)


def pack(message: Message) -> bytes:
    return _encoder.encode(message)


def unpack_to_worker(data: bytes) -> ToWorker:
    """Raises msgspec.ValidationError for anything that is not such a message."""
    return _to_worker.decode(data)


def unpack_from_worker(data: bytes) -> FromWorker:
    """Raises msgspec.ValidationError for anything that is not such a message."""
    return _from_worker.decode(data)
