"""Logging of the server process, as text or JSON. Log lines never contain what a client sent."""

from __future__ import annotations

import json
import logging
import sys
import time

from saywell.server.errors import BrokenResponse

_MINUTE_S = 60.0


class JsonLines(logging.Formatter):
    """One JSON object per line."""

    def format(self, record: logging.LogRecord) -> str:
        fields = {
            "time": self.formatTime(record, "%Y-%m-%dT%H:%M:%S"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            fields["trace"] = self.formatException(record.exc_info)
        return json.dumps(fields)


def drop_broken_responses(record: logging.LogRecord) -> bool:
    """Filter out uvicorn's traceback of a BrokenResponse, whose cause is already logged."""
    return not (record.exc_info and isinstance(record.exc_info[1], BrokenResponse))


class OnceAMinute(logging.Filter):
    """Passes one message per kind and minute, so that a flood of connections cannot fill the disk with log lines."""

    def __init__(self) -> None:
        super().__init__()
        self._last: dict[str, float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        kind, now = str(record.msg)[:60], time.monotonic()
        if now - self._last.get(kind, -_MINUTE_S) < _MINUTE_S:
            return False
        self._last[kind] = now
        return True


def set_up_logging(level: str, as_json: bool) -> None:
    """Log to standard error."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines() if as_json else logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    logging.getLogger("uvicorn").setLevel("WARNING")
    for name in ("asyncio", "saywell.server.protocol"):
        logging.getLogger(name).addFilter(OnceAMinute())
