"""Spoken text → phones by the package's phonemiser, after removing what it misreads or parses in cubic time.

The text comes from `text.normalise`; any other text (raw, other scripts, code) is read in bounded time.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from importlib import resources
from itertools import groupby
from typing import Any

import numpy as np

from saywell.errors import InvalidText
from saywell.models.hibari import package, tables
from saywell.runtimes.base import Threading
from saywell.runtimes.onnx import Graph
from saywell.text import ipa
from saywell.text.check import speakable
from saywell.text.numbers import any_numeral

MAX_PHONES = 400
"""Per utterance: the package's own limit; memory grows with the length."""
_RUN, _PARTS = 100, 20
"""Maximum characters and parts (capitals, small letters, digits, single marks) of a run without a space; longer runs
are split by spaces. The phonemiser's search over the parts of a run is cubic."""
_MAX_DIGITS = 30
MARKS = frozenset(";:,.!?—…")
_SENTENCE_MARKS = frozenset(".!?…")

_DROPPED = str.maketrans(
    {
        # A word next to a double quote would go to the letter-to-sound net: "Have → hayv.
        **dict.fromkeys('"“”„«»', ""),
        **dict.fromkeys("#*<=>[]{}\\^`|~_", " "),
        **dict.fromkeys("¿¡\u200b\u00ad", ""),
    }
)
_TIGHT_MARK = re.compile(r"[;:!?…]+(?=[^\W\d_])")
_MARK_RUN = re.compile(r"([,;:!?—…])[\s,;:!?—…]*([,;:!?—…])")
_OUTER_QUOTE = re.compile(r"(?<![^\W_])(?<![\ue000-\uf8ff])'+(?!(?:em|til|cause|bout|tis|twas)\b)|'+(?![^\W_])")
_NO_WORD = re.compile(r"[\[\]()/]")
_LETTERS_M = re.compile(r"\b([AP]) M\b(\.?)")
_LETTER_A = re.compile(r"\bA\b(?!'s|\])")
_CAPITALS = re.compile(r"(?<![A-Z'])[A-Z][A-Z']+(?: [A-Z'][A-Z']*)+")
_LETTER_NAMES = {
    "A": "ˈA", "B": "bˈi", "C": "sˈi", "D": "dˈi", "E": "ˈi", "F": "ˈɛf", "G": "ʤˈi", "H": "ˈAʧ", "I": "ˈI", "J": "ʤˈA",
    "K": "kˈA", "L": "ˈɛl", "M": "ˈɛm", "N": "ˈɛn", "O": "ˈO", "P": "pˈi", "Q": "kjˈu", "R": "ˈɑɹ", "S": "ˈɛs",
    "T": "tˈi", "U": "jˈu", "V": "vˈi", "W": "dˈʌbəlju", "X": "ˈɛks", "Y": "wˈI", "Z": "zˈi",
}  # fmt: skip
_LETTERS_S = re.compile(r"\b(?P<before>(?:two|three|four|straight|and) )?(?P<letters>[A-Z]|PhD)s\b(?!')")
_DOUBLED = re.compile(r"([bdfhklmnpstvzðŋɡɹʃʒθʤʧ])\1+")
_ING = re.compile(r"\b(?P<stem>[A-Za-z]{2,12}in)'(?![A-Za-z])")
_SENTENCE_END = re.compile(r"(?<=[.!?…])['\")]*\s+(?=[^a-z\s])")
_PART = re.compile(r"[A-Z]+|[^\W\d_A-Z]+|\d+|[\W_]")
_DIGITS = re.compile(rf"\d{{{_MAX_DIGITS}}}(?=\d)")
_NUMERAL = re.compile(r"[^\W\x00-\x7f]")
_LETTER = re.compile(r"[^\W\d_]")
_FOREIGN = re.compile(r"[^\W\d_\x00-\u024f\u1e00-\u1eff]+")
_SCRIPTS = {"CJK": "Chinese", "HIRAGANA": "Japanese", "KATAKANA": "Japanese", "HANGUL": "Korean"}
_GREEK = re.compile(r"GREEK (?:SMALL|CAPITAL) LETTER (?:FINAL )?(\w+)(?: WITH .*)?")


Files = list[Future[bytes]]
Given = tuple[int, int, str]
"""Start and end of a word, and its phones."""
_FIRST_ASIDE, _LAST_ASIDE = 0xE000, 0xF8FF
_ASIDE = re.compile("[\ue000-\uf8ff]")
"""Characters for private use: they stand for words whose phones are given, so that nothing else changes these."""


