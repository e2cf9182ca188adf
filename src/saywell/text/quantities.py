"""Money, units, ranges, fractions, phone numbers and every other number, in English words."""

from __future__ import annotations

import re
from re import Match

from saywell.text.numbers import MAX_DIGITS, any_numeral, cardinal, decimal, digits, fraction, is_one, ordinal

_NUMBER = r"(?:\d{1,3}(?:,\d{2,3}){0,4},\d{3}|\d{1,15})(?:\.\d{1,15})?"
_ANY = rf"(?:{_NUMBER}|\.\d{{1,15}})"
_LEFT = r"(?<![\w.,])"
_MINUS = r"(?P<sign>(?:(?<![\w)\]%-])[-−])?)"

_SYMBOLS = {
    "$": ("dollar", "dollars", "cent", "cents"), "€": ("euro", "euros", "cent", "cents"),
    "£": ("pound", "pounds", "penny", "pence"), "¥": ("yen", "yen", "sen", "sen"),
    "₹": ("rupee", "rupees", "paisa", "paise"), "₩": ("won", "won", "jeon", "jeon"),
    "₽": ("rouble", "roubles", "kopek", "kopeks"), "₿": ("bitcoin", "bitcoins", "cent", "cents"),
}  # fmt: skip
_CODES = {
    "USD": ("US dollar", "US dollars"), "EUR": ("euro", "euros"), "GBP": ("pound", "pounds"), "JPY": ("yen", "yen"),
    "CHF": ("Swiss franc", "Swiss francs"), "CAD": ("Canadian dollar", "Canadian dollars"),
    "AUD": ("Australian dollar", "Australian dollars"), "CNY": ("yuan", "yuan"), "INR": ("rupee", "rupees"),
    "SEK": ("Swedish krona", "Swedish kronor"), "NOK": ("Norwegian krone", "Norwegian kroner"),
}  # fmt: skip
_PREFIXES = {
    "US": "US ", "A": "Australian ", "AU": "Australian ", "C": "Canadian ", "CA": "Canadian ", "HK": "Hong Kong ",
    "NZ": "New Zealand ", "S": "Singapore ",
}  # fmt: skip
_SCALES = {
    "k": "thousand",
    "m": "million",
    "mn": "million",
    "mm": "million",
    "b": "billion",
    "bn": "billion",
    "tn": "trillion",
    "t": "trillion",
}
_SCALE = r"(?:\s?(?P<scale>thousand|million|billion|trillion|(?:[kKmMbB]n?|mm|tn|T)(?![\w])))?"
_MONEY = re.compile(
    rf"(?<![\d.,]){_MINUS}(?P<area>\b(?:US|AU|CA|HK|NZ|[ACS])(?=\$))?(?P<symbol>[$€£¥₹₩₽₿])\s?(?P<minus>-?)(?P<number>{_ANY})"
    rf"(?:\s?[-–]\s?[$€£¥₹₩₽₿]?(?P<to>{_NUMBER})(?![\w.,-]*\d))?{_SCALE}"
)
_MONEY_AFTER = re.compile(rf"{_LEFT}{_MINUS}(?P<number>{_ANY})\s?(?P<symbol>[€£¥₹₩₽₿]|\$(?!\d))")
_CODE_AFTER = re.compile(rf"{_LEFT}{_MINUS}(?P<number>{_ANY}){_SCALE}\s?(?P<code>{'|'.join(_CODES)})\b")
_CODE_BEFORE = re.compile(rf"\b(?P<code>{'|'.join(_CODES)})\s?{_MINUS}(?P<number>{_NUMBER})(?![\w.,]*\d){_SCALE}")
_CENTS = re.compile(rf"{_LEFT}(?P<number>{_NUMBER})\s?¢")

