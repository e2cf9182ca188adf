"""Abbreviations, titles, initialisms and Roman numerals."""

from __future__ import annotations

import re
from re import Match

from saywell.text.breaks import STARTERS, word_set
from saywell.text.english.context import continues_reference, starts_sentence, word_after, word_before
from saywell.text.english.grammar import Rules
from saywell.text.numbers import cardinal, ordinal, year

rule = Rules()

# Read the same wherever they stand. The full stop is part of them.
_ALWAYS = {
    "mr.": "Mister", "mrs.": "Missis", "ms.": "Miz", "messrs.": "Messieurs", "prof.": "Professor", "rev.": "Reverend",
    "hon.": "Honourable", "capt.": "Captain", "cmdr.": "Commander", "lt.": "Lieutenant", "sgt.": "Sergeant",
    "cpl.": "Corporal", "gov.": "Governor", "supt.": "Superintendent", "e.g.": "for example", "i.e.": "that is",
    "vs.": "versus", "approx.": "approximately", "dept.": "department", "govt.": "government", "assn.": "association",
    "univ.": "university", "asst.": "Assistant", "gov't": "government", "incl.": "including", "excl.": "excluding", "cf.": "compare", "viz.": "namely",
    "mt.": "Mount", "ave.": "Avenue", "rd.": "Road", "blvd.": "Boulevard", "hwy.": "Highway", "pkwy.": "Parkway",
    "ln.": "Lane", "sq.": "Square", "inc.": "Incorporated", "ltd.": "Limited", "corp.": "Corporation",
    "bros.": "Brothers", "co.": "Company", "jr.": "Junior", "esq.": "Esquire", "etc.": "et cetera",
    "a.k.a.": "also known as", "ph.d.": "P H D", "et al.": "et al", "temp.": "temperature", "max.": "maximum",
    "min.": "minimum", "misc.": "miscellaneous", "tel.": "telephone", "ext.": "extension", "eds.": "editors",
    "apt.": "Apartment", "bldg.": "Building", "est.": "established", "avg.": "average", "qty.": "quantity",
    "tbsp.": "tablespoon", "tsp.": "teaspoon", "drs.": "Doctors", "profs.": "Professors", "det.": "Detective",
    "insp.": "Inspector", "atty.": "Attorney", "brig.": "Brigadier", "rt. hon.": "Right Honourable", "p.a.": "per annum",
    "qty": "quantity", "amt.": "amount", "ea.": "each",
}  # fmt: skip
_MID_SENTENCE = word_set(
    """
    mr. mrs. ms. messrs. prof. rev. hon. capt. cmdr. lt. sgt. cpl. gov. supt. e.g. i.e. vs. approx. mt. cf.
    viz. incl. excl. a.k.a. tel. ext. apt. est. avg.
    """
)
_TITLES = word_set("prof. rev. hon. capt. lt. sgt. gov. brig. det. insp.")
# Titles only before a name, else ordinary words.
_BEFORE_NAME = {
    "gen.": "General", "sen.": "Senator", "rep.": "Representative", "col.": "Colonel", "maj.": "Major",
    "br.": "Brother", "bro.": "Brother", "amb.": "Ambassador", "ofc.": "Officer",
    "pres.": "President", "ft.": "Fort", "fr.": "Father", "st.": "Saint", "adm.": "Admiral", "pvt.": "Private",
}  # fmt: skip
_BEFORE_NUMBER = {
    "no.": "number", "nos.": "numbers", "nr.": "number", "p.": "page", "pp.": "pages", "fig.": "figure",
    "figs.": "figures", "eq.": "equation", "vol.": "volume", "vols.": "volumes", "ch.": "chapter", "sec.": "section",
    "art.": "article", "para.": "paragraph", "op.": "opus", "ste.": "Suite", "rm.": "Room", "nº": "number",
    "n°": "number", "chap.": "chapter", "pt.": "part", "ver.": "version", "ex.": "example",
}  # fmt: skip
_WORDS_TOO = word_set("no. art. fig. op. sec. ex. ch. p.")
"""They also end sentences as other words."""
_STREETS = {
    "Ave": "Avenue", "Blvd": "Boulevard", "Rd": "Road", "Ln": "Lane", "Hwy": "Highway", "Pkwy": "Parkway",
    "Ct": "Court", "Pl": "Place", "Sq": "Square", "Ter": "Terrace", "Cir": "Circle", "Trl": "Trail",
}  # fmt: skip


