"""Sealed files: one voice state each, proving itself.

A sealed file is a safetensors file with the arrays of a state and, in its metadata, the SHA-256 of all there is in it
and of the name it was written under: a flipped bit, a truncated file and one put in another's place are told from the
truth.
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


def seal(name: str, state: VoiceState, about: Mapping[str, str] | None = None) -> bytes:
    """The content of a sealed file. `about`: what else is to be known of it."""
    meta = {f"{_META}{key}": text for key, text in state.meta.items()}
    known = {**(about or {}), **meta, _SCHEMA: str(SCHEMA)}
    return save(dict(state.arrays), {**known, _DIGEST: _digest(name, state, known)})


def unseal(name: str, data: bytes) -> tuple[VoiceState, dict[str, str]]:
    """The state, and what else is known of it. Raises Damaged."""
    try:
        arrays = load(data)
        header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])  # the library has just checked it
        known: dict[str, str] = header["__metadata__"]
        digest = known.pop(_DIGEST)
        if known[_SCHEMA] == "1":
            state = VoiceState.of({"codes": arrays["values"]}, {"transcript": known["transcript"]})
            intact = digest == _digest_1(name, arrays["values"], known)
        else:
            meta = {key.removeprefix(_META): text for key, text in known.items() if key.startswith(_META)}
            state = VoiceState.of(arrays, meta)
            intact = digest == _digest(name, state, known)
    except (SafetensorError, KeyError, TypeError, ValueError, AttributeError) as error:
        raise Damaged("it is no sealed file") from error
    if not intact:
        raise Damaged("its digest is another")
    return state, known


def _digest(name: str, state: VoiceState, known: Mapping[str, str]) -> str:
    """The key of the state is the digest of its arrays and texts."""
    return hashlib.sha256(json.dumps([name, state.key, sorted(known.items())]).encode()).hexdigest()


def _digest_1(name: str, codes: npt.NDArray[Any], known: Mapping[str, str]) -> str:
    """As in files of schema 1, each of which holds the codes of one recording."""
    about = json.dumps([name, codes.dtype.str, codes.shape, sorted(known.items())])
    digest = hashlib.sha256(about.encode())
    digest.update(codes.tobytes())
    return digest.hexdigest()
