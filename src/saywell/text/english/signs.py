"""Symbols: operators, marks, markup left over, and the punctuation that a voice can use."""

from __future__ import annotations

import re
from re import Match

from saywell.text.breaks import word_set
from saywell.text.english.context import word_after, word_before
from saywell.text.english.grammar import Rules, Scan
from saywell.text.numbers import any_numeral

rule = Rules()

NAMES = {
    "&": "and", "%": "percent", "@": "at", "+": "plus", "=": "equals", "°": "degrees", "§": "section", "©": "copyright",
    "×": "times", "÷": "divided by", "±": "plus or minus", "≈": "approximately", "∞": "infinity", "√": "square root of",
    "∑": "sum of", "‰": "per mille", "$": "dollar", "€": "euro", "£": "pound", "¥": "yen", "₹": "rupee", "₩": "won",
    "₽": "rouble", "₿": "bitcoin", "¢": "cent", "Ω": "omega", "π": "pi", "−": "minus", "∈": "in", "∩": "intersection",
    "∪": "union", "⊂": "subset of", "⊆": "subset of", "∠": "angle", "∀": "for all", "∃": "there exists", "∇": "nabla",
    "∂": "partial", "∧": "and", "∨": "or", "∅": "the empty set", "∝": "proportional to", "∫": "integral of",
    "⌘": "command", "⇧": "shift", "⌥": "option", "♭": "flat", "♯": "sharp",
}  # fmt: skip
_OPERATORS = {
    "-": "minus",
    "−": "minus",
    "–": "minus",
    "*": "times",
    "÷": "divided by",
    "/": "divided by",
    "×": "times",
    "·": "times",
}


@rule("ABCDEFG", r"\b([A-G])(?P<sign>#|♯|b(?=\s(?:flat|major|minor|clarinet|trumpet)\b))(?P<minor>m?)(?=\d?\b|\W|$)")
def sharp(match: Match[str]) -> str:
    """C#, F#m, Bb major"""
    return f"{match[1]} {'flat' if match['sign'] == 'b' else 'sharp'}{' minor' if match['minor'] else ''} ".rstrip()


@rule("+", r"(?<=\w)\+\+")
def plus_plus(_match: Match[str]) -> str:
    """C++"""
    return " plus plus"


@rule("#№", r"(?:#|№\s?)(?=\d|[A-Z]{1,3}-?\d)")
def number_sign(_match: Match[str]) -> str:
    """#1, № 5"""
    return "number "


@rule("#", r"(?<!\w)#(?=[^\W\d_])")
def hashtag(_match: Match[str]) -> str:
    """#tag"""
    return "hashtag "


@rule("~", r"(?<![\w~])~\s?(?=[$€£]?\d)")
def about(_match: Match[str]) -> str:
    """~5 people"""
    return "about "


@rule("<", r"(?<!\S)<3(?!\S)")
def heart(_match: Match[str]) -> str:
    """<3"""
    return "heart"


@rule("<≤>≥!≠-=→⇒", r"<\s?=|≤|>\s?=|≥|!=|≠|[-=]>|→|⇒")
def comparison(match: Match[str]) -> str:
    """<=, >=, !=, ->"""
    sign = match[0].replace(" ", "")
    if sign in ("<=", "≤"):
        return " less than or equal to "
    if sign in (">=", "≥"):
        return " greater than or equal to "
    if sign == "⇒":
        return " implies "
    return " is not equal to " if sign in ("!=", "≠") else " to "


@rule("<", r"<(?=\s?[-−]?[$€£]?\.?\d)|(?<=[\w)]\s)<(?=\s\w)|(?<=\b[A-Za-z])<(?=[A-Za-z]\b)")
def less_than(match: Match[str]) -> str | None:
    """3 < 5"""
    return " less than " if _operand(match.string, match.start()) else None


@rule(
    ">",
    r"(?<=[\w)\]])>(?=\s?[-−]?\.?\d)|(?<=[\w)\]]\s)>(?=\s?[-−]?\.?\d)|(?<=[\w)]\s)>(?=\s\.?\w)|(?<=\b[A-Za-z])>(?=[A-Za-z]\b)|(?:(?<=^)|(?<=[\s(]))>(?=[$€£]?\.?\d)",
)
def greater_than(_match: Match[str]) -> str:
    """5 > 3"""
    return " greater than "


def _operand(text: str, at: int) -> bool:
    before = text[:at][-2:].rstrip()
    return not before or before[-1].isalnum() or before[-1] in ")(," or text[at - 1 : at].isspace()


@rule(" ", r"(?<=[A-Za-z]) > (?=[A-Z]\w)")
def menu_path(match: Match[str]) -> str | None:
    """File > Save As"""
    named = re.search(
        r"(?<!\w)[A-Z][A-Za-z]*(?: [A-Z][A-Za-z]*)?\Z", match.string[max(0, match.start() - 40) : match.start()]
    )
    return ", " if named else None


