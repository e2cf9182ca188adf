"""Routes and metrics added by other installed packages, such as the APIs of other servers.

Such a package registers a function `(app, service) -> None` in the entry-point group GROUP. It is called once per
application, after the server's own routes are installed. It may include routers, add its synthesis routes to
`service.speech_paths` and register collectors with `service.metrics.registry`.
"""

from __future__ import annotations

import logging
from importlib.metadata import entry_points
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fastapi import FastAPI

    from saywell.server.service import Service

_log = logging.getLogger(__name__)

GROUP = "saywell.extensions"


def install(app: FastAPI, service: Service) -> None:
    """Call every extension. One whose package is not installed is skipped with a warning; other errors propagate."""
    for entry in sorted(entry_points(group=GROUP), key=lambda entry: entry.name):
        try:
            extension = entry.load()
        except ModuleNotFoundError as error:
            if error.name != entry.module.partition(".")[0]:
                raise
            _log.warning("skipping extension %s: package %s is not installed", entry.name, error.name)
            continue
        extension(app, service)
