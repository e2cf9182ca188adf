"""All other numbers: codes read digit by digit, versions, fractions, ratios, powers, ordinals, plain numbers."""

from __future__ import annotations

import re
from re import Match

from saywell.text.breaks import word_set
from saywell.text.english.amounts import LEFT, NUMBER, number_words
from saywell.text.english.context import word_before
from saywell.text.english.grammar import LETTER, Rules
from saywell.text.english.units import UNITS, plural
from saywell.text.numbers import MAX_DIGITS, any_numeral, cardinal, decimal, digits, fraction, ordinal, plural_words

rule = Rules()


@rule("9", rf"(?<!\d)\d{{{MAX_DIGITS + 1},}}|(?<![\w.])\d{{1,3}}(?:,\d{{3}}){{5,}}(?!\d)")
def long_digits(match: Match[str]) -> str:
    """Strings of digits longer than any name for a number, digit by digit."""
    return digits(match[0])


@rule("9+(", r"(?<![\w.,/-])(?:"
    r"\+\d{1,3}(?:[ .-]?\(?\d{1,5}\)?){1,6}"
    r"|\(\d{2,5}\)[ .-]?\d{2,5}(?:[ .-]\d{2,5}){0,4}"
    r"|(?:1[ .-])?\d{3}([.-])\d{3}\1\d{4}|\d{3}-\d{4}"
    r"|\d{3}-\d{2}-\d{4}|\d{4}(?:[ -]\d{4}){2,3}"
    r"|0\d{2,4}(?:[ -]\d{3,4}){2}|0\d{4} \d{6}|0\d(?: \d{2}){4}|0\d{1,2} \d{4} \d{4}|1[38]00 \d{3} \d{3}"
    r"|(?!\d{4}-\d\d-\d\d)\d{1,7}(?:-\d{1,7}){3,6})(?![\w-]|[.,]\d)")  # fmt: skip
def phone_number(match: Match[str]) -> str | None:
    """Phone, card and social security numbers, digit by digit with a pause between the groups."""
    if match[0][0] == "+" and not re.search(r"\d{4}|\d[ .)(-]+\d", match[0]):
        return None
    spoken = ", ".join(map(digits, re.findall(r"\d+", match[0])))
    return f"plus {spoken}" if match[0][0] == "+" else spoken


_STATES = (
    "AL AK AZ CA CO DC DE FL GA IA ID IL KS KY LA MA MD MI MN MS MT MO NC ND NE NH NV NY PA RI SC SD TN TX UT VA WA "
    "WI WV WY PR US"
)
_CALLED = re.compile(
    r"\b(?:call|dial|call(?:ed|ing)|dial(?:l?ed|l?ing)|phone|ring)\s(?:\d{3}\s(?:or|and)\s)?\Z", re.IGNORECASE
)
_CODED = re.compile(
    r"\b(?:PIN|OTP|ZIP|CVV|CVC|passcode|pass(?:word|phrase)|postcode|postal|code|number|reference|ref|order|invoice|ticket|"
    r"account|tracking|confirmation|serial|extension|ext)\b\.?(?:\s(?:code|number|no\.?|id))?\s?(?:is|was|:|#|=|of)?:?\s?#?\Z",
    re.IGNORECASE,
)
_SURE_CODE = re.compile(
    r"(?i:\b(?:otp|code\s(?:is|was)|code:|zip|cvv|cvc|passcode|postcode|(?:zip|postal) code)\b)|\bPIN\b"
)


@rule("9", r"(?<![\w.,/$€£])(?:\d{3}[ -]\d{3}(?![ -]\d)|\d{3,15}(?:-\d{4})?)(?![\w]|[.,-]\d)")
def code_number(match: Match[str]) -> str | None:
    """PINs, one-time codes, postal codes, order numbers and emergency calls, digit by digit."""
    number, text = match[0], match.string
    before = text[max(0, match.start() - 40) : match.start()]
    if re.search(r"(?<![\w.-])\d{2,3}-\Z", before) and len(number) > 5:
        return digits(number)
    if _CALLED.search(before) and (len(number) == 3 or len(number) > 6):
        return digits(number)
    if re.search(rf"(?:\b(?:{_STATES.replace(' ', '|')})|\b[A-Z]\.[A-Z]\.)\s\Z", before) and re.fullmatch(
        r"\d{5}(?:-\d{4})?", number
    ):
        return ", ".join(map(digits, number.split("-")))
    found = _CODED.search(before)
    if found and len(number) >= 4 and (len(number) >= (5 if "#" in found[0] else 6) or _SURE_CODE.search(found[0])):
        return ", ".join(map(digits, re.split("[ -]", number)))
    return None


