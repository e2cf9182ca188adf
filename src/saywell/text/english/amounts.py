"""Amounts: numbers with a unit, a currency, a scale or a percent sign, and ranges of them."""

from __future__ import annotations

import re
from re import Match

from saywell.text.breaks import word_set
from saywell.text.english.context import attributive, is_noun, starts_sentence, word_after, word_before
from saywell.text.english.grammar import Rules, Scan
from saywell.text.english.units import (
    AREAS,
    CODES,
    CURRENCIES,
    LETTERS,
    NEVER_SPACED,
    SCALES,
    TIMES,
    UNITS,
    plural,
    unit_name,
)  # fmt: skip
from saywell.text.numbers import cardinal, decimal, is_one, plural_words

rule = Rules()

GROUPED = r"\d{1,3}(?:,\d{2,3}){0,4},\d{3}(?!\d)|\d{1,3}(?:[ ']\d{3}){0,4}[ ']000(?!\d)"
NUMBER = rf"(?:(?:{GROUPED}|\d{{1,15}}(?!\d))(?:\.\d{{1,15}}(?!\d))?|\.\d{{1,15}}(?!\d))"
"""1,234.5  1,00,000  10 000  12  .5"""
_COMMA = r"(?:0,\d{3,9}(?!\d)|(?:\d{1,3}(?:[. ]\d{3}){0,4}|\d{1,9}),\d{1,2}(?!\d))"
AMOUNT = rf"(?:{_COMMA}(?!,\d)|{NUMBER})"
"""As NUMBER, and with a decimal comma, as only amounts of something may have it."""
LEFT = r"(?<![\w.,])"
MINUS = r"(?P<sign>(?:(?<![\w)\]%-])[-−–](?=[\d.$€£¥₹]))?)"
_DASH = r"\s?[-–—]\s?"
_SIGN = "|".join(re.escape(sign) for sign in sorted(CURRENCIES, key=len, reverse=True))
_BEFORE = "|".join(
    re.escape(sign) for sign in sorted(CURRENCIES, key=len, reverse=True) if sign not in ("kr", "zł", "Kč")
)
_AFTER = "|".join(re.escape(sign) for sign in ("€", "£", "¥", "₹", "₩", "₽", "₿", "₺", "₴", "zł", "Kč", "kr", "฿"))
_SCALE = r"(?:\s?(?P<scale>thousand|million|billion|trillion|lakh|crore|(?:[kKmMbB]n?|mm|mio|trn|tn|T|cr)(?![\w])))?"
_UNIT_WORDS = sorted(
    {*UNITS, *(unit.upper() for unit in UNITS if unit.isalpha() and len(unit) > 1)}, key=len, reverse=True
)
_UNIT = "|".join(re.escape(unit) for unit in _UNIT_WORDS)
_PER = "|".join(re.escape(unit) for unit in sorted(UNITS, key=len, reverse=True) if "/" not in unit)
_PER_WORD = re.compile(
    r"/\s?(?P<word>second|minute|hour|day|night|week|month|year|person|user|head|unit|item|call|token|request|hr|wk|mo|yr|min|"
    r"lb|kg|oz|gal)\b"
)
_PER_NAMES = {"hr": "hour", "wk": "week", "mo": "month", "yr": "year", "min": "minute"}


def value(written: str) -> str:
    """A written number as `decimal` takes it: no groups, a decimal point."""
    bare = written.replace(" ", "").replace("'", "")
    if re.fullmatch(r"[-+]?(?:\d{1,3}(?:\.\d{3})+|\d{1,9}),\d{1,9}", bare) and not re.fullmatch(
        r"[1-9]\d{0,2}(?:,\d{3})+", bare
    ):
        return bare.replace(".", "").replace(",", ".")
    return bare.replace(",", "")


def number_words(written: str) -> str:
    """A written number in words."""
    return decimal(value(written))


