"""What other installed packages add to the server: routes in shapes that other programs know, and metrics.

Such a package names a function `(app, service) -> None` under the entry-point group GROUP; it is called once for each
application, when the server's own routes are there. It may include routers, name in `service.speech_paths` where speech
is asked for, and register collectors with `service.metrics.registry`.
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
    """Call every extension. Raises what one of them raises; one whose package is gone is told of and left out."""
    for entry in sorted(entry_points(group=GROUP), key=lambda entry: entry.name):
        try:
            extension = entry.load()
        except ModuleNotFoundError as error:
            if error.name != entry.module.partition(".")[0]:
                raise
            _log.warning("the extension %s is left out: there is no package %s", entry.name, error.name)
            continue
        extension(app, service)
