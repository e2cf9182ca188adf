"""All other numbers: codes read digit by digit, versions, fractions, ratios, powers, ordinals, plain numbers."""

from __future__ import annotations

import re
from re import Match

from saywell.text.breaks import word_set
from saywell.text.english.amounts import LEFT, NUMBER, number_words
from saywell.text.english.context import word_after, word_before
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
    r"|0\d{2,4}(?:[ -]\d{3,4}){2}|0\d{4} \d{6}|0\d(?: \d{2}){4}|0\d{1,2} \d{4} \d{4}|1[389]00 \d{3} \d{3}"
    r"|(?!\d{4}-\d\d-\d\d)\d{1,7}(?:-\d{1,7}){3,6})(?![\w-]|[.,]\d)")  # fmt: skip
def phone_number(match: Match[str]) -> str | None:
    """Phone, card and social security numbers, digit by digit with a pause between the groups."""
    if match[0][0] == "+" and not re.search(r"\d{4}|\d[ .)(-]+\d", match[0]):
        return None
    spoken = ", ".join(map(digits, re.findall(r"\d+", match[0])))
    return f"plus {spoken}" if match[0][0] == "+" else spoken


_STATES = (
    "AL AK AZ CA CO DC DE FL GA IA ID IL KS KY LA MA MD MI MN MS MT MO NC ND NE NH NJ NM NV NY OH PA RI SC SD TN TX UT "
    "VA WA WI WV WY PR US"
)
_CALLED = re.compile(
    r"\b(?:call|dial|call(?:ed|ing)|dial(?:l?ed|l?ing)|phone|ring)\s(?:\d{3}\s(?:or|and)\s)?\Z"
    r"|\b(?:text|send)\s(?:\w{1,12}\sto\s)?\Z|\b(?:tel|phone|mobile|cell)(?:\snumber)?(?::|\sis:?)\s\Z",
    re.IGNORECASE,
)
_NOT_COUNTED = word_set("for if now and or when in immediately at right first before to is from then again")
"""What may follow a number to call: `call 911 for help`, but `call 250 customers`."""
_CODED = re.compile(
    r"\b(?:ending(?:\sin)?|ends\sin|last\s(?:four|4)(?:\sdigits)?(?:\sare)?|ID|PIN|OTP|ZIP|CVV|CVC|passcode|pass(?:word|phrase)|postcode|postal|code|number|reference|ref|order|invoice|ticket|"
    r"account|tracking|confirmation|serial|extension|ext)\b\.?(?:\s(?:code|number|no\.?|id))?\s?(?:is|was|:|#|=|of)?:?\s?#?\Z",
    re.IGNORECASE,
)
_SURE_CODE = re.compile(
    r"(?i:\b(?:otp|code\s(?:is|was)|code:|zip|cvv|cvc|passcode|postcode|(?:zip|postal|area|security) code|ending|ends in"
    r"|last (?:four|4)|serial (?:number|no)|account (?:number|no)|(?:order|booking|claim|acct|reference|ref|confirmation|tracking|invoice) ?(?:number|no|reference|id|code)?\b|(?:access|pass|promo|zip|gate|door|entry) ?code|password|extension|the code|code|case (?:number|no)|customer id|id:|id is)\b)|\bPIN\b|\bID[:#]"
)


