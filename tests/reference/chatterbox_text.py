"""Token ids that the published package chatterbox-tts 0.1.7 gives texts, with stand-ins of the vocabularies.

    PYTHONPATH=src:. python tests/reference/chatterbox_text.py    records tests/models/chatterbox/recorded_text.json

Needs chatterbox-tts. The tests do not.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path

from chatterbox import mtl_tts, tts, tts_turbo
from chatterbox.models.tokenizers import tokenizer as published
from transformers import AutoTokenizer

from benchmarks import random_chatterbox
from saywell.models.chatterbox.scripts import CANGJIE_FILE

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


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        for kind in ("english", "multilingual", "turbo"):
            random_chatterbox.write_text(directory, kind)
        # The package asks the hub for this file.
        published.hf_hub_download = lambda **_: shutil.copy(directory / CANGJIE_FILE, directory / "copy.json")
        english = published.EnTokenizer(str(directory / "tokenizer.json"))
        multilingual = published.MTLTokenizer(str(directory / "grapheme_mtl_merged_expanded_v1.json"))
        (directory / "tokenizer.json").unlink()
        turbo = AutoTokenizer.from_pretrained(directory)
        recorded = {
            "english": [(text, tts.punc_norm(text), english.encode(tts.punc_norm(text))) for text in ENGLISH],
            "multilingual": [
                (code, text, [multilingual.encode(mtl_tts.punc_norm(text), code, lower) for lower in (True, False)])
                for code, text in MULTILINGUAL
            ],
            "turbo": [
                (text, tts_turbo.punc_norm(text), turbo(tts_turbo.punc_norm(text), truncation=True).input_ids)
                for text in TURBO
            ],
        }
    RECORDED.write_text(json.dumps(recorded, ensure_ascii=False, indent=None) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
