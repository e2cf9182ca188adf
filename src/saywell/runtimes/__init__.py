"""How a graph is run: one file per runtime, the only place that names it."""

from __future__ import annotations

import pkgutil
from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from saywell.runtimes.base import RuntimeSpec


@cache
def runtimes() -> tuple[RuntimeSpec, ...]:
    """What the files in this directory declare as `RUNTIME`, by file name. Imports no runtime."""
    modules = [import_module(f"{__name__}.{info.name}") for info in pkgutil.iter_modules(__path__)]
    return tuple(module.RUNTIME for module in modules if hasattr(module, "RUNTIME"))
