"""The user's own readings: which words they match, what wins, errors that name the line, phones."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from saywell.errors import InvalidRequest, PlanError
from saywell.models.base import find_spec
from saywell.text.ipa import phones
from saywell.text.lexicon import MAX_ENTRIES, Entry, Lexicon
from saywell.text.normalise import explain, speak


def spoken(text: str, own: dict[str, str], language: str = "en") -> str:
    return speak(text, language, own=Lexicon().words("", own)).text


@pytest.mark.parametrize(
    ("own", "text", "read"),
    [
        ({"nginx": "engine x"}, "nginx, Nginx and NGINX's nginxes", "engine x, engine x and engine x's nginxes"),
        ({"US": "United States"}, "US and us", "United States and us"),
        ({"us": "you and me", "US": "United States"}, "US and Us", "United States and you and me"),
        ({"New York": "the city", "New": "old"}, "New York, New Yorkers, New", "the city, old Yorkers, old"),
        ({"C++": "sea plus plus"}, "C++ and C", "sea plus plus and C"),
        ({"5 km": "five clicks"}, "5 km, 15 km", "five clicks, fifteen kilometres"),
        ({"km": "clicks"}, "5 km", "five clicks"),
        ({"Dr.": "Drive"}, "Dr. Smith", "Drive Smith"),
        ({"snake": "x"}, "snake_case snake", "snake case x"),
        ({"nginx": "engine x"}, "**nginx** <b>nginx</b> &amp; `nginx`", "engine x engine x and engine x"),
        ({"caf\u00e9": "coffee house"}, "cafe\u0301", "coffee house"),
        ({"don\u2019t": "do not"}, "Don't!", "do not!"),
    ],
)
def test_a_word_is_read_as_given_and_nothing_else_is(own: dict[str, str], text: str, read: str) -> None:
    assert spoken(text, own) == read


def test_it_holds_in_every_language_and_in_scripts_without_spaces() -> None:
    assert spoken("Wir nutzen nginx.", {"nginx": "Engine X"}, "de") == "Wir nutzen Engine X."
    assert spoken("\u6211\u5728\u6771\u4eac\u3002", {"\u6771\u4eac": "\u5317\u4eac"}, "zh").replace(" ", "") == (
        "\u6211\u5728\u5317\u4eac\u3002"
    )


def test_the_request_wins_over_the_voice_and_the_voice_over_all(tmp_path: Path) -> None:
    file = tmp_path / "own.tsv"
    file.write_text("# mine\nfoo\tfor all\nfoo\tfor heart\theart\nbar\tfor all\n\n", encoding="utf-8")
    lexicon = Lexicon.read(file)
    assert len(lexicon) == 3
    assert speak("foo bar", own=lexicon.words("emma")).text == "for all for all"
    assert speak("foo bar", own=lexicon.words("Heart")).text == "for heart for all"
    assert speak("foo bar", own=lexicon.words("heart", {"foo": "mine"})).text == "mine for all"


def test_tables_with_commas_are_read_too(tmp_path: Path) -> None:
    file = tmp_path / "own.csv"
    file.write_bytes(b'\xef\xbb\xbfnginx, "engine, x"\nSQL,sequel\n')
    assert speak("nginx SQL", own=Lexicon.read(file).words("")).text == "engine, x sequel"


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("foo", "1 columns"),
        ("a\tb\tc\td", "4 columns"),
        ("\tbar", "the word is empty"),
        ("foo\t...", "nothing in the reading can be spoken"),
        ("foo\t/\u0298/", "no phone of English"),
        ("foo\t//", "no phones between the slashes"),
        (f"{'a' * 101}\tb", "101 characters"),
    ],
)
def test_an_error_names_the_file_and_the_line(tmp_path: Path, line: str, why: str) -> None:
    file = tmp_path / "own.tsv"
    file.write_text(f"ok\tfine\n\n{line}\n", encoding="utf-8")
    with pytest.raises(PlanError, match=rf"own\.tsv, line 3: .*{why}"):
        Lexicon.read(file)


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(PlanError, match=r"none\.tsv cannot be read: No such file"):
        Lexicon.read(tmp_path / "none.tsv")
    (tmp_path / "latin.tsv").write_bytes(b"caf\xe9\tx\n")
    with pytest.raises(PlanError, match="not UTF-8"):
        Lexicon.read(tmp_path / "latin.tsv")


def test_a_request_has_a_limit_and_its_errors_name_the_word() -> None:
    with pytest.raises(InvalidRequest, match="one request takes"):
        Lexicon().words("", {str(number): "x" for number in range(MAX_ENTRIES + 1)})
    with pytest.raises(InvalidRequest, match="word 'foo': the reading is empty"):
        Lexicon().words("", {"foo": " "})


@pytest.mark.parametrize(
    ("ipa", "read"),
    [
        ("\u0283\u026a\u02c8v\u0254\u02d0n", "\u0283\u026av\u02c8\u0254n"),
        ("\u02c8d\u0292\u0254\u026a", "\u02a4\u02c8Y"),
        ("\u02c8t\u0283e\u026as", "\u02a7\u02c8As"),
        ("ka\u028a", "kW"),
        ("\u02c8ste\u02cc\u0261o\u028a", "st\u02c8\u025b\u0261\u02ccO"),
    ],
)
def test_ipa_becomes_the_phones_of_the_models(ipa: str, read: str) -> None:
    assert phones(ipa) == read


def test_phones_keep_their_place_in_the_spoken_text() -> None:
    own = Lexicon().words("", {"Siobhan": "/\u0283\u026av\u02c8\u0254n/"})
    found = speak('On 5/3 "Siobhan\'s" **Siobhan** paid $5.', own=own)
    assert [found.text[start:end] for start, end, _ in found.phones] == ["Siobhan", "Siobhan"]
    decided = [each for each in explain("Hi Siobhan", own=own) if each.rule == "lexicon"]
    assert [(each.start, each.end, each.phones) for each in decided] == [(3, 10, "\u0283\u026av\u02c8\u0254n")]


def test_phones_keep_their_place_where_the_text_around_them_is_tidied() -> None:
    own = Lexicon().words("", {"foo !": "/f\u02c8u/", "bar": "/b\u02c8\u0251/"})
    found = speak('a "" ( ) foo !  `` bar', own=own)
    assert [found.text[start:end] for start, end, _ in found.phones] == ["foo!", "bar"]


def test_voices_without_words_of_their_own_share_one_lexicon() -> None:
    """Blends are voices without end."""
    lexicon = Lexicon([(Entry.of("foo", "bar"), ""), (Entry.of("foo", "baz"), "heart")])
    assert lexicon.words("af_a(1)+af_b(2)") is lexicon.words("af_a(1)+af_b(3)") is lexicon.words("")
    assert lexicon.words("heart") is not lexicon.words("")


def test_a_changed_file_is_read_again(tmp_path: Path) -> None:
    file = tmp_path / "own.tsv"
    file.write_text("foo\tbar\n", encoding="utf-8")
    assert Lexicon.read(file) is Lexicon.read(file)
    file.write_text("foo\tbar\nbaz\tx\n", encoding="utf-8")
    assert len(Lexicon.read(file)) == 2


def test_a_model_without_phones_says_so(tmp_path: Path) -> None:
    file = tmp_path / "own.tsv"
    file.write_text("foo\t/fu\u02d0/\n", encoding="utf-8")
    with pytest.raises(PlanError, match="espeak takes no phones"):
        Lexicon.of(file, find_spec("espeak"))
    assert len(Lexicon.of(file, find_spec("hibari"))) == 1


def test_thousands_of_words_cost_little_and_hostile_text_stays_linear() -> None:
    lexicon = Lexicon((Entry.of(f"word{number}", "x"), "") for number in range(20_000))
    times = []
    for count in (2_000, 8_000):
        began = time.process_time()
        speak("word7 other " * count, own=lexicon.words(""))
        times.append(time.process_time() - began)
    assert times[1] < 10 * times[0]
