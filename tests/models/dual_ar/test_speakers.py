"""Recordings are encoded by the graph of a tiny codec, which is loaded only while it is needed."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from safetensors.numpy import save

from babble import babble
from benchmarks import random_checkpoint
from conversion import convert_here, write_down
from machines import made_up
from plans import TINY_PLAN
from saywell.audio.recording import prepare
from saywell.errors import BadCheckpoint, InvalidRequest, ModelFailure, OutOfMemory, UnknownVoice
from saywell.graphs.tensors import TensorFile
from saywell.models import cloning
from saywell.models.base import CloningFamily, load_family
from saywell.models.dual_ar import speakers
from saywell.models.dual_ar.config import DEFAULT, Config
from saywell.models.dual_ar.graphs import codec
from saywell.models.dual_ar.onnx.codec_files import ENCODER
from saywell.models.dual_ar.onnx.runtime_codec import CodecEncoder, load_encoder
from saywell.models.dual_ar.speakers import model_digest, spoken_in, voice_store
from saywell.runtimes.base import Threading
from saywell.runtimes.onnx import GraphError
from saywell.types import ModelSpec, Reference, Samples
from saywell.voices.store import VoiceStore

RATE = 22_050


def convert_tiny(out: Path, seed: int = 0) -> Path:
    """Tensors and the encoder's graph."""
    path = convert_here(random_checkpoint.write(out / "published", seed=seed), out / "model", precisions=())
    weights = TensorFile(path / "codec.safetensors")
    write_down(path, codec.write_encoder(weights, Config.read(path).codec, path))
    return path


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return convert_tiny(tmp_path_factory.mktemp("tiny"))


def spec(path: Path | None) -> ModelSpec:
    return ModelSpec(
        name="tiny", family="dual_ar", kind="autoregressive", sample_rate=44100, frame_rate=21.5,
        variants=made_up(fp32=1), clones=True, default_voice=DEFAULT, path=path,
    )  # fmt: skip


