"""Splitting: chunks join to the text, limits, independence of how it is fed, natural cuts, linear time."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from collections import deque
from collections.abc import Iterator
from itertools import pairwise

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pace import check_linear
from saywell.text.check import SPEAKABLE, speakable
from saywell.text.split import Splitter

PROSE = (
    'Dr. Smith paid $3.14 to J. R. Tolkien at 9 a.m. today. He said "Stop. Now." and left (quickly!). See e.g. '
    "example.com for 1,000 things. Yes. No. Maybe. I don't know, really, but we might as well try it.\n\n"
    "The U.S. Army grew. “What?” he said. 你好，今天天气很好。我们去公园吧！ هل أنت بخير؟ نعم۔ क्या हाल है। ठीक।\n"
    "- one\n- two\n\n1. First this. 2. Then that… 🎉 Done — or so I thought — at last. #end"
)

PARTS = st.sampled_from(
    [
        *"aZ9.,;:!?…—-–'\"()[]“”。、，！？؟ \n\t\r\u00a0\u0301\u200d🎉好กि_*/@",
        ". ",
        "\n\n",
        "Dr. ",
        "U.S. ",
        "and ",
        "1,000 ",
        "word ",
    ]
)
TEXTS = st.one_of(st.lists(PARTS, max_size=120).map("".join), st.text(max_size=80))
LIMITS = st.integers(1, 60)


def fed(pieces: list[str], first: int, rest: int) -> list[str]:
    splitter, found = Splitter(first, rest), []
    for piece in pieces:
        splitter.feed(piece)
        found += taken(splitter)
    splitter.finish()
    return found + list(taken(splitter))


def taken(splitter: Splitter) -> Iterator[str]:
    return iter(splitter.take, None)


def chunks(text: str, first: int, rest: int) -> Iterator[str]:
    splitter = Splitter(first, rest)
    splitter.feed(text)
    splitter.finish()
    return taken(splitter)


def cut(text: str, places: list[int]) -> list[str]:
    edges = [0, *sorted(place % (len(text) + 1) for place in places), len(text)]
    return [text[a:b] for a, b in pairwise(edges)]


@settings(max_examples=600, deadline=None)
@given(TEXTS, LIMITS, LIMITS)
@example("Hello" + " " * 300 + "you", 20, 40)
@example("x" * 50 + "!!", 10, 10)
def test_chunks_join_to_the_text_and_keep_the_limits(text: str, first: int, rest: int) -> None:
    found = list(chunks(text, first, rest))
    assert "".join(found) == text
    assert all(found)
    assert all(len(chunk) <= (rest if index else max(first, rest)) for index, chunk in enumerate(found))


@settings(max_examples=600, deadline=None)
@given(TEXTS, LIMITS, LIMITS, st.lists(st.integers(0, 10_000), max_size=20))
def test_chunks_do_not_depend_on_how_the_text_is_fed(text: str, first: int, rest: int, places: list[int]) -> None:
    whole = fed([text], first, rest)
    assert fed(list(text), first, rest) == whole
    assert fed(cut(text, places), first, rest) == whole
    assert list(chunks(text, first, rest)) == whole


@settings(max_examples=600, deadline=None)
@given(TEXTS, st.integers(8, 60), st.integers(8, 60))
def test_chunks_are_speakable_unless_filled_by_silence(text: str, first: int, rest: int) -> None:
    found = list(chunks(text, first, rest))
    longest = max(map(len, re.split(SPEAKABLE, text)))
    if speakable(text) and longest < min(first, rest) // 4:
        assert all(map(speakable, found)), found


@pytest.mark.parametrize(("first", "rest"), [(20, 40), (60, 120), (80, 300), (300, 300), (200, 50)])
def test_prose_fed_by_the_character(first: int, rest: int) -> None:
    whole = list(chunks(PROSE, first, rest))
    assert fed(list(PROSE), first, rest) == whole
    assert "".join(whole) == PROSE
    assert all(map(speakable, whole))


# ruff: noqa: E501
CASES = [
    # Sentences with their closing marks.
    (
        'He said "Stop now." And he left. She stayed at home alone.',
        ['He said "Stop now." ', "And he left. She stayed at home alone."],
    ),
    (
        'He said "No!" and left. She stayed at home all alone.',
        ['He said "No!" and left. ', "She stayed at home all alone."],
    ),
    ("(It was late at night.) Nobody came to the door.", ["(It was late at night.) ", "Nobody came to the door."]),
    (
        "“What is that noise?” he said. “Nothing at all, my dear.”",
        ["“What is that noise?” he said. ", "“Nothing at all, my dear.”"],
    ),
    (
        "Was it really so late?! Yes it was, my dear friend.",
        ["Was it really so late?! ", "Yes it was, my dear friend."],
    ),
    ("She left the building… Nobody ever saw her again.", ["She left the building… ", "Nobody ever saw her again."]),
    ("She left the building... and nobody saw her again.", ["She left the building... and nobody saw her again."]),
    # Full stops that do not end a sentence.
    (
        "We met Dr. Smith and Mrs. Jones at St. Mary's hospital.",
        ["We met Dr. Smith and Mrs. Jones at St. Mary's hospital."],
    ),
    (
        "It was written by J. R. R. Tolkien and C. S. Lewis then.",
        ["It was written by J. R. R. Tolkien and C. S. Lewis then."],
    ),
    (
        "The U.S. Army is big, e.g. bigger than No. 5 of Jan. 3 was.",
        ["The U.S. Army is big, e.g. bigger than No. 5 of Jan. 3 was."],
    ),
    ("He was born in the U.S. The war began soon after.", ["He was born in the U.S. ", "The war began soon after."]),
    (
        "We make a good team, you and I. Did you see Albert I. Jones?",
        ["We make a good team, you and I. ", "Did you see Albert I. Jones?"],
    ),
    (
        "It costs 3.14 or 1,000.50 at 9:30 on http://a.b/c.d?e.f now.",
        ["It costs 3.14 or 1,000.50 at 9:30 on http://a.b/c.d?e.f now."],
    ),
    (
        "Mail me@example.com. Or visit www.example.com. Thank you.",
        ["Mail me@example.com. ", "Or visit www.example.com. ", "Thank you."],
    ),
    (
        "1. Take the bread out of it. 2. Put the butter on it.",
        ["1. Take the bread out of it. ", "2. Put the butter on it."],
    ),
    # Paragraphs.
    ("Title\n\nBody of the text.", ["Title\n\n", "Body of the text."]),
    ("Title\r\n\r\nBody of the text.", ["Title\r\n\r\n", "Body of the text."]),
    # Short sentences stay together.
    ("Yes. No. Maybe. I do not know.", ["Yes. No. Maybe. ", "I do not know."]),
    ("No.", ["No."]),
    # Unspeakable parts join their neighbour.
    ("... Hello there, my friends. 🎉 🎉", ["... Hello there, my friends. 🎉 🎉"]),
    ("Hello there, my dear friends. \n\n *** \n\n", ["Hello there, my dear friends. \n\n *** \n\n"]),
    ("  \n Hello.", ["  \n Hello."]),
    ("!!!", ["!!!"]),
    ("", []),
    # Other scripts.
    ("你好，今天天气真的很好很好。我们去公园吧！", ["你好，今天天气真的很好很好。我们去公园吧！"]),
    ("هل أنت بخير يا صديقي؟ نعم أنا بخير شكرا.", ["هل أنت بخير يا صديقي؟ ", "نعم أنا بخير شكرا."]),
    ("क्या हाल है मेरे दोस्त। सब ठीक है यहाँ।", ["क्या हाल है मेरे दोस्त। ", "सब ठीक है यहाँ।"]),
]


@pytest.mark.parametrize(("text", "expected"), CASES, ids=range(len(CASES)))
def test_natural_cuts(text: str, expected: list[str]) -> None:
    assert list(chunks(text, 60, 60)) == expected


def test_wide_enders_need_no_space() -> None:
    assert list(chunks("今天天气很好。我们去「公园吧！」好。他说", 20, 20)) == [
        "今天天气很好。",
        "我们去「公园吧！」",
        "好。他说",
    ]


FIRST = [
    (
        "Hello! I am Saywell, the speaking machine, and I am glad to meet you.",
        60,
        "Hello! I am Saywell, the speaking machine, ",
    ),
    (
        "However, the quick brown fox jumped over dogs and then it went home again over the hills.",
        50,
        "However, the quick brown fox jumped over dogs ",
    ),
    ("The number 1,000,000 is rather large; larger than most of them.", 50, "The number 1,000,000 is rather large; "),
    (
        "The long way round — the one by the river — is the better one by far.",
        50,
        "The long way round — the one by the river — ",
    ),
    # A sentence that ends soon is not cut, nor one without a place to pause.
    (
        "It stands in the garden of the house in which Dr. Smith lives. He is old.",
        51,
        "It stands in the garden of the house in which Dr. Smith lives. ",
    ),
    (
        "They came together in the afternoon of the 21 November 2026 for tea, cake, a long talk.",
        30,
        "They came together in the afternoon of the 21 November 2026 for tea, ",
    ),
]


@pytest.mark.parametrize(("text", "first", "expected"), FIRST)
def test_first_chunk_ends_at_a_natural_pause(text: str, first: int, expected: str) -> None:
    assert next(chunks(text, first, 200)) == expected


def test_chunk_is_available_as_soon_as_it_is_certain() -> None:
    splitter = Splitter(60, 200)
    early = "The weather is fine today. "
    for letter in early + "W":  # the next word is not known yet, but the full stop is unambiguous
        splitter.feed(letter)
        assert splitter.take() is None
    splitter.feed("e ")
    assert list(taken(splitter)) == [early]
    splitter.finish()
    assert list(taken(splitter)) == ["We "]


def test_chunks_are_lazy() -> None:
    text = "One fine sentence for the beginning. " * 1_000_000
    start = time.process_time()
    assert next(chunks(text, 60, 200))
    assert time.process_time() - start < 1.0


def test_characters_and_numbers_are_not_cut_without_spaces() -> None:
    assert "".join(list(chunks("e\u0301" * 40, 11, 11))[:2]) == "e\u0301" * 10
    assert all(chunk[0] != "\u0301" for chunk in chunks("e\u0301" * 40, 11, 11))
    assert next(chunks("我们有一千二百块钱1,000,000块", 14, 14)) == "我们有一千二百块钱"
    assert all(chunk[0] not in "\u200d\ufe0f" for chunk in chunks("好👩\u200d👩\u200d👧" * 30, 16, 16))


def test_limits_below_one_and_text_after_the_end_are_rejected() -> None:
    with pytest.raises(ValueError, match="at least 1"):
        Splitter(0, 5)
    splitter = Splitter(5, 5)
    splitter.finish()
    with pytest.raises(ValueError, match="finished"):
        splitter.feed("a")


HOSTILE = {
    "abbreviations": "a.", "spaced stops": ". ", "stops": ".", "zalgo": "a" + "\u0301\u0323\u0489" * 20, "brackets": "(",
    "closers": ")", "one word": "x", "spaces": " ", "lines": "\n", "quotes": "\"' ", "initials": "A. ", "etc": "etc. ",
    "dashes": " - ", "cjk": "好", "cjk stops": "好。", "astral": "👩\u200d", "digits": "9", "commas": "1,", "prose": PROSE,
}  # fmt: skip


@pytest.mark.parametrize("unit", HOSTILE.values(), ids=HOSTILE)
def test_time_is_linear(unit: str) -> None:
    assert check_linear(lambda text: deque(chunks(text, 80, 300), 0), unit, 40_000) < 1.0  # 0.1 s on an idle machine


def test_megabyte_without_a_space() -> None:
    start = time.process_time()
    assert sum(map(len, fed(["x" * 1_000_000], 80, 300))) == 1_000_000
    assert time.process_time() - start < 5


def test_import_is_fast() -> None:
    script = (
        "import re, dataclasses, enum, unicodedata, time; s = time.process_time(); import saywell.text.split; "
        "print(time.process_time() - s); import sys; assert 'numpy' not in sys.modules; assert 'num2words' not in sys.modules"
    )
    runs = [
        subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True) for _ in range(3)
    ]
    assert min(float(run.stdout) for run in runs) < 0.06  # about 6 ms on an idle machine


def test_tags_and_links_are_not_cut() -> None:
    text = (
        'See [this. Very long text](https://a.org/b?c=1, 2) and <a title="One. Two. Three">the link</a> now. Then more.'
    )
    splitter = Splitter(60, 60)
    splitter.feed(text)
    splitter.finish()
    chunks = list(iter(splitter.take, None))
    assert "".join(chunks) == text
    assert all(chunk.count("<a") == chunk.count('">') and chunk.count("[") == chunk.count("](") for chunk in chunks)
