"""The symbols a wren reads: phones of the CMU lexicon as Flite pronounces them, and what stands between words.

One utterance is one flat list:

    ^ hh ax0 l ow1 , dh ih1 s _ ih1 z _ ax0 _ t eh1 s t .

* It begins with START, the silence before speech, and ends with one of PAUSES, the silence after it.
* Between two words stands exactly one mark: WORD when no pause parts them (it lasts no frame), or one
  of PAUSES where the punctuation between them makes one; the mark is the pause and lasts as long. Never two in a row.
* A vowel bears the stress of its syllable as the lexicon has it, 0 or 1 (secondary stress is 1 in Flite's lexicon).
* Clitics ('s, 'd, 'll, n't …) belong to the word before them: no mark. The parts of a hyphenated word are words.
* Text that ends without punctuation ends with ".".

Phones are those after Flite's rules across words: "the" is dh iy0 before a vowel and dh ax0 elsewhere, a plural or
possessive s is z after a voiced sound and ax0 z after s z sh zh ch jh.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence

VOWELS = ("aa", "ae", "ah", "ao", "aw", "ax", "ay", "eh", "er", "ey", "ih", "iy", "ow", "oy", "uh", "uw")
CONSONANTS = (
    *("b", "ch", "d", "dh", "f", "g", "hh", "jh", "k", "l", "m", "n"),
    *("ng", "p", "r", "s", "sh", "t", "th", "v", "w", "y", "z", "zh"),
)
START = "^"
WORD = "_"
PAUSES = (",", ".", "?", "!")
"""Comma: a pause inside a sentence, whatever made it (, ; : – brackets, quotes)."""

SYMBOLS: tuple[str, ...] = (
    "",  # padding
    START,
    WORD,
    *PAUSES,
    *CONSONANTS,
    *(vowel + stress for vowel in VOWELS for stress in "01"),
)
IDS = {symbol: number for number, symbol in enumerate(SYMBOLS)}
SPEAKERS = ("slt", "rms", "awb", "kal16")
"""Order of the speaker embedding."""


def encode(symbols: Iterable[str]) -> list[int]:
    """Ids of `symbols`. Raises ValueError for one that is not in the table."""
    symbols = list(symbols)
    unknown = sorted({symbol for symbol in symbols if symbol not in IDS or not symbol})
    if unknown:
        raise ValueError(f"not symbols of this voice: {unknown}; see SYMBOLS")
    return [IDS[symbol] for symbol in symbols]


def check(symbols: Sequence[str]) -> None:
    """Whether `symbols` is an utterance as described above. Raises ValueError that says where it is not."""
    if len(symbols) < 3 or symbols[0] != START or symbols[-1] not in PAUSES:
        raise ValueError(f"an utterance is {START!r}, phones, and one of {PAUSES} at its end")
    encode(symbols)
    marks = {WORD, START, *PAUSES}
    for place, (one, next_one) in enumerate(itertools.pairwise(symbols)):
        if (one in marks and next_one in marks) or next_one == START:
            raise ValueError(f"two marks in a row at {place}: {one!r} {next_one!r}")
