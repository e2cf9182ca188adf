"""Web and mail addresses, in English words."""

from __future__ import annotations

import re
from re import Match

from saywell.text.numbers import cardinal, digits

_EMAIL = re.compile(r"(?<![\w.+-])(?:mailto:)?([\w.+-]{1,64})@((?:[a-zA-Z0-9-]{1,63}\.){1,8}[a-zA-Z]{2,24})\b")
_URL = re.compile(r"\b(?:(?:https?|ftp|wss?|file)://|www\.)[^\s<>\"{}|\\^`]{1,2000}", re.IGNORECASE)
_TLDS = "com|org|net|edu|gov|io|ai|dev|app|co|uk|de|fr|eu|us|ca|au|info|me|tv|xyz|ch|at|nl|se|no|es|it|jp|cn|ru|br|in"
_BARE = re.compile(
    rf"(?<![\w@./-])((?:[a-zA-Z0-9][a-zA-Z0-9-]{{0,62}}\.){{1,6}}(?:{_TLDS}))(?![\w-]|\.\w)((?::\d{{2,5}})?/[^\s<>\"]{{0,500}})?"
)
_PIECE = re.compile(r"[^\W\d_]+|\d+|[^\w\s]|_")
_NAMES = {
    ".": "dot", "/": "slash", ":": "colon", "-": "dash", "_": "underscore", "?": "question mark", "=": "equals",
    "&": "and", "#": "hash", "%": "percent", "+": "plus", "~": "tilde", "@": "at", ",": "comma", ";": "semicolon",
    "*": "star", "!": "exclamation mark", "$": "dollar",
}  # fmt: skip


def speak_addresses(text: str) -> str:
    """URLs and e-mail addresses as words; `https://` and `www.` are not read."""
    if "@" in text:
        text = _EMAIL.sub(lambda match: f"{spell(match[1])} at {spell(match[2])}", text)
    if "://" in text or "www." in text.lower():
        text = _URL.sub(_url, text)
    if "." in text:
        text = _BARE.sub(_bare, text)
    return text


def spell(address: str) -> str:
    """Words unchanged, marks by name, long numbers by digit."""
    return " ".join(_say(piece) for piece in _PIECE.findall(address) if piece not in "()[]'")


def _say(piece: str) -> str:
    if piece.isdecimal():
        return cardinal(piece) if len(piece) <= 2 else digits(piece)
    return _NAMES.get(piece, piece)


def _url(match: Match[str]) -> str:
    whole = match[0]
    bare = whole.rstrip(".,;:!?)]'*_")
    if bare.count("(") > bare.count(")") and whole[len(bare) : len(bare) + 1] == ")":
        bare += ")"
    address = re.sub(r"^(?:[a-z]+://)?(?:www\.)?", "", bare, flags=re.IGNORECASE).rstrip("/")
    return (spell(address) or spell(bare)) + whole[len(bare) :]


def _bare(match: Match[str]) -> str:
    name = match[1]
    if name.rpartition(".")[2] in ("in", "no", "at", "it", "us", "me", "es", "is") and not match[2]:
        return match[0]  # more likely two sentences without a space
    path = match[2] or ""
    bare = path.rstrip(".,;:!?)]'*_/")
    return spell(name + bare) + path[len(bare) :].replace("/", "")