_RATES = ("km/h", "m/s", "mg/dL", "kB/s", "MB/s", "GB/s", "Mbit/s", "Gbit/s", "kbit/s")


@rule("kmMGg", rf"(?<![\w.])(?:{'|'.join(_RATES)})(?![\w/])")
def rate_unit(match: Match[str]) -> str:
    """A rate without its number: in km/h"""
    return plural(UNITS[match[0]])


_VERSION = r"(?<![\w.,])(?:[vV](?:er(?:sion)?)?\.?\s?(?P<one>\d{1,4}(?:\.\d{1,4})?)|[vV]?(?P<many>\d{1,4}(?:\.\d{1,4}){2,6}))(?![\w]|\.\d)(?P<suffix>-(?=[a-z])|:(?P<port>\d{2,5})(?![\d:]))?"


@rule("9a", _VERSION)
def version(match: Match[str]) -> str:
    """Versions and network addresses: v2.0, 1.2.3, 192.168.0.1"""
    lead = "version " if match[0][0] in "vV" else ""
    parts = (match["one"] or match["many"]).split(".")
    grouped = all(len(part) == 3 for part in parts[1:]) and len(parts[0]) < 4
    if not lead and grouped and (len(parts) != 4 or max(map(int, parts)) > 255):
        return cardinal("".join(parts))
    port = f" colon {digits(match['port'])}" if match["port"] else " " if match["suffix"] else ""
    return lead + _spoken_parts(parts) + port


def _spoken_parts(parts: list[str]) -> str:
    if len(parts) == 4 or any(len(part) > 2 for part in parts):
        joint = " dot " if len(parts) == 4 else " point "
        return joint.join(digits(part) if len(part) > 1 else cardinal(part) for part in parts)
    return " point ".join(map(cardinal, parts))


_BOOKS = (
    "Genesis|Exodus|Leviticus|Numbers|Deuteronomy|Joshua|Judges|Ruth|Samuel|Kings|Chronicles|Ezra|Nehemiah|Esther|Job|"
    "Psalms?|Proverbs|Ecclesiastes|Isaiah|Jeremiah|Lamentations|Ezekiel|Daniel|Hosea|Joel|Amos|Obadiah|Jonah|Micah|Nahum|"
    "Habakkuk|Zephaniah|Haggai|Zechariah|Malachi|Matthew|Mark|Luke|John|Acts|Romans|Corinthians|Galatians|Ephesians|"
    "Philippians|Colossians|Thessalonians|Timothy|Titus|Philemon|Hebrews|James|Peter|Jude|Revelation|Surah|Quran"
)


@rule(
    "a", rf"\b(?P<book>{_BOOKS})\s(?P<chapter>\d{{1,3}}):(?P<verse>\d{{1,3}})(?:\s?[-–]\s?(?P<to>\d{{1,3}}))?(?![\d:])"
)
def verse(match: Match[str]) -> str:
    """John 3:16, Genesis 1:1-3"""
    to = f" to {cardinal(match['to'])}" if match["to"] else ""
    return f"{match['book']} {cardinal(match['chapter'])} {cardinal(match['verse'])}{to}"


@rule("9", rf"(?<![\w.,])[123](?=\s(?:{_BOOKS})\s\d)")
def numbered_book(match: Match[str]) -> str:
    """1 Corinthians 13:4"""
    return ordinal(match[0]).capitalize()


@rule("9", rf"{LEFT}(?P<a>{NUMBER})[eE](?P<sign>[+-]?)(?P<b>\d{{1,3}})\b")
def scientific(match: Match[str]) -> str:
    """6.02e23"""
    below = "minus " if match["sign"] == "-" else ""
    return f"{number_words(match['a'])} times ten to the power of {below}{cardinal(match['b'].lstrip('0') or '0')}"


@rule(
    "9",
    r"(?<![\w.])(\d{1,3}(?:,\d{3}){1,4}|\d{1,15})(?:st|nd|rd|th)\b(?:\s?[-–]\s?(?P<to>\d{1,4})(?:st|nd|rd|th)\b)?",
    re.IGNORECASE,
)
def ordinal_number(match: Match[str]) -> str:
    """21st, 1st–3rd"""
    to = f" to {ordinal(match['to'])}" if match["to"] else ""
    return ordinal(match[1].replace(",", "")) + to


@rule("9", r"(?<![\w.,/])(\d{1,6})\s(\d{1,3})[/⁄](\d{1,3})(?![\w/]|[.,]\d)")
def mixed_number(match: Match[str]) -> tuple[str, int]:
    """2 1/2 cups"""
    unit, end = _unit_next(match.string, match.end())
    part = _a_part(fraction(match[2], match[3]))
    return f"{cardinal(match[1])} and {part}{' ' + plural(unit) if unit else ''}", end


