"""A text in its spoken form → the words an English reader says, and where he pauses.

Names, acronyms, code and other scripts come here too: whatever it is, each piece of it becomes a word to pronounce,
letters to spell, the name of a script, or nothing, in time linear in its length.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass

from saywell.errors import InvalidText
from saywell.models.wren.lexicon import ACRONYM, Lexicon
from saywell.text.english import SPELLED, ascii_only, respell
from saywell.text.numbers import cardinal

ENDINGS = ("'s", "'ll", "'ve", "'d")
"""Clitics with a pronunciation of their own, which the sound before them decides."""
_TOKEN = re.compile(r"[A-Za-z]+(?:'[A-Za-z]+)*|\d+")
_CAMEL = re.compile(r"(?<=[a-z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z]{2})")
_OPENING = re.compile(r"(?<=\s)[\"'(\[{]+$")
_DRAWN_OUT = re.compile(r"([a-z])(?<!\1\1)\1{2,12}(?!\1)")
_PLURAL = re.compile(r"[A-Z]{2,}s")
_FOREIGN = re.compile(r"[^\W\d_\x00-\u024f\u1e00-\u1eff]+")
_LETTER = re.compile(r"[^\W\d_]")
_SCRIPTS = {"CJK": "Chinese", "HIRAGANA": "Japanese", "KATAKANA": "Japanese", "HANGUL": "Korean"}
_GREEK = re.compile(r"GREEK (?:SMALL|CAPITAL) LETTER (?:FINAL )?(\w+)(?: WITH .*)?")


@dataclass(frozen=True, slots=True)
class Word:
    """One word of the text, as one or more spoken parts: `IBM's` → i, b, m, 's."""

    text: str
    parts: tuple[str, ...]
    pause: str
    """The mark of the pause after it, one of phones.PAUSES; empty: none."""


def words(text: str, lexicon: Lexicon) -> list[Word]:
    """Raises InvalidText when nothing is left that can be read, or most of it cannot."""
    text = ascii_only(_name_foreign(text))
    tokens = list(_TOKEN.finditer(text))
    shouted = len(tokens) > 1 and not any(char.islower() for char in text)
    reader = _Reader(lexicon, shouted)
    found: list[Word] = []
    for at, token in enumerate(tokens):
        until = tokens[at + 1].start() if at + 1 < len(tokens) else len(text)
        gap = text[token.end() : until]
        pause = _pause(gap, last=until == len(text), quoted=text[token.start() - 1 : token.start()] == "'")
        alone = _standing(text, token.start(), gap, pause)
        before = [word.parts[-1] for word in found[-3:]]
        found += reader.read(token[0], pause, before, alone=alone, first=_first(found))
    if not found:
        raise InvalidText(
            "nothing in this text can be read in English; choose an espeak:<language> voice", param="text"
        )
    return found


def _first(found: list[Word]) -> bool:
    """Whether the next word begins a sentence."""
    return not found or found[-1].pause in (".", "?", "!")


def _standing(text: str, start: int, gap: str, pause: str) -> bool:
    """Whether a token is a part of a larger one, or has nothing after it to lean on: then `a` is the letter."""
    return bool(pause) or gap[:1] == "-" or text[start - 1 : start] == "-"


def _pause(gap: str, *, last: bool, quoted: bool) -> str:
    """The pause that what stands between two words makes. An apostrophe after a plural makes none."""
    after = gap if last else _OPENING.sub("", gap)
    if "?" in after:
        return "?"
    if "!" in after:
        return "!"
    if "." in after and (last or "..." not in after):
        return "."
    marks = after.strip(" -'") or ("'" in after and quoted)
    return "." if last else "," if marks and re.search(r"[,;:\"'(){}\[\].]", after) else ""


def _name_foreign(text: str) -> str:
    """Letters of other scripts by name, a run of them by the name of their script. Raises InvalidText for too many."""
    foreign = sum(len(run) for run in _FOREIGN.findall(text))
    if foreign * 2 > len(_LETTER.findall(text)) and foreign > 2:
        raise InvalidText("most of this text is not in Latin letters; choose an espeak:<language> voice", param="text")
    return _FOREIGN.sub(_foreign, text) if foreign else text


def _foreign(run: re.Match[str]) -> str:
    name = unicodedata.name(unicodedata.normalize("NFD", run[0])[0], "")
    letter = _GREEK.fullmatch(name)
    if letter and len(run[0]) == 1:
        return f" {letter[1].lower()} "
    script = name.partition(" ")[0]
    return (
        f" {_SCRIPTS.get(script, script.capitalize())} {'letter' if len(run[0]) == 1 else 'text'} " if script else " "
    )


class _Reader:
    """Tokens to words."""

    def __init__(self, lexicon: Lexicon, shouted: bool) -> None:
        self._lexicon = lexicon
        self._shouted = shouted

    def read(self, token: str, pause: str, before: list[str], *, alone: bool, first: bool) -> Iterator[Word]:
        """`before`: up to three words said before. A token may be several words: camelCase, 42."""
        if token.isdigit():
            pieces = cardinal(token).replace("-", " ").split()
        elif token.lower() in self._lexicon or self._shouted:
            pieces = [token]
        else:
            pieces = _CAMEL.split(token)
        for at, piece in enumerate(pieces):
            last = at == len(pieces) - 1
            letter = piece in ("a", "A") and (alone or (piece == "A" and not first and not self._shouted))
            parts = ("_a",) if letter else self._parts(piece, before)
            yield Word(piece, parts, pause if last else "")

    def _parts(self, piece: str, before: list[str]) -> tuple[str, ...]:
        endings: list[str] = []
        while (ending := next((e for e in ENDINGS if piece.lower().endswith(e)), "")) and len(piece) > len(ending):
            endings.insert(0, ending)
            piece = piece[: -len(ending)]
        return (*self._stem(piece, before), *endings)

    def _stem(self, piece: str, before: list[str]) -> tuple[str, ...]:
        lower = piece.lower()
        if _PLURAL.fullmatch(piece) and self._initials(piece[:-1]):
            return (*_spell(lower[:-1]), "'s")
        if self._initials(piece):
            return _spell(lower)
        return self._plain(lower.replace("'", ""), before)

    def _plain(self, word: str, before: list[str]) -> tuple[str, ...]:
        if word in self._lexicon:
            return (respell(word, before),)
        word = _DRAWN_OUT.sub(r"\1\1", word)
        if len(word) > 1 and word not in self._lexicon and not self._lexicon.pronounceable(word):
            return _spell(word)
        return (word,)

    def _initials(self, piece: str) -> bool:
        """Whether capitals are letters to be spelled: the US, an API; not NASA, nor a text that shouts."""
        if self._shouted or len(piece) < 2 or not piece.isupper():
            return False
        return piece in SPELLED or (len(piece) <= ACRONYM and not self._lexicon.knows(piece.lower()))


def _spell(word: str) -> tuple[str, ...]:
    return tuple("_a" if letter == "a" else letter for letter in word if letter.isalpha())
