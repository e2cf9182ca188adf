"""Text → token ids, as the published models were trained on it.

Text is data: a control token's name in it, such as `[STOP]`, is ordinary characters. Only Turbo's sounds, such as
`[laugh]`, become tokens where they are written. What this module adds itself (spaces, a language, Cangjie codes) is
encoded with the added tokens of the vocabulary, what a user wrote without them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unicodedata import normalize

import msgspec

from saywell.errors import BadCheckpoint, InvalidRequest, InvalidText, MissingDependency
from saywell.files import Damaged, read_plain
from saywell.models.chatterbox import scripts
from saywell.models.chatterbox.kinds import Kind
from saywell.text.language import likely

if TYPE_CHECKING:
    import tokenizers

    from saywell.models.chatterbox.config import Config

ENGLISH_FILE, MULTILINGUAL_FILE = "tokenizer.json", "grapheme_mtl_merged_expanded_v1.json"
TURBO_FILES = ("vocab.json", "merges.txt", "added_tokens.json")
MAX_FILE_BYTES = 16 << 20
CHUNK_CHARS: dict[Kind, int] = {"english": 280, "multilingual": 280, "turbo": 300, "nano": 300}
"""Longest text of one generation. Longer ones drift or break off: English and multilingual after about 40 s, the limit
of their 1000 tokens, Turbo after 25 s."""
START, STOP, SPACE = "[START]", "[STOP]", "[SPACE]"
LANGUAGES = {
    "ar": "Arabic", "da": "Danish", "de": "German", "el": "Greek", "en": "English", "es": "Spanish", "fi": "Finnish",
    "fr": "French", "he": "Hebrew", "hi": "Hindi", "it": "Italian", "ja": "Japanese", "ko": "Korean", "ms": "Malay",
    "nl": "Dutch", "no": "Norwegian", "pl": "Polish", "pt": "Portuguese", "ru": "Russian", "sv": "Swedish",
    "sw": "Swahili", "tr": "Turkish", "zh": "Chinese",
}  # fmt: skip
"""Of the multilingual model, by the codes of its vocabulary."""
_SAME = {"nb": "no", "nn": "no", "iw": "he", "cmn": "zh", "arb": "ar", "zsm": "ms", "swh": "sw"}
"""Other codes of the same languages."""
_SOUND = re.compile(r"\[(?=[^]]*[a-z])[A-Za-z _-]+\]")
"""What may be one of Turbo's sounds. Control tokens are not in brackets, or in capitals."""
_COMMON = [("…", ", "), (":", ",")]
_DASHES = [("—", "-"), ("–", "-"), (" ,", ",")]
_QUOTES = [("“", '"'), ("”", '"'), ("‘", "'"), ("’", "'")]
_REPLACED = [("...", ", "), *_COMMON, (" - ", ", "), (";", ", "), *_DASHES, *_QUOTES]
_REPLACED_TURBO = [*_COMMON, *_DASHES, *_QUOTES]
"""Punctuation rare in the training data → common one, in this order."""
_ENDS = (".", "!", "?", "-", ",")
_ENDS_MULTILINGUAL = (*_ENDS, "、", "，", "。", "？", "！")


def normalised(text: str, kind: Kind) -> str:
    """Text with the capital, the spaces and the punctuation that the models know. Raises InvalidText if it is empty."""
    if not text.strip():
        raise InvalidText("the text holds nothing to speak")
    if text[0].islower():
        text = text[0].upper() + text[1:]
    text = " ".join(text.split())
    for old, new in _REPLACED_TURBO if kind in ("turbo", "nano") else _REPLACED:
        text = text.replace(old, new)
    text = text.rstrip(" ")
    return text if text.endswith(_ENDS_MULTILINGUAL if kind == "multilingual" else _ENDS) else f"{text}."


def language_code(language: str) -> str:
    """The model's code of a BCP-47 tag such as `pt-BR`. Raises InvalidRequest naming those it has."""
    primary = re.split(r"[-_]", language.strip().lower())[0]
    code = _SAME.get(primary, primary)
    if code not in LANGUAGES:
        raise InvalidRequest(
            f"this model does not speak {language!r}; give one of {', '.join(LANGUAGES)}", param="language"
        )
    return code


