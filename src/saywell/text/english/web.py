"""Web and mail addresses."""

from __future__ import annotations

import re
from re import Match

from saywell.text.english.grammar import Rules
from saywell.text.numbers import cardinal, digits

rule = Rules()

_TLDS = "com|org|net|edu|gov|io|ai|dev|app|co|uk|de|fr|eu|us|ca|au|info|me|tv|xyz|ch|at|nl|se|no|es|it|jp|cn|ru|br|in"
_PIECE = re.compile(r"[^\W\d_]+|\d+|[^\w\s]|_")
_NAMES = {
    ".": "dot", "/": "slash", ":": "colon", "-": "dash", "_": "underscore", "?": "question mark", "=": "equals",
    "&": "and", "#": "hash", "%": "percent", "+": "plus", "~": "tilde", "@": "at", ",": "comma", ";": "semicolon",
    "*": "star", "\\": "backslash", "!": "exclamation mark", "$": "dollar",
}  # fmt: skip


@rule("9a", r"(?<![\w.+-])(?:mailto:)?([\w.+-]{1,64})@((?:[a-zA-Z0-9-]{1,63}\.){1,8}[a-zA-Z]{2,24})\b")
def mail_address(match: Match[str]) -> str:
    """me@example.com"""
    return f"{spell(match[1])} at {spell(match[2])}"


@rule("a", r"\b(?:(?:https?|ftp|wss?|file)://|www\.)[^\s<>\"{}|\\^`]{1,2000}", re.IGNORECASE)
def web_address(match: Match[str]) -> tuple[str, int]:
    """https://www.example.com/a: the scheme and `www.` are not spoken"""
    whole = match[0]
    bare = whole.rstrip(".,;:!?)]'*_")
    if bare.count("(") > bare.count(")") and whole[len(bare) : len(bare) + 1] == ")":
        bare += ")"
    address = re.sub(r"^(?:[a-z]+://)?(?:www\.)?", "", bare, flags=re.IGNORECASE).rstrip("/")
    return spell(address) or spell(bare), match.start() + len(bare)


@rule(
    "9a",
    rf"(?<![\w@./-])((?:[a-zA-Z0-9][a-zA-Z0-9-]{{0,62}}\.){{1,6}}(?:{_TLDS}))(?![\w-]|\.\w)((?::\d{{2,5}})?/[^\s<>\"]{{0,500}})?",
)
def bare_address(match: Match[str]) -> tuple[str, int] | None:
    """example.org/docs"""
    name = match[1]
    if name.rpartition(".")[2] in ("in", "no", "at", "it", "us", "me", "es", "is") and not match[2]:
        return None  # more likely two sentences without a space
    path = match[2] or ""
    bare = path.rstrip(".,;:!?)]'*_/")
    end = match.end()
    while end > match.end(1) + len(bare) and match.string[end - 1] != "/":
        end -= 1
    return spell(name + bare), max(end, match.end(1) + len(bare))


@rule("/~.", r"(?:(?<=\s)|(?<=^)|(?<=[(`\"']))(?:~|\.{1,2})?/(?:[\w.+-]{1,64}/){0,12}[\w.+-]{1,64}/?")
def path(match: Match[str]) -> tuple[str, int] | None:
    """/usr/local/bin, ./run.sh"""
    bare = match[0].rstrip(".")
    return (spell(bare), match.start() + len(bare)) if re.search(r"[A-Za-z]", bare) else None


@rule("a", r"\b[A-Z]:\\(?:[\w.+-]{1,64}\\){0,12}[\w.+-]{0,64}")
def windows_path(match: Match[str]) -> str:
    """C:\\Users\\Bob"""
    return spell(match[0])


def spell(address: str) -> str:
    """Words as they are, marks by name, long numbers by digit."""
    return " ".join(_say(piece) for piece in _PIECE.findall(address) if piece not in "()[]'")


def _say(piece: str) -> str:
    if piece.isdecimal():
        return cardinal(piece) if len(piece) <= 2 else digits(piece)
    return _NAMES.get(piece, piece)
