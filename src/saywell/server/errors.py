"""Every failure as one JSON shape: `{"error": {"message", "type", "param", "code"}}`, with the right status."""

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
_MOST_FIELDS = 8
"""Fields at fault that one message names."""


class BrokenResponse(Exception):
    """Raised after the first byte: the only honest end left is a broken connection."""


def error_type(status: int) -> str:
    """The `type` OpenAI's clients know for a status."""
    known = {401: "authentication_error", 403: "permission_error", 404: "not_found_error", 429: "rate_limit_error"}
    return known.get(status, "server_error" if status >= 500 else "invalid_request_error")


def error_body(status: int, message: str, *, param: str | None = None, code: str | None = None) -> dict[str, Any]:
    return {"error": {"message": message, "type": error_type(status), "param": param, "code": code}}


def body_of(error: SaywellError) -> dict[str, Any]:
    return error_body(error.status, error.message, param=error.param, code=error.code)


def error_response(error: SaywellError, headers: dict[str, str] | None = None) -> JSONResponse:
    """The response to a request that was refused or has failed before its first byte."""
    headers = dict(headers or {})
    if error.status in (429, 503):
        headers["retry-after"] = str(max(1, math.ceil(error.retry_after or 1.0)))
    if isinstance(error, Unauthorized):
        headers["www-authenticate"] = "Bearer"
    return JSONResponse(body_of(error), error.status, headers)


def install(app: FastAPI) -> None:
    """Give `app` a handler for everything that can be raised before the first byte."""
    app.add_exception_handler(SaywellError, _saywell)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(RequestValidationError, _validation)
    app.add_exception_handler(Exception, _unexpected)


async def _saywell(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, SaywellError)
    level = logging.ERROR if error.status == 500 else logging.INFO
    # The message of a refusal may quote what the client sent (a model's name); its code and field say enough here.
    _log.log(level, "%s: %s (param %s)", request_id(request), error.code, error.param)
    return error_response(error)


async def _http(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    message = str(error.detail)
    if error.status_code == 404 and message == "Not Found":
        message = "there is no such route; GET /openapi.json lists them all"
    elif error.status_code == 405:
        allowed = (error.headers or {}).get("Allow", "another method")
        message = f"this route does not take this method; it takes {allowed}"
    elif message.startswith("Too many files"):
        message = "this form takes no files; send the text as a field: curl -F 'text=<book.txt'"
    elif message == "There was an error parsing the body":
        message = "the body could not be read as JSON: not UTF-8, nested too deep, or a number out of range"
    body = error_body(error.status_code, message, code=_NAMES.get(error.status_code))
    return JSONResponse(body, error.status_code, error.headers)


async def _validation(_: Request, error: Exception) -> JSONResponse:
    """Names each field and what it must be. Never repeats what was sent."""
    assert isinstance(error, RequestValidationError)
    found = error.errors()
    if any(item["type"] == "json_invalid" for item in found):
        message = 'the body is not valid JSON; send an object such as {"input": "Hello."}'
        return JSONResponse(error_body(400, message, code="invalid_json"), 400)
    # One sentence a field: where several types would do, the first that failed is the usual one.
    sentences = {_field(item): _sentence(item) for item in reversed(found[:_MOST_FIELDS])}
    message = "; ".join(reversed(sentences.values()))
    return JSONResponse(error_body(422, message, param=_field(found[0]), code="invalid_request"), 422)


def _field(item: dict[str, Any]) -> str | None:
    """The dotted name of the field at fault; None for the body itself."""
    parts = [str(part) for part in item["loc"][1:] if not _is_branch(str(part))]
    return ".".join(parts) or None


def _is_branch(part: str) -> bool:
    """The name of one alternative of a union is not part of a field's name."""
    return part in ("str", "constrained-str", "VoiceChoice")


def _sentence(item: dict[str, Any]) -> str:
    field = _field(item)
    return f"{field}: {_reason(item)}" if field else _reason(item)


def _reason(item: dict[str, Any]) -> str:
    if item["type"] == "missing" and len(item["loc"]) == 1:
        return "a body is needed: a JSON object, sent with Content-Type: application/json"
    if item["type"] in ("model_attributes_type", "dict_type") and len(item["loc"]) == 1:
        return "the body must be a JSON object, sent with Content-Type: application/json"
    if item["type"] == "string_unicode":
        return "the text contains half of a surrogate pair; send valid Unicode"
    return str(item["msg"]).removeprefix("Value error, ")


async def _unexpected(request: Request, _: Exception) -> JSONResponse:
    """A bug. Its traceback is the server's business (the log), its identity the client's."""
    body = error_body(500, f"an internal error, logged under request {request_id(request)}", code="internal_error")
    return JSONResponse(body, 500, {"x-request-id": request_id(request)})


def request_id(request: Request) -> str:
    return str(request.scope.get("state", {}).get("request_id", "-"))


def with_api_param_names(error: SaywellError, **fields: str) -> SaywellError:
    """The error with its field called what the client calls it. A copy: an engine's own error may go to many."""
    told = copy(error)
    told.param = fields.get(error.param or "", error.param)
    return told
