"""A reference is encoded once; a named voice loads as it was saved or raises an error with the reason."""

from __future__ import annotations

import base64
import errno
import logging
import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from filelock import FileLock

from damage import damaged, flipped
from saywell.errors import (
    AlreadyExists,
    InvalidRequest,
    InvalidText,
    StorageFailure,
    TooLarge,
    Unavailable,
    UnknownVoice,
)
from saywell.types import Reference, VoiceState
from saywell.voices import store as voices_module
from saywell.voices.store import VoiceStore, check, is_id

RATE = 8_000
MODEL, OTHER = "a" * 64, "b" * 64
BAD_IDS = [
    "", "default", "con", "nul", "com1", "lpt9", "CON", "Anna", "anna.", "anna ", " anna", "anna\n", "anna\0", "\0",
    ".", "..", "../anna", "..\\anna", "/etc/passwd", "a/b", "a\\b", "%2e%2e", "anna.safetensors", "C:anna", "~",
    "-anna", "_anna", "a" * 65, "a" * 4096, "ännä", "ａnna", "a∕b", "anna\u202e", "cache/x", ".lock", "$HOME", "*",
    "a;b", "\ud800",
]  # fmt: skip


def reference(seed: int = 0, transcript: str = "How are you?", seconds: float = 2.0, rate: int = RATE) -> Reference:
    samples = np.random.default_rng(seed).normal(0, 0.1, int(seconds * rate)).astype(np.float32)
    return Reference(pcm=samples.tobytes(), sample_rate=rate, transcript=transcript)


def of(samples: np.ndarray, rate: int = RATE) -> Reference:
    return Reference(pcm=samples.astype(np.float32).tobytes(), sample_rate=rate)


def state(seed: int = 0, transcript: str = "", frames: int = 40) -> VoiceState:
    return VoiceState.of(
        {"codes": np.random.default_rng(seed).integers(0, 1024, (10, frames))}, {"transcript": transcript}
    )


class Encoder:
    """Counts its calls. The state depends on the reference alone."""

    def __init__(self, pause_s: float = 0.0) -> None:
        self.calls, self.pause_s = 0, pause_s

    def __call__(self, reference: Reference) -> VoiceState:
        self.calls += 1
        time.sleep(self.pause_s)
        return state(int(reference.key[:8], 16), reference.transcript)


@pytest.fixture
def encode() -> Encoder:
    return Encoder()


def store(directory: Path, encode: Encoder | None = None, **fields: Any) -> VoiceStore:
    known = {"family": "dual_ar", "model": MODEL, "recipe": "fp32", **fields}
    return VoiceStore(directory / "voices", encode or Encoder(), **known)


# -- references


def test_reference_is_encoded_once(tmp_path: Path, encode: Encoder) -> None:
    voices = store(tmp_path, encode)
    first = voices.encode(reference())
    assert voices.encode(reference()) is first
    assert encode.calls == 1
    assert not first.arrays["codes"].flags.writeable
    again = store(tmp_path, encode).encode(reference())
    assert again.key == first.key
    assert again.meta == {"transcript": reference().transcript}
    assert encode.calls == 1


@pytest.mark.parametrize(
    "changed",
    [
        reference(transcript="How are you!"),
        reference(transcript=""),
        reference(seed=1),
        reference(rate=16_000, seconds=1.0),
        replace(reference(), pcm=reference().pcm[:-4]),
        replace(reference(), pcm=reference().pcm[:-1] + bytes([reference().pcm[-1] ^ 1])),
    ],
)
def test_any_change_of_a_reference_is_encoded_separately(tmp_path: Path, encode: Encoder, changed: Reference) -> None:
    voices = store(tmp_path, encode)
    first = voices.encode(reference())
    second = voices.encode(changed)
    assert encode.calls == 2
    assert first.key != second.key


