"""IPA as people write it → the one-character phones of Kokoro's phonemiser, which Kokoro and hibari read.

`/ʃɪˈvɔːn/` → `ʃɪvˈɔːn`: a stress mark stands before its vowel, a diphthong or affricate is one character. Source: the
phone table of misaki (EN_PHONES.md); for Kokoro, the vocabulary of its checkpoint.
"""

from __future__ import annotations

import re
import unicodedata

_PAIRS = {
    "eɪ": "A", "aɪ": "I", "aʊ": "W", "oʊ": "O", "əʊ": "O", "ɔɪ": "Y", "ei": "A", "ai": "I", "au": "W", "ou": "O",
    "oi": "Y", "tʃ": "ʧ", "dʒ": "ʤ", "t͡ʃ": "ʧ", "d͡ʒ": "ʤ", "ɝ": "ɜɹ", "ɚ": "əɹ", "ɜːr": "ɜɹ", "e": "ɛ", "a": "æ",
    "aː": "ɑ", "o": "O", "ɒ": "ɑ", "g": "ɡ", "r": "ɹ", "ɫ": "l", "ʍ": "w", "ç": "h", "x": "h", "ɲ": "nj", "'": "ˈ",
    "ː": "", "ˑ": "", "‿": "", "͡": "",
}  # fmt: skip
_PAIR = re.compile("|".join(sorted(map(re.escape, _PAIRS), key=len, reverse=True)))
_VOWELS = "AIWOYiuæɑɔəɛɜɪʊʌᵊᵻɐ"
_KNOWN = frozenset(_VOWELS + "bdfhjklmnpstvwzðŋɡɹɾʃʒʔʤʧθT ˈˌ")
_STRESS = re.compile(rf"([ˈˌ])([^{_VOWELS}ˈˌ ]*)(?=[{_VOWELS}])")


_BRITISH = {"ɑɹ": "ɑː", "ɔɹ": "ɔː", "ɜɹ": "ɜː", "ɛɹ": "ɛː", "ɪɹ": "ɪə", "ʊɹ": "ʊə", "əɹ": "ə"}
_RHOTIC = re.compile(rf"({'|'.join(_BRITISH)})(?![{_VOWELS}ˈˌ])")
_SAME_IN_BRITISH = str.maketrans({"O": "Q", "æ": "a", "ɾ": "t", "T": "t", "ɐ": "ə"})


def british(american: str) -> str:
    """American phones as a British voice reads them: ɹ before vowels only."""
    return _RHOTIC.sub(lambda found: _BRITISH[found[0]], american).translate(_SAME_IN_BRITISH)


def phones(ipa: str) -> str:
    """Raises ValueError naming a symbol that is none of English IPA."""
    found = _PAIR.sub(lambda pair: _PAIRS[pair[0]], unicodedata.normalize("NFC", ipa.strip()).replace(".", ""))
    for char in found:
        if char not in _KNOWN:
            raise ValueError(f"{char!r} is no phone of English in IPA")
    return _STRESS.sub(r"\2\1", found).strip()
