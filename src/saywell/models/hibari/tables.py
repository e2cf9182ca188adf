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
        byte = np.frombuffer(self._text, np.uint8)
        ends = (byte[:-2] == ord('"')) & (byte[1:-1] == ord(",")) & (byte[2:] == ord('"'))
        self._starts = np.concatenate(([1], np.flatnonzero(ends) + 3))
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
        byte = np.frombuffer(data, np.uint8)
        colons = np.flatnonzero((byte[:-1] == ord(":")) & (byte[1:] == ord("{"))) - 1
        closed = np.flatnonzero((byte[:-1] == ord("}")) & (byte[1:] == ord(",")))
        starts = np.concatenate(([2], closed + 3))
        hashes = _hashes(byte, starts, colons)
        order = np.argsort(hashes, kind="stable")
        self._starts, self._hashes = starts[order], hashes[order]
        self.get = lru_cache(_CACHED)(self._get)

    def _get(self, feature: str) -> dict[str, float] | None:
        key = _key(feature)
        byte = np.frombuffer(key, np.uint8)
        (wanted,) = _hashes(byte, np.array([0]), np.array([len(key) - 2]))
        at = int(np.searchsorted(self._hashes, wanted))
        while at < len(self._starts) and self._hashes[at] == wanted:
            begin = int(self._starts[at])
            if self._text.startswith(key, begin):
                begin += len(key)
                found: dict[str, float] = json.loads(self._text[begin : self._text.index(b"}", begin) + 1])
                return found
            at += 1
        return None


def _hashes(byte: npt.NDArray[np.uint8], starts: Ints, ends: Ints) -> npt.NDArray[np.uint64]:
    """A number for each name of a text, from its length, its first eight bytes and its last eight."""
    places = np.arange(8)
    padded = np.concatenate((byte, np.zeros(8, np.uint8)))
    first, last = starts[:, None] + places, np.maximum(ends - 8, starts)[:, None] + places
    halves = [
        np.where(at < ends[:, None], padded[at], 0).astype(np.uint8).view(np.uint64)[:, 0] for at in (first, last)
    ]
    return (
        halves[0] * np.uint64(0x9E3779B97F4A7C15)
        + halves[1] * np.uint64(0xC2B2AE3D27D4EB4F)
        + (ends - starts).astype(np.uint64)
    )


def tagger(data: bytes) -> dict[str, Any]:
    """The tagger's model as its class takes it, its weights left as text."""
    mark = b',"weights":'
    head, _, weights = data.partition(mark)
    return {**json.loads(head + b"}"), "weights": Weights(weights[:-1])}


def _key(name: str) -> bytes:
    """A key and its colon as they stand behind the opening quotation mark."""
    return json.dumps(name, ensure_ascii=False).encode()[1:] + b":"
