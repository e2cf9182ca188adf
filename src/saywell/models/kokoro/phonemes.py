"""Spoken text → phones of Kokoro's vocabulary: English by the first voice's phonemiser, other languages by eSpeak NG.

eSpeak NG is GPL and runs in a child process. Its phones are mapped as Kokoro's training data was (misaki's table).
Japanese and Chinese need misaki's extras.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from threading import Lock
from typing import Any

from saywell.errors import InvalidText, MissingDependency, ModelFailure
from saywell.models.hibari.reader import MARKS, Reader, Utterance, Word, unpack
from saywell.text.check import speakable

MAX_PHONES = 380
"""Per run of the graph: quality falls towards its limit of 510."""
_ESPEAK = {"es": "es", "fr": "fr-fr", "hi": "hi", "it": "it", "pt": "pt-br"}
"""Primary tag → the voice of eSpeak NG."""
_TABLE = {
    "a^ɪ": "I", "a^ʊ": "W", "d^z": "ʣ", "d^ʒ": "ʤ", "e^ɪ": "A", "o^ʊ": "O", "ə^ʊ": "Q", "s^s": "S", "t^s": "ʦ",
    "t^ʃ": "ʧ", "ɔ^ɪ": "Y", "^": "", "-": "", "ɚ": "əɹ", "\u0329": "",
}  # fmt: skip
_MAPPED = re.compile("|".join(map(re.escape, sorted(_TABLE, key=len, reverse=True))))
_PIECE = re.compile(r"([;:,.!?—…¡¿\"“”()]+)")
_KEPT_MARKS = str.maketrans({"¡": "", "¿": "", "(": ",", ")": ","})
_CHINESE_MARKS = str.maketrans("，。！？：；、（）「」『』", ',.!?:;,()""""')


@dataclass(frozen=True, slots=True)
class _Piece:
    """Phones of the text between two marks, its words, and the marks behind it."""

    phones: str
    words: tuple[str, ...]
    marks: str


