"""Dates, years, decades and times of day."""

from __future__ import annotations

import re
from re import Match

from saywell.text.breaks import word_set
from saywell.text.english.context import (
    NUMBER_WORDS,
    attributive,
    continues_reference,
    starts_sentence,
    word_after,
    word_before,
)
from saywell.text.english.figures import plural_of
from saywell.text.english.grammar import Rules, Scan
from saywell.text.english.units import unit_name
from saywell.text.numbers import cardinal, decade, decimal, ordinal, plural_words, year

rule = Rules()

MONTHS = (
    "January", "February", "March", "April", "May", "June",
    "July", "August", "September", "October", "November", "December",
)  # fmt: skip
_MONTH_OF = {name[:3].lower(): name for name in MONTHS} | {"sept": "September"}
_MONTH = "(?P<month>" + "|".join([*MONTHS, r"Sept\.?", *(rf"{name[:3]}\.?" for name in MONTHS)]) + r")(?![a-z])"
DAYS = {
    "mon": "Monday", "tue": "Tuesday", "tues": "Tuesday", "wed": "Wednesday", "weds": "Wednesday", "thu": "Thursday", "thur": "Thursday",
    "thurs": "Thursday", "fri": "Friday", "sat": "Saturday", "sun": "Sunday",
}  # fmt: skip
_SHORT_DAY = "Mon|Tues?|Weds?|Thu(?:rs?)?|Fri|Sat|Sun"
_ANY_DAY = f"(?:{'|'.join(sorted(set(DAYS.values())))}|(?:{_SHORT_DAY})\\b\\.?)"
_DAY = r"(?P<day>0?[1-9]|[12]\d|3[01])(?:st|nd|rd|th)?"
_TO_DAY = r"(?:\s?[–—-]\s?(?P<to>0?[1-9]|[12]\d|3[01])(?:st|nd|rd|th)?(?!\d))?"
_YEAR = r"(?:(?:,\s?|\s)(?P<year>[12]\d{3})(?![\d,.:%-]*\d))?"
MERIDIEM = r"\s?(?P<half>[ap])\.?\s?m\b(?P<stop>\.?)"


@rule("9", r"(?<![\w.-])(?P<year>[12]\d{3})([-/.])(?P<month>0[1-9]|1[0-2])\2(?P<day>[0-3]\d)(?![\d-])(?:T(?=\d))?")
def iso_date(match: Match[str]) -> str | None:
    """2026-11-21"""
    if not 1 <= int(match["day"]) <= 31:
        return None
    spoken = f"{MONTHS[int(match['month']) - 1]} {_day(match['day'])}, {year(match['year'])}"
    return f"{spoken}, " if match[0].endswith("T") else spoken


@rule.in_context("9", r"(?<![\w./-])(?P<a>\d{1,2})([/.-])(?P<b>\d{1,2})\2(?P<year>[12]\d{3}|\d{2})(?![\w/-]|\.\d)")
def numeric_date(match: Match[str], scan: Scan) -> str | None:
    """21/11/2026, 11/21/2026, 3/4/26: the order of day and month by language where both are possible."""
    month, day = (match["a"], match["b"]) if scan.american else (match["b"], match["a"])
    if int(month) > 12:
        month, day = day, month
    if not (1 <= int(month) <= 12 and 1 <= int(day) <= 31) or (len(match["year"]) == 2 and match[2] != "/"):
        return None
    full = match["year"] if len(match["year"]) == 4 else ("20" if int(match["year"]) < 70 else "19") + match["year"]
    return f"{MONTHS[int(month) - 1]} {_day(day)}, {year(full)}"


