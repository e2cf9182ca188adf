"""What benchmarks have in common: the machine they ran on, and the settings they are given."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path
from typing import Any

from saywell.errors import InvalidRequest
from saywell.hardware import detect
from saywell.settings import parse_pairs


def machine() -> dict[str, Any]:
    """For the report."""
    found = detect()
    return {"cpu": found.cpu.model, "cpus": found.usable_cpus, "memory_gb": round(found.usable_memory / 2**30, 1)}


def wishes(options: Namespace) -> dict[str, Any]:
    """Settings from `--set` and `--model`, as JSON carries them."""
    found = parse_pairs(options.set, "the command line")
    return {**found, "model": options.model} if options.model else found


def spoken_wishes(options: Namespace, folder: Path) -> dict[str, Any]:
    """And those for random weights, which `--frames` is given for: a saved voice in `folder`."""
    found = wishes(options)
    if not options.frames:
        return found
    if not options.model:
        raise InvalidRequest("--frames is for random weights: name their directory with --model", param="frames")
    from saywell.bench import dual_ar_speech

    dual_ar_speech.save_voice(dual_ar_speech.Setup(model=Path(options.model), data=folder))
    return {**found, "data_dir": str(folder), "voice": dual_ar_speech.VOICE}
