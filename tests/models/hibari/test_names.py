"""The pronunciation lexicon of the hibari family: format, alphabet, stress, and known corrections."""

from __future__ import annotations

import re

import pytest

from paths import ROOT

NAMES = ROOT / "src/saywell/models/hibari/names.tsv"
VOWELS = "AIOWYiuæɑɔəɛɜɪʊʌᵊᵻɐ"
CONSONANTS = "bdfhjklmnpstvwzðŋɡɹɾʃʒʔʤʧθ"
PRIMARY, SECONDARY = "ˈ", "ˌ"

EXPECTED = {
    "Angela": "ˈænʤələ",
    "Birmingham": "bˈɜɹmɪŋhˌæm",
    "Donald": "dˈɑnəld",
    "Garcia": "ɡɑɹsˈiə",
    "Jacqueline": "ʤˈækəlɪn",
    "Kubernetes": "kˌubəɹnˈɛɾiz",
    "Margaret": "mˈɑɹɡɹət",
    "Michelle": "mɪʃˈɛl",
    "Mozart": "mˈOtsɑɹt",
    "nginx": "ˌɛnʤənˈɛks",
    "Nicole": "nɪkˈOl",
    "Okafor": "ˈOkəfˌɔɹ",
    "README": "ɹˈidmˌi",
    "Ronald": "ɹˈɑnəld",
    "Sanchez": "sˈænʧɛz",
    "Siobhan": "ʃɪvˈɔn",
}


def _entries() -> list[tuple[str, str]]:
    entries = []
    for line in NAMES.read_text(encoding="utf-8").splitlines():
        word, _, phones = line.partition("\t")
        entries.append((word, phones))
    return entries


ENTRIES = _entries()


def _wrong(is_right: re.Pattern[str]) -> list[tuple[str, str]]:
    return [(word, phones) for word, phones in ENTRIES if not is_right.fullmatch(phones)]


def test_each_line_is_a_word_a_tab_and_phones() -> None:
    text = NAMES.read_bytes().decode("utf-8")
    assert text.endswith("\n")
    assert "\r" not in text
    assert [line for line in text.splitlines() if not re.fullmatch(r"[^\W\d_](?:[^\W\d_]|['-])*\t\S+", line)] == []


def test_there_are_enough_entries() -> None:
    assert len(ENTRIES) >= 900


def test_entries_are_sorted_ignoring_case() -> None:
    words = [word for word, _ in ENTRIES]
    assert words == sorted(words, key=lambda word: (word.casefold(), word))


def test_no_word_occurs_twice_ignoring_case() -> None:
    words = [word.casefold() for word, _ in ENTRIES]
    assert len(words) == len(set(words))


def test_phones_are_in_the_alphabet_and_contain_a_vowel() -> None:
    assert _wrong(re.compile(f"[{VOWELS}{CONSONANTS}{PRIMARY}{SECONDARY}]+")) == []
    assert _wrong(re.compile(f".*[{VOWELS}].*")) == []


def test_each_stress_mark_precedes_a_full_vowel() -> None:
    assert _wrong(re.compile(f"(?:[^{PRIMARY}{SECONDARY}]|[{PRIMARY}{SECONDARY}](?=[{VOWELS}])(?!ᵊ))+")) == []


def test_each_word_has_one_primary_stress() -> None:
    assert [(word, phones) for word, phones in ENTRIES if phones.count(PRIMARY) != 1] == []


@pytest.mark.parametrize(("word", "phones"), EXPECTED.items())
def test_words_known_to_be_misread_are_corrected(word: str, phones: str) -> None:
    assert dict(ENTRIES).get(word) == phones