@rule(" -−–*÷/×·", r"(?<=[\w)\]])\s?[-−–*÷/×·]\s?(?=[\d(.\w√∂])")
def arithmetic(match: Match[str]) -> str | None:
    """10 - 3 = 7, 6 × 7, 3x - 2"""
    text, start, end = match.string, match.start(), match.end()
    sign = match[0].strip()
    spaced = match[0][0] == " " and match[0][-1] == " "
    left = (
        text[start - 1].isdigit()
        or text[start - 1] == ")"
        or (spaced and re.search(r"\d[a-z]\Z", text[max(0, start - 2) : start]))
    )
    right = text[end].isdigit() or text[end] in "(."
    if sign == "/" and _is_quotient(text, start, end):
        return " over "
    if sign in "-−–" and _is_difference(text, start, end, spaced):
        return " minus "
    if sign == "×":
        return _times(text, start, end, bool(left and right))
    if sign == "·":
        return " times " if left or right else None
    if sign == "–":
        return None
    equation = re.match(r"[\d(][\d.,()\s+*/÷×−-]{0,60}=", text[end : end + 64]) is not None
    if left and right and (equation or (spaced and sign != "÷") or sign == "÷"):
        return f" {_OPERATORS[sign]} "
    variables = re.match(r"[\w.]{1,6}\s?(?:[=<>≤≥]|$)", text[end : end + 12]) is not None
    return f" {_OPERATORS[sign]} " if sign in "-−" and spaced and left and variables else None


def _is_quotient(text: str, start: int, end: int) -> bool:
    """(a + b)/c, n/(n - 1), ∂f/∂x"""
    if text[end] == "∂":
        return True
    closed, opened = text[start - 1] == ")", text[end] == "("
    term = r"(?:\d+|[A-Za-z])\b"
    before = re.search(rf"(?<![A-Za-z]){term}\Z", text[max(0, start - 6) : start])
    return (closed and (opened or re.match(term, text[end : end + 6]) is not None)) or (opened and before is not None)


def _is_difference(text: str, start: int, end: int, spaced: bool) -> bool:
    """x - 3, a - b = c, (x-1)"""
    if not spaced:
        return (
            text[start - 2 : start - 1] == "("
            and text[start - 1].islower()
            and bool(re.match(r"\d{1,4}\)", text[end : end + 6]))
        )
    variable = re.search(r"(?:^|[\s(=+*/−-])\(?\d{0,3}([A-Za-z])\Z", text[max(0, start - 6) : start])
    term = re.match(r"\d{0,4}(?:[a-z]|\d|φ|θ)\b[²³]?(?P<next>\s?[=<>)+≤≥]|\.?$)?", text[end : end + 12])
    return variable is not None and term is not None and (bool(term["next"]) or variable[1] not in "aAI" + "BCDEFGHJKL")


_LENGTHS = word_set("m cm mm in ft km px inch inches yd")
_SIZED = word_set(
    "truck trucks card cards print prints lumber paper vehicle vehicles array arrays table screen screens display displays pixels px image images grid matrix photo resolution monitor panel room"
)


def _times(text: str, start: int, end: int, numbers: bool) -> str:
    """`1920 × 1080` and `5 × 7 cm` are sizes, other products are not."""
    if not numbers:
        return " times "
    left = re.search(r"(\d+)\s?\Z", text[max(0, start - 8) : start])
    right = re.match(r"(?:\d+(?:\.\d+)?\s?×\s?){0,2}(\d+(?:\.\d+)?)", text[end : end + 24])
    if left and right and len(left[1]) >= 3 and len(right[1]) >= 3:
        return " by "
    after = word_after(text, end + right.end()) if right else ""
    sized = after in _SIZED or (after in _LENGTHS and not re.match(r"\s*[=^]", text[end:]))
    return " by " if sized else " times "


@rule("-−–+", r"(?:(?<=^)|(?<=[\s(\[=,:;\"'<>]))[-−–](?=(?:\d|\.\d|[a-z]\s?[+*/=<>^²³−]))")
def minus(match: Match[str]) -> str | None:
    """-5 outside; a dash between numbers is a range"""
    text, start = match.string, match.start()
    if (
        match[0] == "–"
        and re.search(r"[\w%°)]\s\Z", text[max(0, start - 2) : start])
        and not text[start - 2 : start - 1].isalpha()
    ):
        return None
    return "minus "


_RANGES = frozenset(
    ["measure", "money", "money-after", "clock", "hour", "ordinal-number", "number", "scaled", "month-first", "day-first", "lone-year",
     "month-and-year", "currency-code", "vulgar-fraction", "plural-number"]
)  # fmt: skip


@rule.in_context(
    "-–— ",
    r"\s?[-–—]\s?(?=[$€£]?\d|(?:noon|midnight)\b|(?:Jan|Feb|Mar|Apr|May|June?|July?|Aug|Sept?|Oct|Nov|Dec)[a-z]*\.?\s\d)",
)
def range_dash(match: Match[str], scan: Scan) -> str | None:
    """A dash between two amounts, times or dates: 50%-60%, 10 a.m.–4 p.m."""
    earlier = scan.previous(match.start())
    if earlier is None or earlier.rule not in _RANGES or (match[0].strip() == "—" and " " in match[0]):
        return None
    if "-" in match[0] and earlier.rule == "number":
        return None
    return " to "


