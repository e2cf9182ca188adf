"""Finding eSpeak NG, language tags, speaking rate."""

from __future__ import annotations

import sys
from itertools import pairwise
from pathlib import Path

import pytest

from saywell.models.espeak import binding, locate
from saywell.models.espeak.binding import bcp47, pace


@pytest.mark.skipif(sys.platform != "linux", reason="names and places of Linux")
def test_system_library_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(locate, "PLACES", (str(tmp_path),))
    monkeypatch.setattr(binding, "find_spec", lambda _name: None)
    assert not binding.installed()
    assert binding.voices() == []
    library = tmp_path / "libespeak-ng.so.1"
    library.touch()
    assert locate.system_library() == str(library)
    assert binding.installed()


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
