"""The package's dictionaries, searched as JSON text: parsing them would take 80 MB and 0.4 s more.

Each table has the `get` of a dict, the only method that the phonemiser uses.
"""

from __future__ import annotations

import json
from bisect import bisect_left
from collections.abc import Mapping
from functools import lru_cache
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt

_CACHED = 8192

Ints = npt.NDArray[np.int64]
Pronunciation = str | dict[str, str]


class Lexicon:
    """Word → phones, or part of speech → phones.

    `data`: a JSON object with sorted keys. `first`: takes precedence over it; `last`: for words that it lacks.
    """

    def __init__(
        self,
        data: bytes,
        first: Mapping[str, str] = MappingProxyType({}),
        last: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        self._by_part: dict[str, dict[str, str]] = {}
        plain = []
        before, *nested = data[1:-1].split(b":{")
        for piece in nested:  # words whose pronunciation depends on the part of speech
            quote = before.rindex(b'"', 0, -1)
            parts, _, after = piece.partition(b"}")
            self._by_part[before[quote + 1 : -1].decode()] = json.loads(b"{" + parts + b"}")
            plain.append(before[:quote])
            before = after[1:]
        self._text = b"".join((*plain, before))
        self._starts = np.concatenate(([1], _find_all(self._text, b'","', 1) + 3))
        """Offset of each word in the text."""
        self._first, self._last = first, last
        self.get = lru_cache(_CACHED)(self._get)

    def _get(self, word: str) -> Pronunciation | None:
        if word in self._first:
            return self._first[word]
        if word in self._by_part:
            return self._by_part[word]
        key, text = word.encode(), self._text
        index = bisect_left(self._starts, key, key=lambda start: text[start : start + len(key)])
        begin = int(self._starts[index]) if index < len(self._starts) else len(text)
        key += b'":"'
        if not text.startswith(key, begin):
            return self._last.get(word)
        begin += len(key)
        return text[begin : text.index(b'"', begin)].decode()


class Weights:
    """Feature of a word in its sentence → weight of each tag. `data`: a JSON object of objects of numbers."""

    def __init__(self, data: bytes) -> None:
        self._text = data
        starts = np.concatenate(([2], _find_all(data, b'},"', 0) + 3))
        hashes = _hashes(data, starts, _find_all(data, b'":{', 2))
        order = np.argsort(hashes)
        self._starts, self._hashes = starts[order], hashes[order]
        self.get = lru_cache(_CACHED)(self._get)

    def _get(self, feature: str) -> dict[str, float] | None:
        key = _key(feature)
        (wanted,) = _hashes(key, np.array([0]), np.array([len(key) - 2]))
        index = int(np.searchsorted(self._hashes, wanted))
        while index < len(self._starts) and self._hashes[index] == wanted:
            begin = int(self._starts[index])
            if self._text.startswith(key, begin):
                begin += len(key)
                weights: dict[str, float] = json.loads(self._text[begin : self._text.index(b"}", begin) + 1])
                return weights
            index += 1
        return None


def _find_all(text: bytes, mark: bytes, rarest: int) -> Ints:
    """Offsets of a short byte string in a text. `rarest`: index of its rarest byte, which is searched first."""
    data = np.frombuffer(text, np.uint8)
    offsets = np.flatnonzero(data[rarest : len(data) - len(mark) + 1 + rarest] == mark[rarest])
    for index, byte in enumerate(mark):
        offsets = offsets[data[offsets + index] == byte] if index != rarest else offsets
    return np.asarray(offsets)


def _hashes(text: bytes, starts: Ints, ends: Ints) -> npt.NDArray[np.uint64]:
    """A hash of each name in a text, of its length, its first eight bytes and its last eight."""
    eights = np.lib.stride_tricks.sliding_window_view(np.frombuffer(text + bytes(8), np.uint8), 8)
    mask = _MASKS[np.minimum(ends - starts, 8)]
    first = eights[starts].view("<u8")[:, 0] & mask
    last = eights[np.maximum(ends - 8, starts)].view("<u8")[:, 0] & mask
    return np.asarray((first * _MIX[0] + last * _MIX[1]) ^ (ends - starts).astype(np.uint64))


_MASKS = np.array([(1 << 8 * size) - 1 for size in range(9)], np.uint64)
"""By length: the mask that keeps so many of eight bytes."""
_MIX = np.array([0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F], np.uint64)


def tagger(data: bytes) -> dict[str, Any]:
    """The tagger's model in the form its class expects, with the weights as a table."""
    mark = b',"weights":'
    head, _, weights = data.partition(mark)
    return {**json.loads(head + b"}"), "weights": Weights(weights[:-1])}


def _key(name: str) -> bytes:
    """A key as JSON text, without the opening quotation mark, with the colon."""
    return json.dumps(name, ensure_ascii=False).encode()[1:] + b":"