_UNITS = {
    "km": "kilometre", "m": "metre", "cm": "centimetre", "mm": "millimetre", "µm": "micrometre", "nm": "nanometre",
    "mi": "mile", "ft": "foot", "yd": "yard", "yds": "yard", "in.": "inch", "kg": "kilogram", "g": "gram",
    "mg": "milligram", "µg": "microgram", "lb": "pound", "lbs": "pound", "oz": "ounce", "l": "litre", "L": "litre",
    "ml": "millilitre", "mL": "millilitre", "cl": "centilitre", "Hz": "hertz", "kHz": "kilohertz", "MHz": "megahertz",
    "GHz": "gigahertz", "W": "watt", "kW": "kilowatt", "MW": "megawatt", "GW": "gigawatt", "Wh": "watt hour",
    "kWh": "kilowatt hour", "MWh": "megawatt hour", "V": "volt", "kV": "kilovolt", "mV": "millivolt", "mA": "milliamp",
    "mAh": "milliamp hour", "kB": "kilobyte", "KB": "kilobyte", "MB": "megabyte", "GB": "gigabyte",
    "TB": "terabyte", "PB": "petabyte", "KiB": "kibibyte", "MiB": "mebibyte", "GiB": "gibibyte", "TiB": "tebibyte",
    "kbps": "kilobit per second", "Mbps": "megabit per second", "Gbps": "gigabit per second",
    "kbit/s": "kilobit per second", "Mbit/s": "megabit per second", "Gbit/s": "gigabit per second",
    "MB/s": "megabyte per second", "GB/s": "gigabyte per second", "TB/s": "terabyte per second",
    "s": "second", "sec": "second", "secs": "second", "ms": "millisecond", "µs": "microsecond", "ns": "nanosecond",
    "min": "minute", "mins": "minute", "h": "hour", "hr": "hour", "hrs": "hour", "yr": "year", "yrs": "year",
    "mph": "mile per hour", "kph": "kilometre per hour", "km/h": "kilometre per hour", "kmh": "kilometre per hour",
    "m/s": "metre per second", "m/s²": "metre per second squared", "mpg": "mile per gallon", "fps": "frame per second",
    "rpm": "revolution per minute", "bpm": "beat per minute", "dpi": "dot per inch", "wpm": "word per minute",
    "km²": "square kilometre", "m²": "square metre", "cm²": "square centimetre", "mm²": "square millimetre",
    "ft²": "square foot", "mi²": "square mile", "m³": "cubic metre", "cm³": "cubic centimetre", "sq ft": "square foot",
    "sq km": "square kilometre", "dB": "decibel", "px": "pixel", "Pa": "pascal", "hPa": "hectopascal",
    "kPa": "kilopascal", "psi": "pound per square inch", "cal": "calorie", "kcal": "kilocalorie", "kJ": "kilojoule",
    "MJ": "megajoule", "kN": "kilonewton", "Nm": "newton metre", "Ω": "ohm", "kΩ": "kiloohm", "ha": "hectare",
    "°C": "degree Celsius", "°F": "degree Fahrenheit", "° C": "degree Celsius", "° F": "degree Fahrenheit",
    "tsp": "teaspoon", "tbsp": "tablespoon", "qt": "quart", "gal": "gallon",
    "°": "degree", "%": "percent", "‰": "per mille",
}  # fmt: skip
_PLURALS = {
    "foot": "feet", "inch": "inches", "hertz": "hertz", "kilohertz": "kilohertz", "megahertz": "megahertz",
    "gigahertz": "gigahertz", "percent": "percent", "per mille": "per mille",
}  # fmt: skip
# One letter after a space is more often a name than a unit: "Apollo 5 V".
_SPACED = [unit for unit in _UNITS if unit not in ("W", "V", "L", "s")]
_UNIT = (
    r"(?:-?(?P<tight>" + "|".join(re.escape(unit) for unit in sorted(_UNITS, key=len, reverse=True)) + r")"
    r"|\s(?P<unit>" + "|".join(re.escape(unit) for unit in sorted(_SPACED, key=len, reverse=True)) + r"))(?![\w²³]|'\w)"
    r"(?:/(?P<per>"
    + "|".join(re.escape(unit) for unit in sorted(_UNITS, key=len, reverse=True) if "/" not in unit)
    + r")(?!\w))?(?:\.(?=\s[a-z]))?"
)
_MEASURE = re.compile(rf"(?<![\w.,/]){_MINUS}(?P<number>{_ANY})(?:\s?[-–]\s?(?P<to>{_NUMBER}))?{_UNIT}")
_SCALED = re.compile(
    rf"{_LEFT}(?P<number>\d{{1,9}}\.\d{{1,9}}(?=[kKMB])|{_NUMBER}(?=\s?[mbt]n))\s?(?P<scale>\w{{1,2}})(?!\w)"
)
"""`2.5k`, `1.7B`, `3 bn`. A whole number with a single letter may be a name: 3M, 221B."""
_DIMENSIONS = re.compile(rf"(?<=\d)\s?[x×]\s?(?={_NUMBER})")
_TIMES_AS = re.compile(rf"{_LEFT}(?P<number>{_NUMBER})[x×](?!\w)")
_FEET = re.compile(r"(?<![\w.,])(\d{1,2})'\s?(\d{1,2})(?:\"|'')(?!\w)")
_INCHES = re.compile(
    rf"{_LEFT}(?P<number>{_NUMBER})(?:-|\s)?\"(?=\s(?:screen|display|monitor|tv|disk|wheel|pipe)s?\b)", re.IGNORECASE
)