@rule("9", r"(?<![\w.,/$€£])(?:\d{3}[ -]\d{3}(?![ -]\d)|\d{3,15}(?:-\d{4})?)(?![\w]|[.,-]\d)")
def code_number(match: Match[str]) -> str | None:
    """PINs, one-time codes, postal codes, order numbers and emergency calls, digit by digit."""
    number, text = match[0], match.string
    before = text[max(0, match.start() - 40) : match.start()]
    if re.search(r"(?<![\w.-])\d{2,3}-\Z", before) and len(number) > 5:
        return digits(number)
    called = _CALLED.search(before)
    if called and (len(number) == 3 or len(number) > 4 or called[0].lower().startswith(("text", "send"))):
        after = word_after(text, match.end())
        if len(number) > 6 or not after or not after[0].islower() or after in _NOT_COUNTED:
            return digits(number)
    if re.search(
        rf"(?:, (?:OR|OK|IN|ME|HI)|\b(?:{_STATES.replace(' ', '|')})|\b[A-Z]\.[A-Z]\.)\s\Z", before
    ) and re.fullmatch(r"\d{5}(?:-\d{4})?", number):
        return ", ".join(map(digits, number.split("-")))
    found = _CODED.search(before)
    short = len(number) == 3 and found and re.search(r"(?i)\b(?:cvv|cvc|(?:area|security) code)\b[^.!?]{0,8}\Z", before)
    if short:
        return digits(number)
    if found and len(number) >= 4 and (len(number) >= (5 if "#" in found[0] else 6) or _SURE_CODE.search(found[0])):
        return ", ".join(map(digits, re.split("[ -]", number)))
    return None


_RATES = ("km/h", "m/s", "mg/dL", "kB/s", "MB/s", "GB/s", "Mbit/s", "Gbit/s", "kbit/s")


@rule("kmMGg", rf"(?<![\w.])(?:{'|'.join(_RATES)})(?![\w/])")
def rate_unit(match: Match[str]) -> str:
    """A rate without its number: in km/h"""
    return plural(UNITS[match[0]])


_VERSION = r"(?<![\w.,])(?:[vV](?:er(?:sion)?)?\.?\s?(?P<one>\d{1,4}(?:\.\d{1,4})?)|[vV]?(?P<many>\d{1,4}(?:\.\d{1,4}){2,6}))(?![\w]|\.\d|,\d{1,2}\b)(?P<suffix>-(?=[a-z])|:(?P<port>\d{2,5})(?![\d:]))?"


@rule("9a", _VERSION)
def version(match: Match[str]) -> str | None:
    """Versions and network addresses: v2.0, 1.2.3, 192.168.0.1; a V8 is an engine"""
    if re.fullmatch(r"V\d{1,2}", match[0]):
        return None
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


_SHORT_BOOKS = {
    "Gen": "Genesis", "Exod": "Exodus", "Ex": "Exodus", "Lev": "Leviticus", "Num": "Numbers", "Deut": "Deuteronomy",
    "Josh": "Joshua", "Judg": "Judges", "Sam": "Samuel", "Kgs": "Kings", "Chr": "Chronicles", "Neh": "Nehemiah",
    "Ps": "Psalm", "Pss": "Psalms", "Prov": "Proverbs", "Eccl": "Ecclesiastes", "Isa": "Isaiah", "Jer": "Jeremiah",
    "Lam": "Lamentations", "Ezek": "Ezekiel", "Dan": "Daniel", "Hos": "Hosea", "Obad": "Obadiah", "Mic": "Micah",
    "Nah": "Nahum", "Hab": "Habakkuk", "Zeph": "Zephaniah", "Hag": "Haggai", "Zech": "Zechariah", "Mal": "Malachi",
    "Matt": "Matthew", "Mt": "Matthew", "Mk": "Mark", "Lk": "Luke", "Jn": "John", "Rom": "Romans", "Cor": "Corinthians",
    "Gal": "Galatians", "Eph": "Ephesians", "Phil": "Philippians", "Col": "Colossians", "Thess": "Thessalonians",
    "Tim": "Timothy", "Tit": "Titus", "Phlm": "Philemon", "Heb": "Hebrews", "Jas": "James", "Pet": "Peter",
    "Rev": "Revelation", "Song": "Song",
}  # fmt: skip
_BOOKS += "|Song of (?:Solomon|Songs)|" + "|".join(rf"{short}\b\.?" for short in _SHORT_BOOKS)


