"""Dates, years, decades and times of day, in English words."""

from __future__ import annotations

import re
from re import Match

from saywell.text.abbreviations import ends_sentence
from saywell.text.breaks import word_set
from saywell.text.numbers import cardinal, decade, ordinal, year

_MONTHS = (
    "January", "February", "March", "April", "May", "June",
    "July", "August", "September", "October", "November", "December",
)  # fmt: skip
_MONTH_OF = {name[:3].lower(): name for name in _MONTHS} | {"sept": "September"}
_MONTH = "(?P<month>" + "|".join([*_MONTHS, r"Sept\.?", *(rf"{name[:3]}\.?" for name in _MONTHS)]) + ")"
_DAYS = {
    "mon": "Monday", "tue": "Tuesday", "tues": "Tuesday", "wed": "Wednesday", "thu": "Thursday", "thur": "Thursday",
    "thurs": "Thursday", "fri": "Friday", "sat": "Saturday", "sun": "Sunday",
}  # fmt: skip
_DAY = r"(?P<day>0?[1-9]|[12]\d|3[01])(?:st|nd|rd|th)?"
_TO_DAY = r"(?:\s?[–-]\s?(?P<to>0?[1-9]|[12]\d|3[01])(?:st|nd|rd|th)?)?"
_YEAR = r"(?:,?\s(?P<year>[12]\d{3})(?![\d,.:%-]*\d))?"
_MERIDIEM = r"\s?(?P<half>[ap])\.?\s?m\b(?P<stop>\.?)"

_ISO = re.compile(
    r"(?<![\w.-])(?P<year>[12]\d{3})([-/.])(?P<month>0[1-9]|1[0-2])\2(?P<day>[0-3]\d)(?![\d-])(?:T(?=\d))?"
)
_YEAR_MONTH = re.compile(r"(?<![\w.-])(?P<year>(?:19|20)\d{2})-(?P<month>0[1-9]|1[0-2])(?![\w-]|\.\d)")
_NUMERIC = re.compile(r"(?<![\w./-])(?P<a>\d{1,2})([/.-])(?P<b>\d{1,2})\2(?P<year>[12]\d{3}|\d{2})(?![\w/-]|\.\d)")
_MONTH_FIRST = re.compile(rf"\b{_MONTH}\s{_DAY}{_TO_DAY}\b(?![:.,]\d|\s?%|/){_YEAR}")
_DAY_FIRST = re.compile(rf"(?<![\w.,:/$€£-]){_DAY}{_TO_DAY}\s(?:of\s)?{_MONTH}(?![\w]){_YEAR}")
_MONTH_YEAR = re.compile(rf"\b{_MONTH},?\s(?P<year>[12]\d{{3}})\b(?![.,:]\d|\s?%)")
_SHORT_MONTH = re.compile(r"\b(Jan|Feb|Mar|Apr|Jun|Jul|Aug|Sept?|Oct|Nov|Dec)\.(?=\s[a-z\d]|,|$)")
_WEEKDAY = re.compile(
    r"\b(Mon|Tues?|Wed|Thu(?:rs?)?|Fri|Sat|Sun)(?:\.(?=,|\s)|(?=,?\s(?:" + "|".join(_MONTHS) + r"|\d|the\s)))"
)
_WEEKDAYS = re.compile(r"\b(Mon|Tues?|Wed|Thu|Fri|Sat|Sun)\s?[-–]\s?(Mon|Tues?|Wed|Thu|Fri|Sat|Sun)\b")
_DECADE = re.compile(r"(?<![\w.,])'?(?:(?P<long>(?:1[1-9]|20)\d0)|(?P<short>[2-9]0))'?s\b")
_AFTER_THE = re.compile(r"\b(?:the|his|her|their|my|our|your|its|early|mid|late|in|and|to)[\s-]+'?$", re.IGNORECASE)
_YEARS = re.compile(
    r"(?<![\w.,$€£¥#-])(?P<a>1[1-9]\d\d|20\d\d)\s?[–-]\s?(?P<b>1[1-9]\d\d|20\d\d|\d\d)(?![\w%-]|[.,:]\d)"
)
_LONE_YEAR = re.compile(
    r"(?<![\d.,:/$€£¥#+])(?<!\d[-–])\b(?P<year>1[1-9]\d\d|20\d\d)(?![\w%°/]|[.,:]\d|\s?[-–×*+=/]\s?\d)(?P<next>\s[a-z]+)?"
)
_COUNTED = word_set(
    """
    people men women children percent times feet dollars euros pounds yen
    """
)
_NOT_PLURAL = word_set(
    """
    was is has this its as us yes plus thus always perhaps sometimes besides towards afterwards versus
    """
)

_CLOCK = re.compile(
    rf"(?<![\w.:,$€£])(?P<hour>[01]?\d|2[0-4]):(?P<minute>[0-5]\d)(?::(?P<second>[0-5]\d)(?:\.\d{{1,6}})?)?"
    rf"(?![\d:])(?:Z\b|\s?h\b)?(?:{_MERIDIEM})?",
    re.IGNORECASE,
)
_HOUR = re.compile(rf"(?<![\w.:,$€£-])(?P<hour>1[0-2]|0?[1-9])(?:\.(?P<minute>[0-5]\d))?{_MERIDIEM}", re.IGNORECASE)
_TO_TIME = re.compile(
    r"(?<![\w.:,$€£-])(\d{1,2}(?::[0-5]\d)?\s?(?:[ap]\.?m\b\.?)?)\s?[–-]\s?(?=\d{1,2}(?::[0-5]\d(?!\d)|\s?[ap]\.?m\b))",
    re.IGNORECASE,
)


