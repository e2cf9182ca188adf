"""Stand-ins of the tokenizer files of published Chatterbox checkpoints: their structure, other words."""

from __future__ import annotations

import itertools
import json
import string
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from saywell.models.chatterbox.kinds import Kind
from saywell.models.chatterbox.scripts import CANGJIE_FILE
from saywell.models.chatterbox.text import ENGLISH_FILE, LANGUAGES, MULTILINGUAL_FILE, TURBO_FILES

Size = Literal["tiny", "full"]
VOCABULARY = {"english": 704, "multilingual": 2454, "turbo": 50276, "nano": 50276}
TINY_BYTES = 1276
"""Entries of the vocabulary of a tiny Turbo."""
SOUNDS = (
    "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "clear throat", "sigh", "shush",
    "cough", "groan", "sniff", "gasp", "chuckle", "laugh",
)  # fmt: skip
_CONTROL = {"[STOP]": 0, "[UNK]": 1, "[SPACE]": 2, "[START]": 255}
_PAIRS = "th in he an er ou re on at ed en to is as al or of ar it es st le om se be"
_LETTERS = "etaoinshrdlucmfwypvbgkjqxz"


def vocabulary(kind: Kind, size: Size) -> int:
    """Entries of the text vocabulary."""
    return TINY_BYTES if size == "tiny" and kind in ("turbo", "nano") else VOCABULARY[kind]


def write_text(directory: Path, kind: Kind, size: Size = "tiny") -> None:
    """The tokenizer's files: the published structure, other words."""
    if kind in ("turbo", "nano"):
        _write_bytes(directory, vocabulary(kind, size))
        return
    tokens, added = dict(_CONTROL), [*_CONTROL]
    letters = [*string.ascii_letters, *string.digits, *string.punctuation, " ", *map(chr, range(0xA1, 0x17F))]
    extra = ["UH", "UM", "laughter", "sigh", "fr", "es", "de", "it"]
    if kind == "multilingual":
        letters += map(chr, _scripts())
        extra += ["MASK", "PAD", "SEP", "CLS", *(code for code in LANGUAGES if code not in extra)]
        extra += [f"cj_{each}" for each in (*string.ascii_lowercase, *string.digits, ".")]
    added += (f"[{name}]" for name in extra)
    merges = [*((*pair,) for pair in _PAIRS.split()), ("th", "e"), ("an", "d"), ("in", "g"), ("T", "h")]
    filling = (f"[PLACEHOLDER{number}]" for number in itertools.count())
    names = itertools.chain(letters, ("".join(pair) for pair in merges), added, filling)
    free = (number for number in range(VOCABULARY[kind]) if number not in _CONTROL.values())
    for number in free:
        tokens[next(name for name in names if name not in tokens)] = number
    _write_graphemes(directory / (ENGLISH_FILE if kind == "english" else MULTILINGUAL_FILE), tokens, added, merges)
    if kind == "multilingual":
        table = ["日\ta", "曰\ta", "本\tdm", "語\tyrmmr", "你\tonf", "好\tvnd", "世\tpt", "界\twoll"]
        (directory / CANGJIE_FILE).write_text(json.dumps(table, ensure_ascii=False), encoding="utf-8")


def _scripts() -> Iterator[int]:
    """Letters of the languages, decomposed: marks, Greek, Cyrillic, Hebrew, Arabic, Devanagari, jamo, kana."""
    for first, last in ((0x300, 0x345), (0x370, 0x3FF), (0x410, 0x44F), (0x5B0, 0x5EA), (0x621, 0x652)):
        yield from range(first, last + 1)
    for first, last in ((0x901, 0x96F), (0x1100, 0x11FF), (0x3001, 0x3003), (0x3041, 0x30FC)):
        yield from range(first, last + 1)


def _write_graphemes(path: Path, tokens: dict[str, int], added: list[str], merges: list[tuple[str, ...]]) -> None:
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    languages = {f"[{code}]" for code in LANGUAGES}
    content = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": sorted(
            ({"id": tokens[name], "content": name, "special": name not in languages, **flags} for name in added),
            key=lambda each: int(str(each["id"])),
        ),
        "normalizer": None,
        "pre_tokenizer": {"type": "Whitespace"},
        "post_processor": None,
        "decoder": None,
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": "[UNK]",
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": False,
            "vocab": dict(sorted(tokens.items(), key=lambda each: each[1])),
            "merges": [" ".join(pair) for pair in merges],
        },
    }
    path.write_text(json.dumps(content, ensure_ascii=False, indent=2), encoding="utf-8")


def _write_bytes(directory: Path, size: int) -> None:
    """GPT-2's files for `AutoTokenizer`, with the sounds as the last entries."""
    count = size - len(SOUNDS) - 1
    tokens, merges = [*_byte_letters()], []
    for left, right in itertools.islice(_byte_merges(), count - len(tokens)):
        merges.append(f"{left} {right}")
        tokens.append(left + right)
    vocab = {name: number for number, name in enumerate([*tokens, "<|endoftext|>"])}
    added = {f"[{name}]": size - len(SOUNDS) + number for number, name in enumerate(SOUNDS)}
    end = "<|endoftext|>"
    settings = {"tokenizer_class": "GPT2Tokenizer", "add_prefix_space": False, "model_max_length": 1024}
    specials = dict.fromkeys(("bos_token", "eos_token", "unk_token"), end)
    files: dict[str, Any] = dict(zip((TURBO_FILES[0], TURBO_FILES[2]), (vocab, added), strict=True))
    files |= {"tokenizer_config.json": {**settings, **specials}, "special_tokens_map.json": specials}
    for name, content in files.items():
        (directory / name).write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")
    (directory / TURBO_FILES[1]).write_text("\n".join(["#version: 0.2", *merges]) + "\n", encoding="utf-8")


def _byte_letters() -> Iterator[str]:
    """The letter that stands for each byte: itself if it is visible, else one from U+0100 on."""
    shown = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    yield from map(chr, shown)
    yield from (chr(0x100 + number) for number in range(256 - len(shown)))


def _byte_merges() -> Iterator[tuple[str, str]]:
    """Groups of letters with and without a space (Ġ) before them, by length."""
    yield from (("Ġ", letter) for letter in _LETTERS)
    for length in itertools.count(2):
        for letters in itertools.product(_LETTERS, repeat=length):
            yield "".join(letters[:-1]), letters[-1]
        for letters in itertools.product(_LETTERS, repeat=length):
            yield "Ġ" + "".join(letters[:-1]), letters[-1]