_PHONE = re.compile(
    r"(?<![\w.,/-])(?:"
    r"\+\d{1,3}(?:[ .-]?\(?\d{1,5}\)?){1,6}"
    r"|\(\d{2,5}\)[ .-]?\d{2,5}(?:[ .-]\d{2,5}){0,4}"
    r"|(?:1[ .-])?\d{3}([.-])\d{3}\1\d{4}|\d{3}-\d{4}"
    r"|\d{3}-\d{2}-\d{4}|\d{4}(?:[ -]\d{4}){2,3}"
    r"|0\d{2,4}(?:[ -]\d{3,4}){2}|0\d{4} \d{6}"
    r"|(?!\d{4}-\d\d-\d\d)\d{1,7}(?:-\d{1,7}){3,6})(?![\w-]|[.,]\d)"
)
_STATES = (
    "AL AK AZ CA CO DC DE FL GA IA ID IL KS KY LA MA MD MI MN MS MT MO NC ND NE NH NV NY PA RI SC SD TN TX UT VA WA "  # noqa: SIM905
    "WI WV WY PR US".split()
)
"""Before a postal code."""
_BY_DIGIT = re.compile(
    r"(?P<before>\b(?i:call|dial|call(?:ed|ing)|dial(?:l?ed|l?ing))\s)(?P<number>911|999|112|988|000|111|101)(?![\w,.-]*\d)"
    rf"|(?P<place>\b(?:(?i:zip(?:\scode)?)|{'|'.join(sorted(_STATES))})\s)(?P<code>\d{{5}}(?:-\d{{4}})?)(?![\w,.-]*\d)"
)
"""Emergency calls, and the postal codes of the United States."""
_VERSION = re.compile(
    r"(?<![\w.,])(?:[vV](?:er(?:sion)?)?\.?\s?(?P<one>\d{1,4}(?:\.\d{1,4})?)|[vV]?(?P<many>\d{1,4}(?:\.\d{1,4}){2,6}))(?![\w]|\.\d)"
)
_EUROPEAN = re.compile(r"(?<![\w.,])(\d{1,3}(?:\.\d{3}){1,4}),(\d{1,2})(?![\w.,]*\d)")
_TO_MONEY = re.compile(r"(?<=[kKmMn])\s?[-–]\s?(?=[$€£]\d)")
_PART_OF_UNIT = re.compile(
    r"(?P<mixed>\band (?:a|one|two|three|\w+) )?\b(?P<part>half|quarters?|thirds?|fifths?|eighths?|tenths?) "
    r"(?P<unit>km|cm|mm|kg|mi|lbs?|oz|ft|ml|hrs?|mins?)\b"
)
_THOUSANDS = re.compile(r"(?<![\d.,])(\d{1,3}) (?=000(?!\d))")
_EUROPEAN_CENTS = re.compile(r"(?<![\w.,])(\d{1,4}),(\d{2})(?=\s?€)")
_ORDINAL = re.compile(r"(?<![\w.])(\d{1,3}(?:,\d{3}){1,4}|\d{1,15})(?:st|nd|rd|th)\b", re.IGNORECASE)
_MIXED = re.compile(r"(?<![\w.,/])(\d{1,6})\s(\d{1,3})/(\d{1,3})(?![\w/]|[.,]\d)")
_VULGAR = re.compile(r"(?<![\w.,])(?:(\d{1,6})\s?)?([¼-¾⅐-⅞])(?!\d)")
_FRACTION = re.compile(r"(?<![\w.,/])(\d{1,6})/(\d{1,6})(?:(?:th|rd)s)?(?![\w/]|[.,]\d)")
_OUT_OF = re.compile(r"(?<![\w.,/])(\d{1,3}\.\d{1,3})/(\d{1,3})(?![\w/]|[.,]\d)")
_PER = re.compile(
    r"(?:(?<=[\d$€£¢kKmMn%])|(?<=Wh)|(?<=[kMGT]B)|(?<=[km]g))/(?=(?:second|minute|hour|day|night|week|month|year|person|user|head|unit|item|call|token|request)s?\b)"
)
_PER_SHORT = re.compile(r"(?<=[\d¢])/(hr|wk|mo|yr|min|lb|kg|oz|gal)\b")
_PER_NAMES = {"hr": "hour", "wk": "week", "mo": "month", "yr": "year", "min": "minute"}
_SPECIAL_FRACTIONS = {"24/7": "twenty-four seven", "9/11": "nine eleven", "50/50": "fifty fifty"}
_RATIO = re.compile(r"(?<![\w.,:])(\d{1,4}):(\d{1,4})(?![\w:]|[.,]\d)")
_RANGE = re.compile(rf"{_LEFT}(?<![-^])({_NUMBER})(?:\s?[–—]\s?|-)({_NUMBER})(?![\w-]|[.,]\d)")
_SCIENCE = re.compile(rf"{_LEFT}{_MINUS}({_NUMBER})[eE]([+-]?)(\d{{1,3}})\b")
_POWER = re.compile(r"(?<=[\w)])\s?(?:\^\s?\(?(?P<caret>[-+]?\d{1,15})\)?|(?P<raised>[⁺⁻]?[⁰¹²³⁴⁵⁶⁷⁸⁹]{1,15}))")
_RAISED = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻", "0123456789+-")
_ARITHMETIC = re.compile(r"(?<=[\d)])\s?([-−*÷/])\s?(?=[\d(][\d.,()\s+*/÷×−-]{0,60}=)|(?<=[\d)])\s([-−*/])\s(?=[\d(])")
_OPERATORS = {"-": "minus", "−": "minus", "*": "times", "÷": "divided by", "/": "divided by"}
_SIGNED = re.compile(rf"(?:(?<=^)|(?<=[\s(\[=,:;\"'<>]))[-−](?={_ANY})")
_HUGE = re.compile(rf"\d{{{MAX_DIGITS + 1},}}")
_GROUPED_HUGE = re.compile(r"(?<![\w.])\d{1,3}(?:,\d{3}){5,}(?![\d])")
_PLAIN = re.compile(rf"(?P<number>{_NUMBER}|(?<![\d.])\.\d{{1,15}})")
_LETTER_DIGIT = re.compile(r"(?<=[^\W\d_])-?(?=\d)")
_DIGIT_LETTER = re.compile(r"(?<=\d)(?=[^\W\d_])")
_MIXED_TOKEN = re.compile(r"(?<![\w-])(?<!\d\.)(?=\w{0,24}[^\W\d_])(?=\w{0,24}\d)[\w-]{2,40}")


