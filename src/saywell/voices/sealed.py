"""Sealed files: one array each, proving itself.

A sealed file is a safetensors file with one array and, in its metadata, the SHA-256 of all there is in it and of the
name it was written under: a flipped bit, a truncated file and one put in another's place are told from the truth.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError
from safetensors.numpy import load, save

from saywell.files import Damaged

Array = npt.NDArray[Any]
SUFFIX = ".safetensors"
_TENSOR, _DIGEST = "values", "sha256"


def seal(name: str, array: Array, metadata: Mapping[str, str] | None = None) -> bytes:
    """The content of a sealed file."""
    array, known = np.ascontiguousarray(array), dict(metadata or {})
    return save({_TENSOR: array}, {**known, _DIGEST: _digest(name, array, known)})


def unseal(name: str, data: bytes) -> tuple[Array, dict[str, str]]:
    """Array (read-only) and metadata, with the digest under `sha256`. Raises Damaged."""
    try:
        array = load(data)[_TENSOR]
        header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])  # the library has just checked it
        metadata: dict[str, str] = header["__metadata__"]
        known = {key: value for key, value in metadata.items() if key != _DIGEST}
        intact = metadata[_DIGEST] == _digest(name, array, known)
    except (SafetensorError, KeyError, TypeError, ValueError, AttributeError) as error:
        raise Damaged("it is no sealed file") from error
    if not intact:
        raise Damaged("its digest is another")
    array.flags.writeable = False
    return array, metadata


def _digest(name: str, array: Array, metadata: Mapping[str, str]) -> str:
    about = json.dumps([name, array.dtype.str, array.shape, sorted(metadata.items())])
    digest = hashlib.sha256(about.encode())
    digest.update(array.tobytes())
    return digest.hexdigest()
