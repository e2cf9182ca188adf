"""Finds the system's eSpeak NG library in the usual directories, without running ldconfig or a compiler."""

from __future__ import annotations

import ctypes.util
import sys
from collections.abc import Iterator
from pathlib import Path

STEM = "espeak-ng"
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


def system_library() -> str | None:
    """The path of libespeak-ng (.so.1, .dylib or .dll), or None."""
    for place in _places():
        for name in _names():
            path = place / name
            if path.is_file():
                return str(path)
    if sys.platform != "linux":  # on Linux it would start ldconfig and gcc
        return ctypes.util.find_library(STEM)
    return None


def _places() -> Iterator[Path]:
    multiarch = getattr(sys.implementation, "_multiarch", "")
    for place in PLACES:
        yield Path(place.format(multiarch=multiarch, prefix=sys.base_prefix))


def _names() -> tuple[str, ...]:
    if sys.platform == "win32":
        return f"{STEM}.dll", f"lib{STEM}.dll", f"lib{STEM}-1.dll"
    if sys.platform == "darwin":
        return f"lib{STEM}.1.dylib", f"lib{STEM}.dylib"
    return f"lib{STEM}.so.1", f"lib{STEM}.so"
