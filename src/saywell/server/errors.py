"""Errors as HTTP responses, all with the body `{"error": {"message", "type", "param", "code"}}`."""

from __future__ import annotations

import logging
import math
from copy import copy
from typing import Any

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse

from saywell.errors import SaywellError, Unauthorized

_log = logging.getLogger(__name__)

_NAMES = {
    400: "invalid_request",
    404: "not_found",
    405: "method_not_allowed",
    408: "request_timeout",
    413: "too_large",
    415: "unsupported_media",
    421: "misdirected_request",
    422: "invalid_request",
}
_MAX_FIELDS = 8
"""Invalid fields named in one message."""


class BrokenResponse(Exception):
    """Raised when a response fails after its first byte, so that the server breaks the connection."""


def error_type(status: int) -> str:
    """OpenAI's error `type` for a status."""
    known = {401: "authentication_error", 403: "permission_error", 404: "not_found_error", 429: "rate_limit_error"}
    return known.get(status, "server_error" if status >= 500 else "invalid_request_error")


def error_body(status: int, message: str, *, param: str | None = None, code: str | None = None) -> dict[str, Any]:
    return {"error": {"message": message, "type": error_type(status), "param": param, "code": code}}


def body_of(error: SaywellError) -> dict[str, Any]:
    return error_body(error.status, error.message, param=error.param, code=error.code)


def error_response(error: SaywellError, headers: dict[str, str] | None = None) -> JSONResponse:
    """The response to a request that failed before the first byte of its response."""
    headers = dict(headers or {})
    if error.status in (429, 503):
        headers["retry-after"] = str(max(1, math.ceil(error.retry_after or 1.0)))
    if isinstance(error, Unauthorized):
        headers["www-authenticate"] = "Bearer"
    return JSONResponse(body_of(error), error.status, headers)


def install(app: FastAPI) -> None:
    """Add handlers for every exception raised before the first byte of a response."""
    app.add_exception_handler(SaywellError, _saywell)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(RequestValidationError, _validation)
    app.add_exception_handler(Exception, _unexpected)


async def _saywell(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, SaywellError)
    level = logging.ERROR if error.status == 500 else logging.INFO
    # Log the code and field only: the message may quote what the client sent, such as a model's name.
    _log.log(level, "%s: %s (param %s)", request_id(request), error.code, error.param)
    return error_response(error)


async def _http(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    message = str(error.detail)
    if error.status_code == 404 and message == "Not Found":
        message = "unknown route; GET /openapi.json lists all routes"
    elif error.status_code == 405:
        allowed = (error.headers or {}).get("Allow", "another method")
        message = f"this route does not accept this method; use {allowed}"
    elif message.startswith("Too many files"):
        message = "this form accepts no files; send the text as a field: curl -F 'text=<book.txt'"
    elif message == "There was an error parsing the body":
        message = "the body could not be read as JSON: not UTF-8, nested too deep, or a number out of range"
    body = error_body(error.status_code, message, code=_NAMES.get(error.status_code))
    return JSONResponse(body, error.status_code, error.headers)


async def _validation(_: Request, error: Exception) -> JSONResponse:
    """Names each invalid field and what it must be, without quoting the value sent."""
    assert isinstance(error, RequestValidationError)
    failures = error.errors()
    if any(item["type"] == "json_invalid" for item in failures):
        message = 'the body is not valid JSON; send an object such as {"input": "Hello."}'
        return JSONResponse(error_body(400, message, code="invalid_json"), 400)
    # One sentence per field: a union reports one failure per alternative, the usual type first.
    sentences = {_field(item): _sentence(item) for item in reversed(failures[:_MAX_FIELDS])}
    message = "; ".join(reversed(sentences.values()))
    return JSONResponse(error_body(422, message, param=_field(failures[0]), code="invalid_request"), 422)


def _field(item: dict[str, Any]) -> str | None:
    """The dotted name of the invalid field; None for the body itself."""
    parts = [str(part) for part in item["loc"][1:] if not _is_branch(str(part))]
    return ".".join(parts) or None


def _is_branch(part: str) -> bool:
    """Whether pydantic inserted this part to name an alternative of a union."""
    return part in ("str", "constrained-str", "VoiceChoice")


def _sentence(item: dict[str, Any]) -> str:
    field = _field(item)
    return f"{field}: {_reason(item)}" if field else _reason(item)


def _reason(item: dict[str, Any]) -> str:
    if item["type"] == "missing" and len(item["loc"]) == 1:
        return "a body is required: a JSON object, sent with Content-Type: application/json"
    if item["type"] in ("model_attributes_type", "dict_type") and len(item["loc"]) == 1:
        return "the body must be a JSON object, sent with Content-Type: application/json"
    if item["type"] == "string_unicode":
        return "the text contains an unpaired surrogate; send valid Unicode"
    return str(item["msg"]).removeprefix("Value error, ")


async def _unexpected(request: Request, _: Exception) -> JSONResponse:
    """A bug: the traceback goes to the log, the client gets the id of the request to look it up."""
    body = error_body(500, f"an internal error, logged under request {request_id(request)}", code="internal_error")
    return JSONResponse(body, 500, {"x-request-id": request_id(request)})


def request_id(request: Request) -> str:
    return str(request.scope.get("state", {}).get("request_id", "-"))


def with_api_param_names(error: SaywellError, **fields: str) -> SaywellError:
    """A copy of the error whose `param` is the client's name of the field (`fields`: our name → the client's).

    A copy, because the engine may raise one error object for several requests.
    """
    renamed = copy(error)
    renamed.param = fields.get(error.param or "", error.param)
    return renamed