@rule.in_context("9", r"(?<![\w./-])(?P<a>\d{1,2})/(?P<b>\d{1,2})(?![\w/-]|[.,]\d)")
def day_and_month(match: Match[str], scan: Scan) -> str | None:
    """A date without a year where the words around it say so: on 3/14, due 12/25, by 1/31."""
    text, start = match.string, match.start()
    before = word_before(text, start).lower()
    second = before in ("to", "and", "or", "through", "until") and any(
        reading.rule == "day-and-month" for reading in scan.readings[-5:]
    )
    weekday_first = re.search(
        r"day,\s\Z|\b(?:birthday|anniversary|deadline|wedding|meeting|exam|party)\s(?:is|was)\s\Z",
        text[max(0, start - 20) : start],
    ) or word_after(text, match.end()) in ("deadline", "meeting", "release", "launch", "event")
    between = before == "between" and re.match(
        r"\sand\s\d{1,2}/\d{1,2}(?!\s(?:cup|inch|mile|of)|/)", text[match.end() :][:16]
    )
    if not (before in _BEFORE_DATE or second or weekday_first or between):
        return None
    month, day = int(match["a"]), int(match["b"])
    if not scan.american and month > 12:
        month, day = day, month
    if not (1 <= month <= 12 and 1 <= day <= 31) or (match["a"], match["b"]) in (
        ("9", "11"),
        ("24", "7"),
        ("50", "50"),
    ):
        return None
    if word_after(match.string, match.end()).lower() in (
        "of",
        "cup",
        "cups",
        "inch",
        "mile",
        "full",
        "stars",
        "majority",
    ):
        return None
    return f"{MONTHS[month - 1]} {ordinal(str(day))}"


_BEFORE_DATE = word_set(
    "on due by since until till from expires dated before after deadline closed open closes opens ends starts monday tuesday wednesday thursday friday saturday sunday"
)


@rule(
    "9a",
    rf"(?<![\w./-])(?:(?P<day>0?[1-9]|[12]\d|3[01])(?P<sep>[-/]))?{_MONTH}(?(day)(?P=sep)|-(?P<day2>0?[1-9]|[12]\d|3[01])-)"
    rf"(?P<year>(?:19|20)\d\d|\d\d)(?![\w/-])",
)
def named_date(match: Match[str]) -> str:
    """14-Feb-2023, 14/Feb/2023, Feb-14-2023"""
    found = match.groupdict()
    full = found["year"] if len(found["year"]) == 4 else ("20" if int(found["year"]) < 70 else "19") + found["year"]
    if match[0][0].isdigit():
        return f"the {_day(found['day'])} of {_month(match)}, {year(full)}"
    return f"{_month(match)} {_day(found['day2'])}, {year(full)}"


@rule("F", r"\bFY\s?(?P<year>(?:19|20)\d\d)(?!\w)")
def fiscal_year(match: Match[str]) -> str:
    """FY2024"""
    return f"F Y {year(match['year'])}"


@rule("bd", r"(?<=[\s(,;])(?P<what>[bd])\.\s(?=(?:1\d|20)\d\d\b)")
def born_or_died(match: Match[str]) -> str:
    """(b. 1950, d. 2010)"""
    return "born " if match["what"] == "b" else "died "


@rule("9", r"(?<![\w.-])(?P<year>(?:19|20)\d{2})-(?P<month>0[1-9]|1[0-2])(?![\w-]|\.\d)")
def year_and_month(match: Match[str]) -> str | None:
    """2026-11; the 2010-11 season is two years"""
    text = match.string
    if int(match["month"]) == (int(match["year"]) + 1) % 100:
        before = word_before(text, match.start()).lower()
        after = word_after(text, match.end()).lower()
        if before in ("the", "from", "winter", "season", "during") or after in _SEASONS:
            return None
    return f"{MONTHS[int(match['month']) - 1]} {year(match['year'])}"


_SEASONS = word_set("season seasons school academic campaign fiscal financial winter term year budget edition")


@rule("9", rf"(?<![\w.,:/$€£-]){_DAY}{_TO_DAY}\s(?:of\s)?{_MONTH}(?![\w]){_YEAR}")
def day_first(match: Match[str]) -> str | None:
    """21 Nov 2026, the 4th of July"""
    text = match.string
    after = word_after(text, match.end())
    plain = match["month"] in ("May", "March") and not match["year"] and not re.search(r"th|st|nd|rd|of", match[0])
    if plain and after[:1].islower() and after not in _AFTER_DATE:
        return None
    before = re.search(r"\b(?:the|this|every)\s$", text[max(0, match.start() - 8) : match.start()], re.I)
    stop = "." if match[0].endswith(".") and starts_sentence(text, match.end()) else ""
    return f"{'' if before else 'the '}{_days(match)} of {_month(match)}{_tail(match)}{stop}"