@dataclass(frozen=True, slots=True, eq=False)
class Graphemes:
    """The tokenizer of the English model: letters, common groups of letters, and a token for each space."""

    marked: tokenizers.Tokenizer
    """As published."""
    plain: tokenizers.Tokenizer
    """Without its added tokens."""
    start_id: int
    stop_id: int
    size: int
    """Entries of the vocabulary."""
    kind: Kind = "english"

    def encode(self, text: str) -> list[int]:
        """Ids without START and STOP. Raises InvalidText."""
        return self.ids([(normalised(text, self.kind), False)])

    def prompt(self, text: str, language: str | None = None) -> list[int]:  # noqa: ARG002 - it speaks one
        """Ids as the transformer reads them, from START to STOP. Raises as `encode`."""
        return [self.start_id, *self.encode(text), self.stop_id]

    def ids(self, parts: Iterable[scripts.Part]) -> list[int]:
        found: list[int] = []
        for part, added in parts:
            encoder = self.marked if added else self.plain
            for number, word in enumerate(part.split(" ")):
                found += _ids(self.marked, SPACE) if number else []
                found += _ids(encoder, word)
        return found


@dataclass(frozen=True, slots=True, eq=False)
class Multilingual(Graphemes):
    """The tokenizer of the multilingual model: decomposed letters, and a token of the language before them."""

    kind: Kind = "multilingual"
    directory: Path = field(kw_only=True)
    cased: bool = field(kw_only=True)
    """Whether the model knows capitals: version 3 does, version 2 does not."""

    def encode(self, text: str, language: str = "en") -> list[int]:
        """Ids without START and STOP. Raises InvalidText, InvalidRequest for a language that the model lacks,
        MissingDependency for one whose script needs a package, BadCheckpoint."""
        code = language_code(language)
        text = normalised(text, self.kind)
        text = normalize("NFKD", text if self.cased else text.lower())
        return self.ids([(f"[{code}]", True), *self._written(text, code)])

    def prompt(self, text: str, language: str | None = None) -> list[int]:
        """`language`: BCP-47; None: what the text looks like."""
        return [self.start_id, *self.encode(text, language or likely(text)), self.stop_id]

    def _written(self, text: str, code: str) -> list[scripts.Part]:
        if code == "zh":
            return scripts.chinese(text, self.directory)
        rewrite = scripts.REWRITTEN.get(code)
        return [(rewrite(text, self.directory) if rewrite else text, False)]


@dataclass(frozen=True, slots=True, eq=False)
class Bytes:
    """The tokenizer of Turbo and Nano: GPT-2's, and a token for each of some sounds."""

    plain: tokenizers.Tokenizer
    """Without added tokens."""
    sounds: dict[str, int]
    """`[laugh]` → id."""
    around: re.Pattern[str]
    """Splits a text at its sounds."""
    size: int
    kind: Kind = "turbo"

    def encode(self, text: str) -> list[int]:
        """Ids. Raises InvalidText."""
        found: list[int] = []
        for part in self.around.split(normalised(text, self.kind)):
            found += [self.sounds[part]] if part in self.sounds else _ids(self.plain, part)
        return found

    def prompt(self, text: str, language: str | None = None) -> list[int]:  # noqa: ARG002 - it speaks one
        """The same: this transformer was given no marks around a text."""
        return self.encode(text)


def read(directory: Path, config: Config) -> Graphemes | Bytes:
    """Of a converted checkpoint. Raises BadCheckpoint naming the file, MissingDependency."""
    if config.kind == "english":
        return read_english(directory)
    if config.kind == "multilingual":
        return read_multilingual(directory, cased=config.generation >= 3)
    return read_turbo(directory, config.kind)