def _any_of(words: dict[str, str]) -> str:
    return "|".join(re.escape(word) for word in sorted(words, key=len, reverse=True))


_ROMAN = r"(?=[IVXLC])C{0,3}(?:XC|XL|L?X{0,3})(?:IX|IV|V?I{0,3})(?<=[IVXLC])"
_VALUES = {"I": 1, "V": 5, "X": 10, "L": 50, "C": 100, "D": 500, "M": 1000}


@rule(
    "apPnN",
    rf"(?<![\w.])(?P<short>{_any_of(_BEFORE_NUMBER)})\s?(?=#?\(?\d|(?-i:[IVXLC]{{2,}}|[VX]|I(?!\s\w))\b(?!['’]))",
    re.IGNORECASE,
)
def numbering(match: Match[str]) -> str | None:
    """What stands before a number: No. 5, vol. II. After a number `sec.` is a unit; `no. 3 reasons` is an answer."""
    short, text, end = match["short"].lower(), match.string, match.end()
    if short == "p." and re.search(r"\d\s?\Z", text[max(0, match.start() - 2) : match.start()]):
        return None
    if short in _WORDS_TOO and text[end : end + 1].isdigit():
        before = word_before(text, match.start()).lower()
        if short == "no." and before in ("said", "says", "say", "answered", "replied", "voted"):
            return None
        named = short == "no." and (
            before in ("my", "your", "his", "her", "its", "our", "their", "the", "a")
            or before in _COUNTED_THINGS
            or (match["short"][0] == "N" and before and before not in STARTERS)
        )
        if (
            not named
            and not continues_reference(text, end)
            and not (match["short"][0] == "N" and _is_single(text, end))
        ):
            return None
    return f"{_BEFORE_NUMBER[short]} "


_COUNTED_THINGS = word_set(
    "order room flight invoice ticket case item part model platform gate bus line track question house lot box account serial "
    "file reference document batch article patent licence license chapter opus symphony sonata street highway"
)


_VERBS = word_set(
    "did do does had have was were is are came come went go said say saw see took take got get left more other others of in on at "
    "thought knew felt told asked gave made will would can could may might should must"
)


def _is_single(text: str, at: int) -> bool:
    """True if a number is followed by a singular: `No. 1 hit`, but `No. 3 people`."""
    found = re.match(r"\d{1,4}\s([a-z]+)", text[at : at + 24])
    if found and (found[1].endswith("ed") or found[1] in _VERBS):
        return False
    return found is not None and not found[1].endswith("s") and found[1] not in ("people", "men", "women", "children")


@rule("a", r"(?<![\w.])ca?\.\s?(?=\d)", re.IGNORECASE)
def circa(match: Match[str]) -> str | None:
    """c. 1850; a capital C. before a number ends a sentence."""
    if match[0][0] == "C" and not match[0].lower().startswith("ca"):
        return None
    return "circa "


@rule("D", r"\bDr\b(?P<stop>\.?)")
def doctor_or_drive(match: Match[str]) -> str | None:
    """Dr. Smith, 12 Oak Dr."""
    text, end = match.string, match.end()
    named = re.match(r"\s[A-Z]", text[end : end + 2])
    street = re.search(r"(?<!\w)([A-Z][a-z]+)\s\Z", text[max(0, match.start() - 24) : match.start()])
    street = None if street and street[1].lower() in STARTERS else street
    opens = starts_sentence(text, end)
    if street and (not named or (match["stop"] and opens)):
        return f"Drive{'.' if match['stop'] and opens else ''}"
    return "Doctor" if match["stop"] or named else None


