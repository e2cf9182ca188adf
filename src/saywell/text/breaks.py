"""Places where a text can be cut: gaps between words, and how natural a pause there is.

A gap is classified by the text before it and the word after it. The result is final as soon as that word is known, so a
text that still arrives is cut like the whole text.
"""

from __future__ import annotations

import re
from enum import IntEnum


class Break(IntEnum):
    """How natural a pause is; higher is better."""

    GLUE = 0
    """A space inside an expression: `Dr. Smith`, `5 km`, `J. R. Tolkien`."""
    SPACE = 1
    PHRASE = 2
    """Before a conjunction or a relative pronoun."""
    CLAUSE = 3
    """Comma, semicolon, colon, dash, line end."""
    SENTENCE = 4
    PARAGRAPH = 5


ENDERS = ".!?…。！？｡．؟۔।॥။።፧⁇⁈⁉‼։꓿។៕"
# These end a sentence with or without a space after them.
WIDE_ENDERS = "。！？｡؟۔।॥။።፧⁇⁈⁉‼։꓿។៕"
CLAUSE_MARKS = ",;:、，；：､،؛፣፤፥፦၊"
WIDE_CLAUSE_MARKS = "、，；：､،؛፣፤፥፦၊"
DASHES = "-–—―"
CLOSERS = ")]}\"'”’“»«›‹」』】〉》）］｝＂＇*_`"

GAP = re.compile(rf"[{re.escape(ENDERS + CLAUSE_MARKS + DASHES + CLOSERS)}]+\s*|\s+")
"""Marks with the white space after them, or white space alone. Most matches in words are not gaps: `don't`, `3.14`."""

_NEXT_WORD = re.compile(r"[^\W\d_]+")
_LAST_WORD = re.compile(r"[\w.&]+\Z")
_PARAGRAPH = re.compile(r"\n\s*\n|\r\s*\r(?!\n)|\u2029")
_LINE = re.compile(r"[\n\r\x0b\x0c\x85\u2028]")
_FIXED_SPACE = re.compile(r"[\u00a0\u2007\u202f]+")
_INITIALS = re.compile(r"[^\W\d_](?:\.[^\W\d_])*")
_AFTER_NAME = frozenset(["jr", "sr", "inc", "ltd", "co", "corp", "llc", "plc", "esq", "gmbh"])
_MONTHS = frozenset(["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"])
_MONTH_DAY = re.compile(
    r"\b(?:Jan|Feb|Mar|Apr|May|June?|July?|Aug|Sept?|Oct|Nov|Dec)[a-z]{0,6}\.?\s\d{1,2}(?:st|nd|rd|th)?\Z"
)
_DAY_OF = re.compile(r"\b\d{1,2}(?:st|nd|rd|th)?(?:\sof)?\Z")
_ROMAN = re.compile(r"[IVXLC]{1,7}")
_BEFORE_ROMAN = re.compile(r"\b[A-Z][a-z]+\Z")
_BEFORE_ANY_ROMAN = re.compile(
    r"\b(?:[Vv]ol|[Nn]o|[Cc]h|[Ff]ig|[Pp]t)\Z|\b(?:War|Part|Chapter|Book|Volume|Act|Scene|Phase|Type)\Z"
)
_REACH = 12
"""Characters of the next word that are considered; all words in the lists below are shorter."""


def word_set(words: str) -> frozenset[str]:
    """The words of a string, as a set."""
    return frozenset(words.split())


# Never the end of a sentence.
_LEADING = word_set(
    """
    dr mr mrs ms mx messrs prof rev hon gen col maj capt cmdr lt sgt cpl pvt adm gov sen rep pres supt st ste mt
    e.g i.e eg ie cf viz vs v approx ca esp incl excl resp dept est hr fr bros ing dipl
    """
)
# Followed by a number, not the end of a sentence: "No. 5", "Jan. 3", "p. 12".
_NUMBERED = word_set(
    """
    no nos nr p pp fig figs eq vol vols ch chap sec sect art par para op cap ex ser jan feb mar apr jun jul aug
    sep sept oct nov dec tel ext
    """
)
# May end a sentence or not, depending on the next word.
_EITHER = word_set(
    """
    etc inc ltd co corp jr sr esq a.m p.m u.s u.k u.n e.u d.c b.c a.d ph.d m.d b.a m.a ave rd blvd ln hwy
    mon tue tues thu thur thurs fri ed eds trans assn univ govt
    """
)
STARTERS = word_set(
    """
    a an the this that these those he she it they we i you who what when where why how there here his her its
    their our my your in on at for from with by if as but and or so yet then now after before while although
    though because since however once one all some many most no not is are was do did does can
    """
)
_CONJUNCTIONS = word_set(
    """
    and but or nor because which who whose where when while if although though unless until since than whereas
    """
)


def next_word(text: str, at: int, end: int, final: bool) -> str | None:
    """The letters from `at` on in lower case, possibly none; None while their end has not arrived."""
    found = _NEXT_WORD.match(text, at, min(end, at + _REACH))
    stop = found.end() if found else at
    if stop == len(text) and stop < min(end, at + _REACH) and not final:
        return None
    return found[0].lower() if found else ""