def check_vocabulary(tokenizer: Graphemes | Bytes, embedded: int) -> None:
    """Raise BadCheckpoint if the tokenizer gives ids that the model has no embedding for."""
    if tokenizer.size > embedded:
        raise BadCheckpoint(f"the tokenizer has {tokenizer.size} tokens and the model {embedded}: files of two models")


def _ids(tokenizer: tokenizers.Tokenizer, text: str) -> list[int]:
    return list(tokenizer.encode(text, add_special_tokens=False).ids)


def read_english(directory: Path) -> Graphemes:
    """From `tokenizer.json`. Raises BadCheckpoint naming the file, MissingDependency."""
    return Graphemes(*_graphemes(directory / ENGLISH_FILE))


def read_multilingual(directory: Path, *, cased: bool) -> Multilingual:
    """From `grapheme_mtl_merged_expanded_v1.json`; Chinese text also needs `Cangjie5_TC.json`. Raises as above."""
    return Multilingual(*_graphemes(directory / MULTILINGUAL_FILE), directory=directory, cased=cased)


def read_turbo(directory: Path, kind: Kind = "turbo") -> Bytes:
    """From `vocab.json`, `merges.txt` and `added_tokens.json`. Raises as above."""
    package, (vocab_file, merges_file, added_file) = _package(), (directory / name for name in TURBO_FILES)
    vocab, added = _ids_in(vocab_file), _ids_in(added_file)
    lines = _read(merges_file).decode(errors="replace").splitlines()
    merges = [tuple(line.split(" ")) for line in lines if line and not line.startswith("#version")]
    if any(len(pair) != 2 for pair in merges):
        raise BadCheckpoint(f"{merges_file.name} must have two tokens a line")
    try:
        plain = package.Tokenizer(package.models.BPE(vocab, merges))
    except Exception as error:  # the package raises no other
        raise BadCheckpoint(f"{vocab_file.name} and {merges_file.name} do not fit together: {error}") from error
    plain.pre_tokenizer = package.pre_tokenizers.ByteLevel(add_prefix_space=False)
    sounds = {name: number for name, number in added.items() if _SOUND.fullmatch(name)}
    around = re.compile(f"({'|'.join(map(re.escape, sounds)) or '(?!)'})")
    return Bytes(plain, sounds, around, 1 + max((*vocab.values(), *added.values()), default=-1), kind)


def _graphemes(path: Path) -> tuple[tokenizers.Tokenizer, tokenizers.Tokenizer, int, int, int]:
    package, raw = _package(), _read(path)
    try:
        content: dict[str, Any] = msgspec.json.decode(raw, type=dict[str, Any])
        marked = package.Tokenizer.from_str(raw.decode())
        plain = package.Tokenizer.from_str(msgspec.json.encode(content | {"added_tokens": []}).decode())
    except Exception as error:  # the package raises no other
        raise BadCheckpoint(f"{path.name} is not a tokenizer: {str(error)[:200]}") from error
    missing = [name for name in (START, STOP, SPACE) if marked.token_to_id(name) is None]
    if missing:
        raise BadCheckpoint(f"{path.name} has no {', '.join(missing)}")
    size = 1 + max(marked.get_vocab().values())
    return marked, plain, marked.token_to_id(START), marked.token_to_id(STOP), size


def _package() -> Any:
    try:
        import tokenizers  # here, because planning imports this module and must not need it
    except ModuleNotFoundError as error:
        raise MissingDependency(
            f"a Chatterbox model needs {error.name}, which is not installed: pip install 'saywell[chatterbox]'"
        ) from error
    return tokenizers


def _ids_in(path: Path) -> dict[str, int]:
    try:
        return msgspec.json.decode(_read(path), type=dict[str, int])
    except msgspec.DecodeError as error:
        raise BadCheckpoint(f"{path.name} must map tokens to ids: {error}") from None


def _read(path: Path) -> bytes:
    try:
        return read_plain(path, MAX_FILE_BYTES, links=True)
    except FileNotFoundError:
        raise BadCheckpoint(f"{path.name} is missing") from None
    except (OSError, Damaged) as error:
        raise BadCheckpoint(f"{path.name} cannot be read: {error}") from None