@rule("S", r"\b(?P<kind>Ste?)\b(?P<stop>\.?)")
def saint_or_street(match: Match[str]) -> str | None:
    """St. John, 10 Main St., Ste. 200"""
    text, end = match.string, match.end()
    name = re.match(r"\s[A-Z][a-z]" if not match["stop"] else r"\s[A-Z]", text[end : end + 3])
    before = text[max(0, match.start() - 32) : match.start()]
    street = re.search(r"\d[\w ]*\b(?:\d+(?:st|nd|rd|th)|[A-Z][a-z]+)\s\Z", before)
    opens = match["stop"] and starts_sentence(text, end)
    own = re.search(r"(?<!\w)([A-Z][a-z]+)\s\Z", before)
    if match["kind"] == "Ste" and re.match(r"\s#?\d", text[end : end + 3]):
        return "Suite"
    if match["kind"] == "St" and opens and own and own[1] not in ("Mount", "Mt", "Rue", "Port", "Lake", "Fort"):
        return "Street."
    if match["kind"] == "St" and own and own[1] in ("Mount", "Mt", "Rue", "Port", "Fort") and name:
        return "Saint"
    if match["kind"] == "St" and street and (match["stop"] or not name):
        return "Street" + ("." if match["stop"] and (name or starts_sentence(text, end)) else "")
    if name:
        return "Sainte" if match["kind"] == "Ste" else "Saint"
    if match["kind"] == "Ste" or not (match["stop"] or re.search(r"[A-Z][a-z]+\s\Z", before)):
        return None
    return "Street" + ("." if match["stop"] and starts_sentence(text, end) else "")


@rule("ABRLHPCST", r"\b(?P<kind>Ave|Blvd|Rd|Ln|Hwy|Pkwy|Ct|Pl|Sq|Ter|Cir|Trl)\b(?P<stop>\.?)")
def street(match: Match[str]) -> str | None:
    """A street's abbreviation after a name: Ocean Blvd, Elm Ct."""
    before = re.search(
        r"(?<!\w)(?:[A-Z][a-z]+|\d+(?:st|nd|rd|th))\s\Z", match.string[max(0, match.start() - 24) : match.start()]
    )
    stop = "." if match["stop"] and starts_sentence(match.string, match.end()) else ""
    return _STREETS[match["kind"]] + stop if before else None


@rule(
    "HRBFP",
    r"\b(?P<kind>Hwy|Rte|Rt|Bldg|Fl|Flr|Pt)\b\.?(?=\s(?:#?\d|(?P<name>Reyes|Loma|Pleasant|Barrow|Judith|Lookout)))",
)
def before_street_number(match: Match[str]) -> str | None:
    """Hwy 101, Rt. 9, Bldg 4"""
    kind = {"Hwy": "Highway", "Rte": "Route", "Rt": "Route", "Bldg": "Building", "Fl": "Floor", "Flr": "Floor"}.get(
        match["kind"]
    )
    return kind if not match["name"] else "Point" if match["kind"] == "Pt" else None


@rule("c", r"\bc/o\b")
def care_of(_match: Match[str]) -> str:
    """c/o Mrs Hill"""
    return "care of"


@rule("A", r"\bApt\b\.?(?=\s#?\d)")
def apartment(_match: Match[str]) -> str:
    """Apt 4B"""
    return "Apartment"


@rule(
    "MPGSCLRF",
    r"(?<!\d\s)\b(Mr|Mrs|Ms|Prof|Gen|Sen|Capt|Lt|Sgt|Rev|Gov|Mt|Ft)(?=\s(?!Alpha|Beta)[A-Z][a-z]|\sand\sMrs?\b)",
)
def title(match: Match[str]) -> str:
    """A title without its full stop before a name: Mr White"""
    short = f"{match[1].lower()}."
    return _ALWAYS.get(short) or _BEFORE_NAME[short]


