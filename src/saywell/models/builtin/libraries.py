"""Where shared libraries lie, found by looking and not by running ldconfig or a compiler."""

from __future__ import annotations

import ctypes.util
import sys
from collections.abc import Iterator
from pathlib import Path

PLACES = (
    "/usr/lib/{multiarch}",
    "/lib/{multiarch}",
    "{prefix}/lib",
    "/usr/local/lib",
    "/usr/lib64",
    "/usr/lib",
    "/opt/homebrew/lib",
    "/opt/local/lib",
    "/home/linuxbrew/.linuxbrew/lib",
)


def find(stem: str) -> str | None:
    """The path of the shared library `stem` ("flite": libflite.so.1, libflite.dylib, flite.dll), or None."""
    for place in _places():
        for name in _names(stem):
            path = place / name
            if path.is_file():
                return str(path)
    if sys.platform != "linux":  # there it would start ldconfig and gcc
        return ctypes.util.find_library(stem)
    return None


def _places() -> Iterator[Path]:
    multiarch = getattr(sys.implementation, "_multiarch", "")
    for place in PLACES:
        yield Path(place.format(multiarch=multiarch, prefix=sys.base_prefix))


def _names(stem: str) -> tuple[str, ...]:
    if sys.platform == "win32":
        return f"{stem}.dll", f"lib{stem}.dll", f"lib{stem}-1.dll"
    if sys.platform == "darwin":
        return f"lib{stem}.1.dylib", f"lib{stem}.dylib"
    return f"lib{stem}.so.1", f"lib{stem}.so"
