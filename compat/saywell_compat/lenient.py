"""For programs written for other engines: overrides that cannot be had here give way, and each one is said.

In such programs `device="cuda"` or float16 stand for "as fast as the machine allows": they were the defaults, and the
printed examples pass them wherever they run. Refusing would break those programs. A model that was named never gives
way: another voice than the one asked for is no answer.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from saywell.engine.launch import Decision, decide
from saywell.errors import PlanError
from saywell.machine import detect
from saywell.models.first_use import converted
from saywell.settings import Settings, default_data_dir

DEFAULT_CHECKPOINT = "checkpoints/openaudio-s1-mini"
"""Where the model lies if none is named."""
YIELDING = frozenset({"device", "precision", "executor", "compile", "cache_entries", "cache_mb"})
"""Settings that give way where the machine or the model cannot follow."""
_OURS = frozenset({"saywell_compat", "s1_mini", "smart_backend"})


def warn(text: str) -> None:
    """A RuntimeWarning that points at the line outside these packages that led to it."""
    level = 1
    while str(sys._getframe(level).f_globals.get("__name__")).partition(".")[0] in _OURS:
        level += 1
    warnings.warn(text, RuntimeWarning, stacklevel=level + 1)


def settle(settings: Settings, second: Mapping[str, Any] | None = None) -> Decision:
    """The decision for these overrides, those of YIELDING as far as they can be had, each of the others with a warning.

    If the settings name no model it is the one at DEFAULT_CHECKPOINT; only if there is nothing, the default model
    speaks. A published checkpoint is converted when it is first used. `second`: the value to use
    where the first one cannot be had. Raises PlanError for a setting that cannot give way, and what
    `first_use.converted` raises.
    """
    values, left = settings.overrides(), dict(second or {})
    path = settings.model_path
    if path is None and settings.model is None:
        if Path(DEFAULT_CHECKPOINT).exists():
            path = Path(DEFAULT_CHECKPOINT)
        else:
            warn(f"no checkpoint was named and there is none at {DEFAULT_CHECKPOINT}, so the built-in voice speaks")
    if path is not None:
        values["model_path"] = converted(path, settings.data_dir or default_data_dir())
    found = detect()
    while True:
        try:
            return decide(Settings(**values, origins=settings.origins), found)
        except PlanError as error:
            if error.param not in YIELDING or error.param not in values:
                raise
            warn(f"{error.message}. Running on what there is instead")
            del values[error.param]
            if error.param in left:
                values[error.param] = left.pop(error.param)
