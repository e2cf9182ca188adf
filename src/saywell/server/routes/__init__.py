"""Routes, one small module per group; they only translate. Adding a route is adding a module with a `router`.

A module may declare paths that the middleware treats differently: SPEECH (counted by the request metrics), PROBES
(answered without a key, and while the server stops) and SCRAPES (not counted among the active requests).
"""

from __future__ import annotations

import pkgutil
from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fastapi import FastAPI

    from saywell.server.service import Service


def install(app: FastAPI, service: Service) -> None:
    """Include the router of every module in this directory."""
    for info in pkgutil.iter_modules(__path__):
        module = import_module(f"{__name__}.{info.name}")
        if hasattr(module, "router"):
            app.include_router(module.router)
            service.speech_paths |= getattr(module, "SPEECH", frozenset())
            service.probes |= getattr(module, "PROBES", frozenset())
            service.scrapes |= getattr(module, "SCRAPES", frozenset())
