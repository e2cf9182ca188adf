"""Routes that accept a form, urlencoded or multipart."""

from __future__ import annotations

from typing import Any, TypeVar

from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ValidationError
from starlette.datastructures import UploadFile
from starlette.requests import Request as HttpRequest

from saywell.errors import UnsupportedMedia
from saywell.server.middleware import body_limit
from saywell.server.service import Service

F = TypeVar("F", bound=BaseModel)
_MOST_FIELDS = 32
_FORMS = ("application/x-www-form-urlencoded", "multipart/form-data")


async def read_form(http: HttpRequest, service: Service, kind: type[F]) -> F:
    """Parse a form, limited in number and size of fields. An empty field counts as absent."""
    if not http.headers.get("content-type", "").lower().startswith(_FORMS):
        raise UnsupportedMedia(f"this route accepts a form: Content-Type: {' or '.join(_FORMS)}", param="body")
    limit = body_limit(service.engine.plan.max_text_chars)
    async with http.form(max_files=0, max_fields=_MOST_FIELDS, max_part_size=limit) as form:
        fields = {name: value for name, value in form.items() if value != "" and not isinstance(value, UploadFile)}
    try:
        return kind.model_validate(fields)
    except ValidationError as error:
        failures = [{**item, "loc": ("body", *item["loc"])} for item in error.errors(include_context=False)]
        raise RequestValidationError(failures) from error


def form_schema(kind: type[BaseModel]) -> dict[str, Any]:
    """The OpenAPI description of a form."""
    schema = kind.model_json_schema()
    return {"requestBody": {"required": True, "content": {kind: {"schema": schema} for kind in _FORMS}}}
