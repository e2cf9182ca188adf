"""The messages between the API process and an engine worker: MessagePack with a type tag, arrays as raw bytes."""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_origin

import msgspec
import numpy as np

from saywell.engine import ClearedCaches, EngineHealth
from saywell.engine.stream import START, Resume
from saywell.errors import EngineFailure, SaywellError, by_code, public_code
from saywell.plan.plan import Plan
from saywell.types import AudioChunk, ModelSpec, Request, Summary, Voice


class Message(msgspec.Struct, tag=True, kw_only=True): ...


# To the worker


class Load(Message):
    """The first message."""

    spec: ModelSpec
    plan: Plan
    start_degraded_reason: str = ""
    """Why the engine should start degraded: how the previous worker ended. Empty: it starts as planned."""


class Submit(Message):
    request: Request
    resume: Resume = START
    more: bool = False
    """More text follows as `MoreText`."""


class MoreText(Message):
    """The next piece of a request's text."""

    request_id: str
    text: str
    last: bool


class Abort(Message):
    request_id: str


class Credit(Message):
    """The reader has read another `seconds` of audio."""

    request_id: str
    seconds: float


class ClearCaches(Message):
    """Answered by a CachesCleared of the same number."""

    number: int
    adapt: bool


class Unload(Message):
    """Unload the model if it is idle."""


class Close(Message):
    """Exit; requests in flight are dropped."""


# From the worker


class Ready(Message):
    """The model is loaded and has produced checked audio."""

    voices: tuple[Voice, ...]
    health: EngineHealth


class LoadFailed(Message):
    """The engine did not start."""

    error: Fault


class Pulse(Message):
    """Sent twice a second."""

    health: EngineHealth
    busy_s: float
    """How long the current call into the model has taken so far; 0 between calls."""


class AudioMessage(Message):
    chunk: AudioChunk


class Starved(Message):
    """All audio of the first `chars` characters of the text has been sent; the request waits for more text."""

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
    cleared: ClearedCaches | None = None
    error: Fault | None = None
    """Set if the caches were not cleared."""


class Fault(msgspec.Struct, kw_only=True):
    """A SaywellError as sent between processes."""

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


ToWorker = Load | Submit | MoreText | Abort | Credit | ClearCaches | Unload | Close
FromWorker = Ready | LoadFailed | Pulse | AudioMessage | Starved | Finished | Failed | CachesCleared


def _encode(value: Any) -> Any:
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, np.ndarray):
        return value.dtype.str, value.shape, value.tobytes()
    raise NotImplementedError(f"a message cannot hold a {type(value).__name__}")


def _decode(kind: type, value: Any) -> Any:
    if get_origin(kind) is np.ndarray:
        dtype, shape, data = value
        return np.frombuffer(data, dtype).reshape(shape)
    if issubclass(kind, Path):
        return Path(value)
    raise NotImplementedError(f"a message cannot hold a {kind.__name__}")


_encoder = msgspec.msgpack.Encoder(enc_hook=_encode)
_to_worker: msgspec.msgpack.Decoder[ToWorker] = msgspec.msgpack.Decoder(ToWorker, dec_hook=_decode)
_from_worker: msgspec.msgpack.Decoder[FromWorker] = msgspec.msgpack.Decoder(FromWorker, dec_hook=_decode)


def pack(message: Message) -> bytes:
    return _encoder.encode(message)


def unpack_to_worker(data: bytes) -> ToWorker:
    """Raises msgspec.MsgspecError for anything that is not such a message."""
    return _to_worker.decode(data)


def unpack_from_worker(data: bytes) -> FromWorker:
    """Raises msgspec.MsgspecError for anything that is not such a message."""
    return _from_worker.decode(data)
