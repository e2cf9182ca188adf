"""Text to phones: as Flite says it where Flite is right, and never a crash or an endless answer."""

from __future__ import annotations

import random
import string
import subprocess
import time

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from saywell.errors import InvalidText
from saywell.models.builtin.english import plain
from saywell.models.wren.lexicon import lexicon
from saywell.models.wren.phones import PAUSES, WORD, check
from saywell.models.wren.reader import read
from saywell.text.check import speakable
from saywell.text.normalise import normalise
from training.letters import extract


@pytest.fixture(scope="module")
def flite() -> extract.Flite:
    return extract.Flite()


def said(text: str) -> str:
    return " ".join(read(text).symbols[1:])


def test_every_word_sounds_as_flite_says_it(flite: extract.Flite) -> None:
    """All of the lexicon's kinds: exceptions, homographs, words left to the letters, and letters that are no word."""
    chance = random.Random(5)
    corrected = {line.split("\t")[0] for line in extract.CORRECTIONS.read_text().splitlines()}
    listed = [word for word in extract.WORDS.read_text().lower().split() if word.isascii() and word.isalpha()]
    noise = ["".join(chance.choices(string.ascii_lowercase, k=chance.randint(1, 14))) for _ in range(300)]
    known = lexicon()
    for word in {*chance.sample(sorted(set(listed)), 2000), *noise, "live", "record", "minute"} - corrected:
        assert known.pronounceable(word) == flite.pronounceable(word), word
        for part in "0nvj":
            assert list(known.pronounce(word, part)) == flite.pronounce(word, part), (word, part)


@pytest.mark.parametrize(
    "text",
    [
        "The owl's nest is the only one, said Anna's brother; it'll fall.",
        "They live in a house with live music, and use the record of use to record it.",
        "Did he read it? I have read the judges' lead, and James's horses'll lead.",
        "Zyxqvbn met Dmitri Kowalczyk near Llanelli at the time of the eclipse.",
        "Two thousand and twenty-six was a good year; was it? Yes!",
        "An hour with the X-ray machine: a b c, and a well-known xkcd.",
    ],
)
def test_sentences_as_flite_pronounces_them(text: str) -> None:
    """Phones and pauses; Flite takes every apostrophe after a word for a quote, so it pauses after a plural's."""
    command = ["flite", "-voice", "rms", "-ps", "-t", plain(text), "-o", "none"]
    theirs = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    theirs = theirs.replace("jh ah jh ih z pau", "jh ah jh ih z").removeprefix("pau ")
    ours = ["pau" if symbol in PAUSES else symbol.rstrip("01") for symbol in read(text).symbols[1:] if symbol != WORD]
    assert " ".join(ours) == theirs.strip()


@pytest.mark.parametrize(
    ("text", "phones"),
    [
        ("Hello.", "hh ax0 l ow1 ."),
        ("The IBM's API", "dh iy0 _ ay1 b iy1 eh1 m z _ ey0 p iy1 ay1 ."),
        ("NASA and the US", "n ae1 s ax0 _ ae1 n d _ dh ax0 _ y uw1 eh1 s ."),
        ("HELP US NOW", "hh eh1 l p _ ah1 s _ n aw1 ."),
        ("vitamin A is a", "v ay1 t ax0 m ax0 n _ ey0 _ ih1 z _ ey0 ."),
        ("two GPUs", "t uw1 _ jh iy1 p iy1 y uw1 z ."),
        ("isn't", "ih1 z ax0 n t ."),
        ("camelCase", "k ae1 m ax0 l _ k ey1 s ."),
        ("naïve", "n ay1 iy1 v ."),
        ("sooooo", "s uw1 ."),
        ("hmmmm", "hh ah1 m ."),
        ("α 你好 go go", "ae1 l f ax0 _ ch ay0 n iy1 z _ t eh1 k s t _ g ow1 _ g ow1 ."),
        ('dogs\' "yes" (or) no?', "d aa1 g z _ y eh1 s , ao1 r , n ow1 ?"),
        ("well — so... go", "w eh1 l , s ow1 , g ow1 ."),
        ("42", "f ao1 r t iy0 _ t uw1 ."),
    ],
)
def test_reading(text: str, phones: str) -> None:
    assert said(text) == phones


def test_words_say_where_their_phones_are() -> None:
    spoken = read("The owl's nest, IBM!")
    cut = {word.text: " ".join(spoken.symbols[word.start : word.end]) for word in spoken.words}
    assert cut == {"The": "dh iy0", "owl's": "aw1 l z", "nest": "n eh1 s t", "IBM": "ay1 b iy1 eh1 m"}


@pytest.mark.parametrize("text", ["你好世界", "Привет, как дела?", "؟ !", "***"])
def test_what_is_not_in_latin_letters_is_refused_with_a_way_out(text: str) -> None:
    with pytest.raises(InvalidText, match="espeak:<language>"):
        read(text)


@given(st.text(max_size=300))
@example("pneumonoultramicroscopic" * 12)
@example("w" * 300)
@example("https://a.b/c?d=e&f=%20#g if(x[i]>=0){return f'{y}';} // ''''\"\"\"")
@example("'''s 's'd've")
@example("a'b'c'd's's's's")
def test_any_text_becomes_one_utterance_or_is_refused(text: str) -> None:
    for form in (text, normalise(text)):
        try:
            spoken = read(form)
        except InvalidText:
            continue
        check(spoken.symbols)
        assert speakable(form)
        assert [(word.start, word.end) for word in spoken.words] == sorted((w.start, w.end) for w in spoken.words)


@pytest.mark.parametrize("piece", ["w", "aAbB", "'s", "a ", "b'", "é你", "x-", "(((", "IBM's "])
def test_time_and_length_grow_with_the_text_and_no_faster(piece: str) -> None:
    begun = time.perf_counter()
    spoken = read((piece * 4000)[:8000] + " end of it all, and a good deal more of plain Latin letters" * 130)
    assert time.perf_counter() - begun < 5
    assert len(spoken.symbols) < 8000 * 9 + 130 * 60
