"""Text no voice may be trained on, and the rule that keeps it apart: by hash, so that nobody has to remember it."""

from __future__ import annotations

import hashlib
import re
from functools import cache
from importlib import resources
from typing import Literal

from saywell.text.normalise import normalise

Part = Literal["test", "valid", "train"]

_RUN = 6
"""So many words in a row in common with a held-out sentence, and a text is held out too."""
_VALID = 50
"""One text in so many is for validation: to choose a checkpoint by, not to train on."""


def words(text: str) -> list[str]:
    """The words a person would say, in lower case: what both sides of a word error rate are made of."""
    return re.findall(r"[a-z']+", normalise(text).lower())


@cache
def sentences() -> tuple[str, ...]:
    """The held-out sentences: plain English, in order a text of ten minutes."""
    text = resources.files("saywell.bench").joinpath("data/held_out.txt").read_text(encoding="utf-8")
    return tuple(line for line in text.splitlines() if line)


def fingerprint(text: str) -> str:
    """SHA-256 of a text's words, in hex: equal for what sounds equal."""
    return hashlib.sha256(" ".join(words(text)).encode()).hexdigest()


def part(text: str) -> Part:
    """What a sentence may be used for. "test": it is held out, or shares six words in a row with one that is."""
    said = words(text)
    if fingerprint(text) in _fingerprints() or not _runs().isdisjoint(_cut(said)):
        return "test"
    return "valid" if int(fingerprint(text)[:8], 16) % _VALID == 0 else "train"


@cache
def _fingerprints() -> frozenset[str]:
    return frozenset(map(fingerprint, sentences()))


@cache
def _runs() -> frozenset[tuple[str, ...]]:
    return frozenset(run for sentence in sentences() for run in _cut(words(sentence)))


def _cut(said: list[str]) -> list[tuple[str, ...]]:
    return [tuple(said[at : at + _RUN]) for at in range(len(said) - _RUN + 1)]
