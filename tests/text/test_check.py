"""Checks of a text: rejected texts, messages, and time."""

from __future__ import annotations

import contextlib
import itertools
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from saywell.errors import InvalidText, TooLarge
from saywell.text.check import SPOKEN_SYMBOLS, IncomingText, check, speakable


@pytest.mark.parametrize(
    "text",
    [
        "a",
        "7",
        "½",
        "你好",
        "مرحبا",
        "٣",
        "%",
        "$",
        "Hello\r\n\tthere\x0b\x0c",
        "a\x85b",
        "a\u2028b",
        "👍 ok",
        "ﷺ",
        "é",
        "क",
    ],
)
def test_speakable_texts_pass(text: str) -> None:
    check(text, 100)


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "\n\t \u3000",
        "...",
        "?!",
        "—",
        "👍🎉",
        "🇩🇪",
        "\u200b\u200d\ufeff",
        "\u0301\u0301",
        "___",
        "\u3164",
        "****",
        "=====",
        "\u2800",
    ],
)
def test_texts_without_sound_are_rejected(text: str) -> None:
    with pytest.raises(InvalidText, match="at least one letter or digit") as caught:
        check(text, 100)
    assert caught.value.param == "text"
    assert caught.value.status == 422


@pytest.mark.parametrize(
    ("text", "code", "position"),
    [
        ("ab\x00", "U+0000", 2),
        ("\x1b[31mred", "U+001B", 0),
        ("é\x7f", "U+007F", 1),
        ("你a\x92s", "U+0092", 2),
        ("Â\x9f", "U+009F", 1),
    ],
)
def test_control_character_is_reported_with_its_position(text: str, code: str, position: int) -> None:
    with pytest.raises(InvalidText) as caught:
        check(text, 100)
    assert code in caught.value.message
    assert f"position {position}" in caught.value.message
    assert "remove it" in caught.value.message


@pytest.mark.parametrize(("text", "position"), [("\ud800", 0), ("abc\udfff", 3), ("x\ud83dy", 1)])
def test_half_a_surrogate_pair_is_rejected(text: str, position: int) -> None:
    with pytest.raises(InvalidText, match=f"at position {position};") as caught:
        check(text, 100)
    caught.value.message.encode()


def test_limit_is_inclusive_and_in_the_message() -> None:
    check("a" * 10, 10)
    with pytest.raises(TooLarge, match="11 characters, the limit is 10") as caught:
        check("a" * 11, 10)
    assert (caught.value.status, caught.value.param) == (413, "text")


@pytest.mark.parametrize("text", [None, b"bytes", 5, ["a"], {"a": 1}])
def test_other_types_are_rejected(text: object) -> None:
    with pytest.raises(InvalidText, match="must be a string, not"):
        check(text, 100)  # type: ignore[arg-type]


@pytest.mark.parametrize("symbol", SPOKEN_SYMBOLS)
def test_every_spoken_symbol_is_speakable(symbol: str) -> None:
    assert speakable(f" {symbol} ")


@given(st.text(alphabet=st.characters(codec=None)))
def test_only_documented_errors_are_raised(text: str) -> None:
    try:
        check(text, 50)
    except InvalidText as error:
        refused = "position" in error.message or not speakable(text)
    except TooLarge:
        refused = len(text) > 50
    else:
        refused = speakable(text)
    assert refused


@pytest.mark.parametrize(
    "text", ["a" * 10_000_000, "é" * 5_000_000, " " * 2_500_000 + "a"], ids=["ascii", "latin", "blank"]
)
def test_ten_megabytes_take_under_a_second(text: str) -> None:
    def seconds(limit: int) -> float:
        start = time.process_time()
        with contextlib.suppress(TooLarge):
            check(text, limit)
        return time.process_time() - start

    with pytest.raises(TooLarge):
        check(text, 5000)
    assert min(seconds(5000) for _ in range(3)) < 0.005
    assert seconds(10_000_000) < 1.0  # tens of milliseconds; with a margin for a busy machine


@given(st.text("aé\u0301\x07\ud83c\U0001f389. \n", max_size=12), st.lists(st.integers(0, 12), max_size=4))
def test_pieces_are_rejected_like_the_whole(text: str, places: list[int]) -> None:
    """However it is cut, and with the same message, unless a later piece has another error. Cut surrogate pairs
    are joined."""
    edges = [0, *sorted(min(place, len(text)) for place in places), len(text)]

    def result(pieces: list[str]) -> str:
        incoming, passed = IncomingText(8), ""
        try:
            for piece in pieces:
                passed += incoming.add(piece)
            incoming.finish()
        except (InvalidText, TooLarge) as error:
            return error.message.partition(" in several")[0]
        assert passed == text
        return ""

    whole = result([text])
    cut = result([text[a:b] for a, b in itertools.pairwise(edges)])
    assert (cut == "") == (whole == "")
    several = "characters, the limit is 8" in whole or ("\x07" in text and "\ud83c" in text)
    assert several or cut == whole