def speak_huge(text: str) -> str:
    """Digit strings longer than any number name. Runs first, so that later patterns have bounded work."""
    text = _GROUPED_HUGE.sub(lambda match: f" {digits(match[0])} ", text)
    return _HUGE.sub(lambda match: f" {digits(match[0])} ", text)


def speak_phones(text: str) -> str:
    """Phone numbers, digit by digit, with a breath between the groups."""
    text = _BY_DIGIT.sub(_by_digit, text)
    return _PHONE.sub(_phone, text)


def speak_versions(text: str) -> str:
    """Versions and network addresses, part by part."""
    return _VERSION.sub(_version, text)


def speak_money(text: str) -> str:
    """Amounts of money."""
    text = _THOUSANDS.sub(r"\1", text)
    text = _TO_MONEY.sub(" to ", text)
    text = _PER_SHORT.sub(lambda match: f" per {_PER_NAMES.get(match[1]) or _UNITS[match[1]]}", text)
    text = _PER.sub(" per ", text)
    text = _EUROPEAN.sub(lambda match: f"{match[1].replace('.', '')}.{match[2]}", text)
    text = _EUROPEAN_CENTS.sub(r"\1.\2", text)
    text = _MONEY.sub(lambda match: _money(match) + _apart(match, 1), text)
    text = _MONEY_AFTER.sub(lambda match: _money(match) + _apart(match, 1), text)
    text = _CODE_AFTER.sub(_coded, text)
    text = _CODE_BEFORE.sub(_coded, text)
    return _CENTS.sub(lambda match: _count(match["number"], "cent", "cents"), text)