_AFTER_DATE = word_set("at and or to in is was for by from on with until this next last a the we i he she they it")


@rule("JFMASOND", rf"\b{_MONTH}\s{_DAY}{_TO_DAY}\b(?![:.,]\d|\s?%|/){_YEAR}")
def month_first(match: Match[str]) -> str | None:
    """Nov 21, 2026; Jan. 5-7; but `in Jan. 5 people` is the end of a sentence"""
    if "." in match["month"] and not match["year"] and not continues_reference(match.string, match.start("day")):
        return None
    return f"{_month(match)} {_days(match)}{_tail(match)}"


@rule("JFMASOND", rf"\b{_MONTH},?\s(?P<year>[12]\d{{3}})\b(?![.,:]\d|\s?%)")
def month_and_year(match: Match[str]) -> str:
    """May 2026"""
    return f"{_month(match)} {year(match['year'])}"


@rule("JFMASOND", rf"\b{_MONTH}\s?[–-]\s?(?P<to>{'|'.join(MONTHS)}|{'|'.join(name[:3] for name in MONTHS)})\b")
def months(match: Match[str]) -> str:
    """May–June"""
    return f"{_month(match)} to {_MONTH_OF[match['to'][:3].lower()]}"


@rule("JFMASOND", r"\b(?P<month>Jan|Feb|Mar|Apr|Jun|Jul|Aug|Sept?|Oct|Nov|Dec)\b(?![.\w'-])")
def bare_month(match: Match[str]) -> str | None:
    """A month's abbreviation without its full stop: by Feb; Jan and Dec are names, too"""
    before = word_before(match.string, match.start()).lower()
    row = re.match(
        r"\s(?:and|or|to|through)\s(?:Feb|Mar|Apr|May|Ju[nl]|Aug|Sep|Oct|Nov|Dec)", match.string[match.end() :][:14]
    )
    if before not in _MONTH_BEFORE and not row:
        return None
    return _month(match)


_MONTH_BEFORE = word_set("to through in during since until till by from early late mid last next this of every")


@rule("JFMASOND", r"\b(Jan|Feb|Mar|Apr|Jun|Jul|Aug|Sept?|Oct|Nov|Dec)\.(?=\s[a-z\d]|,|$|\s[A-Z])")
def short_month(match: Match[str]) -> str | None:
    """A month's abbreviation alone: in Sept. we"""
    if re.match(r"\s[A-Z]", match.string[match.end() : match.end() + 2]) and not (
        starts_sentence(match.string, match.end()) and word_before(match.string, match.start()).lower() in _MONTH_BEFORE
    ):
        return None  # Jan. may be a person
    stop = (
        "." if match.string[match.end() : match.end() + 1] == " " and starts_sentence(match.string, match.end()) else ""
    )
    return _MONTH_OF[match[1].lower()] + stop


@rule("MTWFS", rf"\b(?P<first>{_ANY_DAY})\s?(?P<dash>[-–])\s?(?P<last>{_ANY_DAY})(?!\w)")
def weekdays(match: Match[str]) -> str:
    """Mon-Fri, Monday–Friday, Sat.–Sun."""
    first, last = (DAYS.get(match[at].rstrip(".").lower(), match[at]) for at in ("first", "last"))
    stop = "." if match["last"].endswith(".") and starts_sentence(match.string, match.end()) else ""
    return f"{first} to {last}{stop}"


