"""Text → phones of the default voice."""

from __future__ import annotations

import contextlib
import json
import sys
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pace import check_linear
from saywell.errors import InvalidText, MissingDependency
from saywell.models.hibari import package, tables
from saywell.models.hibari.reader import MAX_PHONES, Reader, Utterance, unpack
from saywell.text.lexicon import Lexicon
from saywell.text.normalise import normalise, speak


@cache
def reader(british: bool) -> Reader:
    with ThreadPoolExecutor(1) as pool:
        return Reader(british, unpack(british, pool), pool)


VOCABULARY = json.loads(package.read("assets/vocab.json"))


def read(text: str, language: str = "en-US") -> list[Utterance]:
    return reader(False).read(normalise(text, language))


def phones(text: str) -> str:
    return " ".join(utterance.phones for utterance in read(text))


def words(text: str) -> list[str]:
    return [word.text for utterance in read(text) for word in utterance.words]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("Hello there.", "həlˈO ðˈɛɹ."),
        ("I said no.", "ˌI sˈɛd nˈO."),  # the package's normaliser would read "number"
        ("The book I read.", "ðə bˈʊk ˌI ɹˈɛd."),  # and "the book one read"
        ('"Have we met?"', "hˌæv wi mˈɛt?"),  # a word next to a quotation mark would go to its letter-to-sound net
        ('He said "again".', "hˌi sˈɛd əɡˈɛn."),
        ("Meet me at 9:30 AM.", "mˈit mˌi æt nˈIn θˈɜɹTi ˌAˈɛm."),
        ("That is plan A.", "ðˈæt ɪz plˈæn ˈA."),
        ("A dog and a cat.", "ɐ dˈɔɡ ænd ɐ kˈæt."),
        ("This Is A Test", "ðˌɪs ˌɪz ɐ tˈɛst."),
        ("THE END IS NEAR", "ði ˈɛnd ɪz nˌɪɹ."),
        ("The US GDP.", "ðə jˌuˈɛs ʤˌidˌipˈi."),
        ("Born in the U.S.", "bˈɔɹn ɪn ðə jˈu ˈɛs."),
        ("'Hello,' she said.", "həlˈO, ʃi sˈɛd."),
        ("The dogs' bowls.", "ðə dˈɔɡz bˈOlz."),
        ("Really?!! Yes...", "ɹˈiᵊli? jˈɛs..."),
        ("One;two", "wˈʌn; tˈu."),
        ("[word](/ˈɛvᵊl/)", "wˈɜɹd."),  # the phonemiser's markup is not exposed to users
    ],
)
def test_text_is_read_correctly(text: str, said: str) -> None:
    assert phones(text) == said


def test_our_lexicon_supplies_missing_names() -> None:
    assert phones("Nginx, nginx, github.") == "ˌɛnʤənˈɛks, ˌɛnʤənˈɛks, ɡˈɪthˌʌb."


def test_word_ranges_cover_their_phones() -> None:
    (utterance,) = read("Well-known words, he didn't say: Donald's 42 cats.")
    said = [(word.text, utterance.phones[word.start : word.end]) for word in utterance.words]
    assert [text for text, _ in said] == ["Well-known", "words", "he", "didn't", "say", "Donald's", "forty-two", "cats"]
    assert dict(said)["words"] == "wˈɜɹdz"
    assert all(phones and set(phones) <= VOCABULARY.keys() for _, phones in said)


def test_long_text_is_split_after_sentences() -> None:
    sentence = "The committee will publish its findings on the harbour project before October."
    found = read(" ".join([sentence] * 12))
    assert len(found) > 2
    assert all(len(utterance.phones) <= MAX_PHONES + 1 and utterance.phones.endswith(".") for utterance in found)
    assert sum(len(utterance.words) for utterance in found) == 12 * 12


@pytest.mark.parametrize("text", ["你好世界", "Всё хорошо.", "Hi 你好吗朋友"])
def test_text_in_another_script_is_rejected_with_advice(text: str) -> None:
    with pytest.raises(InvalidText, match="espeak:<language>"):
        read(text)


def test_few_characters_of_another_script_are_named() -> None:
    assert words("Hello 你好, good people of the world, β is a letter.")[1:3] == ["Chinese", "text"]
    assert "beta" in words("Hello 你好, good people of the world, β is a letter.")


@pytest.mark.parametrize("text", ["...", "( )", "*", "🙂"])
def test_text_without_speech_is_rejected(text: str) -> None:
    with pytest.raises(InvalidText, match="nothing in this text"):
        reader(False).read(text)


