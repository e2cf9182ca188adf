"""How English words are pronounced: a lexicon of exceptions, and decision trees over letters for all other words.

The data are Flite's own (`training/letters`), so a word sounds here as it did in the speech the voice was trained on.
"""

from __future__ import annotations

import json
from functools import lru_cache
from pathlib import Path
from string import ascii_lowercase
from typing import Any

import numpy as np

HOME = Path(__file__).with_name("english")
LEAF = 255
CONTEXT = 4
"""Letters the trees see on either side."""
VOWELS = "aeiouy"
ACRONYM = 5
"""Capitals in a row, at most, that are spelled when they are no known word."""

Phones = tuple[str, ...]


class Lexicon:
    """`english/lexicon.txt` in one piece of memory, searched where it lies: a dict of it would cost 10 MB and 40 ms."""

    def __init__(self) -> None:
        self._text = (HOME / "lexicon.txt").read_bytes()
        self._sections = {letter: self._text.find(f"\n{letter}".encode()) for letter in ascii_lowercase}
        self._letters = Letters()
        sentence = json.loads((HOME / "sentence.json").read_bytes())
        self.kinds: dict[str, str] = sentence["kinds"]
        """Function words → kind: det, aux, pps, …"""
        self.parts_of_speech: list[list[Any]] = sentence["part_of_speech"]
        self._short = frozenset(sentence["short"].split())
        self._heads, self._tails = frozenset(sentence["heads"]), frozenset(sentence["tails"])

    def __contains__(self, word: str) -> bool:
        return self._entry(word) is not None

    def pronounce(self, word: str, part: str = "0") -> Phones:
        """Phones of a lower-case word of a-z and apostrophes. `part` of speech: n, v, j, r, or 0 for any."""
        entry = self._entry(word)
        if entry is None:
            return self._letters.pronounce(word)
        default, *others = entry.split("\t")
        return tuple(next((said[2:] for said in others if said[0] == part), default).split())

    def knows(self, word: str) -> bool:
        """Whether this is a word, for one of at most ACRONYM letters."""
        return word in self._short or word in self

    def pronounceable(self, word: str) -> bool:
        """Whether a word could be English by the consonants it begins and ends with; else it is spelled: xkcd."""
        first = next((at for at, letter in enumerate(word) if letter in VOWELS), None)
        if first is None:
            return False
        last = max(word.rindex(letter) for letter in VOWELS if letter in word)
        return word[:first] in self._heads and word[last + 1 :] in self._tails

    def _entry(self, word: str) -> str | None:
        first = self._sections.get(word[:1], 0)  # what does not begin with a letter stands before them
        until = self._sections.get(chr(ord(word[0]) + 1), len(self._text)) + 1 if first else self._sections["a"] + 1
        start = self._text.find(f"\n{word}\t".encode(), first, until)
        if start < 0:
            return None
        start += len(word) + 2
        return self._text[start : self._text.index(b"\n", start)].decode()


class Letters:
    """One tree a letter; a leaf is no phone, one, or two."""

    def __init__(self) -> None:
        with np.load(HOME / "letters.npz") as trees:
            self._nodes: list[list[int]] = trees["nodes"].tolist()
            self._starts: list[int] = trees["starts"].tolist()
            self._phones: list[Phones] = [tuple(said.split()) for said in trees["phones"].tolist()]

    def pronounce(self, word: str) -> Phones:
        # `#` marks the ends of the word, `0` what lies beyond, as the trees were grown.
        padded = f"000#{word}#000"
        phones: list[str] = []
        for at in range(CONTEXT, CONTEXT + len(word)):
            if "a" <= padded[at] <= "z":
                around = padded[at - CONTEXT : at] + padded[at + 1 : at + 1 + CONTEXT]
                phones += self._phones[self._leaf(self._starts[ord(padded[at]) - ord("a")], around)]
        return tuple(phones)

    def _leaf(self, node: int, around: str) -> int:
        feature, value, yes, no = self._nodes[node]
        while feature != LEAF:
            feature, value, yes, no = self._nodes[yes if ord(around[feature]) == value else no]
        return value


@lru_cache(maxsize=1)
def lexicon() -> Lexicon:
    """The one there is; 3 ms."""
    return Lexicon()