@rule("MTWFS", rf"\b({_SHORT_DAY})\b(?P<stop>\.?)")
def weekday(match: Match[str]) -> tuple[str, int] | None:
    """A day's abbreviation before a date, in a list of days, or with its full stop: Mon, Wed and Fri."""
    text, end = match.string, match.end()
    after = text[end : end + 24]
    dated = re.match(rf",?\s(?:{'|'.join(MONTHS)}|{'|'.join(name[:3] for name in MONTHS)}\.?\s?\d|\d|the\s\d)", after)
    listed = re.match(rf",?\s(?:and\s|or\s|&\s|to\s)?(?:{_SHORT_DAY})\b", after) or re.search(
        rf"\b(?:{_SHORT_DAY}|[A-Z][a-z]+day)\.?,?\s(?:and\s|or\s|&\s|to\s)?\Z",
        text[max(0, match.start() - 16) : match.start()],
    )
    listed = listed or re.search(
        rf"\b(?:{_SHORT_DAY})\b[^.!?]*[;,]\s\Z", text[max(0, match.start() - 40) : match.start()]
    )
    name = DAYS[match[1].lower()]
    if match["stop"]:
        before = word_before(text, match.start()).lower()
        ended = before in (
            "on",
            "by",
            "until",
            "till",
            "next",
            "last",
            "this",
            "every",
            "from",
            "since",
        ) and starts_sentence(text, end)
        whole = match[1] in ("Weds", "Tues", "Thurs")
        if (
            not listed
            and not dated
            and not ended
            and not whole
            and not (text[end : end + 1] == "," or re.match(r"\s[a-z\d]", after))
        ):
            return None
        return name + ("." if starts_sentence(text, end) else ""), end
    alone = match[1] in ("Thu", "Weds", "Tues", "Thur", "Thurs") or (
        match[1] in ("Mon", "Tue", "Fri")
        and word_before(text, match.start()).lower() in ("on", "by", "until", "next", "this", "every")
    )
    shut = alone or re.search(r"\b(?:[Cc]losed|[Oo]pen)\s\Z", text[max(0, match.start() - 7) : match.start()])
    return (name, end) if dated or listed or shut else None


_DECADE_BEFORE = word_set(
    "the his her their my our your its early mid late low high upper lower mid- in and to from like of"
)
_SECONDS_BEFORE = word_set(
    "after for within every about around takes took take wait waits waited sleep last lasts only just under over"
)


_BRIEF = word_set(
    "timeout delay timer video clip pause break window interval countdown wait limit hold rest sprint recording exposure "
    "gap cooldown warning intro loop sample snippet burst deadline fade period"
)
"""What lasts seconds: `a 30s timeout`, but `a 90s band`."""
_SIZED = word_set("size sizes model iphone galaxy pixel boeing airbus straight mig")


_WAITED = re.compile(
    r"(?:\b(?:lasts?|lasted|took|takes?|(?:expires?|arrives?|leaves?|arriving|leaving|starts?|begins?|ends?|back|due|ready|done|departs?|there)\sin|"
    r"eta|estimated\stime|time:|train:|bus:|duration|run\s?time|length|(?:time\s)?(?:left|remaining)|snooze|pause|sleep|timeout|timer|elapsed|"
    r"(?:bake|cook|boil|simmer|rest|roast|fry|steam|chill|freeze|knead|stir|wait|nap|paused|breath|microwave|grill|soak|prove)(?:\s(?:it|them))?"
    r"(?:\s(?:for|another|for\sanother))?)|\bfor\sanother|\bevery|timer\sfor):?\s\Z",
    re.IGNORECASE,
)
_LASTS = word_set(
    "break timer call meeting delay wait drive nap talk session timeout video film movie interval shower lecture podcast "
    "episode flight commute workout rest pause left remaining ago later early late until till read"
)
"""What lasts minutes."""


@rule("9", r"(?<![\w.,/$€£-])(?P<number>\d{1,3})m\b(?!²|³|/|\^)")
def minutes(match: Match[str]) -> str | None:
    """Minutes where metres cannot be meant: wait 5m, a 10m break, Duration: 4m"""
    text, end = match.string, match.end()
    after = word_after(text, end)
    timed = _WAITED.search(text[max(0, match.start() - 32) : match.start()])
    long = after == "long" and word_after(text, end + 5) in _LASTS
    soon = re.search(r"\b(?:in|within)\s\Z", text[max(0, match.start() - 7) : match.start()]) and re.match(
        r"[.,!?]|$", text[end : end + 1]
    )
    if not (timed or long or soon or after in _LASTS or text[end : end + 6] == " to go"):
        return None
    one = match["number"] == "1" or attributive(text, match.start(), end) or after in ("timer", "break", "call", "read")
    return f"{cardinal(match['number'])} {'minute' if one else 'minutes'}"


