"""All errors that Saywell raises, each with one HTTP status and a message that says what to do.

SaywellError                      500
├── InvalidRequest                400   a field has the wrong value; `param` names it
│   ├── InvalidText               422   nothing speakable, control characters, lone surrogates
│   ├── TooLarge                  413   text, upload or duration over the limit
│   ├── UnknownVoice              404
│   ├── UnknownModel              404
│   ├── BadConfig             400   a checkpoint's configuration is invalid; the message names the file and the key
│   ├── BadCheckpoint         400   weights or tokeniser files are missing, damaged, hostile or of another model
│   ├── AlreadyExists             409   a voice of this name exists; replace it or choose another name
│   └── UnsupportedMedia          415   not audio, or an unknown output format
├── PlanError                     400   an impossible setting; `param` names it
├── Unauthorized                  401
├── Forbidden                     403
├── TooManyRequests               429   the queue is full; `retry_after` in seconds
├── Unavailable                   503   loading, draining or failed; `retry_after`
│   ├── MissingDependency         503   an optional package or program is not installed
│   └── EngineClosed              503
├── OutOfMemory                   507   does not fit, rejected before it starts
├── StorageFailure                507   the disk is full, read-only or failing; nothing was saved
├── DeadlineExceeded              504
├── Cancelled                     499   the client went away
└── EngineFailure                 500
    ├── BadAudio                  500   the audio checks rejected the model's output
    ├── ModelFailure              500   the model raised
    └── WorkerDied                503   the worker process died while streaming
"""

from __future__ import annotations


class SaywellError(Exception):
    """Base of all errors. `status`: HTTP status; `code`: stable machine-readable name; `param`: the field at fault."""

    status = 500
    code = "internal_error"

    def __init__(self, message: str, *, param: str | None = None, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.param = param
        self.retry_after = retry_after


class InvalidRequest(SaywellError):
    status, code = 400, "invalid_request"


class InvalidText(InvalidRequest):
    status, code = 422, "invalid_text"


class TooLarge(InvalidRequest):
    status, code = 413, "too_large"


class UnknownVoice(InvalidRequest):
    status, code = 404, "voice_not_found"


class BadConfig(InvalidRequest):
    status, code = 400, "bad_model_config"


class BadCheckpoint(InvalidRequest):
    status, code = 400, "bad_checkpoint"


class UnknownModel(InvalidRequest):
    status, code = 404, "model_not_found"


class AlreadyExists(InvalidRequest):
    status, code = 409, "already_exists"


class UnsupportedMedia(InvalidRequest):
    status, code = 415, "unsupported_media"


class PlanError(SaywellError):
    status, code = 400, "impossible_setting"


class Unauthorized(SaywellError):
    status, code = 401, "invalid_api_key"


class Forbidden(SaywellError):
    status, code = 403, "forbidden"


class TooManyRequests(SaywellError):
    status, code = 429, "queue_full"


class Unavailable(SaywellError):
    status, code = 503, "unavailable"


class MissingDependency(Unavailable):
    status, code = 503, "missing_dependency"


class EngineClosed(Unavailable):
    status, code = 503, "engine_closed"


class OutOfMemory(SaywellError):
    status, code = 507, "out_of_memory"


class StorageFailure(SaywellError):
    status, code = 507, "storage_failure"


class DeadlineExceeded(SaywellError):
    status, code = 504, "deadline_exceeded"


class Cancelled(SaywellError):
    status, code = 499, "cancelled"


class EngineFailure(SaywellError):
    status, code = 500, "engine_failure"


class BadAudio(EngineFailure):
    status, code = 500, "bad_audio"


class ModelFailure(EngineFailure):
    status, code = 500, "model_failure"


class WorkerDied(EngineFailure):
    """503, because the request is not at fault and clients may retry it."""

    status, code = 503, "worker_died"


def public_code(error: SaywellError) -> str:
    """The `code` of the nearest base class in this module, which every process knows."""
    lineage = (kind for kind in type(error).__mro__ if issubclass(kind, SaywellError))
    return next(kind.code for kind in lineage if kind.__module__ == __name__)


def by_code() -> dict[str, type[SaywellError]]:
    """The error classes of this module by `code`, for passing errors between processes without pickle."""
    return {kind.code: kind for kind in globals().values() if isinstance(kind, type) and issubclass(kind, SaywellError)}
