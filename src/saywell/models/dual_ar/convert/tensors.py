"""Weights on disk: safetensors files, mapped rather than read, bfloat16 understood without torch.

`TensorFile` trusts nothing in a file; `write_tensors` streams, so that its memory is one tensor.
"""

from __future__ import annotations

import json
import math
import mmap
import struct
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from saywell.files import open_file
from saywell.models.dual_ar.errors import BadCheckpoint
from saywell.models.dual_ar.layout import Shape, Shapes
from saywell.models.dual_ar.numerics import from_bfloat16

Float32 = npt.NDArray[np.float32]

DTYPES = {"F32": "<f4", "F16": "<f2", "BF16": "<u2"}
"""Kinds of numbers a converted model may hold; bfloat16 is the upper half of a float32, so it is mapped as integers."""
_MAX_HEADER = 16 << 20
_ALIGN = 64


@dataclass(frozen=True, slots=True)
class Entry:
    """Where one tensor lies: `dtype` a key of DTYPES, `start` from the beginning of the file."""

    dtype: str
    shape: Shape
    start: int


class TensorFile:
    """A mapped safetensors file. Arrays stay valid as long as one of them or this object lives."""

    def __init__(self, path: Path) -> None:
        """Raises BadCheckpoint if the header does not describe the file."""
        self.path = path
        try:
            with open_file(path) as file:
                self.entries = _read_header(file, path.stat().st_size)
                self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except FileNotFoundError:
            raise BadCheckpoint(f"{path} is missing; convert the checkpoint again") from None
        except OSError as error:
            raise BadCheckpoint(f"{path} cannot be read: {error.strerror}") from None
        except (ValueError, KeyError, TypeError, RecursionError, struct.error) as error:
            raise BadCheckpoint(f"{path.name} is damaged: {error}") from None

    def raw(self, name: str) -> npt.NDArray[Any]:
        """The tensor as stored, mapped and read-only; bfloat16 as uint16. Raises BadCheckpoint for an unknown name."""
        entry = self._entry(name)
        count = math.prod(entry.shape)
        return np.frombuffer(self._map, DTYPES[entry.dtype], count, entry.start).reshape(entry.shape)

    def array(self, name: str) -> Float32:
        """The tensor as float32: a view of the map if it is stored so, a copy if not."""
        return widen(self.raw(name), self._entry(name).dtype)

    def rows(self, name: str, ids: npt.ArrayLike) -> Float32:
        """Rows `ids` of a matrix as float32, reading only these."""
        return widen(self.raw(name)[np.asarray(ids)], self._entry(name).dtype)

    def arrays(self) -> Mapping[str, Float32]:
        """All tensors, each widened when it is asked for and not kept."""
        return _Arrays(self)

    def check(self, shapes: Shapes) -> None:
        """Raises BadCheckpoint unless the file holds exactly these tensors."""
        found = {name: entry.shape for name, entry in self.entries.items()}
        wrong = sorted(name for name in found.keys() | shapes.keys() if found.get(name) != shapes.get(name))
        if wrong:
            raise BadCheckpoint(f"{self.path.name} does not fit the configuration: {', '.join(wrong[:8])}")

    def _entry(self, name: str) -> Entry:
        found = self.entries.get(name)
        if found is None:
            raise BadCheckpoint(f"{self.path.name} has no tensor {name}")
        return found


class _Arrays(Mapping[str, Float32]):
    def __init__(self, file: TensorFile) -> None:
        self._file = file

    def __getitem__(self, name: str) -> Float32:
        if name not in self._file.entries:
            raise KeyError(name)
        return self._file.array(name)

    def __iter__(self) -> Any:
        return iter(self._file.entries)

    def __len__(self) -> int:
        return len(self._file.entries)


def widen(raw: npt.NDArray[Any], dtype: str) -> Float32:
    """Stored numbers as float32; `dtype` a key of DTYPES."""
    if dtype == "BF16":
        return from_bfloat16(raw)
    return raw.astype(np.float32, copy=False)


def write_tensors(
    path: Path,
    tensors: Iterable[tuple[str, npt.NDArray[Any], str]],
    shapes: Mapping[str, tuple[str, Shape]],
    done: Callable[[int], None] = lambda _: None,
) -> None:
    """Write (name, array as stored, dtype), all of them announced in `shapes`; `done` hears how many are written."""
    header, starts = _header(shapes)
    with path.open("wb") as file:
        file.write(header)
        for number, (name, array, dtype) in enumerate(tensors, start=1):
            if (dtype, array.shape) != shapes[name] or array.dtype != np.dtype(DTYPES[dtype]):
                raise ValueError(f"{name} is not what was announced")
            file.seek(starts[name])
            file.write(np.ascontiguousarray(array).data)
            done(number)


def _header(shapes: Mapping[str, tuple[str, Shape]]) -> tuple[bytes, dict[str, int]]:
    entries, offset, offsets = {}, 0, {}
    for name, (dtype, shape) in shapes.items():
        end = offset + math.prod(shape) * np.dtype(DTYPES[dtype]).itemsize
        entries[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [offset, end]}
        offsets[name], offset = offset, end
    text = json.dumps(entries, separators=(",", ":")).encode()
    text += b" " * (-(len(text) + 8) % _ALIGN)
    return struct.pack("<Q", len(text)) + text, {name: 8 + len(text) + start for name, start in offsets.items()}


def _read_header(file: IO[bytes], size: int) -> dict[str, Entry]:
    (length,) = struct.unpack("<Q", file.read(8))
    if length > min(_MAX_HEADER, size - 8):
        raise ValueError("its header is longer than the file")
    raw = json.loads(file.read(length).decode())
    if not isinstance(raw, dict):
        raise ValueError("its header is not an object")
    entries, at = {}, 8 + length
    listed = [(name, each) for name, each in raw.items() if name != "__metadata__"]
    for name, each in sorted(listed, key=lambda item: int(item[1]["data_offsets"][0])):
        entry = Entry(each["dtype"], tuple(int(n) for n in each["shape"]), at)
        begin, end = each["data_offsets"]
        if begin != at - 8 - length or end - begin != _bytes(entry):
            raise ValueError(f"{name} does not lie where its shape says")
        entries[name], at = entry, at + end - begin
    if at != size:
        raise ValueError(f"{size} bytes, but its header describes {at}")
    return entries


def _bytes(entry: Entry) -> int:
    if entry.dtype not in DTYPES or any(n < 0 for n in entry.shape):
        raise ValueError(f"{entry.dtype} {entry.shape} is no tensor of this family")
    return math.prod(entry.shape) * np.dtype(DTYPES[entry.dtype]).itemsize
