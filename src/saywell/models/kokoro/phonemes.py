"""Spoken text → phones of Kokoro's vocabulary: English by the first voice's phonemiser, other languages by eSpeak NG.

eSpeak NG is GPL and runs in a child process. Its phones are mapped as Kokoro's training data was (misaki's table).
Japanese and Chinese need misaki's extras.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from threading import Lock
from typing import Any

from saywell.errors import InvalidText, MissingDependency, ModelFailure
from saywell.models.hibari import package
from saywell.models.hibari.reader import MARKS, Reader, Utterance, Word, unpack
from saywell.text.check import speakable

MOST_PHONES = 420
"""About so many per run of the graph: quality falls towards its limit of 510."""
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
        self.ids: dict[str, int] = json.loads(package.read("assets/vocab.json"))
        """Phone → its number in the vocabulary, which is Kokoro's."""
        self._lock = Lock()
        self._english: dict[bool, Reader] = {}
        self._children: Any = None

    def read(self, text: str, language: str, given: Iterable[tuple[int, int, str]] = ()) -> list[Utterance]:
        """Utterances of about MOST_PHONES phones at most, of even length. `given`: words with the user's phones.

        Raises InvalidText, MissingDependency, ModelFailure.
        """
        primary = language.lower().partition("-")[0]
        if primary in ("en", "und"):
            return [*_balanced(_whole(self._reader(language.lower() == "en-gb").read(text, given)))]
        pieces, at = list[_Piece](), 0
        for start, end, phones in given:
            pieces += (*self._other(text[at:start], primary), _Piece(phones, (text[start:end],), ""))
            at = end
        utterance = _joined([*pieces, *self._other(text[at:], primary)])
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
        """Of Kokoro's vocabulary only."""
        if primary in _ESPEAK:
            found = [_mapped(phones) for phones in self._espeak(texts, _ESPEAK[primary])]
        elif primary in ("ja", "zh"):
            found = [*map(_misaki(primary), texts)]
        else:
            known = "English, Spanish, French, Hindi, Italian, Japanese, Portuguese and Chinese"
            raise InvalidText(f"Kokoro speaks {known}", param="language")
        known_phones = ("".join(char for char in each if char in self.ids) for each in found)  # space is one of them
        return [" ".join(each.split()) for each in known_phones]

    def _espeak(self, texts: list[str], source: str) -> list[str]:
        from saywell.models.espeak import NOT_INSTALLED, missing
        from saywell.models.espeak.children import ChildDiedError, Children
        from saywell.models.espeak.messages import Answer, End, Phones, Read

        with self._lock:
            if self._children is None:
                if missing():
                    raise MissingDependency(NOT_INSTALLED)
                self._children = Children(2)
        child = self._children.take()
        answer: Answer | None = None
        try:
            known = {voice.id: voice.source for voice in child.voices}
            child.send(Read(texts, known.get(f"espeak:{source}", source)))
            answer = child.receive(_ESPEAK_S)
        except ChildDiedError as death:
            raise ModelFailure(f"eSpeak NG failed: {death}; other texts are not affected") from death
        finally:
            self._children.release(child, ended=answer is not None)
        if isinstance(answer, Phones):
            return list(answer.phones)
        raise ModelFailure(answer.message if isinstance(answer, End) else "eSpeak NG did not read this text in time")


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
    except RuntimeError as error:  # MeCab's, without a dictionary
        raise MissingDependency("misaki's Japanese dictionary is missing: python -m unidic download") from error

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
            phones += " " if phones and phones[-1] != " " else ""
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
    """Parts of about equal length, cut behind marks if possible, else behind words; every phone is in one of them."""
    phones, begin = utterance.phones, 0
    while begin < len(phones):
        left = len(phones) - begin
        size = left / -(-left // MOST_PHONES)
        end = len(phones) if size == left else _cut(phones, begin + size, size / 8)
        lead = begin + len(phones[begin:end]) - len(phones[begin:end].lstrip())
        words = tuple(
            Word(word.text, word.start - lead, min(word.end, end) - lead)
            for word in utterance.words
            if lead <= word.start < end
        )
        part = phones[lead:end].rstrip()
        yield Utterance(part if part[-1:] in MARKS else f"{part},", words)
        begin = end


def _cut(phones: str, wanted: float, room: float) -> int:
    """The place nearest to `wanted`, at most `room` away, behind a mark, else behind a word, else anywhere."""
    places = range(int(wanted - room), int(wanted + room) + 1)
    spaces = [at for at in places if phones[at - 1] == " "]
    marks = [at for at in spaces if phones[at - 2] in MARKS]
    return min(marks or spaces, key=lambda at: abs(at - wanted), default=int(wanted))
