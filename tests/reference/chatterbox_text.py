"""Token ids that the published package chatterbox-tts 0.1.7 gives texts, with stand-ins of the vocabularies.

    PYTHONPATH=src:. python tests/reference/chatterbox_text.py    records tests/models/chatterbox/recorded_text.json
    PYTHONPATH=src:. python tests/reference/chatterbox_text.py --full 500    counts differences for random texts

Needs chatterbox-tts. The tests do not.
"""

from __future__ import annotations

import argparse
import json
import shutil
import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from random import Random

from chatterbox import mtl_tts, tts, tts_turbo
from chatterbox.models.tokenizers import tokenizer as published
from transformers import AutoTokenizer

from benchmarks import random_chatterbox_text
from saywell.models.chatterbox.scripts import CANGJIE_FILE
from saywell.models.chatterbox.text import (
    ENGLISH_FILE,
    MULTILINGUAL_FILE,
    TURBO_FILES,
    read_english,
    read_multilingual,
    read_turbo,
)

RECORDED = Path(__file__).parents[1] / "models" / "chatterbox" / "recorded_text.json"
ENGLISH = (
    "Ezreal and Jinx teamed up with Ahri, Yasuo, and Teemo to take down the enemy's Nexus in an epic late-game "
    "pentakill.",
    "the lower-case beginning",
    " a space, then \t tabs and\nlines ",
    "Wait... what? He said: “no” – or ‘yes’; perhaps — never … and so on - end",
    'She said "Hello!"',
    "Prices: 3.50 $, 20 % off ,now (really) [not a token] 100°",
    "Naïve café, Ångström, œuvre, ½ litre, 日本",
    "Ends in a dash -",
    "x",
)
TURBO = (
    *ENGLISH,
    "Oh [laugh] that is funny. [sigh] Well, [clear throat] go on.[cough]",
    "It's we'll they've   [unknown] Ünïcode 🙂",
)
MULTILINGUAL = (
    *(("en", text) for text in ENGLISH),
    ("de", "Größe, Straße und Äpfel: schön!"),
    ("fr", "L'été, c'est déjà fini ? Œuvre"),
    ("es", "¿Qué hora es? Mañana."),
    ("el", "Καλημέρα κόσμε"),
    ("ru", "Приве́т, мир! Ёлка"),
    ("he", "שָׁלוֹם עוֹלָם"),
    ("ar", "مرحبا بالعالم"),
    ("hi", "नमस्ते दुनिया"),
    ("ko", "안녕하세요 세계"),
    ("tr", "İstanbul'da güzel bir gün"),
    ("zh", "你好，世界。曰日本語 Hello"),
    ("ja", "こんにちは、世界。カタカナも。"),
    ("ja", "これはひらがなです。"),
    ("ja", "東京へ行きます。歯が痛い。ガギグゲゴ"),
    ("pl", "Zażółć gęślą jaźń"),
)


RANGES = (
    *((0x20, 0x7E),) * 4, (0x09, 0x0D), (0x1C, 0x20), (0xA0, 0x17F), (0x300, 0x340), (0x370, 0x3FF), (0x400, 0x45F),
    (0x5D0, 0x5EA), (0x621, 0x652), (0x900, 0x97F), (0x2000, 0x202F), (0x3000, 0x30FF), (0x4E00, 0x9FFF),
    (0xAC00, 0xD7A3), (0xFB00, 0xFB06), (0xFF00, 0xFFEF), (0x1D400, 0x1D420), (0x1F600, 0x1F64F),
)  # fmt: skip
JAPANESE_RANGES = ((0x3041, 0x3096), (0x30A1, 0x30FA), (0x4E00, 0x9FA0), (0x3001, 0x3002))
PIECES = (
    "...",
    " - ",
    ";",
    "“",
    "’",
    " ,",
    ":",
    "…",
    "—",
    "the",
    " and ",
    "Th",
    "İ",
    "ß",
    "ﬁ",
    "½",
    "日",
    "曰",
    "\t",
    "\n",
)
SOUND_PIECES = (*PIECES, "[laugh]", "[clear throat]", "[unknown]")
LANGUAGES = ("ar", "en", "hi", "ko", "tr", "zh")