@rule(
    "a", rf"\b(?P<book>{_BOOKS})\s(?P<chapter>\d{{1,3}}):(?P<verse>\d{{1,3}})(?:\s?[-–]\s?(?P<to>\d{{1,3}}))?(?![\d:])"
)
def verse(match: Match[str]) -> str:
    """John 3:16, Genesis 1:1-3"""
    to = f" to {cardinal(match['to'])}" if match["to"] else ""
    book = _SHORT_BOOKS.get(match["book"].rstrip("."), match["book"])
    return f"{book} {cardinal(match['chapter'])} {cardinal(match['verse'])}{to}"


@rule("9I", rf"(?<![\w.,])(?:[123]|I{{1,3}})(?=\s(?:{_BOOKS})\s\d{{1,3}}:\d)")
def numbered_book(match: Match[str]) -> str:
    """1 Corinthians 13:4, II Samuel 7:12"""
    return ordinal(match[0] if match[0].isdigit() else str(len(match[0]))).capitalize()


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
    found = re.match(r"\s?(km|cm|mm|kg|mi|lbs?|oz|ft|ml|hrs?|mins?|secs?|s|tsp|tbsp)\b\.?(?!\w)", text[at : at + 8])
    if not found:
        return "", at
    end = at + found.end()
    return UNITS[found[1]], end - (1 if found[0].endswith(".") and text[end : end + 2].strip() == "" else 0)


_SPECIAL = {"24/7": "twenty-four seven", "9/11": "nine eleven", "20/20": "twenty twenty", "10/4": "ten four"}
_MARKS = word_set("10 20 25 30 40 50 60 100")
_SCORED = re.compile(
    r"\b(?:scor(?:e|es|ed)|give|marks?|grades?|results?|rat(?:ed|ing)|exam|test|quiz|got|gave|gives)\b[^.!?]{0,24}\Z",
    re.IGNORECASE,
)


@rule(
    "pPsSqQlLaAtTrRiIcCbBdDe",
    r"\b(?P<head>pages?|slides?|step|part|question|level|stage|phase|attempt|try|round|lesson|item|chapter|batch|disc|epoch)\s"
    r"(?P<a>\d{1,4})/(?P<b>\d{1,4})(?![\w/]|[.,]\d)",
    re.IGNORECASE,
)
def position(match: Match[str]) -> str:
    """step 2/5"""
    return f"{match['head']} {cardinal(match['a'])} of {cardinal(match['b'])}"


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
    if int(above) + int(below) == 100 and len(above) == len(below) == 2:
        return f"{cardinal(above)} {cardinal(below)}"
    of = text[match.end() : match.end() + 4] == " of "
    high = 2 * int(above) > int(below) or below in ("10", "100")
    mark = below in _MARKS and above != "1" and high and not of
    scored = (
        not of and int(above) <= int(below) > 4 and _SCORED.search(text[max(0, match.start() - 40) : match.start()])
    )
    right = word_after(text, match.end()) in ("right", "correct")
    if mark or rated or scored or right or (above == below and not of):
        return f"{cardinal(above)} out of {cardinal(below)}"
    inch = re.match(r"-?(?:\"|″|inch\b)", text[match.end() : match.end() + 5])
    if inch and int(above) < int(below):
        return f"{fraction(above, below).removesuffix('s')} inch", match.end() + inch.end()
    part = fraction(above, below)
    if above == "1" and " over " in part and re.match(r"\s?s(?:ec)?\b", text[match.end() : match.end() + 5]):
        part = f"one {ordinal(below)}"  # an exposure
    return _part_of_unit(part, match)


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
    short = len(match[1]) == len(match[2]) == 1
    if short and re.match(r"\s(?:or|and)\s\d|[)\]]|-[a-z]", match.string[match.end() : match.end() + 6]):
        return None
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