@rule.in_context("9'", r"(?<![\w.,])'?(?P<number>\d{1,4})'?s\b(?!'\w)")
def plural_number(match: Match[str], scan: Scan) -> str | None:
    """Decades and plurals of numbers: the 1990s, 90s music, in his 30s, the 400s, two 747s; not 30 seconds."""
    number, text = match["number"], match.string
    before = word_before(text, match.start()).lower()
    if not before and re.search(r"[\s-]'?\Z", text[max(0, match.start() - 2) : match.start()]):
        hyphened = re.search(r"\b(early|mid|late)-\Z", text[max(0, match.start() - 6) : match.start()])
        before = hyphened[1] if hyphened else ""
    earlier = scan.previous(match.start())
    hyphen = text[max(0, match.start() - 6) : match.start()]
    if re.search(r"(?<![^\W_])[A-Z][A-Za-z]{0,3}-\Z|\b(?:[Uu]nder|[Oo]ver)-\Z", hyphen):
        return plural_of(number)
    after = word_after(text, match.end())
    row = re.match(r"(?:,|\s(?:and|or))\s\d{1,4}s\b", text[match.end() : match.end() + 11])
    if len(number) < 3 and not number.endswith("0") and match[0][0] == "'":
        return plural_of(number)
    if len(number) < 3 and (
        before in NUMBER_WORDS
        or before in _SIZED
        or (row and before not in _SECONDS_BEFORE)
        or (before in ("and", "or") and any(reading.rule == "plural-number" for reading in scan.readings[-4:]))
        or (len(number) == 1 and before in ("the", "all") and after not in _BRIEF)
        or after in ("digit", "place", "column")
        or after == "of"
    ):
        return plural_of(number)
    if before in ("a", "an"):
        if len(number) == 4 and number.endswith("0"):
            return decade(number)
        styled = re.match(r"-(?:style|era|inspired|themed|looking)\b", text[match.end() : match.end() + 9])
        era = (
            len(number) == 2 and number.endswith("0") and number not in ("10", "00") and (styled or after not in _BRIEF)
        )
        return decade(number) if era and (after or styled) else None
    if len(number) == 4:
        return decade(number) if number.endswith("0") else plural_words(year(number))
    if number == "00" and before in _DECADE_BEFORE:
        return "two thousands"
    if len(number) == 3:
        timed = before in _SECONDS_BEFORE or (earlier is not None and earlier.rule == "duration")
        return None if timed else plural_of(number)
    if number.endswith("0") and len(number) == 2 and number != "00" and number != "10":
        noun = after[:1].islower() and len(after) > 2 and after not in _AFTER_SECONDS and after not in _BRIEF
        if "'" in match[0] or before in _DECADE_BEFORE or (noun and before not in _SECONDS_BEFORE):
            return decade(number)
    return None


@rule("'", r"(?<![\w'])'(?P<year>\d\d)(?![\w'\"])")
def short_year(match: Match[str]) -> str:
    """the class of '98, back in '09"""
    number = match["year"]
    return f"oh {cardinal(number[1])}" if number[0] == "0" else cardinal(number)


@rule("9", r"(?<![\w.,/-])(?P<a>(?:19|20)\d\d)/(?P<b>(?:19|20)?\d\d)(?![\w/-]|[.,]\d)")
def season(match: Match[str]) -> str | None:
    """Two years in a row: 1998/99, 2021/2022"""
    first, second = match["a"], match["b"]
    if int(second[-2:]) != (int(first[-2:]) + 1) % 100:
        return None
    return f"{year(first)} {cardinal(second) if len(second) == 2 else year(second)}"


_AFTER_SECONDS = word_set("later ago and remaining left before after each per the for in on at of to is was are were")