@rule("9¼½¾⅐⅑⅒⅓⅔⅕⅖⅗⅘⅙⅚⅛⅜⅝⅞", r"(?<![\w.,])(?:(\d{1,6})\s?)?([¼-¾⅐-⅞])(?!\d)")
def vulgar_fraction(match: Match[str]) -> tuple[str, int]:
    """2½ cups, ½ km"""
    part = any_numeral(match[2])
    if match[1]:
        unit, end = _unit_next(match.string, match.end())
        return f"{cardinal(match[1])} and {_a_part(part)}{' ' + plural(unit) if unit else ''}", end
    return _part_of_unit(part, match)


def _part_of_unit(part: str, match: Match[str]) -> tuple[str, int]:
    """`½ km` → one half of a kilometre."""
    unit, end = _unit_next(match.string, match.end())
    tail = f" of {'an' if unit[:1] in 'aeio' or unit == 'hour' else 'a'} {unit}" if unit else ""
    return part + tail, end


def _unit_next(text: str, at: int) -> tuple[str, int]:
    found = re.match(r"\s?(km|cm|mm|kg|mi|lbs?|oz|ft|ml|hrs?|mins?|tsp|tbsp)\b\.?(?!\w)", text[at : at + 8])
    if not found:
        return "", at
    end = at + found.end()
    return UNITS[found[1]], end - (1 if found[0].endswith(".") and text[end : end + 2].strip() == "" else 0)


_SPECIAL = {"24/7": "twenty-four seven", "9/11": "nine eleven", "50/50": "fifty fifty"}


@rule(
    "9",
    r"(?<![\w.,/])(\d{1,3}(?:\.\d{1,3})?)/(\d{1,3})(?![\w/]|[.,]\d)(?=\s?(?:stars?|points?|marks?)\b)|(?<![\w.,/])(\d{1,3}\.\d{1,3})/(\d{1,3})(?![\w/]|[.,]\d)",
)
def rating(match: Match[str]) -> tuple[str, int]:
    """4/5 stars, 4.5/5, 14.2/16 GB"""
    above, below = (match[1], match[2]) if match[1] else (match[3], match[4])
    unit = re.match(r"\s?([kMGTP]i?B|[kcm]?m|kg|L|%)(?!\w)", match.string[match.end() : match.end() + 5])
    tail = f" {plural(UNITS[unit[1]])}" if unit else ""
    return f"{decimal(above)} out of {cardinal(below)}{tail}", match.end() + (unit.end() if unit else 0)


@rule("9", r"(?<![\w.,/])(\d{1,6})/(\d{1,6})(?:(?:th|rd)s)?(?![\w/]|[.,]\d)")
def slash_fraction(match: Match[str]) -> str | tuple[str, int]:
    """3/4 of it, 22/7, rated 9/10, 24/7"""
    if match[0] in _SPECIAL:
        return _SPECIAL[match[0]]
    above, below, text = match[1], match[2], match.string
    rated = word_before(text, match.start()).lower() in _RATED and below in ("5", "10", "100", "20")
    mark = below in ("10", "100") and above != "1" and text[match.end() : match.end() + 4] != " of "
    if mark or rated:
        return f"{cardinal(above)} out of {cardinal(below)}"
    inch = re.match(r"-?(?:\"|″|inch\b)", text[match.end() : match.end() + 5])
    if inch and int(above) < int(below):
        return f"{fraction(above, below).removesuffix('s')} inch", match.end() + inch.end()
    return _part_of_unit(fraction(above, below), match)


_RATED = word_set("rated rating score scored scores got gave give gives solid reviews review")


def _a_part(spoken: str) -> str:
    return {"one half": "a half", "one quarter": "a quarter"}.get(spoken, spoken)


@rule("9", r"(?<![\w.,-])50-50(?![\w-]|[.,]\d)")
def fifty_fifty(_match: Match[str]) -> str:
    """50-50"""
    return "fifty fifty"


@rule("9", r"(?<![\w.,])(\d{1,3}),(\d{1,2})(?![\w.,%/-]*\d)")
def decimal_comma(match: Match[str]) -> str | None:
    """A decimal comma without a unit: 3,14; after a plural it is a list: rows 1,2"""
    before = word_before(match.string, match.start())
    return (
        None
        if before.endswith("s") and before.lower() not in ("is", "was", "costs", "equals")
        else number_words(match[0])
    )


