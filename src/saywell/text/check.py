"""Checks whether a text can be spoken. Errors give the position and what to do, never the text itself."""

from __future__ import annotations

import re

from saywell.errors import InvalidText, TooLarge

# Symbols that are always read out. Others (=, #, /, *, …) are read only between operands.
SPOKEN_SYMBOLS = "&%@+°§©×÷±∞√‰$€£¥₹₩₽₿¢"
# Letters by category without shape or sound: the Hangul fillers.
FILLERS = "\u115f\u1160\u3164\uffa0"
# Letters by category that modify others: apostrophes, primes, iota below, Arabic vowel signs, half-width sound marks.
SIGNS = "\u02b9\u02bc\u0374\u037a\ufc5e-\ufc63\ufe70\ufe72\ufe74\ufe76\ufe78\ufe7a\ufe7c\ufe7e\uff9e\uff9f"

SPEAKABLE = re.compile(rf"[{re.escape(SPOKEN_SYMBOLS)}]|[^\W_{FILLERS}{SIGNS}]")
"""A speakable character: a letter or a digit of any script, or a symbol with a name."""

# Tab, newline, vertical tab, form feed and carriage return are white space; DEL and the rest below U+0020 are controls.
_C0 = bytes({*range(0x20), 0x7F} - {9, 10, 11, 12, 13})
# U+0085 is a line break. Its neighbours appear when Windows-1252 was decoded as Latin-1.
_CONTROL = re.compile(r"[\x00-\x08\x0e-\x1f\x7f-\x84\x86-\x9f]")
_C1_UTF8 = re.compile(rb"\xc2[\x80-\x84\x86-\x9f]")


def check(text: str, limit: int) -> None:
    """Raise InvalidText or TooLarge unless `text` can be spoken. `limit`: characters (code points)."""
    incoming = IncomingText(limit)
    incoming.add(text)
    incoming.finish()


class IncomingText:
    """Checks a text that arrives in pieces like `check` does a whole one: each piece on arrival."""

    def __init__(self, limit: int) -> None:
        """`limit`: characters (code points) of all pieces together."""
        self.chars = 0
        """Characters so far."""
        self._limit = limit
        self._half = ""
        """First half of a surrogate pair at the end of the last piece."""
        self._speakable = False

    def add(self, piece: str) -> str:
        """The part of a piece that can be passed on. Raises InvalidText or TooLarge.

        Programs that count in UTF-16 may cut a text inside a surrogate pair; its halves are joined.
        """
        if not isinstance(piece, str):
            raise InvalidText(f"text must be a string, not {type(piece).__name__}", param="text")
        piece = self._whole_pairs(piece)
        before, self.chars = self.chars, self.chars + len(piece)
        if self.chars > self._limit:
            message = f"text has {self.chars} characters, the limit is {self._limit}; send it in several requests"
            raise TooLarge(message, param="text")
        _refuse_controls(piece, _utf8(piece, before), before)
        self._speakable = self._speakable or speakable(piece)
        return piece

    def _whole_pairs(self, piece: str) -> str:
        if self._half and piece:
            pair, piece, self._half = self._half + piece[0], piece[1:], ""
            piece = pair.encode("utf-16", "surrogatepass").decode("utf-16", "surrogatepass") + piece
        if "\ud800" <= piece[-1:] <= "\udbff":
            piece, self._half = piece[:-1], piece[-1]
        return piece

    def finish(self) -> None:
        """The text is complete. Raises InvalidText if it has nothing to speak or ends with half a character."""
        _utf8(self._half, self.chars)
        if not self._speakable:
            raise InvalidText("text has nothing to speak; it needs at least one letter or digit", param="text")


def speakable(text: str) -> bool:
    """Whether the text has at least one speakable character."""
    return SPEAKABLE.search(text) is not None


def _utf8(text: str, before: int) -> bytes:
    """`before`: characters of the text before this piece."""
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        half = ord(text[error.start])
        raise InvalidText(
            f"text has half a surrogate pair (U+{half:04X}) at position {before + error.start}; "
            "remove it, or decode the source as UTF-16 before sending",
            param="text",
        ) from None


def _refuse_controls(text: str, data: bytes, before: int) -> None:
    """Works on UTF-8, where deleting bytes runs at memory speed; the slow search only finds the position."""
    if len(data.translate(None, _C0)) == len(data) and not (b"\xc2" in data and _C1_UTF8.search(data)):
        return
    match = _CONTROL.search(text)
    assert match is not None
    code = ord(match[0])
    hint = "; the text looks like Windows-1252 decoded as Latin-1" if code > 0x7F else ""
    position = before + match.start()
    raise InvalidText(
        f"text has the control character U+{code:04X} at position {position}; remove it{hint}", param="text"
    )