def speak_measures(text: str) -> str:
    """Numbers with a unit, a percent sign or a multiplier."""
    text = _FEET.sub(lambda match: f"{_count(match[1], 'foot', 'feet')} {cardinal(match[2])}", text)
    text = _INCHES.sub(lambda match: f"{decimal(match['number'])} inch", text)
    text = _SCALED.sub(lambda match: f"{decimal(match['number'])}{_scale(match['scale'])}", text)
    text = _DIMENSIONS.sub(" by " if "x" in text else " times ", text)
    text = _MEASURE.sub(_measure, text)
    return _TIMES_AS.sub(lambda match: f"{decimal(match['number'])} times", text)


def speak_numbers(text: str) -> str:
    """All other numbers. The result has no ASCII digits."""
    text = _SCIENCE.sub(_science, text)
    text = _ORDINAL.sub(lambda match: ordinal(match[1].replace(",", "")), text)
    text = _ARITHMETIC.sub(lambda match: f" {_OPERATORS[match[1] or match[2]]} ", text)
    text = _VULGAR.sub(_vulgar, text)
    text = _OUT_OF.sub(lambda match: f"{decimal(match[1])} out of {cardinal(match[2])}", text)
    text = _MIXED.sub(lambda match: f"{cardinal(match[1])} and {_part(match[2], match[3])}", text)
    text = _FRACTION.sub(lambda match: _SPECIAL_FRACTIONS.get(match[0]) or _fraction(match), text)
    text = _RATIO.sub(lambda match: f"{cardinal(match[1])} to {cardinal(match[2])}", text)
    text = _RANGE.sub(lambda match: f"{decimal(match[1])} to {decimal(match[2])}", text)
    text = _SIGNED.sub("minus ", text)
    text = _POWER.sub(_power, text)
    text = _MIXED_TOKEN.sub(_mixed, text)
    text = _PART_OF_UNIT.sub(_part_of_unit, text)
    return _PLAIN.sub(lambda match: f"{_apart(match, -1)}{decimal(match['number'])}{_apart(match, 1)}", text)


def _vulgar(match: Match[str]) -> str:
    part = any_numeral(match[2])
    return f"{cardinal(match[1])} and {_a_part(part)}" if match[1] else part


def _part_of_unit(match: Match[str]) -> str:
    """`one half km` → one half of a kilometre, `two and a half km` → two and a half kilometres."""
    name = _UNITS[match["unit"]]
    tail = _plural(name) if match["mixed"] else f"of {'an' if name[0] in 'aeio' else 'a'} {name}"
    return f"{match['mixed'] or ''}{match['part']} {tail.replace('of a hour', 'of an hour')}"


def _apart(match: Match[str], side: int) -> str:
    """A space where the words of a number would join the neighbouring text."""
    at = match.start() - 1 if side < 0 else match.end()
    beside = match.string[at : at + 1] if at >= 0 else ""
    return " " if beside.isalnum() or ((side > 0 and beside == ".") and match.string[at + 1 : at + 2].isdigit()) else ""


def _count(number: str, one: str, many: str) -> str:
    return f"{decimal(number)} {one if is_one(number) else many}"


def _phone(match: Match[str]) -> str:
    groups = re.findall(r"\d+", match[0])
    spoken = ", ".join(map(digits, groups))
    return f"plus {spoken}" if match[0][0] == "+" else spoken


def _by_digit(match: Match[str]) -> str:
    spoken = ", ".join(map(digits, (match["number"] or match["code"]).split("-")))
    return f"{match['before'] or match['place']}{spoken}"