@rule.in_context("—–- ", r"\s?(?:—|--|–)\s?")
def dash(match: Match[str], scan: Scan) -> str | None:
    """A dash between clauses; an en dash without spaces is a hyphen between words: Paris–Dakar, Q1–Q3"""
    text, start, end = match.string, match.start(), match.end()
    if match[0] == " --" and text[end : end + 1].isalpha():
        return None  # an option
    if (
        match[0] == "–"
        and re.search(r"(?<![\w–])[A-Z]\Z", text[max(0, start - 2) : start])
        and re.match(r"[A-Z]\b", text[end : end + 2])
    ):
        return " to "
    if match[0] == "–" and text[start - 1 : start].isalnum() and text[end : end + 1].isalnum():
        return " to " if scan.readings and scan.readings[-1].rule == "letters-and-digits" else "-"
    return " — "


@rule(" ", r" - (?=\S)")
def spaced_hyphen(_match: Match[str]) -> str:
    """he said - and left"""
    return " — "


@rule(".", r"(?<=[^\W\d_])\.(?=[a-z])|(?:(?<=\s)|(?<=`))\.(?=[a-z]{2})")
def dot(_match: Match[str]) -> str:
    """file.txt, .venv"""
    return " dot "


@rule("aAeE", r"\b(and|either)/(or)\b", re.IGNORECASE)
def and_or(match: Match[str]) -> str:
    """and/or"""
    return f"{match[1]} {match[2]}"


@rule("/", r"(?<=[^\W_])/\s?(?=[^\W_])|(?<=[^\W_]\s)/\s?(?=[^\W_])")
def slash(match: Match[str]) -> str:
    """he/she; cars/day is a rate"""
    rate = re.match(
        r"(?:second|minute|hour|day|night|week|month|year|person|capita)\b", match.string[match.end() : match.end() + 8]
    )
    sides = re.search(r"(?<![A-Za-z])[A-Z]{1,4}\Z", match.string[max(0, match.start() - 5) : match.start()])
    if sides and re.match(
        r"[A-Z]{1,4}\b" if len(sides[0]) == 1 else r"[A-Z\d]{1,4}\b", match.string[match.end() : match.end() + 5]
    ):
        return " "  # AC/DC
    return " per " if rate and match.string[match.start() - 1] == "s" else " slash "


@rule("=", r"={2,}")
def equals_signs(match: Match[str]) -> str:
    """x == 3; a rule of equals signs is not spoken"""
    operand = re.match(r"\s?\S", match.string[match.end() : match.end() + 2])
    return " equals " if len(match[0]) == 2 and operand and match.string[: match.start()].strip() else " "


@rule(":;=8", r"(?:(?<=\s)|(?<=^))[:;=8][-^']?[)(DPpOo3\]|](?=\s|$|[.!?])")
def emoticon(_match: Match[str]) -> str:
    """:-) is not spoken"""
    return " "


_COMMANDS = word_set(
    "rm ls tar sed grep cp mv ps git docker curl ssh scp chmod chown kill find unzip mkdir du df tail head cat sort node make go "
    "the flag option with use pass and or"
)


@rule("-", r"(?:(?<=\s)|(?<=^)|(?<=`))--?[a-zA-Z][a-z]*(?:-[a-z]+)*(?=$|[\s=`,.)])")
def option(match: Match[str]) -> str | None:
    """Options of commands: --help, -g"""
    text, start = match.string, match.start()
    if match[0].startswith("--"):
        return f"dash dash {match[0][2:].replace('-', ' ')}"
    if re.fullmatch(r"-[a-z]{2,4}", match[0]) and word_before(text, start).lower() in _COMMANDS:
        return f"dash {' '.join(match[0][1:])}"
    if re.match(r"\s?[+*/=<>^]", text[match.end() : match.end() + 2]):
        return None
    return f"dash {match[0][1:]}" if len(match[0]) == 2 else None


@rule("$", r"\$(?=[A-Z]{2,5}\b)")
def cashtag(_match: Match[str]) -> str:
    """$AAPL: not spoken"""
    return ""


@rule("§", r"§§\s?")
def sections(_match: Match[str]) -> str:
    """§§ 5-7"""
    return "sections "


@rule("".join(NAMES), "[" + re.escape("".join(NAMES)) + "]")
def named_sign(match: Match[str]) -> str:
    """Symbols with a name: &, %, @, +, ="""
    return f" {NAMES[match[0]]} "


SILENT = frozenset("*_~`|\\^<>/#™®†‡¬¦¨¯¸·•‣¶")
BRACKETS = {"[": "(", "{": "(", "]": ")", "}": ")", "–": "-"}


def mark(char: str, before: str, after: str) -> str:
    """What is spoken of a single character that no rule has read."""
    if char.isnumeric() and not char.isalpha():
        return f" {any_numeral(char)} "
    if char in SILENT or (
        char == "-" and not (before and (before.isalnum() or before in ".'\")]}%") and after.isalnum())
    ):
        return " "
    return BRACKETS.get(char, char)
