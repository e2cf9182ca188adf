"""What rules ask about the words next to a span."""

from __future__ import annotations

import re

from saywell.text.breaks import STARTERS, word_set

FUNCTION = word_set(
    """
    a an the of in on at to and or for is are was were be been has have had by with from as than that which who but
    not per each every if so then when while where because about over under into onto up down out off only just now
    today yesterday tomorrow later ago left more less most least plus minus times until till since before after
    between through during against within without again too also ever never still yet already it he she they we you
    i this these those his her its their our my your can could will would shall should may might must do does did
    says said states shows goes went comes came
    """
)
"""Words that cannot be the noun an amount belongs to."""
NUMBER_WORDS = word_set("two three four five six seven eight nine ten eleven twelve")
_REFERENCE_AFTER = word_set(
    "of in on at to and or for is are was were by from with that which has had shows says states gives does can will must may no vol"
)
"""Words that follow a reference: `fig. 3 shows`."""
_DETERMINER = re.compile(
    r"(?<![\w'])(?:a|an|the|this|that|every|each|another|any|no|our|my|his|her|its|their|your|per|two|three|four|five|six|ten)\s+\Z",
    re.IGNORECASE,
)
_PRICED = word_set(
    "bills notes coins tickets stamps bags bottles cans fee charge gift voucher prize fine grant loan discount jack film plug"
)
"""What an amount belongs to, also without an article: $5 bills."""
_PAST = word_set("invested spent earned raised donated paid borrowed saved owed lost won made left")
_WORD_AFTER = re.compile(r"[ \t]+([A-Za-z][A-Za-z'’]*)")
_WORD_BEFORE = re.compile(r"([A-Za-z][A-Za-z'’]*)([^\w]{1,4})\Z")
_OPENERS = STARTERS | word_set(
    "come turn cut ask bring follow take go call see please add put let make get keep use try check open close drive walk "
    "look wait stop start leave return send give people everyone everybody someone nobody nothing something today tomorrow "
    "yesterday later next first last finally meanwhile also still even only just maybe perhaps yes well oh each every both "
    "several few more two three four five six seven eight nine ten another such inside outside under over about above below "
    "between during until through without within business sales it's that's there's he's she's we're they're i'm let's don't"
)
"""Words after which a full stop also ended a sentence."""
_CLOSERS = "\"'”’)] \t\n"


def word_after(text: str, at: int) -> str:
    """The word after the white space at `at`, as written; empty if something else follows."""
    found = _WORD_AFTER.match(text, at)
    return found[1] if found else ""


def word_before(text: str, at: int) -> str:
    """The word before the white space that ends at `at`, as written; empty if something else stands there."""
    found = _WORD_BEFORE.search(text[max(0, at - 32) : at])
    return found[1] if found and not found[2].strip() else ""


def is_noun(word: str) -> bool:
    """True if an amount may belong to this word: `a 5 lb bag`."""
    return len(word) > 1 and word.lower() not in FUNCTION


def attributive(text: str, start: int, end: int) -> bool:
    """True if the amount `text[start:end]` stands between a determiner and its noun: `a $5 bill`."""
    if word_after(text, end) in _PRICED:
        return True
    if not _DETERMINER.search(text[max(0, start - 12) : start]):
        return False
    if re.match(r"-an?-[a-z]", text[end : end + 6]):
        return True
    after = word_after(text, end)
    return after == "can" or (is_noun(after) and after[0].islower() and after not in _PAST)


def starts_sentence(text: str, at: int) -> bool:
    """True if what follows `at` begins a sentence, or nothing follows: for a full stop that may end one."""
    rest = text[at : at + 40]
    bare = rest.lstrip(_CLOSERS)
    if not bare:
        return True
    if not rest[:1].isspace() and rest[:1] not in "\"'”’)]":
        return False
    quoted = rest.lstrip()[:1] in "\"“'‘"
    bare = bare.lstrip("\"“'‘([")
    if bare[:1].isdigit():
        number = re.match(r"[\d.,:/–-]*[\d%]", bare)
        after = word_after(bare, number.end()) if number else ""
        return after[:1].islower()
    if rest.lstrip()[:1] in "([":
        return re.match(r"\s*\([A-Z][a-z']* [^()]{0,80}[.!?]\)", text[at : at + 120]) is not None
    if not bare[:1].isupper():
        return False
    word = re.match(r"[A-Za-z']+", bare)
    return quoted or word is None or word[0].lower() in _OPENERS


def continues_reference(text: str, at: int) -> bool:
    """True if the number at `at` is a name for what stands before it (`No. 5`), not a count that begins a sentence."""
    number = re.match(r"#?\d[\d.,/–-]*", text[at : at + 24])
    if number is None:
        return False
    end = at + number.end()
    bare = number[0].rstrip(".,")
    end -= len(number[0]) - len(bare)
    if text[end : end + 1] == ":" and re.search(r"\d:\s*\S+\s*\Z", text[max(0, at - 16) : at]):
        return False
    after = word_after(text, end)
    return not after or not after[0].islower() or after.lower() in _REFERENCE_AFTER