class Phonemiser:
    """Thread-safe. Loads what a language needs at its first use."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._english: dict[bool, Reader] = {}
        self._children: Any = None

    def read(self, text: str, language: str, given: Iterable[tuple[int, int, str]] = ()) -> list[Utterance]:
        """Utterances of at most MAX_PHONES phones, of even length. `given`: words with the user's phones, in English.

        Raises InvalidText, MissingDependency, ModelFailure.
        """
        primary = language.lower().partition("-")[0]
        if primary in ("en", "und"):
            return [*_balanced(_whole(self._reader(language.lower() == "en-gb").read(text, given)))]
        pieces = [*self._other(text, primary)]
        utterance = _joined(pieces)
        if not utterance.words:
            raise InvalidText("nothing in this text can be spoken in this language", param="text")
        return [*_balanced(utterance)]

    def close(self) -> None:
        if self._children is not None:
            self._children.close()

    def _reader(self, british: bool) -> Reader:
        with self._lock:
            if british not in self._english:
                with ThreadPoolExecutor(3) as pool:
                    self._english[british] = Reader(british, unpack(british, pool), pool)
            return self._english[british]

    def _other(self, text: str, primary: str) -> Iterator[_Piece]:
        if primary in ("ja", "zh"):
            text = text.translate(_CHINESE_MARKS)
        parts = _PIECE.split(f"{text} ")
        texts, marks = parts[::2], [*parts[1::2], ""]
        spoken = [index for index, part in enumerate(texts) if speakable(part)]
        phones = dict(zip(spoken, self._phones([texts[index] for index in spoken], primary), strict=True))
        for index, part in enumerate(texts):
            mark = marks[index].translate(_KEPT_MARKS)[:1]
            yield _Piece(phones.get(index, ""), tuple(part.split()) if index in phones else (), mark)

    def _phones(self, texts: list[str], primary: str) -> list[str]:
        if primary in _ESPEAK:
            return [_mapped(phones) for phones in self._espeak(texts, _ESPEAK[primary])]
        if primary in ("ja", "zh"):
            convert = _misaki(primary)
            return [convert(text) for text in texts]
        raise InvalidText("Kokoro speaks English, Spanish, French, Hindi, Italian, Japanese, Portuguese and Chinese")

    def _espeak(self, texts: list[str], source: str) -> list[str]:
        from saywell.models.espeak import NOT_INSTALLED, missing
        from saywell.models.espeak.children import ChildDiedError, Children
        from saywell.models.espeak.messages import Phones, Read

        with self._lock:
            if self._children is None:
                if missing():
                    raise MissingDependency(NOT_INSTALLED)
                self._children = Children(2)
        child = self._children.take()
        answered = False
        try:
            known = next((voice for voice in child.voices if voice.id.startswith(f"espeak:{source}")), None)
            if known is None:
                answered = True
                raise MissingDependency(f"this eSpeak NG has no voice {source}; {NOT_INSTALLED}")
            child.send(Read(texts, known.source))
            answer = child.receive(_ESPEAK_S)
            answered = answer is not None
        except ChildDiedError as death:
            raise ModelFailure(f"eSpeak NG failed: {death}; other texts are not affected") from death
        finally:
            self._children.release(child, ended=answered)
        if not isinstance(answer, Phones):
            raise ModelFailure("eSpeak NG did not read this text in time")
        return list(answer.phones)


_ESPEAK_S = 20.0


@cache
def _misaki(primary: str) -> Callable[[str], str]:
    """Raises MissingDependency."""
    try:
        module = import_module(f"misaki.{primary}")
        g2p = module.JAG2P() if primary == "ja" else module.ZHG2P()
    except ImportError as error:
        name = "Japanese" if primary == "ja" else "Chinese"
        raise MissingDependency(
            f"Kokoro reads {name} with misaki: pip install 'misaki[{primary}]' ({error})"
        ) from error

    def convert(text: str) -> str:
        found = g2p(text)
        return str(found[0] if isinstance(found, tuple) else found)

    return convert


def _mapped(espeak: str) -> str:
    return " ".join(_MAPPED.sub(lambda found: _TABLE[found[0]], espeak).replace("|", " ").split())


def _joined(pieces: Iterable[_Piece]) -> Utterance:
    """One utterance. Each word has its phones if there are as many of both, else those between two marks are one."""
    phones, words = "", list[Word]()
    for piece in pieces:
        if piece.phones:
            phones += " " if phones else ""
            parts = piece.phones.split(" ")
            names = piece.words if len(parts) == len(piece.words) else (" ".join(piece.words),)
            spans = parts if len(parts) == len(piece.words) else [piece.phones]
            for name, part in zip(names, spans, strict=True):
                words.append(Word(name, len(phones), len(phones) + len(part)))
                phones += part + " "
            phones = phones.rstrip()
        if piece.marks and phones and phones[-1] not in MARKS:
            phones += piece.marks
    return Utterance(phones if phones[-1:] in MARKS else f"{phones}.", tuple(words))


def _whole(utterances: list[Utterance]) -> Utterance:
    """One utterance of several: they are cut again, into parts of even length."""
    phones, words = "", list[Word]()
    for one in utterances:
        phones += " " if phones else ""
        words += [Word(word.text, word.start + len(phones), word.end + len(phones)) for word in one.words]
        phones += one.phones
    return Utterance(phones, tuple(words))


def _balanced(utterance: Utterance) -> Iterator[Utterance]:
    """Parts of about equal length, cut behind marks if possible, else behind words."""
    count = -(-len(utterance.phones) // MAX_PHONES)
    if count == 1:
        yield utterance
        return
    size, begin = len(utterance.phones) / count, 0
    ends = [word.end for word in utterance.words]
    for number in range(1, count + 1):
        if number == count:
            end = len(utterance.phones)
        else:
            wanted = size * number
            marked = [at for at in ends if utterance.phones[at : at + 1] in MARKS and at > begin]
            near = [at for at in marked if abs(at - wanted) < size / 4] or [at for at in ends if at > begin]
            end = min(near, key=lambda at: abs(at - wanted), default=len(utterance.phones))
            while utterance.phones[end : end + 1] in MARKS and end < len(utterance.phones):
                end += 1
        words = tuple(
            Word(word.text, word.start - begin, word.end - begin)
            for word in utterance.words
            if begin <= word.start and word.end <= end
        )
        part = utterance.phones[begin:end].rstrip()
        if words:
            lead = len(part) - len(part.lstrip())
            words = tuple(Word(word.text, word.start - lead, word.end - lead) for word in words)
            part = part.lstrip()
            yield Utterance(part if part[-1:] in MARKS else f"{part},", words)
        begin = end
