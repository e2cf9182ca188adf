"""The user's own readings of words: `nginx → engine x`, `Siobhan → /ʃɪˈvɔːn/`. They win over every rule.

A word in small letters stands for every spelling of it, one with a capital only for itself: `us` for Us, `US` not for
us. Files are tables with tabs or commas: word, reading and, if it is for one voice only, that voice. Lines that begin
with `#` are comments. A reading between slashes is IPA, for models that take phones.
"""

from __future__ import annotations

import csv
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from saywell.errors import InvalidRequest, PlanError
from saywell.files import read_plain
from saywell.text.check import speakable
from saywell.text.clean import clean
from saywell.text.ipa import phones
from saywell.text.spans import Edited
from saywell.types import ModelSpec

MAX_WORD, MAX_READING = 100, 500
"""Characters."""
MAX_ENTRIES = 500
"""Of one request."""
_MAX_BYTES = 16 << 20
_TOKEN = re.compile(r"[^\W_\u0e00-\U0010ffff]+|\w|[^\w\s]")
"""Where a word may begin; scripts without spaces have no other words than their characters."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One word and how it is read."""

    word: str
    spoken: str
    """What is said in its place; with phones, the word itself."""
    phones: str = ""
    """As the models read them (`saywell.text.ipa`)."""

    @classmethod
    def of(cls, word: str, reading: str) -> Entry:
        """Raises ValueError saying what is wrong with them."""
        word, reading = (" ".join(part.split()) for part in (clean(Edited(word)).text, reading))
        for name, part, limit in (("word", word, MAX_WORD), ("reading", reading, MAX_READING)):
            if not part or not part.isprintable():
                raise ValueError(f"the {name} is {'not printable' if part else 'empty'}")
            if len(part) > limit:
                raise ValueError(f"the {name} has {len(part)} characters, the limit is {limit}")
        if len(reading) > 1 and reading[0] == reading[-1] == "/":
            sounds = phones(reading[1:-1])
            if not sounds:
                raise ValueError("there are no phones between the slashes")
            return cls(word, word, sounds)
        if not speakable(reading):
            raise ValueError("nothing in the reading can be spoken")
        return cls(word, clean(Edited(reading)).text)

    def ends(self, text: str, at: int) -> int:
        """Where this word ends if it stands at `at`, else -1."""
        end = at + len(self.word)
        there = text[at:end]
        if there != self.word and not (self.word.islower() and there.lower() == self.word):
            return -1
        after = text[end : end + 1]
        inside = self.word[-1].isalnum() and (after == "_" or (after.isalnum() and after < "\u0e00"))
        return -1 if inside else end


class Lexicon:
    """Readings of words, for all voices and for single ones."""

    def __init__(self, entries: Iterable[tuple[Entry, str]] = ()) -> None:
        """`entries`: each with the id of the only voice it is for, or empty. A later one replaces an earlier one."""
        self._by_voice: dict[str, dict[str, Entry]] = defaultdict(dict)
        for entry, voice in entries:
            self._by_voice[voice.lower()][entry.word] = entry
        self.takes_phones = any(entry.phones for each in self._by_voice.values() for entry in each.values())
        self._found: dict[str, Words] = {}

    def __len__(self) -> int:
        return sum(map(len, self._by_voice.values()))

    @classmethod
    def of(cls, file: Path | None, spec: ModelSpec) -> Lexicon:
        """That of a plan, for a model; without a file an empty one. Raises PlanError."""
        lexicon = cls.read(file) if file else cls()
        if lexicon.takes_phones and not spec.phones:
            raise PlanError(
                f"{spec.name} takes no phones, and the lexicon {file} has some; give these readings in words, or use "
                "a model that takes phones",
                param="lexicon",
            )
        return lexicon

    @classmethod
    def read(cls, file: Path) -> Lexicon:
        """Raises PlanError naming the file and the line. An unchanged file is read once."""
        try:
            stamp = file.stat()
        except OSError as error:
            raise PlanError(f"the lexicon {file} cannot be read: {error.strerror}", param="lexicon") from error
        return _parsed(file, stamp.st_mtime_ns, stamp.st_size)

    @classmethod
    def _parse(cls, file: Path) -> Lexicon:
        try:
            text = read_plain(file, _MAX_BYTES, links=True).decode("utf-8-sig")
        except UnicodeDecodeError:
            raise PlanError(f"the lexicon {file} is not UTF-8; save it as such", param="lexicon") from None
        except (OSError, ValueError) as error:
            why = getattr(error, "strerror", None) or error
            raise PlanError(f"the lexicon {file} cannot be read: {why}", param="lexicon") from error
        return cls(_rows(file, text))

    def words(self, voice: str, own: Mapping[str, str] | None = None) -> Words:
        """What holds for a voice. `own`: readings of one request, which win. Raises InvalidRequest naming the word."""
        voice = voice.lower() if voice.lower() in self._by_voice else ""  # not one for each blend
        if voice not in self._found:
            by_voice = self._by_voice
            self._found[voice] = Words([*by_voice.get(voice, {}).values(), *by_voice.get("", {}).values()])
        known = self._found[voice]
        return Words(own_entries(own), known) if own else known


