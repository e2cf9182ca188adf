"""Output formats, one module each (or one per library). Adding a format is adding a module with `FORMATS`."""

from __future__ import annotations

import pkgutil
from collections.abc import Mapping
from importlib import import_module

from saywell.audio.formats.base import Format


def _declared() -> dict[str, Format]:
    modules = [import_module(f"{__name__}.{info.name}") for info in pkgutil.iter_modules(__path__)]
    formats: list[Format] = [format for module in modules for format in getattr(module, "FORMATS", ())]
    return {format.name: format for format in sorted(formats, key=lambda format: (format.order, format.name))}


FORMATS: Mapping[str, Format] = _declared()
"""By name, in the order of OpenAI's documentation."""