def _per(text: str, end: int) -> tuple[str, int]:
    """`/month` after an amount: its words and its end."""
    found = _PER_WORD.match(text, end)
    if not found:
        return "", end
    word = found["word"]
    return f" per {_PER_NAMES.get(word) or UNITS.get(word) or word}", found.end()


@rule("$€£¥₹₩₽₿₺₴₫₱฿₦₪₡₵৳₸₮₲₾aR-−–", rf"(?<![\d.,]){MINUS}(?:(?P<area>\b(?:US|AU|CA|HK|NZ|NT|MX|[ACS]))(?=\$))?(?P<symbol>{_BEFORE})\s?(?P<minus>-?)(?P<number>{AMOUNT})(?!\d)"
      rf"(?:\s?[kKmMbB]?n?{_DASH}(?:{_BEFORE})?\s?(?P<to>{NUMBER})(?![\w.,-]*\d))?{_SCALE}")  # fmt: skip
def money(match: Match[str]) -> tuple[str, int] | None:
    """An amount with its currency sign before it: $5.20, £3m, US$20, €50 million."""
    text = match.string
    symbol = match["symbol"]
    if symbol[0].isalpha() and text[match.start() - 1 : match.start()].isalnum():
        return None
    head = re.match(rf"[^\d]*({AMOUNT})\s?(?P<scale>[kKmMbB]n?)?\s?[-–—]", match[0]) if match["to"] else None
    words = _money(match, symbol, match["number"], match["to"], head["scale"] if head else None)
    tail, end = _per(text, match.end())
    return words + tail, end


_DOTTED = ("€", "kr", "R$", "zł", "Kč", "₺")
"""Currencies of countries that write 1.250 for 1,250."""


def _money(match: Match[str], symbol: str, number: str, to: str | None, first_scale: str | None = None) -> str:
    one, many, coin, coins = CURRENCIES[symbol]
    if symbol in _DOTTED and re.fullmatch(r"[1-9]\d{0,2}(?:\.\d{3})+", number):
        number = number.replace(".", "")
    if match.groupdict().get("area") == "MX":
        one, many = "peso", "pesos"
    found = match.groupdict()
    area = AREAS[found["area"]] if found.get("area") else ""
    sign = "minus " if found.get("sign") or found.get("minus") else ""
    scale = _scale(found.get("scale"))
    adjective = attributive(match.string, match.start(), match.end())
    if to:
        if first_scale:
            return f"{sign}{number_words(number)}{_scale(first_scale)} {area}{many} to {number_words(to)}{scale} {area}{many}"
        return f"{sign}{number_words(number)} to {number_words(to)}{scale} {area}{one if adjective else many}"
    whole, _, part = value(number).partition(".")
    if scale or (part and len(part) != 2):
        return f"{sign}{number_words(number)}{scale} {area}{one if adjective else many}"
    cents = f"{cardinal(str(int(part)))} {coin if int(part) == 1 else coins}" if part.strip("0") else ""
    if cents and not whole.strip("0"):
        return sign + cents
    name = area + (one if is_one(whole) or (adjective and not cents) else many)
    return f"{sign}{cardinal(whole or '0')} {name}{' and ' + cents if cents else ''}"


@rule("9.-−–", rf"{LEFT}{MINUS}(?P<number>{AMOUNT})(?P<scale_before>(?:\s?(?:thousand|million|billion|trillion|lakh|crore|mn|bn|[kKmM](?=\s?[€£]))))?\s?(?P<symbol>{_AFTER}|\$(?!\d))(?!\w)")  # fmt: skip
def money_after(match: Match[str]) -> tuple[str, int] | None:
    """An amount with its currency sign behind it: 12,50 €, 20 kr."""
    before = match["scale_before"]
    if before:
        _, many, *_ = CURRENCIES[match["symbol"]]
        return f"{number_words(match['number'])}{_scale(before.strip())} {many}", match.end()
    tail, end = _per(match.string, match.end())
    return _money(match, match["symbol"], match["number"], None) + tail, end


