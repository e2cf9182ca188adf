"""Token ids against those of the published package (`tests/reference/chatterbox_text.py`); text is data."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib import util
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("tokenizers")

from benchmarks import random_chatterbox_text
from saywell.errors import BadCheckpoint, InvalidRequest, InvalidText, MissingDependency
from saywell.models.chatterbox import scripts, text
from saywell.models.chatterbox.text import LANGUAGES, Bytes, Graphemes, Multilingual

RECORDED = json.loads((Path(__file__).parent / "recorded_text.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("text")
    for kind in ("english", "multilingual", "turbo"):
        random_chatterbox_text.write_text(path, kind)
    return path


@pytest.fixture(scope="module")
def english(directory: Path) -> Graphemes:
    return text.read_english(directory)


@pytest.fixture(scope="module")
def lower(directory: Path) -> Multilingual:
    return text.read_multilingual(directory, cased=False)


@pytest.fixture(scope="module")
def turbo(directory: Path) -> Bytes:
    return text.read_turbo(directory)


@pytest.mark.parametrize(("written", "spoken", "ids"), RECORDED["english"])
def test_english(english: Graphemes, written: str, spoken: str, ids: list[int]) -> None:
    assert text.normalised(written, "english") == spoken
    assert english.encode(written) == ids


@pytest.mark.parametrize(("code", "written", "ids"), RECORDED["multilingual"])
def test_multilingual(directory: Path, lower: Multilingual, code: str, written: str, ids: list[list[int]]) -> None:
    if code == "ja" and any(map(scripts._is_kanji, written)) and not util.find_spec("pykakasi"):
        pytest.skip("needs pykakasi")
    assert lower.encode(written, code) == ids[0]
    assert text.read_multilingual(directory, cased=True).encode(written, code) == ids[1]


@pytest.mark.parametrize(("written", "spoken", "ids"), RECORDED["turbo"])
def test_turbo(turbo: Bytes, written: str, spoken: str, ids: list[int]) -> None:
    assert text.normalised(written, "turbo") == spoken
    assert turbo.encode(written) == ids


def test_ids_of_control_tokens(english: Graphemes, lower: Multilingual, turbo: Bytes) -> None:
    assert (english.start_id, english.stop_id, english.size) == (255, 0, 704)
    assert (lower.start_id, lower.stop_id, lower.size) == (255, 0, 2454)
    assert turbo.size == random_chatterbox_text.TINY_BYTES
    assert set(LANGUAGES) == {"ar", "da", "de", "el", "en", "es", "fi", "fr", "he", "hi", "it", "ja", "ko", "ms", "nl",
                              "no", "pl", "pt", "ru", "sv", "sw", "tr", "zh"}  # fmt: skip


@pytest.mark.parametrize("name", ["[STOP]", "[START]", "[UNK]", "[SPACE]", "[de]", "[sigh]", "[UH]", "[PLACEHOLDER1]"])
def test_text_of_a_user_is_no_control_token(english: Graphemes, lower: Multilingual, name: str) -> None:
    for tokenizer in (english, lower):
        marked = tokenizer.marked.token_to_id(name)
        assert marked is not None or tokenizer is english
        ids = tokenizer.encode(f"Say {name} now")
        assert marked not in ids or name == "[SPACE]"
        space, spelled = tokenizer.marked.token_to_id("[SPACE]"), len(ids)
        assert ids.count(space) == 2
        assert spelled > len(name)  # spelled out, letter by letter or by pairs


def test_a_language_or_a_cangjie_code_in_chinese_text_is_spelled_out(lower: Multilingual) -> None:
    ids = lower.encode("你 [cj_a] [zh]", "zh")
    assert ids.count(lower.marked.token_to_id("[zh]")) == 1
    assert lower.marked.token_to_id("[cj_a]") not in ids
    assert lower.marked.token_to_id("[cj_o]") in ids


def test_only_sounds_become_tokens_in_turbo(turbo: Bytes) -> None:
    end = turbo.plain.token_to_id("<|endoftext|>")
    assert end is not None
    assert end not in turbo.encode("One <|endoftext|> two")
    assert turbo.sounds["[laugh]"] in turbo.encode("Ha [laugh] ha")
    assert len(turbo.sounds) == len(random_chatterbox_text.SOUNDS)
    assert not set(turbo.sounds.values()) & set(turbo.encode("Ha [LAUGH] [laughs] laugh"))


def test_control_tokens_among_the_added_ones_are_not_sounds(directory: Path, tmp_path: Path) -> None:
    random_chatterbox_text.write_text(tmp_path, "turbo")
    added = {"<|endoftext|>": 7, "[STOP]": 8, "[laugh]": 9}
    (tmp_path / "added_tokens.json").write_text(json.dumps(added))
    assert text.read_turbo(tmp_path).sounds == {"[laugh]": 9}
    (tmp_path / "added_tokens.json").write_text("{}")
    assert text.read_turbo(tmp_path).encode("Hi") == text.read_turbo(directory).encode("Hi")


@pytest.mark.parametrize(
    ("tag", "code"), [("en-US", "en"), ("pt_BR", "pt"), ("NB", "no"), ("zh-Hant", "zh"), ("iw", "he")]
)
def test_language_tags(tag: str, code: str) -> None:
    assert text.language_code(tag) == code


def test_an_unknown_language_names_the_others(lower: Multilingual) -> None:
    with pytest.raises(InvalidRequest, match=r"'tlh'; give one of ar, da,.*zh") as caught:
        lower.encode("Hello", "tlh")
    assert caught.value.param == "language"


@pytest.mark.parametrize("blank", ["", " ", "\n\t"])
def test_blank_text(english: Graphemes, lower: Multilingual, turbo: Bytes, blank: str) -> None:
    for tokenizer in (english, lower, turbo):
        with pytest.raises(InvalidText):
            tokenizer.encode(blank)


@pytest.mark.parametrize(
    ("code", "written", "package"),
    [("ja", "世界", "pykakasi"), ("he", "שלום", "dicta-onnx"), ("ru", "Привет", "russian-text-stresser")],
)
def test_a_missing_package_is_named(
    lower: Multilingual, monkeypatch: pytest.MonkeyPatch, code: str, written: str, package: str
) -> None:
    monkeypatch.setitem(sys.modules, package.replace("-", "_"), None)
    with pytest.raises(MissingDependency, match=package):
        lower.encode(written, code)


def test_packages_that_are_there_are_used(
    lower: Multilingual, directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def module(name: str, **content: Any) -> None:
        made = ModuleType(name)
        vars(made).update(content)
        monkeypatch.setitem(sys.modules, name, made)

    module("russian_text_stresser")
    module(
        "russian_text_stresser.text_stresser",
        RussianTextStresser=lambda: SimpleNamespace(stress_text=lambda given: given.replace("е", "е\u0301")),
    )
    assert lower.encode("привет", "ru") == lower.encode("приве\u0301т", "ru")
    module("dicta_onnx", Dicta=lambda path: SimpleNamespace(add_diacritics=lambda given: f"{given}{Path(path).stem}"))
    with pytest.raises(MissingDependency, match=r"dicta-1\.0\.onnx"):
        scripts.hebrew("של", tmp_path)
    (tmp_path / scripts.DICTA_FILE).touch()
    assert scripts.hebrew("של", tmp_path) == "שלdicta-1.0"
    module("spacy_pkuseg", pkuseg=lambda: SimpleNamespace(cut=lambda given: [given[:2], given[2:]]))
    assert lower.encode("你好世界", "zh") == lower.encode("你好世界", "zh")
    assert lower.marked.token_to_id("[SPACE]") in lower.encode("你好世界", "zh")


def test_chinese_needs_its_table(directory: Path, tmp_path: Path) -> None:
    random_chatterbox_text.write_text(tmp_path, "multilingual")
    (tmp_path / scripts.CANGJIE_FILE).unlink()
    tokenizer = text.read_multilingual(tmp_path, cased=True)
    assert tokenizer.encode("Hello", "en")
    with pytest.raises(BadCheckpoint, match="Cangjie5_TC"):
        tokenizer.encode("你好", "zh")


def test_a_missing_segmenter_is_said_once(
    lower: Multilingual, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(sys.modules, "spacy_pkuseg", None)
    scripts._once.cache_clear()
    assert lower.encode("你好", "zh") == lower.encode("你好", "zh")
    assert [record.getMessage().rpartition(" ")[2] for record in caplog.records] == ["spacy-pkuseg"]


def test_damaged_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(BadCheckpoint, match=r"tokenizer\.json is missing"):
        text.read_english(tmp_path)
    for content in ("", "[]", "{}", '{"model": 1}'):
        (tmp_path / text.ENGLISH_FILE).write_text(content)
        with pytest.raises(BadCheckpoint, match=r"tokenizer\.json"):
            text.read_english(tmp_path)
    random_chatterbox_text.write_text(tmp_path, "turbo")
    (tmp_path / "merges.txt").write_text("a b c\n")
    with pytest.raises(BadCheckpoint, match=r"merges\.txt"):
        text.read_turbo(tmp_path)
    (tmp_path / "merges.txt").write_text("zz qq\n")
    with pytest.raises(BadCheckpoint, match=r"do not fit"):
        text.read_turbo(tmp_path)


def test_planning_needs_no_tokenizers() -> None:
    code = "import sys, saywell.models.chatterbox.text; print({'tokenizers', 'torch'} & sys.modules.keys())"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "set()\n"