@dataclass(frozen=True, slots=True)
class Word:
    """A word of the text and the range of its phones, [start, end)."""

    text: str
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Utterance:
    """The input of one run of the acoustic model. `phones`: one character each, with marks and spaces."""

    phones: str
    words: tuple[Word, ...]


def unpack(british: bool, pool: Executor) -> Files:
    """Start reading the dictionaries of an accent; most of the work runs without the GIL."""
    accent = "gb" if british else "us"
    names = (f"lexicon_{accent}_gold", f"lexicon_{accent}_silver", "tagger")
    return [pool.submit(package.read, f"assets/{name}.json.gz") for name in names]


def phones_of(texts: Sequence[str], *, british: bool) -> list[str]:
    """The phones of spoken texts, each read alone."""
    with ThreadPoolExecutor(3) as pool:
        reader = Reader(british, unpack(british, pool), pool)
        return [" ".join(one.phones for one in reader.read(text)) if speakable(text) else "" for text in texts]


class Reader:
    """Reads one accent of English. Thread-safe: immutable once loaded."""

    def __init__(self, british: bool, files: Files, pool: Executor) -> None:
        """`files`: from `unpack`. `pool`: loads a graph. Raises MissingDependency."""
        letters = _Letters("oov_gb" if british else "oov", pool)
        self._vocabulary = frozenset(json.loads(package.read("assets/vocab.json")))
        module, (gold, silver, tagger) = package.g2p(), files
        names = _names(british)
        # The British lexicons know how the British say Birmingham.
        first, last = ({}, names) if british else (names, {})
        self._known = tables.Lexicon(gold.result(), first)
        # The package's G2P with our tables instead of its dicts, which its constructor would parse.
        self._g2p = module.G2P.__new__(module.G2P)
        self._g2p.lexicon = module.Lexicon(self._known, tables.Lexicon(silver.result(), last=last), british)
        self._g2p.tokenizer = module.Tokenizer(json.loads(package.read("assets/tokenizer_exceptions.json")))
        self._g2p.tagger = module.Tagger(tables.tagger(tagger.result()))
        self._g2p._oov, self._g2p.unk, self._g2p.british = letters, "", british

    def read(self, text: str, given: Iterable[Given] = ()) -> list[Utterance]:
        """`given`: words with the user's phones. Raises InvalidText if most of the text cannot be read in English."""
        if self._g2p.british:
            given = [(start, end, ipa.british(phones)) for start, end, phones in given]
        text, words = _set_aside(text, given)
        text = _ASIDE.sub(lambda found: words[ord(found[0]) - _FIRST_ASIDE], self._plain(text))
        spoken: list[tuple[str, str, bool]] = []
        for sentence in _SENTENCE_END.split(text):
            tokens = self._g2p.phonemize_tokens(self._g2p.tokenize(sentence)) if sentence.strip() else []
            spoken += [(token.text, self._phones(token), bool(token.whitespace)) for token in tokens]
            spoken[-1:] = [(word, phones, True) for word, phones, _ in spoken[-1:]]
        utterances = [*_utterances(spoken)]
        if not utterances:
            raise InvalidText("nothing in this text can be spoken in English", param="text")
        return utterances

    def _phones(self, token: Any) -> str:
        return "".join(char for char in token.phonemes or "" if char in self._vocabulary and char not in "“”")

    def _plain(self, text: str) -> str:
        """The text without what the phonemiser cannot handle."""
        text = _ING.sub(self._whole_ing, text.replace("’", "'"))
        text = _NUMERAL.sub(_numeral, _name_foreign(unicodedata.normalize("NFC", text))).translate(_DROPPED)
        text = _OUTER_QUOTE.sub("", text.replace("’", "'").replace("'n'", "and"))
        text = _MARK_RUN.sub(_strongest, _TIGHT_MARK.sub(r"\g<0> ", text))
        text = _CAPITALS.sub(self._lower_known, text)
        text = _LETTERS_M.sub(r"\1.M.", text)
        text = _LETTER_A.sub(_letter_a, " ".join(map(_bounded, text.split())))
        text = _LETTERS_S.sub(_letters_s, text)
        lower = f" {text.lower()} "
        for word, pattern, phones in _homographs():
            if word in lower:
                read = ipa.british(phones) if self._g2p.british else phones
                text = pattern.sub(rf"\g<before>[\g<word>](/{read}/)", text)
        return text

    def _whole_ing(self, found: re.Match[str]) -> str:
        """doin' → doing."""
        whole = f"{found['stem']}g"
        return whole if self._known.get(whole.lower()) is not None else found[0]

    def _lower_known(self, capitals: re.Match[str]) -> str:
        """Known words of a run of capitals in lower case: THE END; not US GDP."""
        words = capitals[0].split()
        known = [word.lower() if self._known.get(word.lower()) is not None else word for word in words]
        return " ".join(known) if sum(map(str.islower, known)) > 1 else capitals[0]


