"""PyTorch: which build is installed. It converts checkpoints; families outside this package may run on it."""

from __future__ import annotations

import re
import sys
from importlib import util
from pathlib import Path

from saywell.runtimes.base import RuntimeSpec, installed_version

_GPUS = {"cuda": "cuda", "hip": "rocm"}
"""Variables of `torch/version.py` that are set in a build for GPUs → kinds of devices."""


def detect() -> tuple[str, tuple[str, ...]] | None:
    """Read the package's source text: importing torch takes seconds and hundreds of megabytes."""
    version = installed_version("torch")
    spec = util.find_spec("torch") if version else None
    if version is None or spec is None or spec.origin is None:
        return None
    build = Path(spec.origin).with_name("version.py").read_text(encoding="utf-8")
    devices = ["cpu"]
    devices += [kind for name, kind in _GPUS.items() if re.search(rf"^{name}\b[^=]*= '", build, re.MULTILINE)]
    devices += ["mps"] if sys.platform == "darwin" else []
    return version, tuple(devices)


RUNTIME = RuntimeSpec(
    package="torch",
    title="PyTorch",
    purpose="only to convert published checkpoints",
    install="pip install 'saywell[convert]'",
    detect=detect,
    devices=("cpu", "cuda", "mps"),
    compiles=True,
    out_of_memory=("can't allocate memory", "not enough memory"),
)
