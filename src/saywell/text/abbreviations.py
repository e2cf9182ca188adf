"""Abbreviations and Roman numerals, in English words."""

from __future__ import annotations

import re
from re import Match

from saywell.text.breaks import STARTERS, word_set
from saywell.text.numbers import cardinal, ordinal

# Always expanded. The full stop is part of them.
_ALWAYS = {
    "mr.": "Mister", "mrs.": "Missis", "ms.": "Miz", "messrs.": "Messieurs", "prof.": "Professor", "rev.": "Reverend",
    "hon.": "Honourable", "capt.": "Captain", "cmdr.": "Commander", "lt.": "Lieutenant", "sgt.": "Sergeant",
    "cpl.": "Corporal", "gov.": "Governor", "supt.": "Superintendent", "e.g.": "for example", "i.e.": "that is",
    "vs.": "versus", "approx.": "approximately", "dept.": "department", "govt.": "government", "assn.": "association",
    "univ.": "university", "incl.": "including", "excl.": "excluding", "cf.": "compare", "viz.": "namely",
    "mt.": "Mount", "ave.": "Avenue", "rd.": "Road", "blvd.": "Boulevard", "hwy.": "Highway",
    "inc.": "Incorporated", "ltd.": "Limited", "corp.": "Corporation", "bros.": "Brothers", "co.": "Company",
    "jr.": "Junior", "sr.": "Senior", "esq.": "Esquire", "etc.": "et cetera", "a.k.a.": "also known as",
    "ph.d.": "P H D", "et al.": "et al", "temp.": "temperature", "max.": "maximum", "misc.": "miscellaneous",
    "tel.": "telephone", "ext.": "extension", "eds.": "editors",
}  # fmt: skip
# Titles only before a name, otherwise ordinary words.
_BEFORE_NAME = {
    "gen.": "General",
    "sen.": "Senator",
    "rep.": "Representative",
    "col.": "Colonel",
    "maj.": "Major",
    "pres.": "President",
    "ft.": "Fort",
}
_BEFORE_NUMBER = {
    "no.": "number", "nos.": "numbers", "nr.": "number", "p.": "page", "pp.": "pages", "fig.": "figure",
    "figs.": "figures", "eq.": "equation", "vol.": "volume", "vols.": "volumes", "ch.": "chapter", "sec.": "section",
    "art.": "article", "para.": "paragraph", "op.": "opus",
}  # fmt: skip


def _any_of(words: dict[str, str]) -> str:
    return "|".join(re.escape(word) for word in sorted(words, key=len, reverse=True))


_ALWAYS_RE = re.compile(rf"(?<![\w.])(?:{_any_of(_ALWAYS)})(?!\w)", re.IGNORECASE)
_NAME_RE = re.compile(rf"(?<![\w.])(?<!\d\s)(?:{_any_of(_BEFORE_NAME)})(?=\s(?-i:[A-Z]))", re.IGNORECASE)
# "No. I see." is an answer and "No. C" a letter; "Vol. I" and "No. IV" are numbers.
_NUMBER_RE = re.compile(
    rf"(?<![\w.])(?:{_any_of(_BEFORE_NUMBER)})\s?(?=\d|(?-i:[IVXLC]{{2,}}|[VX]|I(?!\s\w))\b(?!['’]))", re.IGNORECASE
)
_CIRCA = re.compile(r"(?<![\w.])ca?\.\s?(?=\d)", re.IGNORECASE)
_DOCTOR = re.compile(r"(?P<street>[A-Z][a-z]+\s)?\bDr\.(?=(?P<name>\s[A-Z])?)|\bDr(?=\s[A-Z])")
_SAINT = re.compile(r"\b(?P<kind>St|Ste)\.(?=(?P<name>\s[A-Z])?)|\bSt(?=\s[A-Z][a-z])")
_TITLE = re.compile(r"\b(Mr|Mrs|Ms)(?=\s[A-Z])")
_VERSUS = re.compile(r"\bvs\b")
_WITH = re.compile(r"(?<!\w)w/(?:(o)\b\s?|\s?(?=\w|\s|$))")
_INITIALISM = re.compile(r"(?<![\w.])(?:[A-Za-z]\.){2,12}(?:[A-Za-z](?![\w.]))?")
_INITIAL = re.compile(r"(?<![\w.°'])([A-HJ-Z])\.(?=\s?(?P<next>[A-Z]\w{0,15})(?P<stop>\.?))")

