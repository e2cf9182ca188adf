"""Files of one voice state each, with a checksum.

The file is in safetensors format. Its metadata holds the SHA-256 of its content and of the name it was written under,
so that flipped bits, truncation and a file moved to another name are detected.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

import numpy.typing as npt
from safetensors import SafetensorError
from safetensors.numpy import load, save

from saywell.files import Damaged
from saywell.types import VoiceState

SUFFIX = ".safetensors"
SCHEMA = 2
_DIGEST, _SCHEMA, _META = "sha256", "schema", "meta."


def pack(name: str, state: VoiceState, extra: Mapping[str, str] | None = None) -> bytes:
    """The content of a file; `extra` is further metadata."""
    meta = {f"{_META}{key}": text for key, text in state.meta.items()}
    header = {**(extra or {}), **meta, _SCHEMA: str(SCHEMA)}
    return save(dict(state.arrays), {**header, _DIGEST: _digest(name, state, header)})


def unpack(name: str, data: bytes) -> tuple[VoiceState, dict[str, str]]:
    """The state and all metadata. Raises Damaged."""
    try:
        arrays = load(data)
        header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])  # validated by `load`
        metadata: dict[str, str] = header["__metadata__"]
        digest = metadata.pop(_DIGEST)
        if metadata[_SCHEMA] == "1":
            state = VoiceState.of({"codes": arrays["values"]}, {"transcript": metadata["transcript"]})
            intact = digest == _digest_1(name, arrays["values"], metadata)
        else:
            meta = {key.removeprefix(_META): text for key, text in metadata.items() if key.startswith(_META)}
            state = VoiceState.of(arrays, meta)
            intact = digest == _digest(name, state, metadata)
    except (SafetensorError, KeyError, TypeError, ValueError, AttributeError) as error:
        raise Damaged("it is not a file of a voice state") from error
    if not intact:
        raise Damaged("its digest does not match")
    return state, metadata


def _digest(name: str, state: VoiceState, metadata: Mapping[str, str]) -> str:
    """`state.key` is itself a digest of the arrays and texts."""
    return hashlib.sha256(json.dumps([name, state.key, sorted(metadata.items())]).encode()).hexdigest()


def _digest_1(name: str, codes: npt.NDArray[Any], metadata: Mapping[str, str]) -> str:
    """Of schema 1, in which a state is the codes of one recording."""
    digest = hashlib.sha256(json.dumps([name, codes.dtype.str, codes.shape, sorted(metadata.items())]).encode())
    digest.update(codes.tobytes())
    return digest.hexdigest()