def test_states_are_separate_for_each_family_model_and_recipe(tmp_path: Path, encode: Encoder) -> None:
    for fields in ({}, {"family": "chatterbox"}, {"model": OTHER}, {"recipe": "int8"}):
        store(tmp_path, encode, **fields).encode(reference())
    assert encode.calls == 4


def test_states_are_separate_for_each_schema(tmp_path: Path, encode: Encoder, monkeypatch: pytest.MonkeyPatch) -> None:
    store(tmp_path, encode).encode(reference())
    monkeypatch.setattr(voices_module, "SCHEMA", 3)
    store(tmp_path, encode).encode(reference())
    assert encode.calls == 2


def test_reference_with_a_damaged_file_is_encoded_again(tmp_path: Path, encode: Encoder) -> None:
    expected = store(tmp_path, encode).encode(reference())
    (path,) = (tmp_path / "voices" / "cache").glob("*.safetensors")
    good = path.read_bytes()
    for calls, content in enumerate(damaged(good, 200), 2):
        path.write_bytes(content)
        assert store(tmp_path, encode).encode(reference()).key == expected.key
        assert encode.calls == calls
        assert len(path.read_bytes()) == len(good)


def test_file_names_contain_no_client_input(tmp_path: Path, encode: Encoder) -> None:
    store(tmp_path, encode).encode(reference(transcript="../../secret"))
    names = [path.name for path in tmp_path.rglob("*")]
    assert not any("secret" in name for name in names)


def test_concurrent_requests_encode_once(tmp_path: Path) -> None:
    encode = Encoder(pause_s=0.05)
    voices = store(tmp_path, encode)
    with ThreadPoolExecutor(64) as pool:
        states = list(pool.map(lambda _: voices.encode(reference()), range(1000)))
    assert encode.calls == 1
    assert len({state.key for state in states}) == 1


def test_concurrent_requests_encode_once_without_a_disk(tmp_path: Path) -> None:
    (tmp_path / "voices").write_text("a file where the directory should be")
    encode = Encoder(pause_s=0.05)
    voices = store(tmp_path, encode)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: voices.encode(reference()), range(100)))
    assert encode.calls == 1
    assert voices.named() == ()
    (tmp_path / "voices").unlink()
    voices.encode(reference(seed=2))
    store(tmp_path, encode).encode(reference(seed=2))
    assert encode.calls == 2


def test_many_references_stay_within_the_bound_on_disk(tmp_path: Path, encode: Encoder) -> None:
    voices = store(tmp_path, encode, memory_bytes=100_000, disk_bytes=200_000)
    for seed in range(200):
        voices.encode(reference(seed, seconds=1.0))
    files = list((tmp_path / "voices" / "cache").glob("*.safetensors"))
    assert sum(file.stat().st_size for file in files) <= 200_000
    assert len(files) > 10
    voices.encode(reference(199, seconds=1.0))
    assert encode.calls == 200


NOISE = np.random.default_rng(0).normal(0, 0.1, 61 * RATE)