def _version(match: Match[str]) -> str:
    lead = "version " if match[0][0] in "vV" else ""
    parts = (match["one"] or match["many"]).split(".")
    if len(parts) == 4 or any(len(part) > 2 for part in parts):
        joint = " dot " if len(parts) == 4 else " point "
        return lead + joint.join(digits(part) if len(part) > 1 else cardinal(part) for part in parts)
    return lead + " point ".join(map(cardinal, parts))


def _money(match: Match[str]) -> str:
    found = match.groupdict()
    one, many, coin, coins = _SYMBOLS[found["symbol"]]
    area = _PREFIXES[found["area"]] if found.get("area") else ""
    sign = "minus " if found["sign"] or found.get("minus") else ""
    number, scale = found["number"], _scale(found.get("scale"))
    if found.get("to"):
        return f"{sign}{decimal(number)} to {decimal(found['to'])}{scale} {area}{many}"
    whole, _, part = number.replace(",", "").partition(".")
    if scale or (part and len(part) != 2):
        return f"{sign}{decimal(number)}{scale} {area}{many}"
    cents = _count(str(int(part)), coin, coins) if part.strip("0") else ""
    if cents and not whole.strip("0"):
        return sign + cents
    return f"{sign}{_count(whole or '0', area + one, area + many)}{' and ' + cents if cents else ''}"


def _coded(match: Match[str]) -> str:
    one, many = _CODES[match["code"]]
    scale = _scale(match["scale"])
    sign = "minus " if match["sign"] else ""
    return f"{sign}{decimal(match['number'])}{scale} {one if is_one(match['number']) and not scale else many}"


def _scale(text: str | None) -> str:
    return f" {_SCALES.get(text.lower(), text)}" if text else ""


def _measure(match: Match[str]) -> str:
    unit = match["tight"] or match["unit"]
    name = _UNITS[unit]
    hyphened = match["tight"] and match.string[match.start("tight") - 1] == "-"
    one = (is_one(match["number"]) and not match["to"]) or hyphened
    per = f" per {_UNITS[match['per']]}" if match["per"] else ""
    spoken = f"{decimal(match['number'])} to {decimal(match['to'])}" if match["to"] else decimal(match["number"])
    return f"{'minus ' if match['sign'] else ''}{spoken} {name if one else _plural(name)}{per}"


def _plural(name: str) -> str:
    """`mile per hour` → miles per hour, `square foot` → square feet."""
    head, joint, tail = name.partition(" per ")
    if joint:
        return f"{_plural(head)}{joint}{tail}"
    if name in _PLURALS:
        return _PLURALS[name]
    first, _, last = name.rpartition(" ")
    if first == "degree":
        return f"degrees {last}"
    return f"{first} {_PLURALS.get(last, last + 's')}".strip()


def _science(match: Match[str]) -> str:
    sign, below = "minus " if match[1] else "", "minus " if match[3] == "-" else ""
    return f"{sign}{decimal(match[2])} times ten to the power of {below}{cardinal(match[4].lstrip('0') or '0')}"


def _power(match: Match[str]) -> str:
    power = match["caret"] or match["raised"].translate(_RAISED)
    if power in ("2", "3"):
        return " squared" if power == "2" else " cubed"
    before = match.string[max(0, match.start() - 2) : match.start()]
    if match["raised"] and before.isalpha() and len(before) == 2:
        return f" {decimal(power)}"  # a footnote
    return f" to the power of {decimal(power)}"


def _part(above: str, below: str) -> str:
    return _a_part(fraction(above, below))


def _a_part(spoken: str) -> str:
    return {"one half": "a half", "one quarter": "a quarter"}.get(spoken, spoken)


def _fraction(match: Match[str]) -> str:
    """`3/4` is a fraction; out of ten or a hundred it is a mark, unless `of` follows."""
    above, below = match[1], match[2]
    mark = below in ("10", "100") and above != "1" and match.string[match.end() : match.end() + 4] != " of "
    return f"{cardinal(above)} out of {cardinal(below)}" if mark else fraction(above, below)


def _mixed(match: Match[str]) -> str:
    """Letters and digits in one token (`MP3`, `COVID-19`, `h264`): apart, long digit strings by digit."""
    token = _LETTER_DIGIT.sub(" ", match[0])
    token = _DIGIT_LETTER.sub(" ", token)
    return re.sub(r"\d+", lambda run: cardinal(run[0]) if len(run[0]) <= 2 else digits(run[0]), token)