@rule("9", r"(?<![\w.,:])(\d{1,4}):(\d{1,4})(?![\w:]|[.,]\d)")
def ratio(match: Match[str]) -> str:
    """16:9"""
    return f"{cardinal(match[1])} to {cardinal(match[2])}"


@rule("9", rf"{LEFT}(?<![-^])({NUMBER})(?:\s?[–—]\s?|-)(?={NUMBER}(?![\w-]|[.,]\d))")
def number_range(match: Match[str]) -> str:
    """The first of two numbers: pages 10-20; much longer the second is a part of a code"""
    second = re.match(r"\d+", match.string[match.end() : match.end() + 16])
    if second and len(second[0]) >= 5 and len(match[1]) < 4:
        return f"{digits(match[1])}, "
    return f"{number_words(match[1])} to "


_POWER = r"\^\s?\(?(?P<caret>[-+−]?\d{1,15})\)?|\^\s?[{(](?P<braced>[-+−]?\w{1,8})[})]|\^(?P<letter>[a-z])\b|(?P<raised>[⁺⁻]?[⁰¹²³⁴⁵⁶⁷⁸⁹]{1,15})"
_RAISED = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻", "0123456789+-")


@rule("^⁺⁻⁰¹²³⁴⁵⁶⁷⁸⁹", rf"(?<=[\w)])(?:{_POWER})|(?<=[\w)]\s)\^\s?(?P<spaced>[-+]?\d{{1,15}})")
def power(match: Match[str]) -> str:
    """x², 10^-3; after a word it is the mark of a footnote"""
    exponent = (
        match["caret"]
        or match["braced"]
        or match["letter"]
        or match["spaced"]
        or (match["raised"] or "").translate(_RAISED)
    ).replace("−", "-")
    word = re.search(r"[A-Za-z]+\Z", match.string[max(0, match.start() - 12) : match.start()])
    if match["raised"] and word and (len(word[0]) > 3 or (len(word[0]) == 3 and word[0] not in UNITS)):
        return ""
    if exponent in ("2", "3"):
        return " squared" if exponent == "2" else " cubed"
    return (
        f" to the power of {decimal(exponent) if exponent.lstrip('+-').isdigit() else exponent.replace('-', 'minus ')}"
    )


@rule("¹²³⁴⁵⁶⁷⁸⁹⁰", r"(?<=[.!?,;:\"”)])[⁰¹²³⁴⁵⁶⁷⁸⁹]{1,3}(?=\s|$)")
def footnote_mark(_match: Match[str]) -> str:
    """A raised number behind a sentence: not spoken."""
    return ""


_MIXED = rf"(?<![\w-])(?<!\d\.)(?=\w{{0,24}}{LETTER})(?=\w{{0,24}}\d)(?:{LETTER}|[\d_-]){{2,40}}"
_LETTER_DIGIT = re.compile(r"(?<=[^\W\d_])-?(?=\d)")
_DIGIT_LETTER = re.compile(r"(?<=\d)(?=[^\W\d_])")


@rule("9a", _MIXED)
def letters_and_digits(match: Match[str]) -> str | None:
    """Letters and digits in one token: MP3, COVID-19, h264, F-16s; long digit strings digit by digit."""
    if many := re.fullmatch(r"([A-Za-z]{1,6})(\d{1,2})s", match[0]):
        return f"{many[1]} {plural_words(cardinal(many[2]))}"
    token = _DIGIT_LETTER.sub(" ", _LETTER_DIGIT.sub(" ", match[0]))
    spoken = re.sub(r"\d+", lambda run: cardinal(run[0]) if len(run[0]) <= 2 else digits(run[0]), token)
    return spoken.replace("_", " ")


@rule("9", r"(?<![\w.,])\d{1,3}(?:\.\d{3}){1,4},\d{1,9}(?![\d.,]*\d)")
def european_number(match: Match[str]) -> str:
    """Dots between thousands and a decimal comma: 654.321,98765"""
    return number_words(match[0])


@rule("9.", rf"(?:{NUMBER}|\d{{1,15}})(?P<unread>[._](?=\d))?")
def number(match: Match[str]) -> tuple[str, int]:
    """Any other number, in words; a leading zero of a chapter is silent."""
    written = match[0].rstrip("._") if match["unread"] else match[0]
    text = match.string
    if re.fullmatch(r"0\d{1,2}", written) and word_before(text, match.start()).lower() in _HEADED:
        written = written.lstrip("0") or "0"
        return number_words(written), match.start() + len(match[0])
    return number_words(written), match.start() + len(written)


_HEADED = word_set(
    "chapter part section lesson episode step page day week level track unit volume scene act exercise figure"
)