@rule("S", r"\bSr\.(?=(?P<name>\s[A-Z][a-z])?)")
def senior_or_sister(match: Match[str]) -> str:
    """Sr. Maria spoke; John Smith Sr."""
    before = word_before(match.string, match.start())
    if match["name"] and not before[:1].isupper():
        return "Sister"
    return "Senior" + ("." if starts_sentence(match.string, match.end()) else "")


@rule("JS", r"\b(?P<kind>Jr|Sr)\b(?!\.)")
def junior(match: Match[str]) -> str | None:
    """John Smith Jr"""
    named = word_before(match.string, match.start())[:1].isupper()
    return ("Junior" if match["kind"] == "Jr" else "Senior") if named else None


@rule("v", r"(?<=[a-z] )vs?\.?(?=\s[A-Z])")
def versus_in_law(_match: Match[str]) -> str:
    """Roe v. Wade"""
    return "versus"


@rule("eEfFRaA", r"\b(?:(?<=\d(?:st|nd|rd|th)\s)(?:[Ee]d|Fl)\b\.?|Rm\b\.?(?=\s\d)|[Aa]pprox\b(?=\s[\d~]))")
def before_or_after_number(match: Match[str]) -> str:
    """2nd ed., 3rd Fl., Rm 12, approx 5"""
    short = match[0].rstrip(".").lower()
    stop = "." if match[0].endswith(".") and starts_sentence(match.string, match.end()) else ""
    return {"ed": "edition", "fl": "Floor", "rm": "Room", "approx": "approximately"}[short] + stop


@rule("a", rf"(?<![\w.])(?<!\d\s)(?:{_any_of(_BEFORE_NAME)})(?=\s(?-i:[A-Z]))", re.IGNORECASE)
def title_before_name(match: Match[str]) -> str | None:
    """Gen. Grant, Ft. Worth; but one more rep. He"""
    if starts_sentence(match.string, match.end()) and match[0].lower() not in ("st.", "ft."):
        return None
    return _BEFORE_NAME[match[0].lower()]


@rule("aePpc", rf"(?<![\w.&])(?:{_any_of(_ALWAYS)})(?!\w)", re.IGNORECASE)
def abbreviation(match: Match[str]) -> str | None:
    """Abbreviations read the same everywhere; a full stop that also ends the sentence stays: etc., Inc., e.g."""
    short = match[0].lower()
    text, end = match.string, match.end()
    if short in ("max.", "min.", "sq.", "temp.", "est.") and starts_sentence(text, end):
        return None
    if match[0][0].islower() and short in _TITLES and starts_sentence(text, end):
        return None
    stays = short not in _MID_SENTENCE and (
        starts_sentence(text, end) or (short == "etc." and re.match(r"\s[A-Z]", text[end : end + 2]) is not None)
    )
    return _ALWAYS[short] + ("." if stays else "")


@rule("v", r"\bvs\b")
def versus(_match: Match[str]) -> str:
    """cats vs dogs"""
    return "versus"


@rule("w", r"(?<!\w)w/(?!e\b)(?:(o)\b\s?|\s?(?=\w|\s|$))")
def with_or_without(match: Match[str]) -> str:
    """w/ cheese, w/o onions"""
    return "without " if match[1] else "with "


@rule("a", r"(?<![\w.°'])([A-HJ-Z])\.(?=\s?(?P<next>[A-Z]\w{0,15})(?P<stop>\.?))(?![A-Z]\.)")
def initial(match: Match[str]) -> str | None:
    """J. R. R. Tolkien; but plan B. Then"""
    another = len(match["next"]) == 1 and match["stop"]
    if match["next"].lower() in STARTERS and not another:
        return None
    if not another and _LETTERED.search(match.string[max(0, match.start() - 16) : match.start()]):
        return None
    return f"{match[1]}"


_LETTERED = re.compile(
    r"\b(?:type|plan|vitamin|grade|class|group|option|part|team|hepatitis|section|appendix|step|point)s?\s\Z", re.I
)