@rule("9.-−–", rf"{LEFT}{MINUS}(?P<number>{AMOUNT}){_SCALE}\s?(?P<code>{'|'.join(CODES)})\b")
def currency_code(match: Match[str]) -> str:
    """An amount with a currency code: 20 USD."""
    return _coded(match)


@rule("a", rf"\b(?P<code>{'|'.join(CODES)})\s?{MINUS}(?P<number>{AMOUNT})(?![\w.,]*\d){_SCALE}")
def currency_code_before(match: Match[str]) -> str:
    """An amount behind its currency code: EUR 100."""
    return _coded(match)


def _coded(match: Match[str]) -> str:
    one, many = CODES[match["code"]]
    scale = _scale(match["scale"])
    sign = "minus " if match["sign"] else ""
    single = (is_one(match["number"]) and not scale) or attributive(match.string, match.start(), match.end())
    return f"{sign}{number_words(match['number'])}{scale} {one if single else many}"


@rule("9", rf"{LEFT}(?P<number>{NUMBER})\s?¢")
def cents(match: Match[str]) -> str:
    """99¢"""
    one = is_one(match["number"]) or attributive(match.string, match.start(), match.end())
    return f"{number_words(match['number'])} {'cent' if one else 'cents'}"


@rule("4", r"\b40([13])(?:\(?([kKbB])\)?)(?!\w)")
def retirement_plan(match: Match[str]) -> str:
    """401(k)"""
    return f"four oh {cardinal(match[1])} {match[2].upper()}"


def _scale(text: str | None) -> str:
    return f" {SCALES.get(text.strip().lower(), text.strip())}" if text else ""


_DURATION_PART = re.compile(r"\s?(\d{1,4}(?:\.\d{1,3})?)\s?(hrs?|mins?|secs?|[ywdhms])(?![^\W\d_])")


@rule(
    "9",
    r"(?<![\w.,/$€£-])\d{1,4}(?:\.\d{1,3})?\s?(?:hrs?|mins?|secs?|[ywdhms])(?![^\W\d_])(?=\s?\d|\s(?:remaining|left|ago|later)\b)",
)
def duration(match: Match[str]) -> tuple[str, int] | None:
    """Hours, minutes and seconds in a row, or what is left of them: 1h 20m, 5m 30s, 48m left."""
    text, at, parts = match.string, match.start(), []
    last = 0
    while found := _DURATION_PART.match(text, at):
        name = TIMES[found[2]]
        rank = ("year", "week", "day", "hour", "minute", "second").index(name) + 1
        if rank <= last:
            break
        last = rank
        parts.append(f"{number_words(found[1])} {name if is_one(found[1]) else plural(name)}")
        at = found.end()
    if re.fullmatch(r"(?:1[3-9]|2[0-4])h[0-5]\d(?!\d)", text[match.start() : match.start() + 5]) and len(parts) == 1:
        return (
            f"{cardinal(text[match.start() : match.start() + 2])} {cardinal(text[match.end() : match.end() + 2].lstrip('0') or '0')}",
            match.end() + 2,
        )
    short = re.match(r"([0-5]\d)(?![\d.,:\w])", text[at : at + 3]) if parts and text[at - 1] == "h" else None
    if short:
        return f"{' '.join(parts)} {cardinal(short[1].lstrip('0') or '0')}", at + 2
    left = word_after(text, at) in ("remaining", "left", "ago", "later")
    return (" ".join(parts), at) if len(parts) > 1 or (parts and left) else None


@rule.in_context("9.-−–", rf"(?<![\w.,]){MINUS}(?P<number>{AMOUNT})(?:(?P<own>\s?(?:%|(?:{_UNIT})(?!\w))?)(?P<dash>{_DASH})(?P<to>[-−]?{AMOUNT}))?"
      rf"(?P<gap>-?|\s)(?P<unit>{_UNIT})(?![\w²³]|'\w|\.\w)(?:/(?P<per>{_PER})(?!\w))?")  # fmt: skip
