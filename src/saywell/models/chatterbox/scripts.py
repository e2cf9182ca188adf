"""Scripts that the multilingual model was not trained on as they are written: rewritten, or with marks added.

Some need a package that is not installed with this one, since each is for one language.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any
from unicodedata import category, normalize

import msgspec

from saywell.errors import BadCheckpoint, MissingDependency
from saywell.files import Damaged, read_plain

_log = logging.getLogger(__name__)

Part = tuple[str, bool]
"""Text; whether the vocabulary's added tokens in it are meant."""
CANGJIE_FILE, DICTA_FILE = "Cangjie5_TC.json", "dicta-1.0.onnx"
MAX_FILE_BYTES = 16 << 20
_END = "[cj_.]"
_STRESS, _FIRST_POINT, _LAST_POINT = "\u0301", "\u05b0", "\u05bc"


def japanese(text: str) -> str:
    """Kanji in kana, decomposed; a particle written は or へ is set apart. Raises MissingDependency."""
    if not any(map(_is_kanji, text)):
        return text
    words = _once(_package("pykakasi", "Japanese text with kanji").kakasi).convert(text)
    return normalize("NFKD", "".join(_kana(word["orig"], word["hira"]) for word in words))


def _kana(written: str, kana: str) -> str:
    if not any(map(_is_kanji, written)):
        return written
    return f" {kana}" if kana.startswith(("は", "へ")) else kana


def _is_kanji(letter: str) -> bool:
    return "一" <= letter <= "\u9fff"


def russian(text: str) -> str:
    """With stress marks. Text that has some stays as it is. Raises MissingDependency for text without any."""
    if _STRESS in text:
        return text
    module = _package("russian_text_stresser.text_stresser", "Russian text without stress marks (U+0301)")
    return str(_once(module.RussianTextStresser).stress_text(text))


def hebrew(text: str, directory: Path) -> str:
    """With vowel points, by the network in the model's directory. Text that has some stays as it is. Raises
    MissingDependency for text without any."""
    if any(_FIRST_POINT <= letter <= _LAST_POINT for letter in text):
        return text
    module = _package("dicta_onnx", "Hebrew text without vowel points (U+05B0 to U+05BC)")
    network = directory / DICTA_FILE
    if not network.is_file():
        raise MissingDependency(f"Hebrew text without vowel points needs the file {DICTA_FILE} in {directory.name}")
    return str(_once(module.Dicta, str(network)).add_diacritics(text))


def chinese(text: str, directory: Path) -> list[Part]:
    """With a space between words, if spacy_pkuseg is installed, and Cangjie codes, which are added tokens. Raises
    BadCheckpoint without the table of the codes."""
    codes = _cangjie(directory / CANGJIE_FILE)
    parts: list[Part] = []
    for letter in _segmented(text):
        code = codes.get(letter, "") if category(letter) == "Lo" else ""
        if not code and parts and not parts[-1][1]:
            parts[-1] = (parts[-1][0] + letter, False)
        else:
            parts.append((code or letter, bool(code)))
    return parts


def _segmented(text: str) -> str:
    try:
        package = import_module("spacy_pkuseg")
    except ModuleNotFoundError:
        _once(_log.warning, "Chinese is spoken better with known word boundaries: pip install spacy-pkuseg")
        return text
    return " ".join(_once(package.pkuseg).cut(text))


@cache
def _cangjie(path: Path) -> dict[str, str]:
    """Character → its added tokens. Of the characters that share a code, those after the first have a number."""
    try:
        lines = msgspec.json.decode(read_plain(path, MAX_FILE_BYTES, links=True), type=list[str])
    except FileNotFoundError:
        raise BadCheckpoint(
            f"Chinese needs {CANGJIE_FILE} of the published checkpoint; convert it again with it"
        ) from None
    except (OSError, Damaged, msgspec.DecodeError) as error:
        raise BadCheckpoint(f"{CANGJIE_FILE} is damaged: {error}") from None
    found: dict[str, str] = {}
    sharing: dict[str, list[str]] = {}
    for letter, code, *_ in (line.split("\t") for line in lines if "\t" in line):
        others = sharing.setdefault(code, [])
        number = others.index(letter) if letter in others else len(others)
        others.append(letter)
        found[letter] = "".join(f"[cj_{each}]" for each in f"{code}{number or ''}") + _END
    return found


def _package(name: str, what: str) -> Any:
    try:
        return import_module(name)
    except ModuleNotFoundError:
        package = name.partition(".")[0].replace("_", "-")
        raise MissingDependency(f"{what} needs the Python package {package}, which is not installed") from None


@cache
def _once(make: Callable[..., Any], *arguments: str) -> Any:
    """Such objects load dictionaries or networks; a warning is enough once."""
    return make(*arguments)


REWRITTEN: dict[str, Callable[[str, Path], str]] = {
    "he": hebrew,
    "ja": lambda text, _: japanese(text),
    "ko": lambda text, _: text.strip(),  # decomposed into jamo already
    "ru": lambda text, _: russian(text),
}
"""Language → text as the model was trained on it, from the text and the directory of the model."""
