"""Random tensors by name and shape, the same for the same seed and name on every machine."""

from __future__ import annotations

import hashlib
import math
import re

import numpy as np

from saywell.graphs.numerics import Floats, Shape, Shapes

_ONES = re.compile(r"(norm\d*|norm_\w+|ln\w*|bn|batchnorm|nonlinear\.\w*norm)\.weight$|running_var$|alphas?$|gamma$")
_ZEROS = re.compile(r"bias$|running_mean$")


def filled(shapes: Shapes, seed: int = 0) -> dict[str, Floats]:
    """Norm scales near one, biases near zero, matrices that keep the size of what they multiply."""
    return {name: tensor(name, shape, seed) for name, shape in shapes.items()}


def tensor(name: str, shape: Shape, seed: int = 0) -> Floats:
    key = int.from_bytes(hashlib.sha256(f"{seed} {name}".encode()).digest()[:8], "little")
    random = np.random.Generator(np.random.Philox(key=key)).standard_normal(shape, np.float32)
    if _ONES.search(name):
        return np.asarray(1 + 0.05 * np.clip(random, -3, 3), np.float32)
    if _ZEROS.search(name):
        return np.asarray(0.02 * random, np.float32)
    fan_in = math.prod(shape[1:]) if len(shape) > 1 else 1
    return np.asarray(random / math.sqrt(max(fan_in, 1)), np.float32)