class _Letters:
    """The package's letter-to-sound net. Longer words are split: it takes at most 24 letters."""

    def __init__(self, name: str, pool: Executor) -> None:
        about = json.loads(package.read(f"assets/{name}.json"))
        self._ids = {char: index for index, char in enumerate(about["in"], 1)}
        self._phones = ["", *about["out"]]
        self._longest = int(about["maxlen"])
        data = package.read(f"assets/{name}.onnx")
        self._graph = pool.submit(Graph, data, Threading(spin=False), name=name, optimise=False)

    def __call__(self, word: str) -> str:
        return "".join(self._read(piece) for piece in _pieces(word, self._longest))

    def _read(self, word: str) -> str:
        ids = [self._ids[char] for char in word if char in self._ids]
        if not ids:
            return ""
        (output,) = self._graph.result().run({"chars": np.array([ids], np.int64)})
        # CTC decoding: repeated labels count once, label 0 is blank (the empty string).
        phones = "".join(self._phones[label] for label, _ in groupby(output[0].tolist()))
        return _DOUBLED.sub(r"\1", phones)


def _pieces(word: str, longest: int) -> Iterator[str]:
    count = -(-len(word) // longest)
    size = -(-len(word) // max(1, count))
    yield from (word[start : start + size] for start in range(0, len(word), size))


def _names(british: bool) -> dict[str, str]:
    """Names, places and brands that are missing or wrong in the package's lexicons."""
    text = resources.files(__package__).joinpath("names.tsv").read_text(encoding="utf-8")
    names = dict(line.split("\t") for line in text.splitlines())
    # GitHub is also written github. The phonemiser itself looks up Github in lower case.
    mixed = {word.lower(): phones for word, phones in names.items() if word[1:] != word[1:].lower()}
    names = {**mixed, **names}
    return {word: ipa.british(phones) for word, phones in names.items()} if british else names


def _set_aside(text: str, given: Iterable[Given]) -> tuple[str, list[str]]:
    """The text with a private character for each given word, and what these stand for, as the phonemiser takes it."""
    pieces, words, at = list[str](), list[str](), 0
    for start, end, phones in given:
        if len(words) > _LAST_ASIDE - _FIRST_ASIDE:
            break  # beyond any chunk
        if text[end : end + 2].lower() in ("'s", "’s"):
            phones, end = phones + _ending(phones), end + 2
        pieces += (_ASIDE.sub("", text[at:start]), chr(_FIRST_ASIDE + len(words)))
        words.append(f"[{_NO_WORD.sub('', text[start:end])}](/{phones}/)")
        at = end
    return "".join([*pieces, _ASIDE.sub("", text[at:])]), words


def _letters_s(found: re.Match[str]) -> str:
    """Bs, PhDs; As and Is are letters only behind a number."""
    letters, before = found["letters"], found["before"] or ""
    if letters in ("A", "I") and not before:
        return found[0]
    phones = " ".join(_LETTER_NAMES[letter.upper()] for letter in letters)
    return f"{before}[{letters}s](/{phones}{_ending(phones)}/)"


def _ending(phones: str) -> str:
    """How a plural or possessive s sounds behind them."""
    return "s" if phones[-1] in "ptkfθ" else "ᵻz" if phones[-1] in "szʃʒʧʤ" else "z"


@cache
def _homographs() -> tuple[tuple[str, re.Pattern[str], str], ...]:
    """Words that the phonemiser reads wrongly, or in some places: the word, its pattern, its phones."""
    text = resources.files(__package__).joinpath("homographs.tsv").read_text(encoding="utf-8")
    rows = [line.split("\t") for line in text.splitlines() if not line.startswith("#")]
    return tuple(
        (
            re.sub(r"\(\?-i:(\w+)\)", r"\1", word).lower(),
            re.compile(
                (rf"(?<![a-z])(?P<before>(?:{before}) )" if before else "(?P<before>)")
                + rf"(?<!\[)(?P<word>\b{word}\b)"
                + (rf"(?={after})" if after else "(?![a-z']|\\()"),
                re.IGNORECASE,
            ),
            phones,
        )
        for word, phones, before, after in rows
    )


def _utterances(spoken: list[tuple[str, str, bool]]) -> Iterator[Utterance]:
    """Tokens (text, phones, followed by a space) grouped into at most MAX_PHONES, split after a mark if possible."""
    begin = 0
    while begin < len(spoken):
        end = begin + _fitting(spoken[begin:])
        utterance = _utterance(spoken[begin:end])
        if utterance.words:
            yield utterance
        begin = end


def _fitting(spoken: list[tuple[str, str, bool]]) -> int:
    """Number of tokens in the next utterance, at least one."""
    count = size = 0
    for _, phones, space in spoken:
        size += len(phones) + space
        if size > MAX_PHONES:
            break
        count += 1
    if count == len(spoken):
        return count
    for marks in (_SENTENCE_MARKS, MARKS):
        ends = [end for end in range(1, count + 1) if spoken[end - 1][1] and spoken[end - 1][1][-1] in marks]
        if ends:
            return ends[-1]
    return max(1, count)


def _utterance(spoken: list[tuple[str, str, bool]]) -> Utterance:
    phones, words = "", list[Word]()
    joined = False
    for text, read, space in spoken:
        token = read[:MAX_PHONES]  # a longer token is not a word
        sounds = any(char not in MARKS and char not in "() " for char in token)
        if sounds and joined and words:
            words[-1] = Word(words[-1].text + text, words[-1].start, len(phones) + len(token))
        elif sounds:
            words.append(Word(text, len(phones), len(phones) + len(token)))
        joined = (sounds or joined) and not space
        phones += token + (" " if space else "")
    phones = phones.rstrip()
    return Utterance(phones if phones[-1:] in MARKS else f"{phones}.", tuple(words))


def _name_foreign(text: str) -> str:
    """Replace letters of other scripts by their names, runs of them by the name of the script.

    Raises InvalidText if most letters are of other scripts.
    """
    foreign = sum(len(run) for run in _FOREIGN.findall(text))
    if not foreign:
        return text
    if foreign * 2 > len(_LETTER.findall(text)):
        raise InvalidText("most of this text is not in Latin letters; choose an espeak:<language> voice", param="text")
    return _FOREIGN.sub(_foreign, text)


def _foreign(run: re.Match[str]) -> str:
    name = unicodedata.name(unicodedata.normalize("NFD", run[0])[0], "")
    letter = _GREEK.fullmatch(name)
    if letter and len(run[0]) == 1:
        return f" {letter[1].lower()} "
    script = name.partition(" ")[0]
    kind = "letter" if len(run[0]) == 1 else "text"
    return f" {_SCRIPTS.get(script, script.capitalize())} {kind} " if script else " "


def _numeral(match: re.Match[str]) -> str:
    """Digits of other scripts and other numerals in words: the phonemiser fails on them."""
    return f" {any_numeral(match[0])} " if match[0].isnumeric() and not match[0].isalpha() else match[0]


def _strongest(marks: re.Match[str]) -> str:
    """One mark for several: each would be a separate pause."""
    return next((mark for mark in "?!" if mark in marks[0]), marks[1])


def _letter_a(match: re.Match[str]) -> str:
    """A capital A inside a sentence is the letter, unless it is an article in a title: Plan A; This Is A Test."""
    before, after = match.string[: match.start()], match.string[match.end() :]
    inside = before.rstrip(" ")[-1:].isalnum() and before[-1:] == " "
    title = re.match(r" [A-Z]", after) and re.search(r"\b[A-Z][\w']* $", before)
    if not inside or title or re.match(r"\.\w", after):
        return match[0]
    return "[A](/ˈA/)"  # the phonemiser's syntax for a given pronunciation


def _bounded(run: str) -> str:
    """Insert spaces into a run that is too long or has too many parts."""
    if len(run) <= _PARTS:
        return run
    bounded: list[str] = []
    parts = size = 0
    for part in (piece for token in _PART.findall(_DIGITS.sub(r"\g<0> ", run)) for piece in _pieces(token, _RUN)):
        parts, size = parts + 1, size + len(part)
        if bounded and (parts > _PARTS or size > _RUN):
            bounded.append(" ")
            parts, size = 1, len(part)
        bounded.append(part)
    return "".join(bounded)
