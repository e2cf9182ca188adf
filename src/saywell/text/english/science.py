"""Formulas of mathematics and chemistry: powers, ions, isotopes, functions, and names that only musicians and pilots use."""

from __future__ import annotations

import re
from re import Match

from saywell.text.english.grammar import Rules, Scan
from saywell.text.english.units import UNITS, plural
from saywell.text.numbers import cardinal, decimal, digits

rule = Rules()

_POWER = r"\^\s?\(?(?P<caret>[-+−]?\d{1,15})\)?|\^\s?[{(](?P<braced>[-+−]?\w{1,8})[})]|\^(?P<letter>[a-z])\b|(?P<raised>[⁺⁻]?[⁰¹²³⁴⁵⁶⁷⁸⁹]{1,15})"
_RAISED = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻", "0123456789+-")
_FUNCTIONS = {
    "sin": "sine", "cos": "cosine", "tan": "tangent", "sinh": "hyperbolic sine", "cosh": "hyperbolic cosine",
    "tanh": "hyperbolic tangent", "log": "log", "ln": "log",
}  # fmt: skip


@rule("sctl", r"\b(sinh?|cosh?|tanh?|log|ln)(?=[²³⁻^]|\(|\s?[θαβφωx]\b|\s\d?[a-z]\b)")
def function(match: Match[str]) -> str:
    """sin²θ, cos x, tan(x)"""
    return _FUNCTIONS[match[1]]


@rule("⁺⁻²³⁴⁵⁶+", r"(?<=[A-Za-z0-9)])(?P<count>[²³⁴⁵⁶])?(?P<sign>[⁺⁻])(?![⁰¹²³⁴-⁹\w])")
def charge(match: Match[str]) -> str:
    """Fe³⁺, Cl⁻"""
    count = f" {cardinal(match['count'].translate(_RAISED))}" if match["count"] else ""
    return f"{count} {'plus' if match['sign'] == '⁺' else 'minus'}"


@rule("⁰¹²³⁴⁵⁶⁷⁸⁹", r"(?<![\w)])([⁰¹²³⁴⁵⁶⁷⁸⁹]{1,3})(?=[A-Z][a-z]?\b)")
def isotope(match: Match[str]) -> str:
    """¹⁴C"""
    return f"{cardinal(match[1].translate(_RAISED))} "


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
    long = word and (len(word[0]) > 3 or (len(word[0]) == 3 and word[0] not in UNITS))
    if match["raised"] and word and long and word[0] not in _FUNCTIONS:
        return ""
    if exponent in ("2", "3"):
        return " squared" if exponent == "2" else " cubed"
    if not exponent.lstrip("+-").isdigit():
        spoken = exponent.replace("-", "minus ").replace("²", " squared").replace("³", " cubed")
        return f" to the power of {spoken}"
    return f" to the power of {decimal(exponent)}"


@rule.in_context(" ", r"\s(?P<unit>km/h|m/s|kg|g|km|m|cm|J|W|Hz|s|mol|K|Pa|eV|V|A|N|L)(?:⁻¹)?(?![\w⁻²³^/])")
def unit_of_power(match: Match[str], scan: Scan) -> str | None:
    """6 × 10^24 kg, 6.022 × 10²³ mol⁻¹"""
    if not scan.readings or scan.readings[-1].rule not in ("power", "scientific"):
        return None
    name = UNITS[match["unit"]]
    return f" per {name}" if match[0].endswith("⁻¹") else f" {plural(name)}"


@rule("¹²³⁴⁵⁶⁷⁸⁹⁰", r"(?<=[.!?,;:\"”)])[⁰¹²³⁴⁵⁶⁷⁸⁹]{1,3}(?=\s|$)")
def footnote_mark(match: Match[str]) -> str | None:
    """A raised number behind a sentence: not spoken; behind (a − b) it is a power."""
    closed = re.search(r"\(([^()]{1,30})\)\Z", match.string[max(0, match.start() - 32) : match.start()])
    return None if closed and not re.search(r"[A-Za-z]{3}", closed[1]) else ""


@rule("9n", r"(?<![\w.])(\d{1,3}|n)!(?=\s?[=+*/×÷−)-]|\s(?:is|equals|grows|ways)\b)")
def factorial(match: Match[str]) -> str:
    """5! = 120"""
    return f"{cardinal(match[1]) if match[1] != 'n' else 'n'} factorial"


@rule("0", r"\b0[xX]([0-9a-fA-F]{1,16})\b")
def hexadecimal(match: Match[str]) -> str:
    """0xff"""
    return f"zero x {' '.join(digits(char) if char.isdigit() else char for char in match[1])}"


@rule("7", r"(?<![\w.,-])7([0-8])7-(\d{1,3})(?![\w-])")
def aircraft(match: Match[str]) -> str:
    """737-800"""
    last = match[2]
    spoken = cardinal(last) if len(last) < 3 or last.endswith("00") else f"{cardinal(last[0])} {cardinal(last[1:])}"
    return f"seven {cardinal(f'{match[1]}7')} {spoken}".replace("zero seven", "oh seven")


@rule("9", r"(?<![\w.,/])(\d{1,2})/(2|4|8|16)(?=\s(?:time|beat|rhythm|metre|meter)\b)")
def time_signature(match: Match[str]) -> str:
    """3/4 time"""
    return f"{cardinal(match[1])} {cardinal(match[2])}"