@rule("a", r"(?<![\w.])(?:[A-Za-z]\.){2,12}(?:[A-Za-z](?![\w.]))?")
def initialism(match: Match[str]) -> str:
    """U.S., F.B.I.: letters, and the full stop where a sentence ends"""
    letters = [letter for letter in match[0] if letter != "."]
    text, end = match.string, match.end()
    stop = "." if match[0].endswith(".") and starts_sentence(text, end) and _new_sentence(text, end) else ""
    return " ".join(letters).upper() + stop


def _new_sentence(text: str, at: int) -> bool:
    if re.match(r"\s+\d", text[at : at + 4]):
        return False
    following = re.match(r"\s+[\"'“‘(]?([A-Za-z']+)", text[at : at + 20])
    return following is None or following[1].lower() in STARTERS


_NUMBERED = (
    "chapter|part|volume|vol|no|nr|fig|ch|sec|art|book|act|scene|section|article|appendix|phase|stage|class|type|level|grade|title|unit|"
    "lesson|episode|season|round|step|figure|table|war|bowl|canto|psalm|group|tier|mark|apollo|category|schedule"
)
_LONG = word_set("chapter psalm canto book")
"""What may go up to L or C: a type C, an appendix L and the like are letters."""
_AFTER_NUMERAL = re.compile(
    r"(?:of|the|an?|and|or|trial|study|error|cancer|tumou?r|felony|disease|diabetes|clinical|hypersensitivity|"
    r"(?!was|always|sometimes|perhaps|towards|this|thus)\w{2,}[b-rt-z]s)\Z"
)
"""A word that cannot follow the pronoun: `phase I trials`, `part I ends`, but `the part I like`."""
_REIGNS = word_set(
    """
    Henry Louis Charles George Elizabeth Edward William James Richard Philip Paul Benedict Pius Leo Gregory Francis
    Clement Innocent Alexander Catherine Frederick Wilhelm Napoleon Ferdinand Nicholas Peter Ivan Constantine Ptolemy
    Ramses Ramesses Darius Cleopatra Haakon Olav Harald Christian Gustav Carl Karl Felipe Otto Leopold Albert Margrethe
    Mary Robert David Malcolm Alfonso Joseph Urban Boniface Sixtus Julius Mehmed Selim Murad Victor Emmanuel Rudolf
    Amenhotep Thutmose Xerxes Artaxerxes Tiglath Nebuchadnezzar Philippe Juan Pedro Umberto Baldwin Sigismund John
    Seti Augustus Stephen Eric Erik Maximilian Vladimir Suleiman Abdul Naresuan Rama Mithridates Seleucus Antiochus
    """
)
_FORENAMES = word_set(
    "John Henry Robert William James George Charles Thomas Edward Richard Joseph David Michael Frank Walter Harry Albert Arthur "
    "Samuel Daniel Martin Davis Cornelius Thurston Benjamin Andrew Anthony Paul Stephen Steven Philip Peter Louis Ralph Fred"
)
"""Given names before a family name and II or III."""
_ANCIENT = word_set(
    "Darius Xerxes Artaxerxes Seti Ramses Ramesses Thutmose Amenhotep Ptolemy Mehmed Selim Murad Seleucus Antiochus"
)
"""Nobody says I after them."""
_CROWNS = word_set("King Queen Pope Emperor Empress Tsar Kaiser Czar Sultan Pharaoh Prince")


