"""For programs written for other engines: wishes that cannot be had here give way, and each one is said.

In such programs `device="cuda"` or float16 stand for "as fast as the machine allows": they were the defaults, and the
printed examples pass them wherever they run. Refusing would break those programs. A model that was named never gives
way: another voice than the one asked for is no answer.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from saywell.engine.launch import Decision, decide
from saywell.errors import PlanError
from saywell.machine import Hardware, detect
from saywell.models.first_use import converted
from saywell.settings import Settings, default_data_dir

Tell = Callable[[str], None]
YIELDING = frozenset({"device", "precision", "executor", "compile", "cache_entries", "cache_mb"})
"""Settings that give way where the machine or the model cannot follow."""


def settle(
    settings: Settings,
    default: Path,
    tell: Tell,
    hardware: Hardware | None = None,
    *,
    second: Mapping[str, Any] | None = None,
) -> Decision:
    """The decision for these wishes, those of YIELDING as far as they can be had.

    `default`: where the model may lie if the settings name none; only if there is nothing, the default model speaks.
    A published checkpoint is converted when it is first used. `second`: what to wish for where the first wish cannot be
    had. Raises PlanError for a wish that cannot give way, and what `first_use.converted` raises.
    """
    values, left = settings.wishes(), dict(second or {})
    path = settings.model_path
    if path is None and settings.model is None:
        if default.exists():
            path = default
        else:
            tell(f"no checkpoint was named and there is none at {default}, so the built-in voice speaks")
    if path is not None:
        values["model_path"] = converted(path, settings.data_dir or default_data_dir())
    found = hardware or detect()
    while True:
        try:
            return decide(Settings(**values, origins=settings.origins), found)
        except PlanError as error:
            if error.param not in YIELDING or error.param not in values:
                raise
            tell(f"{error.message}. Running on what there is instead")
            del values[error.param]
            if error.param in left:
                values[error.param] = left.pop(error.param)
