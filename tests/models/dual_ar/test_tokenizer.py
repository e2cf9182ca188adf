"""Ids of text and of control tokens; text never yields control tokens."""

from __future__ import annotations

import base64
import json
import socket
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from benchmarks import random_checkpoint
from saywell.errors import BadCheckpoint, MissingDependency
from saywell.models.dual_ar.config import Config
from saywell.models.dual_ar.tokenizer import CONTROL, Tokenizer, read_ranks, special_names

BYTES = "".join(f"{base64.b64encode(bytes([each])).decode()} {each}\n" for each in range(256))
SIZES = {**random_checkpoint.TINY, "vocab_size": 512}


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return random_checkpoint.write(tmp_path_factory.mktemp("tokenizer"))


@pytest.fixture(scope="module")
def tokenizer(path: Path) -> Tokenizer:
    return Tokenizer.read(path, Config.read(path))


def written(path: Path, ranks: str = BYTES, specials: object = None, **sizes: object) -> Tokenizer:
    (path / "tokenizer.tiktoken").write_text(ranks)
    if specials is not None:
        (path / "special_tokens.json").write_text(specials if isinstance(specials, str) else json.dumps(specials))
    return Tokenizer.read(path, Config.parse({**SIZES, **sizes}))


def specials(first: int = 256, codes: int = 64) -> dict[str, int]:
    return {name: first + each for each, name in enumerate(special_names(codes))}


def test_every_special_token_in_text_stays_text(tokenizer: Tokenizer) -> None:
    control = set(tokenizer.specials.values())
    assert len(control) == len(CONTROL) + 64
    for name in tokenizer.specials:
        for text in (name, f"say {name} now", name + name, f" {name}\n{name}"):
            ids = tokenizer.encode(text)
            assert control.isdisjoint(ids)
            assert tokenizer.bpe.decode(ids) == text


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.one_of(st.text(max_size=20), st.sampled_from(special_names(64)), st.just("<|speaker:0|>"))))
def test_any_text_stays_text(tokenizer: Tokenizer, parts: list[str]) -> None:
    text = "".join(parts)
    ids = tokenizer.encode(text)
    assert not set(tokenizer.specials.values()) & set(ids)
    assert tokenizer.bpe.decode(ids) == text


@pytest.mark.parametrize(
    ("text", "pieces"),
    [
        ("Hello there", ["Hello", " there"]),
        ("I'll", ["I", "'ll"]),
        ("a1b22", ["a", "1", "b", "2", "2"]),
        ("...", [".", ".", "."]),
        ("a  \n b", ["a", "  \n", " b"]),
        ("x   y", ["x", "   ", "y"]),  # the published pattern has no lookahead: all the spaces are one piece
        ("你好。", ["你好", "。"]),
        ("= +", ["=", " +"]),
    ],
)
def test_split_pattern(tmp_path: Path, text: str, pieces: list[str]) -> None:
    words = sorted({each.encode() for each in pieces if len(each.encode()) > 1})
    # Merges are found pair by pair, so each word needs its prefixes.
    prefixes = sorted({word[:end] for word in words for end in range(2, len(word) + 1)}, key=lambda p: (len(p), p))
    ranks = BYTES + "".join(f"{base64.b64encode(p).decode()} {256 + at}\n" for at, p in enumerate(prefixes))
    bpe = written(tmp_path, ranks).bpe
    assert [bpe.decode([each]) for each in bpe.encode_ordinary(text)] == pieces


def test_special_ids_follow_the_ranks_by_default(tmp_path: Path) -> None:
    found = written(tmp_path)
    assert found.specials == specials()
    assert (found.semantic_begin_id, found.semantic_end_id, found.im_end_id) == (271, 334, 260)


def test_special_tokens_file_sets_the_ids(tmp_path: Path) -> None:
    found = written(tmp_path, specials={**specials(300), "<|speaker:0|>": 299})
    assert found.semantic_begin_id == 315
    assert found.control("<|interleave|>") == 311
    assert found.as_written("<|speaker:0|>") == [299]
    assert 299 not in found.encode("<|speaker:0|>")


def test_unknown_marker_is_encoded_as_text(tokenizer: Tokenizer) -> None:
    assert tokenizer.as_written("<|speaker:0|>") == tokenizer.encode("<|speaker:0|>")


def test_config_may_set_the_ids(tmp_path: Path) -> None:
    few = {name: each for name, each in specials(280).items() if "semantic" not in name}
    found = written(tmp_path, specials=few, semantic_begin_id=400, semantic_end_id=463, im_end_id=280)
    assert (found.semantic_begin_id, found.semantic_end_id, found.im_end_id) == (400, 463, 280)


def test_empty_token_is_skipped(tmp_path: Path) -> None:
    (tmp_path / "ranks").write_text(BYTES + "= 256\n\n")
    assert len(read_ranks(tmp_path / "ranks")) == 256


def test_tokenizer_needs_no_network(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("no connection is needed")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    assert Tokenizer.read(path, Config.read(path)).encode("Hello")


@pytest.mark.parametrize(
    ("ranks", "file", "named"),
    [
        ("SGk=", None, r"tokenizer\.tiktoken: line 1 "),
        (BYTES + "!! 9\n", None, "line 257"),
        (BYTES + "SGk= 3\n", None, "occur twice"),
        (BYTES.split("\n", 1)[1], None, "single byte"),
        (BYTES, "{", r"special_tokens\.json must map"),
        (BYTES, [1], r"special_tokens\.json must map"),
        (BYTES, {"<|im_end|>": "4"}, r"special_tokens\.json must map"),
        (BYTES, {"<|im_end|>": 300}, "semantic:0"),
        (BYTES, {**specials(), "<|im_end|>": 65}, "share an id"),
        (BYTES, {**specials(), "<|semantic:63|>": 500}, "not 64 consecutive"),
        (BYTES, {name: each for name, each in specials().items() if name != "<|im_end|>"}, "im_end"),
        (BYTES, specials(500), "beyond vocab_size 512"),
    ],
)
def test_wrong_files_are_rejected_by_name(tmp_path: Path, ranks: str, file: object, named: str) -> None:
    with pytest.raises(BadCheckpoint, match=named):
        written(tmp_path, ranks, file)


def test_missing_file_is_rejected_by_name(tmp_path: Path) -> None:
    with pytest.raises(BadCheckpoint, match=r"tokenizer\.tiktoken is missing"):
        Tokenizer.read(tmp_path, Config.parse(SIZES))


def test_missing_tiktoken_names_the_extra(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tiktoken", None)
    with pytest.raises(MissingDependency, match=r"needs tiktoken, .*: pip install 'saywell\[dualar\]'"):
        Tokenizer.read(path, Config.read(path))
