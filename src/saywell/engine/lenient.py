"""For programs written for other engines: wishes that cannot be had here give way, and each one is said.

In such programs `device="cuda"` or float16 stand for "as fast as the machine allows": they were the defaults, and the
printed examples pass them wherever they run. Refusing would break those programs.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from saywell.engine.launch import Decision, decide
from saywell.errors import PlanError
from saywell.hardware import Hardware, detect
from saywell.models.base import MANIFEST
from saywell.settings import Settings

Tell = Callable[[str], None]
YIELDING = frozenset({"device", "precision", "executor", "compile"})
"""Settings that give way where the machine or the model cannot follow."""


def settle(settings: Settings, checkpoint: Path, tell: Tell, hardware: Hardware | None = None) -> Decision:
    """The decision for these wishes, those of YIELDING as far as they can be had.

    `checkpoint`: where the model should be if the settings name no place. Raises PlanError for a wish that cannot give
    way.
    """
    values, found = settings.wishes(), hardware or detect()
    path = values.pop("model_path", checkpoint)
    if missing := _missing(path):
        tell(missing)
    else:
        values["model_path"] = path
    while True:
        try:
            return decide(Settings(**values, origins=settings.origins), found)
        except PlanError as error:
            if error.param not in YIELDING or error.param not in values:
                raise
            tell(f"{error.message}. Running on what there is instead")
            del values[error.param]


def _missing(path: Path) -> str:
    """Why there is no converted model at `path`, and what speaks instead; empty if there is one."""
    if (path / MANIFEST).is_file():
        return ""
    if path.is_dir():
        return (
            f"{path} has not been converted, so the built-in voice speaks instead; run "
            f"`saywell convert {path} -o {path}-converted` once and name that directory"
        )
    return f"there is no checkpoint at {path}; speaking with the built-in voice instead"