_ROMAN = r"(?=[IVXLC])C{0,3}(?:XC|XL|L?X{0,3})(?:IX|IV|V?I{0,3})(?<=[IVXLC])"
_NUMBERED = (
    "chapter|part|volume|vol(?!\\.)|book|act|scene|section|article|appendix|phase|stage|class|type|level|grade|title|unit|"
    "lesson|episode|season|round|step|figure|table|war|bowl|canto|psalm|group|tier|mark|apollo|category|schedule"
)
_SECTION = re.compile(rf"\b((?i:{_NUMBERED})\.?)\s({_ROMAN})\b(?!['’]\w)(?=(?P<next>\s\w{{1,20}})?)")
_LONG = word_set("chapter psalm canto book")
"""Words whose numbers may reach L or C; a type C, an appendix L and the like are letters."""
_AFTER_NUMERAL = re.compile(
    r"(?:of|the|an?|and|or|trial|study|error|cancer|tumou?r|felony|disease|diabetes|clinical|hypersensitivity|"
    r"(?!was|always|sometimes|perhaps|towards|this|thus)\w{2,}[b-rt-z]s)\Z"
)
"""A word that cannot follow the pronoun: `phase I trials`, `part I ends`, but `the part I like`."""
_REIGNS = (
    "Henry|Louis|Charles|George|Elizabeth|Edward|William|James|Richard|Philip|Paul|Benedict|Pius|Leo|Gregory|Francis|"
    "Clement|Innocent|Alexander|Catherine|Frederick|Wilhelm|Napoleon|Ferdinand|Nicholas|Peter|Ivan|Constantine|Ptolemy|"
    "Ramses|Ramesses|Darius|Cleopatra|Haakon|Olav|Harald|Christian|Gustav|Carl|Karl|Felipe|Otto|Leopold|Albert|Margrethe|"
    "Mary|Robert|David|Malcolm|Alfonso|Joseph|Urban|Boniface|Sixtus|Julius|Mehmed|Selim|Murad|Victor|Emmanuel|Rudolf"
)
_REIGN = re.compile(
    rf"\b((?:(?P<crown>King|Queen|Pope|Emperor|Tsar|Kaiser|Czar)\s(?:\w+\s)?)?(?:{_REIGNS}))\s({_ROMAN})\b(?!\.\s?[A-Z])(?!['’](?!s))"
)
_LONE_ROMAN = re.compile(r"(?<![\w.'-])(?=[IVX]{3,8}\b)(?!XXX\b)X{0,3}(?:IX|IV|V?I{0,3})(?<=[IVX])\b(?!['’])")
_ROMAN_HINT = re.compile(r"(?<=\s)[IVXLC]+\b|\b[IVX]{3}")
_VALUES = {"I": 1, "V": 5, "X": 10, "L": 50, "C": 100}


def speak_numbering(text: str) -> str:
    """Abbreviations before a number: No. 5, vol. II, ca. 1850. Runs before Roman numerals become words."""
    text = _NUMBER_RE.sub(lambda match: f"{_BEFORE_NUMBER[match[0].strip().lower()]} ", text)
    return _CIRCA.sub("circa ", text)


def speak_abbreviations(text: str) -> str:
    """Abbreviations as words; a full stop that also ended the sentence stays."""
    text = _DOCTOR.sub(_doctor, text)
    text = _SAINT.sub(_saint, text)
    text = _TITLE.sub(lambda match: _ALWAYS[f"{match[1].lower()}."], text)
    text = _NAME_RE.sub(lambda match: _BEFORE_NAME[match[0].lower()], text)
    text = _ALWAYS_RE.sub(_always, text)
    text = _VERSUS.sub("versus", text)
    text = _WITH.sub(lambda match: "without " if match[1] else "with ", text)
    text = _INITIAL.sub(_initial, text)
    return _INITIALISM.sub(_initials, text)