def measure(match: Match[str], scan: Scan) -> tuple[str, int] | None:
    """A number, or a range, with its unit: 5 km, 10-20%, 9.81 m/s², 5 kg/m³."""
    unit, gap, text = match["unit"], match["gap"], match.string
    name = unit_name(unit)
    if name is None or (gap == " " and not _unit_after_space(match, unit)) or _is_label(match, unit):
        return None
    if text[match.start() - 1 : match.start()] == "/" and not (
        len(scan.readings) > 1 and scan.readings[-2].rule == "measure"
    ):
        return None
    if unit == "m" and match["to"] and _is_scale(match, unit):
        return None
    if unit == "K" or (unit in ("m", "t", "T") and gap != " " and not match["to"] and _is_scale(match, unit)):
        return None
    if match["own"] and match["own"].strip() and unit_name(match["own"].strip()) is None:
        return None
    end = match.end()
    stop = "." if unit == "in." and starts_sentence(text, end) else ""
    if unit.isalpha() and re.match(r"\.(?=\s[a-z]|\s\d{1,3}\s?(?:oz|in|ft|lbs?|mins?|secs?)\b)", text[end : end + 10]):
        end += 1
    hyphened = gap == "-"
    single = (is_one(match["number"]) and not match["to"]) or hyphened or attributive(text, match.start(), end)
    words = number_words(match["number"])
    if match["to"]:
        own = unit_name(match["own"].strip()) if match["own"].strip() else None
        words += f"{' ' + plural(own) if own else ''} to {_signed(match['to'])}"
    sign = "minus " if match["sign"] else ""
    per = f" per {UNITS[match['per']]}" if match["per"] else ""
    tail = ""
    if not per:
        tail, end = _per(text, end)
    if inverse := re.match(r"⁻([¹²³])", text[end : end + 2]):  # 3 s⁻¹
        return f"{sign}{words}{_inverse(unit, inverse[1])}", end + 2
    while factor := _FACTOR.match(text, end):
        if factor["times"]:
            name += f" {UNITS[factor['times']]}"
        else:
            tail += _inverse(factor["unit"], factor["power"])
        end = factor.end()
    if unit == "°" and (toward := re.match(r"\s?([NSEW])(?!\w)", text[end : end + 3])):
        tail, end = f" {COMPASS[toward[1]]}", end + toward.end()
    return f"{sign}{words} {name if single else plural(name)}{per}{tail}{stop}", end


_FACTOR = re.compile(
    r"(?:[ ·](?P<unit>km|cm|m|s|kg|g|L|mol|K|h|min|Pa|V)⁻(?P<power>[¹²³])|·(?P<times>km|cm|m|s|kg|h|A|V)(?![\w⁻]))"
)
COMPASS = {"N": "north", "S": "south", "E": "east", "W": "west"}


def _inverse(unit: str, power: str) -> str:
    """`s`, `²` → per second squared."""
    name = UNITS[unit]
    if power == "¹":
        return f" per {name}"
    shape = "square" if power == "²" else "cubic"
    return f" per {shape} {name}" if name.endswith("metre") else f" per {name} {'squared' if power == '²' else 'cubed'}"


def _signed(written: str) -> str:
    return f"minus {number_words(written[1:])}" if written[0] in "-−" else number_words(written)


def _unit_after_space(match: Match[str], unit: str) -> bool:
    """A letter after a space is a unit unless a name stands before the number or a word after it."""
    if unit in NEVER_SPACED or unit in ("in.",):
        return unit == "in."
    if len(unit) > 1 or not unit.isascii() or not unit.isalpha():
        return True
    if unit not in LETTERS or word_after(match.string, match.end()) in (
        "bus",
        "train",
        "tram",
        "line",
        "gate",
        "street",
    ):
        return False
    before = word_before(match.string, match.start())
    return not (before[:1].isupper() and before.lower() not in ("the", "a", "an", "in", "at", "is", "use", "about"))