class Published:
    """Its tokenizers, of stand-ins in a directory."""

    def __init__(self, directory: Path) -> None:
        for kind in ("english", "multilingual", "turbo"):
            random_chatterbox_text.write_text(directory, kind)
        # The package asks the hub for this file.
        published.hf_hub_download = lambda **_: shutil.copy(directory / CANGJIE_FILE, directory / "copy.json")
        self._english = published.EnTokenizer(str(directory / ENGLISH_FILE))
        self._multilingual = published.MTLTokenizer(str(directory / MULTILINGUAL_FILE))
        with tempfile.TemporaryDirectory() as alone:  # the English file has a name that the loader would prefer
            for name in (*TURBO_FILES, "tokenizer_config.json", "special_tokens_map.json"):
                shutil.copy(directory / name, alone)
            self._turbo = AutoTokenizer.from_pretrained(alone)

    def english(self, text: str) -> list[int]:
        return self._english.encode(tts.punc_norm(text))

    def multilingual(self, text: str, code: str, *, cased: bool) -> list[int]:
        return self._multilingual.encode(mtl_tts.punc_norm(text), code, not cased)

    def turbo(self, text: str) -> list[int]:
        return self._turbo(tts_turbo.punc_norm(text), truncation=True).input_ids


def record(theirs: Published) -> None:
    recorded = {
        "english": [(text, tts.punc_norm(text), theirs.english(text)) for text in ENGLISH],
        "multilingual": [
            (code, text, [theirs.multilingual(text, code, cased=cased) for cased in (False, True)])
            for code, text in MULTILINGUAL
        ],
        "turbo": [(text, tts_turbo.punc_norm(text), theirs.turbo(text)) for text in TURBO],
    }
    RECORDED.write_text(json.dumps(recorded, ensure_ascii=False, indent=None) + "\n", encoding="utf-8")


def compare(theirs: Published, directory: Path, count: int) -> Counter[str]:
    """Texts by what was compared, and those that differ by `… differs`. Japanese texts are of its own letters: of
    others, pykakasi repeats some."""
    english, turbo = read_english(directory), read_turbo(directory)
    ours = {cased: read_multilingual(directory, cased=cased) for cased in (False, True)}
    found: Counter[str] = Counter()

    def same(what: str, wanted: list[int], given: list[int]) -> None:
        found.update([what] if wanted == given else [what, f"{what} differs"])

    random = Random(0)
    for _ in range(count):
        text, sounds = _text(random, RANGES, PIECES), _text(random, RANGES, SOUND_PIECES)
        same("english", theirs.english(text), english.encode(text))
        same("turbo", theirs.turbo(sounds), turbo.encode(sounds))
        japanese = _text(random, JAPANESE_RANGES, ("は", "へ", "東京", "歯", "カタカナ", "ー"))
        for code, each in (*((code, text) for code in LANGUAGES), ("ja", japanese)):
            for cased, tokenizer in ours.items():
                same(code, theirs.multilingual(each, code, cased=cased), tokenizer.encode(each, code))
    return found


def _text(random: Random, ranges: Sequence[tuple[int, int]], pieces: Sequence[str]) -> str:
    def piece() -> str:
        letters = range(random.randint(1, 4))
        first, last = random.choice(ranges)
        return (
            random.choice(pieces)
            if random.random() < 0.3
            else "".join(chr(random.randint(first, last)) for _ in letters)
        )

    return "x" + "".join(piece() for _ in range(random.randint(1, 25)))


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--full", type=int, metavar="TEXTS")
    count = parser.parse_args().full
    with tempfile.TemporaryDirectory() as name:
        theirs = Published(Path(name))
        if count is None:
            record(theirs)
        else:
            print(dict(compare(theirs, Path(name), count)))


if __name__ == "__main__":
    main()
