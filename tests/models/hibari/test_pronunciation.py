"""Words in their sentences, by phones: contractions, names, initialisms, product names, homographs."""

from __future__ import annotations

from pathlib import Path

import pytest

from saywell.models.hibari import package
from saywell.models.hibari.reader import phones_of
from saywell.text.normalise import normalise

pytestmark = pytest.mark.skipif(bool(package.problem()), reason="the package hibari-tts is missing")
WORDS = [line.split("\t") for line in (Path(__file__).parent / "pronounced.tsv").read_text("utf-8").splitlines()]
"""Text, word, its phones in ARPAbet, about."""
ARPABET = {
    "ð": "dh", "ŋ": "ng", "ɡ": "g", "ɹ": "r", "ɾ": "t", "T": "t", "ʃ": "sh", "ʒ": "zh", "θ": "th", "ʤ": "jh", "ʧ": "ch",
    "h": "hh", "j": "y", "A": "ey", "I": "ay", "W": "aw", "Y": "oy", "O": "ow", "i": "iy", "u": "uw", "ɑ": "ao",
    "ɔ": "ao", "ə": "ax", "ɛ": "eh", "ɜ": "ax r", "ɪ": "ax", "ʊ": "uh", "ʌ": "ax", "æ": "ae",
    "ᵊ": "ax", "ᵻ": "ax", "ɐ": "ax",
    **{letter: letter for letter in "bdfklmnpstvwz"},
}  # fmt: skip
SAME = {"ah": "ax", "ih": "ax", "aa": "ao", "er": "ax r"}
"""Vowels that are not told apart here."""


def arpabet(phones: str) -> str:
    sounds = " ".join(ARPABET[char] for char in phones if char in ARPABET)
    return f" {sounds} ".replace(" r r ", " r ")


def wanted(written: str) -> str:
    return f" {' '.join(SAME.get(phone.rstrip('012'), phone.rstrip('012')) for phone in written.split())} "


@pytest.mark.parametrize(
    ("text", "word", "written"), WORDS, ids=[f"{word}-{at}" for at, (_, word, _) in enumerate(WORDS)]
)
def test_words_are_pronounced_as_people_do(text: str, word: str, written: str, phones: dict[str, str]) -> None:
    assert wanted(written) in arpabet(phones[text]), word


@pytest.fixture(scope="module")
def phones() -> dict[str, str]:
    """Text → its phones; the dictionaries are read once."""
    texts = [text for text, _, _ in WORDS]
    return dict(zip(texts, phones_of([normalise(text, "en-US") for text in texts], british=False), strict=True))