_LABELLED = word_set(
    "exit seat flat gate section room page bus team apartment apt unit block class level zone row platform track route "
    "road highway table figure appendix annex suite building hall stand grade year form group type part chapter article "
    "clause schedule stage lane bay pier terminal dock door locker floor area sector ward division plate panel question "
    "exercise problem item version model channel ticket coach car rule regulation paragraph note lot size number no"
)
_STREET_AHEAD = re.compile(
    r"\.?\s(?:\d{1,3}(?:st|nd|rd|th)\b|[A-Z][a-z]+\s(?:St|Ave|Rd|Blvd|Dr|Ln|Street|Avenue|Road|Drive|Boulevard|Lane)\b)"
)


def _is_label(match: Match[str], unit: str) -> bool:
    """`Seat 14A`, `I-80 W` and `12 W 45th St.` have no unit."""
    if len(unit) > 1 or not unit.isupper() or match["to"]:
        return False
    text, start, end = match.string, match.start(), match.end()
    if match["gap"] == " ":
        road = re.search(r"[A-Za-z]-\Z", text[max(0, start - 2) : start])
        return unit in COMPASS and (road is not None or _STREET_AHEAD.match(text, end) is not None)
    before = word_before(text, start).lower()
    return before in _LABELLED or before.removesuffix("s") in _LABELLED


@rule("NSEW", r"\b([NSEW]|[NS][EW])\b(?P<stop>\.?)")
def compass(match: Match[str]) -> str | None:
    """12 W 45th St., I-80 E, N. Main St."""
    text = match.string
    if len(match[1]) == 2:
        before = re.search(r"\d\s\Z", text[max(0, match.start() - 2) : match.start()])
        there = before and _STREET_AHEAD.match(text, match.end())
        return f"{COMPASS[match[1][0]].capitalize()}{COMPASS[match[1][1]]}" if there else None
    if match["stop"] and _STREET_AHEAD.match(text, match.end()):
        return COMPASS[match[1]].capitalize()
    road = re.search(
        r"\b(?:I|US|Route|Highway|Interstate)[- ]\d{1,3}\s\Z", text[max(0, match.start() - 16) : match.start()]
    )
    street = re.search(r"\d\s\Z", text[max(0, match.start() - 2) : match.start()]) and _STREET_AHEAD.match(
        text, match.end()
    )
    return COMPASS[match[1]].capitalize() if road or street else None


_MILLIONS = word_set(
    "people users views followers subscribers downloads dollars homes houses jobs copies customers children voters streams plays"
)


def _is_scale(match: Match[str], unit: str) -> bool:
    """`10m views` are millions, `100m sprint` is not."""
    after = word_after(match.string, match.end())
    return (unit == "T" and after in _OF_MODELS) or (unit == "m" and after in _MILLIONS)