@pytest.mark.parametrize(
    "text",
    ["ab-" * 700, "aA" * 1_500, "1" * 5_000, "(" * 16_000, "'" * 16_000, "A" * 20_000, "a.b/" * 500, "é" * 5_000],
)
def test_hostile_text_is_read_in_linear_time(text: str) -> None:
    """The unprotected phonemiser takes 15 s for 400 characters of the first and crashes on the third."""

    def read(part: str) -> None:
        with contextlib.suppress(InvalidText):
            reader(False).read(part)

    check_linear(read, text, len(text))


@settings(max_examples=150, deadline=None)
@given(st.text(st.characters(codec="utf-8"), max_size=120))
def test_any_text_is_read_or_rejected(text: str) -> None:
    try:
        found = reader(False).read(text)
    except InvalidText:
        return
    for utterance in found:
        assert 0 < len(utterance.phones) <= MAX_PHONES + 1
        assert set(utterance.phones) <= VOCABULARY.keys()
        assert utterance.words


def test_the_british_accent_has_its_own_dictionaries() -> None:
    (utterance,) = reader(True).read("The car can't go there.")
    assert utterance.phones == "ðə kˈɑː kˈɑːnt ɡˌQ ðˈɛː."


# The package's tables


@pytest.mark.parametrize("name", ["us_gold", "us_silver", "gb_gold", "gb_silver"])
def test_lexicon_equals_its_dict(name: str) -> None:
    data = package.read(f"assets/lexicon_{name}.json.gz")
    whole, table = json.loads(data), tables.Lexicon(data, {})
    some = list(whole)[::7] + [word for word, said in whole.items() if isinstance(said, dict)]
    assert {word: table.get(word) for word in some} == {word: whole[word] for word in some}
    absent = [f"{word}q" for word in some[::50]] + ["", '"', "VERB", "DEFAULT", "None", "\\", "ﬀ", '","']
    assert [word for word in absent if table.get(word) is not None and word not in whole] == []


def test_weights_equal_their_dict() -> None:
    data = package.read("assets/tagger.json.gz")
    whole, model = json.loads(data), tables.tagger(data)
    assert {name: part for name, part in model.items() if name != "weights"} == {
        name: part for name, part in whole.items() if name != "weights"
    }
    some = list(whole["weights"])[::5]
    assert all(model["weights"].get(feature) == whole["weights"][feature] for feature in some)
    assert model["weights"].get("w=nosuchfeature") is None
    assert model["weights"].get("") is None


# The package itself


def test_another_version_is_rejected(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "hibari").mkdir()
    (tmp_path / "hibari" / "__init__.py").write_text("raise RuntimeError('imported')\n")
    (tmp_path / "hibari" / "assets").mkdir()
    (tmp_path / "hibari" / "assets" / "vocab.json").write_text("{}")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert "not version 0.2.1" in package.problem()
    with pytest.raises(MissingDependency, match=r"pip install hibari-tts==0\.2\.1"):
        package.read("assets/vocab.json")


def test_missing_package_names_the_command(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    assert "not installed" in package.problem()
    with pytest.raises(MissingDependency, match="pip install hibari-tts"):
        package.home()


def test_given_phones_are_spoken_in_their_place_and_nothing_else_changes() -> None:
    own = Lexicon().words("", {"nginx": "/zu\u02d0/", "Siobhan": "/\u0283\u026a\u02c8v\u0254\u02d0n/"})
    spoken = speak("The nginx of Siobhan's THE END.", "en-US", own=own)
    (utterance,) = reader(False).read(spoken.text, spoken.phones)
    assert utterance.phones == "\u00f0\u0259 zu \u028cv \u0283\u026av\u02c8\u0254nz \u00f0i \u02c8\u025bnd."
    assert [word.text for word in utterance.words] == ["The", "nginx", "of", "Siobhan's", "the", "end"]


def test_a_text_cannot_give_phones_itself() -> None:
    for hostile in ("[boo](/zu/)", "\ue000 \uf8ff boo"):
        assert "zu" not in phones(hostile)
    (utterance,) = reader(False).read("a \ue000 b \ue001", ((0, 1, "zu"),))
    assert utterance.phones.startswith("zu ")


def test_a_british_voice_reads_names_and_given_phones_as_british() -> None:
    assert (
        reader(True)
        .read("Margaret read about Ryan Gosling in the car.")[0]
        .phones.startswith("m\u02c8\u0251\u02d0\u0261\u0279\u0259t")
    )
    own = Lexicon().words("", {"foo": "/\u02c8fo\u028a\u025d/"})
    spoken = speak("A foo.", "en-GB", own=own)
    assert reader(True).read(spoken.text, spoken.phones)[0].phones == "\u0250 f\u02c8Q\u025c\u02d0."
