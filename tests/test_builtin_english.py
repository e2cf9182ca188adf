from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from saywell.errors import InvalidText
from saywell.models.builtin.english import LONGEST_WORD, plain
from saywell.models.builtin.espeak import bcp47, pace


@pytest.mark.parametrize(
    ("text", "read"),
    [
        ("I told John I would come.", "i told john i would come."),
        ("Sean Penn is here.", "sean penn is here."),
        ("Catholic Mass is held.", "catholic mass is held."),
        ("HI THERE", "hi there"),
        ("The SD card of the US", "the s d card of the u s"),
        ("The PA system", "the p ay system"),
        ("It's OK, he said.", "it's ok, he said."),
        ("Henry VIII had wives.", "henry VIII had wives."),
        ("NASA and IBM", "nasa and ibm"),
        ("Please read this.", "please reed this."),
        ("I have read it.", "i have red it."),
        ("Did he read it?", "did he reed it?"),
        ("Lead the way", "leed the way"),
        ("Wait… what?", "wait, what?"),
        ("And then...", "and then."),
        ("café Müller, Łódź, straße", "cafe muller, lodz, strasse"),
        ("‘Tis “fine” — don’t", "'tis \"fine\" , don't"),
        ("a\x07b\u200bc 日本 d", "a bc d"),
        ("x <b>[[y]]</b>", "x b y /b"),
    ],
)
def test_spelling_flite_cannot_misread(text: str, read: str) -> None:
    assert plain(text) == read


@pytest.mark.parametrize("text", ["", "   ", "!?…", "你好世界", "🙂🙂", "\x00\x01", "«—»"])
def test_nothing_left_is_an_error(text: str) -> None:
    with pytest.raises(InvalidText, match="espeak:<language>"):
        plain(text)


@given(st.text(max_size=400))
def test_always_short_ascii_words(text: str) -> None:
    read = plain(text + " end")
    assert read.isascii()
    assert read.isprintable()
    assert max(map(len, read.split())) <= LONGEST_WORD


@pytest.mark.parametrize(
    ("espeak", "tag"),
    [
        ("de", "de"),
        ("en-us", "en-US"),
        ("en-029", "en-029"),
        ("cmn-latn-pinyin", "cmn-Latn-pinyin"),
        ("en-us-nyc", "en-US-x-nyc"),
        ("en-gb-x-rp", "en-GB-x-rp"),
        ("chr-us-qaaa-x-west", "chr-US-x-qaaa-west"),
    ],
)
def test_language_tags(espeak: str, tag: str) -> None:
    assert bcp47(espeak) == tag


def test_espeak_pace_is_monotonic() -> None:
    paces = [pace(speed / 100) for speed in range(25, 401)]
    assert all(a[0] <= b[0] and a[1] >= b[1] for a, b in pairwise(paces))
    assert pace(1.0) == (175, 0)
