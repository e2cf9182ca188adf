"""Is this text fit to be spoken? Refusals say where the trouble is and the way out, never what the text says."""

from __future__ import annotations

import re

from saywell.errors import InvalidText, TooLarge

# Symbols that are read out wherever they stand. Others (=, #, /, *, …) are read only between operands.
SPOKEN_SYMBOLS = "&%@+°§©×÷±∞√‰$€£¥₹₩₽₿¢"
# Letters by category that nobody can see or say: the Hangul fillers.
FILLERS = "\u115f\u1160\u3164\uffa0"
# And marks beside other letters: apostrophes, primes, iota below, Arabic vowel signs, half-width sound marks.
SIGNS = "\u02b9\u02bc\u0374\u037a\ufc5e-\ufc63\ufe70\ufe72\ufe74\ufe76\ufe78\ufe7a\ufe7c\ufe7e\uff9e\uff9f"

SPEAKABLE = re.compile(rf"[{re.escape(SPOKEN_SYMBOLS)}]|[^\W_{FILLERS}{SIGNS}]")
"""One character that makes a sound: a letter or a digit of any script, or a symbol with a name."""

# Tab, newline, vertical tab, form feed and carriage return are white space; all else below U+0020 and DEL are not text.
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
    """Checks a text that arrives in pieces, as `check` does the whole: each piece as it comes."""

    def __init__(self, limit: int) -> None:
        """`limit`: characters (code points) of all pieces together."""
        self.chars = 0
        """Characters that have come."""
        self._limit = limit
        self._half = ""
        """The first half of a surrogate pair, which ended a piece."""
        self._speakable = False

    def add(self, piece: str) -> str:
        """Raise InvalidText or TooLarge for a piece that cannot be spoken; what of it can be passed on.

        A text from a program that counts in UTF-16 may be cut inside a surrogate pair: its halves come out joined.
        """
        if not isinstance(piece, str):
            raise InvalidText(f"text must be a string, not {type(piece).__name__}", param="text")
        piece = self._whole_pairs(piece)
        before, self.chars = self.chars, self.chars + len(piece)
        if self.chars > self._limit:
            said = f"text has {self.chars} characters, the limit is {self._limit}; send it in several requests"
            raise TooLarge(said, param="text")
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
        """All pieces have come. Raise InvalidText if they leave nothing to speak, or half a character."""
        _utf8(self._half, self.chars)
        if not self._speakable:
            raise InvalidText("text has nothing to speak; it needs at least one letter or digit", param="text")


def speakable(text: str) -> bool:
    """True if the text has at least one letter, digit or symbol that is read out."""
    return SPEAKABLE.search(text) is not None


def _utf8(text: str, before: int) -> bytes:
    """`before`: characters of the text that came before this piece of it."""
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        found = ord(text[error.start])
        raise InvalidText(
            f"text has half a surrogate pair (U+{found:04X}) at position {before + error.start}; "
            "remove it, or decode the source as UTF-16 before sending",
            param="text",
        ) from None


def _refuse_controls(text: str, data: bytes, before: int) -> None:
    """Works on UTF-8, where deleting bytes runs at memory speed; the slow search only finds the position."""
    if len(data.translate(None, _C0)) == len(data) and not (b"\xc2" in data and _C1_UTF8.search(data)):
        return
    found = _CONTROL.search(text)
    assert found is not None
    code = ord(found[0])
    hint = "; the text looks like Windows-1252 decoded as Latin-1" if code > 0x7F else ""
    at = before + found.start()
    raise InvalidText(f"text has the control character U+{code:04X} at position {at}; remove it{hint}", param="text")
