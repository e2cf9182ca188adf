"""Planning for programs written for other engines: an unsupported override is dropped with a warning.

In such programs `device="cuda"` or float16 mean "as fast as the machine allows": they were the defaults, and the
published examples pass them on every machine. Rejecting them would break those programs. A named model is never
replaced: it would be another voice than requested.
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
"""The model directory if none is named."""
YIELDING = frozenset({"device", "precision", "executor", "compile", "cache_entries", "cache_mb"})
"""Settings dropped if the machine or the model does not support them."""
_OURS = frozenset({"saywell_compat", "s1_mini", "smart_backend"})


def warn(text: str) -> None:
    """Issue a RuntimeWarning attributed to the caller outside these packages."""
    level = 1
    while str(sys._getframe(level).f_globals.get("__name__")).partition(".")[0] in _OURS:
        level += 1
    warnings.warn(text, RuntimeWarning, stacklevel=level + 1)


def settle(settings: Settings, second: Mapping[str, Any] | None = None) -> Decision:
    """The decision for these settings, without unsupported ones of YIELDING; each dropped one causes a warning.

    Without a named model: the one at DEFAULT_CHECKPOINT if it exists, else the default model. A published checkpoint is
    converted on first use. `second`: fallback values for unsupported settings. Raises PlanError for any other
    unsupported setting, and the errors of `first_use.converted`.
    """
    values, fallbacks = settings.overrides(), dict(second or {})
    path = settings.model_path
    if path is None and settings.model is None:
        if Path(DEFAULT_CHECKPOINT).exists():
            path = Path(DEFAULT_CHECKPOINT)
        else:
            warn(f"no checkpoint was named and there is none at {DEFAULT_CHECKPOINT}: using the built-in voice")
    if path is not None:
        values["model_path"] = converted(path, settings.data_dir or default_data_dir())
    hardware = detect()
    while True:
        try:
            return decide(Settings(**values, origins=settings.origins), hardware)
        except PlanError as error:
            if error.param not in YIELDING or error.param not in values:
                raise
            warn(f"{error.message}. Running without this setting")
            del values[error.param]
            if error.param in fallbacks:
                values[error.param] = fallbacks.pop(error.param)