def own_entries(own: Mapping[str, str]) -> list[Entry]:
    """Those of one request. Raises InvalidRequest naming the word."""
    if len(own) > MAX_ENTRIES:
        message = f"the lexicon has {len(own)} words; one request takes {MAX_ENTRIES}, a file any number"
        raise InvalidRequest(message, param="lexicon")
    entries = []
    for word, reading in own.items():
        try:
            entries.append(Entry.of(word, reading))
        except ValueError as error:
            raise InvalidRequest(f"lexicon, word {word!r:.60}: {error}", param="lexicon") from None
    return entries


class Words:
    """Finds the words of a lexicon in texts. `others`: those that yield to these."""

    def __init__(self, entries: Iterable[Entry] = (), others: Words | None = None) -> None:
        """`entries`: of equal words the first wins."""
        starting: dict[str, list[Entry]] = defaultdict(list)
        for entry in entries:
            first = _TOKEN.match(entry.word)
            starting[first[0].lower() if first else entry.word[0]].append(entry)
        for each in starting.values():
            each.sort(key=lambda entry: entry.word.islower())  # of two spellings that fit, the exact one
        self._layers: list[dict[str, list[Entry]]] = [dict(starting), *(others._layers if others else [])]

    def find(self, text: str) -> Iterator[tuple[int, int, Entry]]:
        """Start, end and entry of each word that is there, in order; of several at one place the longest."""
        if not any(self._layers):
            return
        done = 0
        for token in _TOKEN.finditer(text):
            at = token.start()
            if at < done or (at and text[at - 1] == "_"):
                continue
            end, found = -1, None
            for layer in self._layers:
                for entry in layer.get(token[0].lower(), ()):
                    if (stop := entry.ends(text, at)) > end:
                        end, found = stop, entry
            if found:
                done = end
                yield at, end, found


NO_WORDS = Words()


@lru_cache(maxsize=2)
def _parsed(file: Path, _changed_ns: int, _bytes: int) -> Lexicon:
    return Lexicon._parse(file)


def _rows(file: Path, text: str) -> Iterator[tuple[Entry, str]]:
    """Raises PlanError naming the line."""
    lines = text.splitlines()
    tabs = any("\t" in line for line in lines if not line.startswith("#"))
    for number, line in enumerate(lines, 1):
        if not line.strip() or line.startswith("#"):
            continue
        row = line.split("\t") if tabs else next(csv.reader([line], skipinitialspace=True))
        try:
            if not 2 <= len(row) <= 3:
                raise ValueError(f"it has {len(row)} columns; give word, reading and perhaps a voice")
            yield Entry.of(row[0], row[1]), "".join(row[2:]).strip()
        except (ValueError, csv.Error) as error:
            raise PlanError(f"the lexicon {file}, line {number}: {error}", param="lexicon") from None