@rule("9", r"(?<![\w.,$€£¥#-])(?P<a>1\d\d\d|20\d\d)\s?[–-]\s?(?P<b>1\d\d\d|20\d\d|\d\d)(?![\w%-]|[.,:]\d)")
def years(match: Match[str]) -> str | None:
    """1999–2005, 1914-18"""
    first, second = match["a"], match["b"]
    if first.startswith("10"):
        before = match.string[max(0, match.start() - 12) : match.start()]
        closed = re.search(r"\([^()]*\Z", before) or word_before(match.string, match.start()).lower() in _YEAR_BEFORE
        if not closed and not re.match(r"\s(?:AD|CE|BCE?)\b", match.string[match.end() : match.end() + 4]):
            return None
    if unit_name(word_after(match.string, match.end())):
        return None
    if len(second) == 4:
        return f"{year(first)} to {year(second)}"
    if second == "00" and first.endswith("99"):
        return f"{year(first)} to {year(f'{int(first) + 1}')}"
    return (
        f"{year(first)} to {cardinal(second) if second[0] != '0' else f'oh {cardinal(second[1])}'}"
        if int(second) > int(first[2:])
        else None
    )


@rule.in_context(
    "9",
    r"(?<![\d.,:/$€£¥#+^])(?<!\d[-–])\b(?P<year>1[1-9]\d\d|20\d\d|10\d\d|2100)(?![\w%°/]|[.,:]\d|\s?[-–×*+=/]\s?\d)(?P<next>\s[a-z]+)?",
)
def lone_year(match: Match[str], scan: Scan) -> tuple[str, int] | None:
    """Four digits that are a year and not a count: in 1999, but 1500 people."""
    number, text = match["year"], match.string
    after = (match["next"] or "").strip()
    opens = re.search(r"(?:^|[.!?\"”]\s)(?:In|By|Since|Until)\s\Z", text[max(0, match.start() - 8) : match.start()])
    if (
        opens
        and not number.endswith("00")
        and number[:2] != "10"
        and re.match(r"\s[a-z]+\s(?!of\b|in\b)[a-z]", text[match.end("year") :][:40])
    ):
        return year(number), match.end("year")
    if after in _COUNTED or (len(after) > 3 and after.endswith("s") and after not in _NOT_PLURAL):
        return None
    if re.search(r"\d\sby\s\Z", text[max(0, match.start() - 5) : match.start()]) or re.match(
        r"\sby\s\d", text[match.end("year") :][:6]
    ):
        return None  # 1920 by 1080
    if number[:2] == "10" or number == "2100":
        before = word_before(text, match.start()).lower()
        earlier = text[max(0, match.start() - 18) : match.start()]
        era = re.match(r"\s(?:AD|A\.D\.|CE|BCE?|B\.C\.)", text[match.end("year") : match.end("year") + 5])
        era = era or re.search(r"\b(?:A\.?D\.?|c\.|ca\.|circa|r\.)\s\Z", earlier)
        second = re.search(r"\b\d{4} (?:and|to|or) \Z", earlier) and any(
            reading.rule == "lone-year" for reading in scan.readings[-5:]
        )
        alone = (
            text[match.start() - 1 : match.start()] == "(" and text[match.end("year") : match.end("year") + 1] == ")"
        )
        if before not in _YEAR_BEFORE and not (era or second or alone):
            return None
    end = match.end("year")
    return ("twenty-one hundred" if number == "2100" else year(number)), end


_YEAR_BEFORE = word_set(
    "early mid late between in by since until till from of ad ce bc year before after circa around about during summer winter"
)
_COUNTED = word_set("people men women children percent times feet dollars euros pounds yen")
_NOT_PLURAL = word_set(
    "was is has this its as us yes plus thus always perhaps sometimes besides towards afterwards versus"
)

_CLOCK = (
    rf"(?P<hour>[01]?\d|2[0-4]):(?P<minute>[0-5]\d)(?::(?P<second>[0-5]\d)(?P<part>[.,]\d{{1,6}})?)?"
    rf"(?![\d:])(?:(?P<zone>Z\b|[+-](?:0\d|1[0-4]):?[0-5]\d\b)|\s?h\b)?(?:{MERIDIEM})?"
)


@rule("9", rf"(?:(?<![\w.:,$€£])|(?<=\dT)){_CLOCK}", re.IGNORECASE)
def clock(match: Match[str]) -> tuple[str, int] | None:
    """14:30, 2:05 PM, 12:30:15"""
    return _time(match)


