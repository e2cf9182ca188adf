"""Where log lines go and what they look like. They never hold what a client sent."""

from __future__ import annotations

import json
import logging
import sys
import time

from saywell.server.errors import BrokenResponse

_MINUTE_S = 60.0


class JsonLines(logging.Formatter):
    """One JSON object a line."""

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


def not_broken_on_purpose(record: logging.LogRecord) -> bool:
    """A filter: uvicorn logs a traceback for whatever an application raises, but a BrokenResponse has been logged."""
    return not (record.exc_info and isinstance(record.exc_info[1], BrokenResponse))


class OnceAMinute(logging.Filter):
    """Lets a message of a kind through once a minute: what a flood of connections causes must not fill a disk."""

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