@rule(
    "9",
    rf"{LEFT}(?P<number>{NUMBER})(?P<gap>\s?)(?P<scale>[kKmMbB]n?|tn|T)(?!\w)(?:{_DASH}(?P<to>{NUMBER})(?P<scale_to>[kKmMbB])(?!\w))?",
)
def scaled(match: Match[str]) -> str | tuple[str, int] | None:
    """Thousands and millions by a letter: 250k users, 2.5bn, 1.7B."""
    number, scale, text = match["number"], match["scale"], match.string
    if match[0] == "3M" and word_after(text, match.end()) in ("makes", "sells", "has", "says", "owns", "is", "was"):
        return None  # the company
    race = word_after(text, match.end()) in (
        "race",
        "run",
        "runs",
        "walk",
        "jog",
        "runner",
        "training",
        "gold",
        "ring",
        "necklace",
    )
    ran = word_before(text, match.start()).lower() in ("ran", "run", "running", "jogged", "a")
    if (
        scale in "kK"
        and len(number) < 3
        and (race or (ran and not re.match(r"\s[a-z]|-", text[match.end() : match.end() + 2])))
    ):
        return f"{cardinal(number)} K"
    if number in ("4", "8", "2", "5") and word_after(text, match.end()) in _PICTURES:
        return f"{cardinal(number)} K" if scale in "kK" else None
    if match["to"]:
        return f"{number_words(number)}{_scale(scale)} to {number_words(match['to'])}{_scale(match['scale_to'])}"
    after = word_after(text, match.end())
    if len(scale) > 1:
        sure = scale.lower() != "mm"
    elif "." in number:
        sure = not match["gap"] and scale in "kKmMB"
    else:
        counted = is_noun(after) and after[0].islower() and (after.endswith("s") or after in ("people", "men", "women"))
        sure = not match["gap"] and (
            scale == "k"
            or (scale == "m" and _is_scale(match, "m"))
            or (scale in "MKB" and counted)
            or (scale == "K" and len(number) > 2)
            or (scale == "M" and number != "3")
            or (scale in "BT" and after in _OF_MODELS)
        )
    if not sure:
        return None
    unit = re.match(r"\s(km|ft|m|mi|kg|lbs?|W|V|Hz|rpm|mAh)\b", text[match.end() : match.end() + 6])
    spoken = f"{number_words(number)}{_scale(scale)}"
    per, end = _per(text, match.end())
    if per:
        return spoken + per, end
    return (f"{spoken} {plural(UNITS[unit[1]])}", match.end() + unit.end()) if unit else spoken


_PICTURES = word_set(
    "video videos resolution tv tvs display monitor screen footage movie film camera content streaming TV"
)
_OF_MODELS = word_set("parameter parameters token tokens param params")


@rule(
    "9",
    r"(?<![\w.,])(?:(\d{1,2})['′]\s?(\d{1,2})(?:\"|''|″)(?!\w)|([3-7])['′](\d{1,2})(?![\w'′])|(\d{1,2})\s?ft\.?,?\s(\d{1,2})\s?in\b\.?)",
)
def feet_and_inches(match: Match[str]) -> str:
    """6'2\", 6'2, 6 ft 2 in"""
    feet, inches = (match[at] or match[at + 2] or match[at + 4] for at in (1, 2))
    tail = (" inch" if inches == "1" else " inches") if match[5] else ""
    stop = "." if match[0].endswith(".") and starts_sentence(match.string, match.end()) else ""
    if attributive(match.string, match.start(), match.end()):
        return f"{cardinal(feet)} foot {cardinal(inches)}{' inch' if match[5] else ''}"
    return f"{cardinal(feet)} {'foot' if feet == '1' else 'feet'} {cardinal(inches)}{tail}{stop}"


@rule(
    "9",
    r"(?<![\w.,'])(?P<number>\d{1,4}(?:\.\d{1,2})?)(?:(?P<prime>['′])|(?P<inch>\"|″))"
    r"(?:\s?[x×]\s?(?P<other>\d{1,4}(?:\.\d{1,2})?)(?:['′]|\"|″)|(?=\s(?P<after>[a-z]{3,})))(?!\w)",
)
def feet(match: Match[str]) -> str | None:
    """6' tall, a 5' x 7' rug, 8.5" x 11\""""
    one, many = ("foot", "feet") if match["prime"] else ("inch", "inches")
    text, start = match.string, match.start()
    adjective = attributive(text, start, match.end())
    if not match["other"]:
        quoted = not match["prime"] or text.count("'", max(0, start - 100), start) % 2
        sized = match["after"] in _EXTENTS or adjective
        return f"{number_words(match['number'])} {one if adjective else many}" if sized and not quoted else None
    name = one if adjective else many
    return f"{number_words(match['number'])} {name} by {number_words(match['other'])} {name}"