def judge(text: str, start: int, mark_end: int, gap_end: int, voiced: int, word: str) -> Break | None:
    """The break at the gap `text[start:gap_end]`, or None if it is not a gap.

    `mark_end`: start of its white space. `voiced`: position of the next speakable character. `word`: see next_word.
    """
    marks = text[start:mark_end]
    space = text[mark_end:gap_end]
    if _inside_markup(text, start):
        return Break.GLUE
    if _PARAGRAPH.search(space):
        return Break.PARAGRAPH
    if space and not _LINE.search(space) and _belongs(text, start, marks, voiced, word):
        return Break.GLUE
    kind = _judge_marks(text, start, marks, space, voiced, word) if marks else None
    if kind is None and not space:
        return None
    if _LINE.search(space):
        return max(kind or Break.CLAUSE, Break.CLAUSE)
    return _judge_space(text, start, marks, space, gap_end, word) if kind is None else kind


_TAG_OPEN = re.compile(r"<[/!]?[A-Za-z][^<>]{0,280}\Z")
_LINK_OPEN = re.compile(r"\]\([^()\n]{0,280}\Z|\[[^\[\]\n]{1,120}\Z")


def _inside_markup(text: str, at: int) -> bool:
    """True inside a tag or a link, which no chunk could read if they were cut."""
    before = text[max(0, at - 300) : at]
    return ("<" in before and _TAG_OPEN.search(before, before.rfind("<")) is not None) or (
        "[" in before and _LINK_OPEN.search(before, max(0, before.rfind("[") - 1)) is not None
    )


def _belongs(text: str, start: int, marks: str, voiced: int, word: str) -> bool:
    """True inside one thing that has marks or spaces: (555) 123-4567, 1939 – 1945, Jan. 5, 2024, Smith Jr., Vol. II."""
    before, after = text[max(0, start - 24) : start], text[voiced : voiced + 1]
    if after.isdigit():
        if marks and marks[-1] in ")" + DASHES and before.rstrip()[-1:].isdigit():
            return True
        return marks == "," and _MONTH_DAY.search(before) is not None
    if marks in ("", ",") and word in _AFTER_NAME:
        return before[-1:].isalpha() and after.isupper()
    if marks == "" and word[:3] in _MONTHS and _DAY_OF.search(before):
        return True
    numeral = word and _ROMAN.fullmatch(text, voiced, voiced + len(word)) is not None
    if numeral and marks in ("", ".") and _BEFORE_ANY_ROMAN.search(before):
        return len(word) > 1 or marks == ""
    return bool(numeral and marks == "" and len(word) > 1 and _BEFORE_ROMAN.search(before))


def _judge_space(text: str, start: int, marks: str, space: str, gap_end: int, word: str) -> Break:
    before, after = text[start - 1 : start], text[gap_end : gap_end + 1]
    lonely_mark = marks and (not before or before.isspace())
    if lonely_mark or _FIXED_SPACE.fullmatch(space) or (after and after in DASHES):
        return Break.GLUE
    if not marks and (before.isdigit() or after.isdigit()):
        return Break.GLUE
    return Break.PHRASE if word in _CONJUNCTIONS else Break.SPACE


def _judge_marks(text: str, start: int, marks: str, space: str, voiced: int, word: str) -> Break | None:
    core = marks.rstrip(CLOSERS) or marks
    last = core[-1]
    before = text[start - 1 : start]
    if last in WIDE_ENDERS or (last in "!?" and not space and text[voiced : voiced + 1] > "\u2e80"):
        return Break.SENTENCE
    if last in WIDE_CLAUSE_MARKS:
        return None if before.isdigit() and text[voiced : voiced + 1].isdigit() else Break.CLAUSE
    if core.endswith(("—", "―", "--")) and not before.isspace():
        return None if before.isdigit() or not before else Break.CLAUSE
    if not space:
        return None
    if last in ENDERS:
        return _judge_end(text, start, core, marks, voiced, word)
    if last in CLAUSE_MARKS or core.endswith(")") or (last in DASHES and before.isspace()):
        return Break.CLAUSE
    return None


def _judge_end(text: str, start: int, core: str, marks: str, voiced: int, word: str) -> Break:
    """A full stop, question mark or the like with white space after it."""
    lower = text[voiced : voiced + 1].islower()
    if core != "." or (len(marks) > 1 and lower):
        quoted = len(marks) > len(core)
        return Break.CLAUSE if lower and (quoted or core[-1] in ".…") else Break.SENTENCE
    return _judge_stop(text, start, text[voiced : voiced + 1], word)


def _judge_stop(text: str, start: int, after: str, word: str) -> Break:
    """A single full stop: the end of a sentence, of an abbreviation, of an initial or of a list number."""
    found = _LAST_WORD.search(text, max(0, start - 24), start)
    token = found[0] if found else ""
    last = token.lower()
    if last in _LEADING or (found and found[0] == "Ft") or (last in _NUMBERED and after.isdigit()):
        return Break.GLUE
    if last.isdigit() and len(last) <= 3 and _starts_line(text, start - len(last)):
        return Break.GLUE
    if last in _EITHER or (_INITIALS.fullmatch(token) and token[:1].isupper()):
        return Break.SENTENCE if word in STARTERS and not after.islower() else Break.GLUE
    if after.islower():
        return Break.GLUE if last in _NUMBERED else Break.CLAUSE
    return Break.SENTENCE


def _starts_line(text: str, at: int) -> bool:
    """Whether only white space separates `at` from the end of the sentence or line before it."""
    before = text[max(0, at - 8) : at]
    bare = before.rstrip()
    return not bare or "\n" in before[len(bare) :] or (bare != before and bare[-1] in ".!?:;")
