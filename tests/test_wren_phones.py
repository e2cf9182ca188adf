"""The symbol table of the wren voice."""

from __future__ import annotations

import pytest

from saywell.models.wren.phones import CONSONANTS, IDS, PAUSES, START, SYMBOLS, VOWELS, WORD, check, encode

HELLO = ["^", "hh", "ax0", "l", "ow1", ",", "dh", "ih1", "s", "_", "ih1", "z", "_", "t", "eh1", "s", "t", "."]


def test_ids_are_the_places_in_the_table_and_fixed() -> None:
    assert [IDS[symbol] for symbol in SYMBOLS] == list(range(len(SYMBOLS)))
    # Weights are trained on these numbers: the order may never change.
    fixed = ("", START, WORD, ".", "b", "zh", "aa0", "uw1")
    assert [IDS[symbol] for symbol in fixed] == [0, 1, 2, 4, 7, 30, 31, 62]
    assert len(SYMBOLS) == 1 + 2 + len(PAUSES) + len(CONSONANTS) + 2 * len(VOWELS) == 63


def test_an_utterance_of_the_convention_passes() -> None:
    check(HELLO)
    assert encode(HELLO)[:3] == [1, IDS["hh"], IDS["ax0"]]


@pytest.mark.parametrize(
    "symbols",
    [
        HELLO[1:],
        HELLO[:-1],
        ["^", "_", "."],
        ["^", "hh", "_", ",", "hh", "."],
        ["^", "hh", "ax", "."],
        ["^", "hh", "^", "."],
        [],
    ],
)
def test_what_is_not_an_utterance_is_refused(symbols: list[str]) -> None:
    with pytest.raises(ValueError, match=r"utterance|marks|symbols"):
        check(symbols)