@rule.in_context("9", rf"(?<![\w.:,$€£])(?P<hour>1[0-2]|0?[1-9])(?:\.(?P<minute>[0-5]\d))?{MERIDIEM}", re.IGNORECASE)
def hour(match: Match[str], scan: Scan) -> tuple[str, int] | None:
    """9 a.m., 7.30pm"""
    earlier = scan.previous(match.start())
    hyphened = match.string[match.start() - 1 : match.start()] == "-"
    return None if hyphened and not (earlier and earlier.rule in ("time-range", "range-dash")) else _time(match)


@rule(
    "9",
    r"(?<![\w.:,$€£-])(\d{1,2})(?::([0-5]\d))?\s?[–—-]\s?(?=\d{1,2}(?::[0-5]\d(?!\d)|\s?[ap]\.?m\b))",
    re.IGNORECASE,
)
def time_range(match: Match[str]) -> str | None:
    """The first of two times: 7–9 p.m., 10:30-11:45"""
    return (
        f"{_hour_and_minute(int(match[1]), match[2], meridiem=match[2] is None)} to " if int(match[1]) <= 24 else None
    )


@rule("nm", r"\b(noon|midnight)\s?[–-]\s?(?=\d|midnight|noon)")
def noon_to(match: Match[str]) -> str:
    """noon–3 p.m."""
    return f"{match[1]} to "


@rule("9", r"(?<![\w.:,$€£-])(\d{1,2})(?::([0-5]\d))?\s?[–-]\s?(?=(?:noon|midnight|late|close)\b)")
def time_to_noon(match: Match[str]) -> str:
    """8–noon"""
    return f"{_hour_and_minute(int(match[1]), match[2], meridiem=True)} to "


def _time(match: Match[str]) -> tuple[str, int]:
    found = match.groupdict()
    named = word_after(match.string, match.end()) in ("noon", "midnight")
    spoken = _hour_and_minute(int(found["hour"]), found["minute"], bool(found["half"]) or named)
    if (found.get("second") or "00") != "00" or found.get("part"):
        spoken += f" and {decimal(str(int(found['second'])) + (found['part'] or '').replace(',', '.'))} seconds"
    if zone := found.get("zone"):
        spoken += " U T C"
        if zone != "Z":
            hours, minutes = zone[1:3], zone[-2:]
            spoken += f" {'plus' if zone[0] == '+' else 'minus'} {cardinal(str(int(hours)))}"
            spoken += "" if minutes == "00" else f" {cardinal(minutes)}"
    if found["half"]:
        spoken += f" {found['half'].upper()} M{_kept_stop(match)}"
    return spoken, match.end()


def _hour_and_minute(hour: int, minute: str | None, meridiem: bool) -> str:
    if minute is None or (minute == "00" and meridiem):
        return cardinal(str(hour))
    if minute == "00":
        spoken = cardinal(str(hour)) + (" hundred" if hour > 12 else " o'clock")
        return "midnight" if hour in (0, 24) else spoken
    return f"{cardinal(str(hour))} {'oh ' if minute[0] == '0' else ''}{cardinal(str(int(minute)))}"


def _kept_stop(match: Match[str]) -> str:
    """The full stop of `a.m.` is also that of the sentence if a new one begins, or nothing follows."""
    if not match["stop"]:
        return ""
    text, end = match.string, match.end()
    after = text[end : end + 2].strip(" \n\"'”")
    begins = starts_sentence(text, end) or after[:1].isupper()
    return "." if begins and not re.match(r"\s?[–—-]", text[end : end + 2]) else ""


def _month(match: Match[str]) -> str:
    return _MONTH_OF[match["month"].rstrip(".")[:3].lower()]


def _tail(match: Match[str]) -> str:
    return f", {year(match['year'])}" if match["year"] else ""


def _day(text: str) -> str:
    return ordinal(text.lstrip("0"))


def _days(match: Match[str]) -> str:
    return f"{_day(match['day'])} to {_day(match['to'])}" if match["to"] else _day(match["day"])