class Loads:
    """Counts loads, encodes and the most encodes at once."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.loads = self.encodes = self.now = self.most = 0
        self.pause_s = 0.0
        self._lock = threading.Lock()
        patch.setattr(speakers, "load_encoder", self.load)

    def load(self, *arguments: Any) -> CodecEncoder:
        counted, encoder = self, load_encoder(*arguments)
        self.loads += 1

        class Counted(CodecEncoder):
            def __init__(self) -> None:
                """Uses the graph of `encoder`."""

            def encode(self, audio: Samples) -> Any:
                with counted._lock:
                    counted.encodes += 1
                    counted.now += 1
                    counted.most = max(counted.most, counted.now)
                time.sleep(counted.pause_s)
                found = encoder.encode(audio)
                with counted._lock:
                    counted.now -= 1
                return found

        return Counted()


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> Loads:
    return Loads(monkeypatch)


@pytest.fixture
def make(tiny: Path, tmp_path: Path) -> Callable[..., VoiceStore]:
    return lambda **fields: voice_store(spec(tiny), replace(TINY_PLAN, data_dir=tmp_path, **fields))


def reference(seed: int = 0, seconds: float = 1.5, rate: int = RATE, transcript: str = "Hello there.") -> Reference:
    return Reference(pcm=babble(seconds, rate, seed).tobytes(), sample_rate=rate, transcript=transcript)


def test_voices_are_saved_without_loading_the_model(tiny: Path, tmp_path: Path) -> None:
    family = cast(CloningFamily, load_family("dual_ar"))
    store = family.voice_store(spec(tiny), replace(TINY_PLAN, data_dir=tmp_path))
    made = store.encode(reference())
    store.save("zoe", made)
    again = family.voice_store(spec(tiny), replace(TINY_PLAN, data_dir=tmp_path))
    assert again.named() == ("zoe",)
    assert again.load("zoe").key == made.key
    with pytest.raises(UnknownVoice):
        again.load("bob")


def test_voice_saved_by_an_earlier_version_is_read(tiny: Path, make: Callable[..., VoiceStore]) -> None:
    codes = np.arange(8, dtype=np.int64).reshape(4, 2)
    known = {"schema": "1", "model": model_digest(tiny), "transcript": "Hi."}
    about = json.dumps(["anna", codes.dtype.str, codes.shape, sorted(known.items())]).encode()
    place = make().directory / "anna.safetensors"
    place.parent.mkdir()
    place.write_bytes(save({"values": codes}, {**known, "sha256": sha256(about + codes.tobytes()).hexdigest()}))
    assert make().named() == ("anna",)
    said, found = spoken_in(make().load("anna"))
    assert said == "Hi."
    np.testing.assert_array_equal(found, codes)


def test_codes_equal_those_of_the_encoder(tiny: Path, make: Callable[..., VoiceStore]) -> None:
    config = Config.read(tiny)
    for rate in (RATE, 44_100, 16_000, 48_000):
        asked = reference(rate=rate)
        _, codes = spoken_in(make().encode(asked))
        sound = prepare(np.frombuffer(asked.pcm, np.float32), rate, 44_100, 30.0).samples
        wanted = load_encoder(tiny, config.codec, Threading()).encode(sound)
        np.testing.assert_array_equal(codes, wanted)
        assert codes.dtype == np.int64
        assert codes.shape == (config.num_codebooks, -(-len(sound) // config.codec.frame))
        assert all(0 <= book.min() <= book.max() < config.codec.book_size(n) for n, book in enumerate(codes))
    assert len(np.unique(codes)) > 10


def test_reference_is_encoded_once_even_after_a_restart(make: Callable[..., VoiceStore], counted: Loads) -> None:
    store, asked = make(), reference()
    made = store.encode(asked)
    assert spoken_in(made)[0] == asked.transcript
    for each in (store, make()):
        assert each.encode(asked).key == made.key
    assert (counted.loads, counted.encodes) == (1, 1)
    store.encode(reference(transcript="Other words."))
    store.encode(reference(seed=1))
    assert counted.encodes == 3


def test_long_recording_is_cut_with_its_transcript_and_logged(
    make: Callable[..., VoiceStore], caplog: pytest.LogCaptureFixture
) -> None:
    whole = " ".join(f"Sentence {number}." for number in range(40))
    asked = reference(seconds=40.0, rate=8_000, transcript=whole)
    said, codes = spoken_in(make().encode(asked))
    seconds = codes.shape[1] * 2048 / 44_100
    assert 20 <= seconds <= 30.1
    assert whole.startswith(said)
    assert len(said) / len(whole) == pytest.approx(seconds / 40, abs=0.05)
    (record,) = caplog.records
    assert "40 s of speech" in record.getMessage()
    caplog.clear()
    assert spoken_in(make().encode(asked))[0] == said, "also when read from disk"
    short = replace(asked, pcm=asked.pcm[: 4 * 8_000 * 29])
    assert spoken_in(make().encode(short))[0] == whole
    assert not caplog.records


def test_codes_of_another_preprocessing_version_are_not_reused(
    make: Callable[..., VoiceStore], counted: Loads, monkeypatch: pytest.MonkeyPatch
) -> None:
    make().encode(reference())
    monkeypatch.setattr(speakers, "VERSION", speakers.VERSION + 1)
    make().encode(reference())
    assert counted.encodes == 2


def test_encoder_is_unloaded(make: Callable[..., VoiceStore], counted: Loads) -> None:
    store = make()
    for seed in range(3):
        store.encode(reference(seed))
        assert store._make._encoder._loaded is None
    assert counted.loads == 3


def test_encoder_stays_loaded_while_callers_wait(make: Callable[..., VoiceStore], counted: Loads) -> None:
    store, counted.pause_s = make(), 0.02
    # Different recordings whose cache locks differ, so that they meet at the encoder.
    asked = {store.key(each)[:2]: each for each in map(reference, range(12))}
    barrier = threading.Barrier(len(asked))

    def work(each: Reference) -> None:
        barrier.wait()
        store.encode(each)

    with ThreadPoolExecutor(len(asked)) as pool:
        list(pool.map(work, asked.values()))
    assert counted.encodes == len(asked)
    assert counted.loads < len(asked) // 2
    assert counted.most == 1
    assert store._make._encoder._loaded is None


def test_encoder_is_unloaded_after_a_failure(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make: Callable[..., VoiceStore]
) -> None:
    store = make()

    def fail(*_: object) -> None:
        raise GraphError("broken")

    with monkeypatch.context() as patch:
        patch.setattr(CodecEncoder, "encode", fail)
        with pytest.raises(GraphError):
            store.encode(reference())
    assert store._make._encoder._loaded is None
    with monkeypatch.context() as patch:
        patch.setattr(speakers, "load_encoder", fail)
        with pytest.raises(GraphError):
            store.encode(reference())
    assert spoken_in(store.encode(reference()))[1].shape[0] == 4


def test_unusable_recording_does_not_load_the_encoder(make: Callable[..., VoiceStore], counted: Loads) -> None:
    noise = np.random.default_rng(0).normal(0, 0.2, 2 * RATE).astype(np.float32)
    silence, noisy = (Reference(pcm=pcm, sample_rate=RATE) for pcm in (bytes(4 * RATE * 2), noise.tobytes()))
    for bad in (reference(seconds=0.2), silence, noisy):
        with pytest.raises(InvalidRequest):
            make().encode(bad)
    assert counted.loads == 0


def test_voices_of_another_model_are_rejected(
    make: Callable[..., VoiceStore], tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, counted: Loads
) -> None:
    make().save("anna", make().encode(reference()))
    path = convert_tiny(tmp_path_factory.mktemp("other"), seed=1)
    other = voice_store(spec(path), replace(TINY_PLAN, data_dir=tmp_path))
    assert other.named() == ()
    with pytest.raises(UnknownVoice, match="another model"):
        other.load("anna")
    other.encode(reference())
    assert counted.encodes == 2


def test_model_digest_covers_all_weights(tiny: Path, tmp_path: Path) -> None:
    manifest = json.loads((tiny / "saywell.json").read_text())
    found = {model_digest(tiny)}
    for name in ("model.safetensors", "codec.safetensors"):
        changed = json.loads(json.dumps(manifest))
        changed["files"][name]["sha256"] = "0" * 64
        (tmp_path / "saywell.json").write_text(json.dumps(changed))
        found.add(model_digest(tmp_path))
    assert len(found) == 3
    del manifest["files"]["codec.safetensors"]
    (tmp_path / "saywell.json").write_text(json.dumps(manifest))
    with pytest.raises(BadCheckpoint, match="convert it again"):
        model_digest(tmp_path)


def test_model_without_a_directory_is_rejected() -> None:
    with pytest.raises(ModelFailure):
        voice_store(spec(None), TINY_PLAN)


def test_encoder_beyond_the_available_memory_is_not_loaded(
    tiny: Path, make: Callable[..., VoiceStore], monkeypatch: pytest.MonkeyPatch
) -> None:
    loads, weights = Loads(monkeypatch), (tiny / f"{ENCODER}.data").stat().st_size
    monkeypatch.setattr(cloning, "available_memory", lambda: weights // 2)
    with pytest.raises(OutOfMemory, match="encoding a new reference needs"):
        make().encode(reference())
    assert not loads.loads
    made = make(check_memory=False).encode(reference())
    assert loads.loads == 1
    assert make().encode(reference()).key == made.key  # known: nothing has to be loaded
    assert loads.loads == 1