@rule("9", rf"{LEFT}(?<![-^])({NUMBER})(?:\s?[–—]\s?|-)(?={NUMBER}(?:[kKMmbB](?!\w)|(?![\w-]|[.,]\d)))")
def number_range(match: Match[str]) -> str:
    """The first of two numbers: pages 10-20; much longer the second is a part of a code"""
    second = re.match(r"\d+", match.string[match.end() : match.end() + 16])
    if second and len(second[0]) >= 5 and len(match[1]) < 4:
        return f"{digits(match[1])}, "
    after = word_after(match.string, match.end() + len(second[0])) if second else ""
    if second and after in ("split", "vision", "mix", "rule", "chance") and len(second[0]) == len(match[1]) == 2:
        return f"{number_words(match[1])} "
    return f"{number_words(match[1])} to "


_MIXED = rf"(?<![\w-])(?<!\d\.)(?=\w{{0,24}}{LETTER})(?=\w{{0,24}}\d)(?:{LETTER}|[\d_-]){{2,40}}"
_LETTER_DIGIT = re.compile(r"(?<=[^\W\d_])-?(?=\d)")
_DIGIT_LETTER = re.compile(r"(?<=\d)(?=[^\W\d_])")


@rule("9a", _MIXED)
def letters_and_digits(match: Match[str]) -> str | None:
    """Letters and digits in one token: MP3, COVID-19, h264, F-16s; long digit strings digit by digit."""
    if many := re.fullmatch(r"([A-Za-z]{1,6})(\d{1,3})s", match[0]):
        return f"{many[1]} {plural_of(many[2])}"
    if jet := re.fullmatch(r"A(3[1-8]0)(?:-(\d{3}|\d))?", match[0]):
        return f"A-{_pairs(jet[1])}{' ' + _pairs(jet[2]) if jet[2] else ''}"
    token = _DIGIT_LETTER.sub(" ", _LETTER_DIGIT.sub("-" if re.match(r"A-?\d", match[0]) else " ", match[0]))
    spoken = re.sub(r"\d+", lambda run: cardinal(run[0]) if len(run[0]) <= 2 else digits(run[0]), token)
    return spoken.replace("_", " ")


def _pairs(number: str) -> str:
    """320 → three twenty, 200 → two hundred."""
    if len(number) < 3 or number.endswith("00"):
        return cardinal(number)
    return f"{cardinal(number[0])} {cardinal(number[1:])}"


def plural_of(number: str) -> str:
    """747 → seven forty-sevens, 400 → four hundreds, 8 → eights."""
    if len(number) == 3 and number.endswith("00"):
        return "hundreds" if number == "100" else f"{cardinal(number[:-2])} hundreds"
    if len(number) == 3 and number[1] == "0":
        return f"{cardinal(number[0])} oh {plural_words(cardinal(number[2]))}"
    return plural_words(_pairs(number) if number[1:2] != "0" else cardinal(number))


@rule("9", r"(?<![\w.,])\d{1,3}(?:\.\d{3}){1,4},\d{1,9}(?![\d.,]*\d)")
def european_number(match: Match[str]) -> str:
    """Dots between thousands and a decimal comma: 654.321,98765"""
    return number_words(match[0])


@rule("9.", rf"(?:{NUMBER}|\d{{1,15}})(?P<unread>[._](?=\d))?")
def number(match: Match[str]) -> tuple[str, int]:
    """Any other number, in words; a leading zero of a chapter is silent."""
    written = match[0].rstrip("._") if match["unread"] else match[0]
    text = match.string
    heading = re.search(r"([A-Za-z]+)\.?\s\Z", text[max(0, match.start() - 16) : match.start()])
    if heading and re.fullmatch(r"0\d{1,2}", written) and heading[1].lower() in _HEADED:
        written = written.lstrip("0") or "0"
        return number_words(written), match.start() + len(match[0])
    return number_words(written), match.start() + len(written)


_HEADED = word_set(
    "chapter part section lesson episode step page day week level track unit volume scene act exercise figure season series "
    "book vol ch ep no module question stage round song disc verse appendix task topic tip rule slide image photo item week "
    "year month phase sprint race lap heat issue number"
)
