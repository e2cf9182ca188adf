"""Where log lines go and what they look like. They never hold what a client sent."""

from __future__ import annotations

import json
import logging
import sys

from saywell.server.errors import BrokenResponse


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


def set_up_logging(level: str, as_json: bool) -> None:
    """Log to standard error."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines() if as_json else logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    logging.getLogger("uvicorn").setLevel("WARNING")
