"""Words → the symbols of `phones.py`: parts of speech, the lexicon, and the rules for sounds that meet."""

from __future__ import annotations

from dataclasses import dataclass

from saywell.errors import InvalidText
from saywell.models.wren.lexicon import Lexicon, Phones, lexicon
from saywell.models.wren.phones import PAUSES, START, WORD
from saywell.models.wren.words import ENDINGS, Word, words

SIBILANTS = frozenset({"s", "z", "sh", "zh", "ch", "jh"})
VOICELESS = frozenset({"p", "t", "k", "f", "th", "hh", "s", "sh", "ch"})
NEIGHBOURS = {"p.p.": -2, "p.": -1, "": 0, "n.": 1, "n.n.": 2}
NOBODY = "0"
"""What the tree finds beyond the ends of a sentence."""


@dataclass(frozen=True, slots=True)
class Spoken:
    """Where a word of the text lies among the symbols: [start, end)."""

    text: str
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Utterance:
    symbols: tuple[str, ...]
    words: tuple[Spoken, ...]


def read(text: str) -> Utterance:
    """The pronunciation of a text in its spoken form. Raises InvalidText when none of it can be read in English."""
    known = lexicon()
    found = words(text, known)
    said = _meet([_clitics(parts) for parts in _pronounce(found, known)], found)
    symbols, places = [START], []
    for word, phones in zip(found, said, strict=True):
        if phones:
            places.append(Spoken(word.text, len(symbols), len(symbols) + len(phones)))
            symbols += [*phones, word.pause or WORD]
        elif word.pause and places:
            symbols[-1] = _stronger(symbols[-1], word.pause)
    if not places:
        raise InvalidText("nothing in this text makes a sound in English", param="text")
    symbols[-1] = symbols[-1] if symbols[-1] in PAUSES else "."
    return Utterance(tuple(symbols), tuple(places))


def _stronger(one: str, other: str) -> str:
    order = (WORD, *PAUSES)
    return max(one, other, key=order.index)


def _pronounce(found: list[Word], known: Lexicon) -> list[list[tuple[str, Phones]]]:
    """Each word's parts with their phones."""
    names = [part for word in found for part in word.parts]
    kinds = [known.kinds.get(name, "content") for name in names]
    said = [
        (name, known.pronounce(name, _part_of_speech(known, names, kinds, at) if kinds[at] == "content" else "0"))
        for at, name in enumerate(names)
    ]
    parts = iter(said)
    return [[next(parts) for _ in word.parts] for word in found]


def _part_of_speech(known: Lexicon, names: list[str], kinds: list[str], at: int) -> str:
    """Walk the tree: n, v, j, r, or 0."""
    node = known.parts_of_speech[0]
    place = 0
    while len(node) > 1:
        feature, value, otherwise = node
        ahead, _, what = feature.rpartition(".")
        there = at + NEIGHBOURS[ahead + "." if ahead else ""]
        row = names if what == "name" else kinds
        answer = row[there] if 0 <= there < len(row) else NOBODY
        place = place + 1 if answer == value else otherwise
        node = known.parts_of_speech[place]
    return str(node[0])


def _clitics(parts: list[tuple[str, Phones]]) -> list[tuple[str, Phones]]:
    """'s as its neighbour wants it: cat-s, dog-z, bus-ax-z; and 've, 'll, 'd with a vowel after a consonant."""
    said: list[tuple[str, Phones]] = []
    for name, phones in parts:
        before = said[-1][1][-1] if said and said[-1][1] else ""
        if name == "'s" and before:
            phones = ("ax0", "z") if before in SIBILANTS else ("s",) if before in VOICELESS else ("z",)
        elif name in ENDINGS and before and not _is_vowel(before):
            phones = ("ax0", *phones)
        said.append((name, phones))
    return said


def _meet(said: list[list[tuple[str, Phones]]], found: list[Word]) -> list[Phones]:
    """Phones of each word as they sound beside the next: "the" before a vowel."""
    spoken = [tuple(phone for _, phones in parts for phone in phones) for parts in said]
    for at, word in enumerate(found[:-1]):
        following = next((phones for phones in spoken[at + 1 :] if phones), ())
        if word.parts == ("the",) and not word.pause and following and _is_vowel(following[0]):
            spoken[at] = tuple("iy0" if phone == "ax0" else phone for phone in spoken[at])
    return spoken


def _is_vowel(phone: str) -> bool:
    return phone[0] in "aeiou"