_EXTENTS = word_set("tall long wide high deep away above below across thick apart")


@rule("9", r"(?<![\w.,])(?P<number>\d{1,3}(?:\.\d{1,2})?)(?:\s|-)in(?=\s(?P<noun>[a-z]{3,}))")
def inch_wide(match: Match[str]) -> str | None:
    """a 24 in monitor"""
    return f"{number_words(match['number'])} inch" if attributive(match.string, match.start(), match.end()) else None


@rule(
    "9",
    r"(?<![\w.,])(\d{1,3})°\s?(\d{1,2})['′](?:\s?(\d{1,2}(?:\.\d{1,3})?)(?:\"|″|''))?(?:\s?(?P<toward>[NSEW])(?!\w))?",
)
def coordinates(match: Match[str]) -> str:
    """51° 30' 26\""""
    parts = [f"{cardinal(match[1])} degrees", f"{cardinal(str(int(match[2])))} minutes"]
    parts += [f"{number_words(match[3])} seconds"] if match[3] else []
    return " ".join(parts + ([COMPASS[match["toward"]]] if match["toward"] else []))


@rule("9", r"(?<![\w.,])(\d{1,2})\s?st\.?\s?(\d{1,2})\s?lbs?\b")
def stones(match: Match[str]) -> str:
    """12st 7lb"""
    return f"{cardinal(match[1])} stone {cardinal(match[2])} pound{'' if match[2] == '1' else 's'}"


_QUOTE = re.compile(r'(?<!\d)"|(?<=\d)"(?=[.,;:!?]?$)')
"""A quotation mark that is no sign of inches."""


@rule(
    "9",
    rf"{LEFT}(?P<number>{NUMBER})[- ]?(?:\"|″)(?=[ ](?:[48]K[ ])?(?P<noun>[a-z]{{3,}}|TVs?|OLED|LCD|LED|HDTV)|(?P<end>[\s.,;)]|$))",
)
def inches(match: Match[str]) -> str | None:
    """A size in inches before its noun, or one with decimals: a 12" ruler, 15.6". A quotation mark that closes a
    quotation is none."""
    if len(_QUOTE.findall(match.string, max(0, match.start() - 200), match.start())) % 2:
        return None
    if match["noun"] and is_noun(match["noun"]):
        return f"{number_words(match['number'])} inch"
    return f"{number_words(match['number'])} inches" if "." in match["number"] else None


@rule("9", rf"{LEFT}(?P<number>{NUMBER})\s?x\s?(?={NUMBER}|[$€£])")
def dimensions(match: Match[str]) -> str | tuple[str, int]:
    """1920x1080, 4x4; 3 x 4 = 12"""
    if planks := re.match(r"(\d)s\b", match.string[match.end() : match.end() + 3]):
        return f"{number_words(match['number'])} by {plural_words(cardinal(planks[1]))}", match.end() + 2
    rest = match.string[match.end() : match.end() + 16]
    counted = match[0].endswith(" x ") and re.match(r"\d+\s?(?:g|kg|ml|l|oz|lb)\b", rest)
    product = counted or re.match(r"[\d.,]+\s?=|[$€£]|10\^", rest)
    return f"{number_words(match['number'])} {'times' if product else 'by'} "


@rule("9", rf"{LEFT}(?P<number>{NUMBER})(?:[xX×]|\sx(?=\s(?:faster|slower|more|less|better|bigger|larger|as)\b))(?!\w)")
def times_as(match: Match[str]) -> str | None:
    """A factor: 3x faster. In an equation the x is a variable."""
    if re.match(
        r"\s?[-+=<>≤≥^*/−–]|\s(?:plus|minus|equals)\b", match.string[match.end() : match.end() + 8]
    ) or re.search(r"[-+−=(]\s?\Z", match.string[max(0, match.start() - 2) : match.start()]):
        return None
    return f"{number_words(match['number'])} times"
