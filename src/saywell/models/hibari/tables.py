"""The package's dictionaries as JSON text, searched where it lies: parsed, they would take 80 MB and 0.4 s more.

Each table has the `get` of a dict, which is all that the phonemiser asks of one.
"""

from __future__ import annotations

import json
from bisect import bisect_left
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

_CACHED = 8192

Ints = npt.NDArray[np.int64]
Pronunciation = str | dict[str, str]


class Lexicon:
    """Word → phones, or part of speech → phones. `data`: a JSON object with its keys in order; `first`: what wins."""

    def __init__(self, data: bytes, first: Mapping[str, str]) -> None:
        self._by_part: dict[str, dict[str, str]] = {}
        plain = []
        before, *nested = data[1:-1].split(b":{")
        for piece in nested:  # a word whose pronunciation depends on its part of speech
            quote = before.rindex(b'"', 0, -1)
            parts, _, after = piece.partition(b"}")
            self._by_part[before[quote + 1 : -1].decode()] = json.loads(b"{" + parts + b"}")
            plain.append(before[:quote])
            before = after[1:]
        self._text = b"".join((*plain, before))
        self._starts = np.concatenate(([1], _places(self._text, b'","', 1) + 3))
        """Of each word in the text."""
        self._first = first
        self.get = lru_cache(_CACHED)(self._get)

    def _get(self, word: str) -> Pronunciation | None:
        if word in self._first:
            return self._first[word]
        if word in self._by_part:
            return self._by_part[word]
        key, text = word.encode(), self._text
        at = bisect_left(self._starts, key, key=lambda start: text[start : start + len(key)])
        begin = int(self._starts[at]) if at < len(self._starts) else len(text)
        key += b'":"'
        if not text.startswith(key, begin):
            return None
        begin += len(key)
        return text[begin : text.index(b'"', begin)].decode()


class Weights:
    """Feature of a word in its sentence → weight of each tag. `data`: a JSON object of objects of numbers."""

    def __init__(self, data: bytes) -> None:
        self._text = data
        starts = np.concatenate(([2], _places(data, b'},"', 0) + 3))
        hashes = _hashes(data, starts, _places(data, b'":{', 2))
        order = np.argsort(hashes)
        self._starts, self._hashes = starts[order], hashes[order]
        self.get = lru_cache(_CACHED)(self._get)

    def _get(self, feature: str) -> dict[str, float] | None:
        key = _key(feature)
        (wanted,) = _hashes(key, np.array([0]), np.array([len(key) - 2]))
        at = int(np.searchsorted(self._hashes, wanted))
        while at < len(self._starts) and self._hashes[at] == wanted:
            begin = int(self._starts[at])
            if self._text.startswith(key, begin):
                begin += len(key)
                found: dict[str, float] = json.loads(self._text[begin : self._text.index(b"}", begin) + 1])
                return found
            at += 1
        return None


def _places(text: bytes, mark: bytes, rarest: int) -> Ints:
    """Where a few bytes stand in a text. `rarest`: which of them is looked for first."""
    byte = np.frombuffer(text, np.uint8)
    found = np.flatnonzero(byte[rarest : len(byte) - len(mark) + 1 + rarest] == mark[rarest])
    for at, wanted in enumerate(mark):
        found = found[byte[found + at] == wanted] if at != rarest else found
    return np.asarray(found)


def _hashes(text: bytes, starts: Ints, ends: Ints) -> npt.NDArray[np.uint64]:
    """A number for each name in a text, from its length, its first eight bytes and its last eight."""
    eights = np.lib.stride_tricks.sliding_window_view(np.frombuffer(text + bytes(8), np.uint8), 8)
    shorter = _SHORTER[np.minimum(ends - starts, 8)]
    first = eights[starts].view("<u8")[:, 0] & shorter
    last = eights[np.maximum(ends - 8, starts)].view("<u8")[:, 0] & shorter
    return np.asarray((first * _MIX[0] + last * _MIX[1]) ^ (ends - starts).astype(np.uint64))


_SHORTER = np.array([(1 << 8 * size) - 1 for size in range(9)], np.uint64)
"""Leaves so many of eight bytes."""
_MIX = np.array([0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F], np.uint64)


def tagger(data: bytes) -> dict[str, Any]:
    """The tagger's model as its class takes it, its weights left as text."""
    mark = b',"weights":'
    head, _, weights = data.partition(mark)
    return {**json.loads(head + b"}"), "weights": Weights(weights[:-1])}


def _key(name: str) -> bytes:
    """A key and its colon as they stand behind the opening quotation mark."""
    return json.dumps(name, ensure_ascii=False).encode()[1:] + b":"