@rule("IVXLC", rf"\b(?P<roman>{_ROMAN})(?P<suffix>th|st|nd|rd)?\b(?!['’](?!s\b)\w)(?!\.\s?[A-Z]\.)")
def roman_numeral(match: Match[str]) -> str | None:
    """Chapter IV, Henry VIII, World War II, XIV, the XIX century"""
    numeral, text, start, end = match["roman"], match.string, match.start(), match.end()
    if (
        text[start - 1 : start] in ("-", "'", "’", ".", "&", "/")
        or text[end : end + 1] in ("&", "/")
        or re.match(r"\.\w", text[end : end + 2])
    ):
        return None
    shortened = re.search(r"([A-Za-z]{2,4})\.\s\Z", text[max(0, start - 8) : start])
    before = shortened[1] if shortened else word_before(text, start)
    after = word_after(text, end)
    count = _value(numeral)
    age = re.match(
        r"(?:-|\s(?:and|to|or)\s[IVX]{1,6}\s)?\s?(?:century|centuries|dynasty|dynasties|Olympiad|Olympics?)\b",
        text[end : end + 32],
    )
    if match["suffix"] or (age and numeral not in ("C", "L")):
        return ordinal(count)
    lower = before.lower()
    if shortened and numeral == "I" and after:
        return None
    if re.fullmatch(_NUMBERED, lower):
        return _numbered(numeral, before, after, count)
    if numeral in ("I", "V", "X") and re.match(r"\.\s(?:[A-Z][a-z]|[a-z])", text[end : end + 4]):
        return None  # an initial
    if before in _REIGNS and numeral not in ("L", "C"):
        first = word_before(text, start - len(before) - 1)
        second = first if first in _CROWNS else word_before(text, start - len(before) - len(first) - 2) if first else ""
        ended = not after or after in ("of", "was", "is", "ruled", "reigned", "died", "became", "married")
        if (
            numeral == "I"
            and before not in _ANCIENT
            and second not in _CROWNS
            and not (ended and re.match(r"[.,;:!?)\s]|\Z", text[end : end + 1]))
        ) or (before == "Malcolm" and numeral == "X"):
            return None
        return f"the {ordinal(count)}"
    if numeral in ("II", "III", "IV") and word_before(text, start - len(before) - 1) in _FORENAMES and before.istitle():
        return f"the {ordinal(count)}"
    if len(numeral) >= 3 and set(numeral) <= set("IVX") and numeral != "XXX":
        return cardinal(count)
    title = before.isupper() and len(before) > 2 and numeral in ("II", "IV", "V", "VI")  # GTA V
    named = title or (before[:1].isupper() and before[1:2].islower() and lower not in STARTERS)
    return cardinal(count) if named and numeral in ("II", "IV", "V", "VI", "IX", "XI", "XX", "XV") else None


def _numbered(numeral: str, before: str, after: str, count: str) -> str | None:
    if numeral in ("C", "L") and before.lower() not in _LONG:
        return None
    pronoun = numeral == "I" and after and not before.istitle() and not _AFTER_NUMERAL.match(after.lower())
    return None if pronoun else cardinal(count)


def _value(roman: str) -> str:
    numbers = [_VALUES[letter] for letter in roman]
    total = sum(-low if low < high else low for low, high in zip(numbers, [*numbers[1:], 0], strict=True))
    return str(total)


@rule("ivx", r"(?<=[a-z] )(?P<roman>x{0,2}(?:ix|iv|v?i{0,3}))(?<=[ivx])(?![\w'.-])")
def small_numeral(match: Match[str]) -> str | None:
    """Scene iv, page xii"""
    before = word_before(match.string, match.start()).lower()
    named = re.fullmatch(f"{_NUMBERED}|page|pages|verse|paragraph|footnote|note", before)
    return cardinal(_value(match["roman"].upper())) if named and match["roman"] not in ("i", "x") else None


@rule("M", r"\bM{1,3}(?=[DCLXVI]{2,})(?:CM|CD|D?C{0,3})(?:XC|XL|L?X{0,3})(?:IX|IV|V?I{0,3})\b")
def roman_year(match: Match[str]) -> str | None:
    """MCMXCIX; MIX is a word"""
    value = _value(match[0])
    return year(value) if 1400 < int(value) < 2100 else None


@rule("W", r"\bWW(?:(?P<roman>III|II|I)|(?P<count>[12]))\b")
def world_war(match: Match[str]) -> str:
    """WWII, WW2"""
    return f"World War {cardinal(match['count'] or _value(match['roman']))}"


@rule("T", r"\bTL;?DR\b")
def too_long(_match: Match[str]) -> str:
    """TL;DR"""
    return "T L D R"