def speak_roman(text: str) -> str:
    """Unambiguous Roman numerals: Chapter IV, Henry VIII, XIV."""
    if not _ROMAN_HINT.search(text):
        return text
    text = _SECTION.sub(_section, text)
    text = _REIGN.sub(_reign, text)
    return _LONE_ROMAN.sub(lambda match: cardinal(_value(match[0])), text)


def ends_sentence(text: str, at: int) -> bool:
    """Whether an abbreviation that ends at `at` probably also ends its sentence."""
    after = text[at : at + 3]
    return (
        not text[at:].strip("\"') \n") if len(text) - at < 8 else after[:1].isspace() and after.lstrip()[:1].isupper()
    )


_MID_SENTENCE = word_set(
    """
    mr. mrs. ms. messrs. prof. rev. hon. capt. cmdr. lt. sgt. cpl. gov. supt. e.g. i.e. vs. approx. mt. ft. cf.
    viz. incl. excl. a.k.a. tel. ext.
    """
)


def _always(match: Match[str]) -> str:
    short = match[0].lower()
    stays = short not in _MID_SENTENCE and ends_sentence(match.string, match.end())
    return _ALWAYS[short] + ("." if stays else "")


def _doctor(match: Match[str]) -> str:
    street = match["street"] or ""
    if street and not match["name"] and "." in match[0]:
        return f"{street}Drive{'.' if ends_sentence(match.string, match.end()) else ''}"
    return f"{street}Doctor"


def _saint(match: Match[str]) -> str:
    if match["kind"] is None or match["name"]:
        before = match.string[max(0, match.start() - 16) : match.start()]
        if match["kind"] and re.search(r"\b(?:\d+(?:st|nd|rd|th)|[A-Z][a-z]+)\s$", before) and re.search(r"\d", before):
            return "Street."
        return "Sainte" if match["kind"] == "Ste" else "Saint"
    return "Street" + ("." if ends_sentence(match.string, match.end()) else "")


def _initial(match: Match[str]) -> str:
    """`J. R. Tolkien` loses its full stops, `plan B. Then` does not; `U.S.A` is left to the pattern for initialisms."""
    if match.string[match.end() + 1 : match.end() + 2] == ".":
        return match[0]
    another = len(match["next"]) == 1 and match["stop"]
    return match[0] if match["next"].lower() in STARTERS and not another else f"{match[1]} "


def _initials(match: Match[str]) -> str:
    letters = [letter for letter in match[0] if letter != "."]
    stop = "." if match[0].endswith(".") and _end_sentence(match) else ""
    return " ".join(letters).upper() + stop


def _end_sentence(match: Match[str]) -> bool:
    """`in the U.S. He` ends a sentence, `the U.S. Army` does not."""
    if not ends_sentence(match.string, match.end()):
        return False
    following = re.match(r"\s+([A-Za-z']+)", match.string[match.end() : match.end() + 20])
    return following is None or following[1].lower() in STARTERS


def _section(match: Match[str]) -> str:
    name, numeral, after = match[1], match[2], match["next"]
    if numeral in ("C", "L") and name.lower() not in _LONG:
        return match[0]
    pronoun = numeral == "I" and after and not name.istitle() and not _AFTER_NUMERAL.match(after.strip().lower())
    return match[0] if pronoun else f"{name} {cardinal(_value(numeral))}"


def _reign(match: Match[str]) -> str:
    if (match[3] == "I" and not match["crown"]) or match[3] in ("L", "C") or match[0] == "Malcolm X":
        return match[0]
    return f"{match[1]} the {ordinal(_value(match[3]))}"


def _value(roman: str) -> str:
    numbers = [_VALUES[letter] for letter in roman]
    total = sum(-low if low < high else low for low, high in zip(numbers, [*numbers[1:], 0], strict=True))
    return str(total)