def speak_dates(text: str, *, month_first: bool) -> str:
    """Dates, years and decades as words. `month_first`: read 3/4/2026 as March 4th (it is April 3rd otherwise)."""
    text = _ISO.sub(_iso, text)
    text = _NUMERIC.sub(lambda match: _numeric(match, month_first), text)
    text = _YEAR_MONTH.sub(lambda match: f"{_MONTHS[int(match['month']) - 1]} {year(match['year'])}", text)
    text = _DAY_FIRST.sub(_day_first, text)
    text = _MONTH_FIRST.sub(_month_first, text)
    text = _MONTH_YEAR.sub(lambda match: f"{_month(match)} {year(match['year'])}", text)
    text = _SHORT_MONTH.sub(lambda match: _MONTH_OF[match[1].lower()], text)
    text = _WEEKDAYS.sub(lambda match: f"{_DAYS[match[1].lower()]} to {_DAYS[match[2].lower()]}", text)
    text = _WEEKDAY.sub(lambda match: _DAYS[match[1].lower()], text)
    text = _DECADE.sub(_decade, text)
    text = _YEARS.sub(_years, text)
    return _LONE_YEAR.sub(_lone_year, text)


def speak_times(text: str) -> str:
    """Times of day as words."""
    text = _TO_TIME.sub(r"\1 to ", text)
    text = _CLOCK.sub(_clock, text)
    return _HOUR.sub(_clock, text)


def _month(match: Match[str]) -> str:
    return _MONTH_OF[match["month"].rstrip(".")[:3].lower()]


def _tail(match: Match[str]) -> str:
    return f", {year(match['year'])}" if match["year"] else ""


def _day(text: str) -> str:
    return ordinal(text.lstrip("0"))


def _days(match: Match[str]) -> str:
    return f"{_day(match['day'])} to {_day(match['to'])}" if match["to"] else _day(match["day"])


def _iso(match: Match[str]) -> str:
    if not 1 <= int(match["day"]) <= 31:
        return match[0]
    spoken = f"{_MONTHS[int(match['month']) - 1]} {_day(match['day'])}, {year(match['year'])}"
    return f"{spoken}, " if match[0].endswith("T") else spoken


def _numeric(match: Match[str], month_first: bool) -> str:
    month, day = (match["a"], match["b"]) if month_first else (match["b"], match["a"])
    if int(month) > 12:
        month, day = day, month
    if not (1 <= int(month) <= 12 and 1 <= int(day) <= 31):
        return match[0]
    if len(match["year"]) == 2 and match[2] != "/":
        return match[0]
    full = match["year"] if len(match["year"]) == 4 else ("20" if int(match["year"]) < 70 else "19") + match["year"]
    return f"{_MONTHS[int(month) - 1]} {_day(day)}, {year(full)}"


def _month_first(match: Match[str]) -> str:
    return f"{_month(match)} {_days(match)}{_tail(match)}"


def _day_first(match: Match[str]) -> str:
    article = (
        ""
        if re.search(r"\b(?:the|this|every)\s$", match.string[max(0, match.start() - 8) : match.start()], re.I)
        else "the "
    )
    stop = "." if match[0].endswith(".") and ends_sentence(match.string, match.end()) else ""
    return f"{article}{_days(match)} of {_month(match)}{_tail(match)}{stop}"


def _decade(match: Match[str]) -> str:
    if match["long"]:
        return decade(match["long"])
    before = match.string[max(0, match.start() - 8) : match.start()]
    if "'" not in match[0] and not _AFTER_THE.search(before):
        return match[0]  # thirty seconds
    return decade(match["short"])


def _years(match: Match[str]) -> str:
    first, second = match["a"], match["b"]
    if len(second) == 4:
        return f"{year(first)} to {year(second)}"
    return f"{year(first)} to {cardinal(second)}" if int(second) > int(first[2:]) else match[0]


def _lone_year(match: Match[str]) -> str:
    after = (match["next"] or "").strip()
    plural = after in _COUNTED or (len(after) > 3 and after.endswith("s") and after not in _NOT_PLURAL)
    return match[0] if plural else year(match["year"]) + (match["next"] or "")


def _clock(match: Match[str]) -> str:
    found = match.groupdict()
    hour, minute = int(found["hour"]), found["minute"]
    spoken = _hour_and_minute(hour, minute, bool(found["half"]))
    if (found.get("second") or "00") != "00":
        spoken += f" and {cardinal(str(int(found['second'])))} seconds"
    if found["half"]:
        spoken += f" {found['half'].upper()} M{_kept_stop(match)}"
    return spoken


def _hour_and_minute(hour: int, minute: str | None, meridiem: bool) -> str:
    if minute is None or (minute == "00" and meridiem):
        return cardinal(str(hour))
    if minute == "00":
        spoken = cardinal(str(hour)) + (" hundred" if hour > 12 else " o'clock")
        return "midnight" if hour in (0, 24) else spoken
    return f"{cardinal(str(hour))} {'oh ' if minute[0] == '0' else ''}{cardinal(str(int(minute)))}"


def _kept_stop(match: Match[str]) -> str:
    """The full stop of `a.m.` also ends the sentence if a new one starts or nothing follows."""
    if not match["stop"]:
        return ""
    after = match.string[match.end() : match.end() + 2].strip(" \n")
    return "." if not match.string[match.end() :].strip() or after[:1].isupper() else ""
