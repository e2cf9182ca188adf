"""A memory-mapped safetensors file, with bfloat16 and without torch."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open

from saywell.errors import BadCheckpoint
from saywell.files import open_file
from saywell.graphs.numerics import Floats, Shapes, from_bfloat16

_DTYPES: dict[str, np.dtype[Any]] = {
    "F32": np.dtype("<f4"),
    "F16": np.dtype("<f2"),
    "BF16": np.dtype("<u2"),
    "I64": np.dtype("<i8"),
}


class TensorFile(Mapping[str, Floats]):
    """Tensors by name as float32: views of the map if stored as float32, else converted on each access.

    safetensors checks the header; its own NumPy reader does not support bfloat16.
    """

    def __init__(self, path: Path) -> None:
        """Raises BadCheckpoint unless the header matches the file and its tensors are of floating-point numbers, or
        int64 such as token ids and the counters of batch norms."""
        self._path = path
        try:
            open_file(path).close()  # refuses a pipe, which would block
            with safe_open(path, framework="numpy") as file:
                slices = {name: file.get_slice(name) for name in file.offset_keys()}
            self.shapes: Shapes = {name: tuple(part.get_shape()) for name, part in slices.items()}
            self._dtypes = {name: _DTYPES[part.get_dtype()] for name, part in slices.items()}
            self._map = np.memmap(path, np.uint8, "r")
        except FileNotFoundError:
            raise BadCheckpoint(f"{path} is missing; convert the checkpoint again") from None
        except OSError as error:
            raise BadCheckpoint(f"{path} cannot be read: {error.strerror}") from None
        except (SafetensorError, KeyError) as error:
            raise BadCheckpoint(f"{path.name} is damaged: {error}") from None
        sizes = [math.prod(shape) * self._dtypes[name].itemsize for name, shape in self.shapes.items()]
        ends = len(self._map) - sum(sizes) + np.cumsum(sizes)  # contiguous, up to the end of the file
        self._starts = dict(zip(self.shapes, (ends - sizes).tolist(), strict=True))

    def __getitem__(self, name: str) -> Floats:
        shape, dtype = self.shapes[name], self._dtypes[name]
        raw = np.frombuffer(self._map, dtype, math.prod(shape), self._starts[name]).reshape(shape)
        return from_bfloat16(raw) if dtype == _DTYPES["BF16"] else raw.astype(np.float32, copy=False)

    def __iter__(self) -> Iterator[str]:
        return iter(self.shapes)

    def __len__(self) -> int:
        return len(self.shapes)

    def check(self, shapes: Shapes) -> None:
        """Raises BadCheckpoint unless the file holds exactly these tensors."""
        wrong = sorted(name for name in self.shapes.keys() | shapes.keys() if self.shapes.get(name) != shapes.get(name))
        if wrong:
            raise BadCheckpoint(f"{self._path.name} does not fit the configuration: {', '.join(wrong[:8])}")