@pytest.mark.parametrize(
    ("bad", "error", "message"),
    [
        (of(NOISE), TooLarge, "61.0 s, the limit is 60 s"),
        (of(NOISE[: RATE // 2]), InvalidRequest, "0.5 s"),
        (of(NOISE[:0]), InvalidRequest, "0.0 s"),
        (of(np.where(np.arange(2 * RATE) == 9, np.nan, NOISE[: 2 * RATE])), InvalidRequest, "numbers"),
        (of(np.where(np.arange(2 * RATE) == 9, np.inf, NOISE[: 2 * RATE])), InvalidRequest, "numbers"),
        (of(NOISE[: 2 * RATE] * 1e6), InvalidRequest, "numbers"),
        (replace(reference(), pcm=reference().pcm[:-1]), InvalidRequest, "float32"),
        (replace(reference(), sample_rate=0), InvalidRequest, "Hz"),
        (replace(reference(), sample_rate=-8000), InvalidRequest, "Hz"),
        (replace(reference(), sample_rate=2**31), InvalidRequest, "Hz"),
        (replace(reference(), transcript="\0"), InvalidText, "transcript"),
        (replace(reference(), transcript="\ud800"), InvalidText, "transcript"),
        (replace(reference(), transcript=" "), InvalidText, "transcript"),
        (replace(reference(), transcript="x" * 3001), TooLarge, "transcript"),
    ],
)
def test_unacceptable_references_are_rejected(
    tmp_path: Path, encode: Encoder, bad: Reference, error: type[InvalidRequest], message: str
) -> None:
    with pytest.raises(error, match=message) as caught:
        store(tmp_path, encode).encode(bad)
    assert caught.value.param in ("reference", "transcript")
    assert encode.calls == 0
    assert list(tmp_path.iterdir()) == []


def test_acceptable_references_pass() -> None:
    check(of(NOISE[: 60 * RATE]))
    check(of(NOISE[:RATE]))
    check(of(NOISE[: 2 * RATE] * 0.1))
    check(replace(reference(), transcript=""))
    check(replace(reference(), transcript="Wie geht es dir? 你好 👍"))


# -- named voices


def test_saved_voices_are_listed_loaded_and_deleted(tmp_path: Path) -> None:
    voices = store(tmp_path)
    assert voices.named() == ()
    anna = state(1, 'Say "hello"\n你好')
    voices.save("anna", anna)
    voices.save("bob_2-x", state(2))
    for opened in (voices, store(tmp_path)):
        assert opened.named() == ("anna", "bob_2-x")
        loaded = opened.load("anna")
        assert opened.load("anna") is loaded, "read once"
        assert (loaded.key, loaded.meta) == (anna.key, anna.meta)
        np.testing.assert_array_equal(loaded.arrays["codes"], anna.arrays["codes"])
    voices.delete("anna")
    assert store(tmp_path).named() == ("bob_2-x",)
    for use in (voices.load, voices.delete):
        with pytest.raises(UnknownVoice):
            use("anna")


SCHEMA_1 = base64.b64decode(
    "EAEAAAAAAAB7Il9fbWV0YWRhdGFfXyI6eyJ0cmFuc2NyaXB0IjoiSG93IGFyZSB5b3U/IiwibW9kZWwiOiJhYWFhYWFhYWFhYWFhYWFhYWFhYWFh"
    "YWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhIiwic2hhMjU2IjoiOWEwNjhlMzY1MmYwNzNjZjcxZWIzNTk3NjBhZWQw"
    "NzIwZGEyYWYxNGNjNGQxNTFkYThhZDNhYzgyZDZhMDBmYyIsInNjaGVtYSI6IjEifSwidmFsdWVzIjp7ImR0eXBlIjoiSTY0Iiwic2hhcGUiOlsy"
    "LDNdLCJkYXRhX29mZnNldHMiOlswLDQ4XX19IAAAAAAAAAAAAQAAAAAAAAACAAAAAAAAAAMAAAAAAAAABAAAAAAAAAAFAAAAAAAAAA=="
)
"""A voice named anna in schema 1: one array of codes and a transcript."""


def test_voice_of_schema_1_is_read(tmp_path: Path) -> None:
    path = tmp_path / "voices" / "anna.safetensors"
    path.parent.mkdir()
    path.write_bytes(SCHEMA_1)
    assert store(tmp_path).named() == ("anna",)
    loaded = store(tmp_path).load("anna")
    assert loaded.meta == {"transcript": "How are you?"}
    np.testing.assert_array_equal(loaded.arrays["codes"], [[0, 1, 2], [3, 4, 5]])
    with pytest.raises(UnknownVoice, match="another model"):
        store(tmp_path, model=OTHER).load("anna")
    for content in flipped(SCHEMA_1):
        path.write_bytes(content)
        with pytest.raises(UnknownVoice, match="damaged"):
            store(tmp_path).load("anna")


def test_existing_voice_is_replaced_only_on_request(tmp_path: Path) -> None:
    voices = store(tmp_path)
    voices.save("anna", state(1))
    with pytest.raises(AlreadyExists) as caught:
        voices.save("anna", state(2))
    assert caught.value.status == 409
    assert voices.load("anna").key == state(1).key
    voices.save("anna", state(2), replace=True)
    assert voices.load("anna").key == state(2).key


@pytest.mark.parametrize("voice", BAD_IDS)
def test_invalid_ids_are_rejected(tmp_path: Path, voice: str) -> None:
    voices, outside = store(tmp_path), tmp_path / "anna.safetensors"
    outside.write_bytes(b"untouched")
    with pytest.raises(InvalidRequest):
        voices.save(voice, state(), replace=True)
    messages = set()
    for use in (voices.load, voices.delete):
        with pytest.raises(UnknownVoice) as caught:
            use(voice)
        messages.add(caught.value.message)
    with pytest.raises(UnknownVoice) as caught:
        voices.load("missing")
    assert messages == {caught.value.message}, "invalid ids and missing voices give the same message"
    assert [path.name for path in tmp_path.iterdir()] == ["anna.safetensors"]
    assert outside.read_bytes() == b"untouched"


def test_valid_ids() -> None:
    assert all(map(is_id, ["a", "0", "a" * 64, "anna_2", "x-y-z", "conan", "default2"]))


@pytest.mark.parametrize(
    ("other", "message"),
    [
        ({"model": OTHER}, "'anna' was made with another model"),
        ({"family": "chatterbox"}, "'anna' was made with a model of another family, chatterbox; save it again"),
    ],
)
def test_voice_of_another_model_is_rejected_with_the_reason(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, other: dict[str, str], message: str
) -> None:
    store(tmp_path, **other).save("anna", state())
    voices = store(tmp_path)
    for _ in range(3):
        assert voices.named() == ()
    assert len(caplog.records) == 1
    with pytest.raises(UnknownVoice, match=message):
        voices.load("anna")
    with pytest.raises(AlreadyExists):
        voices.save("anna", state())
    voices.save("anna", state(), replace=True)
    assert voices.load("anna").key == state().key


def test_damaged_voice_is_rejected_and_kept(tmp_path: Path) -> None:
    voices = store(tmp_path)
    voices.save("anna", state())
    voices.save("bob", state(1))
    path = tmp_path / "voices" / "anna.safetensors"
    for content in damaged(path.read_bytes(), 200):
        path.write_bytes(content)
        with pytest.raises(UnknownVoice, match="'anna' is damaged"):
            voices.load("anna")
        assert voices.named() == ("bob",)
    path.write_bytes((tmp_path / "voices" / "bob.safetensors").read_bytes())
    with pytest.raises(UnknownVoice, match="damaged"):
        voices.load("anna")
    voices.save("anna", state(), replace=True)
    assert voices.load("anna").key == state().key
    path.write_bytes(b"")
    voices.delete("anna")
    assert not path.exists()


@pytest.mark.skipif(os.name != "posix", reason="about POSIX links")
def test_links_are_not_followed(tmp_path: Path) -> None:
    voices = store(tmp_path)
    voices.save("anna", state())
    outside = (tmp_path / "voices" / "anna.safetensors").rename(tmp_path / "outside")
    link = tmp_path / "voices" / "anna.safetensors"
    link.symlink_to(outside)
    before = outside.read_bytes()
    assert voices.named() == ()
    for use in (voices.load, voices.delete):
        with pytest.raises(UnknownVoice):
            use("anna")
    with pytest.raises(AlreadyExists):
        voices.save("anna", state(1))
    assert link.is_symlink()
    voices.save("anna", state(1), replace=True)
    assert not link.is_symlink()
    assert outside.read_bytes() == before


def test_voice_above_the_readable_size_is_not_saved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(voices_module, "_MAX_FILE", 2 << 20)
    with pytest.raises(TooLarge, match="at most 2 MB"):
        store(tmp_path).save("anna", state(frames=30_000))


@pytest.mark.parametrize("where", ["os.fsync", "os.replace", "secrets.token_hex", "pathlib.Path.mkdir"])
def test_full_disk_raises_storage_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str) -> None:
    voices = store(tmp_path)
    voices.save("anna", state(1))

    def fail(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr("pathlib.Path.replace" if where == "os.replace" else where, fail)
        with pytest.raises(StorageFailure, match="No space left") as caught:
            voices.save("anna", state(2), replace=True)
        assert caught.value.status == 507
    assert voices.load("anna").key == state(1).key
    assert not list((tmp_path / "voices").glob(".unfinished*"))
    voices.save("anna", state(2), replace=True)
    assert voices.load("anna").key == state(2).key


def test_voice_unreadable_for_a_moment_is_unavailable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store(tmp_path).save("anna", state(1))
    voices = store(tmp_path)

    def fail(*_: object, **__: object) -> None:
        raise OSError(errno.EMFILE, "too many open files")

    with monkeypatch.context() as patch:
        patch.setattr(os, "open", fail)
        with pytest.raises(Unavailable):
            voices.load("anna")
        assert voices.named() == ()
    assert voices.named() == ("anna",)


def test_lock_of_another_writer_makes_saving_unavailable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    voices = store(tmp_path)
    voices.save("anna", state(1))
    monkeypatch.setattr(voices_module, "_LOCK_S", 0.1)
    with FileLock(tmp_path / "voices" / ".lock"), pytest.raises(Unavailable):
        voices.save("bob", state(1))
    voices.save("bob", state(1))


def test_number_of_saved_voices_is_limited(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(voices_module, "MAX_NAMED", 2)
    voices = store(tmp_path)
    voices.save("a", state())
    voices.save("b", state())
    with pytest.raises(TooLarge, match="delete one"):
        voices.save("c", state())
    voices.save("b", state(), replace=True)
    voices.delete("a")
    voices.save("c", state())


def test_one_of_many_concurrent_writers_wins(tmp_path: Path) -> None:
    def save(n: int) -> bool:
        try:
            store(tmp_path).save("anna", state(n))
        except AlreadyExists:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        won = list(pool.map(save, range(16)))
    assert won.count(True) == 1
    assert store(tmp_path).load("anna").key == state(won.index(True)).key


def test_listing_during_changes(tmp_path: Path) -> None:
    voices, stop = store(tmp_path), threading.Event()

    def change() -> None:
        n = 0
        while not stop.is_set():
            n += 1
            voices.save(f"v{n % 5}", state(n, frames=5), replace=True)
            if n % 3 == 0:
                voices.delete(f"v{n % 5}")

    thread = threading.Thread(target=change)
    thread.start()
    try:
        for _ in range(200):
            assert set(voices.named()) <= {f"v{n}" for n in range(5)}
    finally:
        stop.set()
        thread.join()


def test_unfinished_file_of_a_dead_writer_is_removed(tmp_path: Path) -> None:
    voices = store(tmp_path)
    (tmp_path / "voices").mkdir()
    (tmp_path / "voices" / ".unfinished-x").write_bytes(b"x")
    voices.save("anna", state())
    assert sorted(path.name for path in (tmp_path / "voices").iterdir()) == [".lock", "anna.safetensors"]


def test_logs_contain_no_client_input(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    store(tmp_path, model=OTHER).save("anna", state(transcript="a secret"))
    store(tmp_path).named()
    store(tmp_path).encode(reference(transcript="a secret"))
    assert caplog.records
    assert not any("secret" in record.getMessage() or "anna" in record.getMessage() for record in caplog.records)
