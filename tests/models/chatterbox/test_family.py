"""The family from a published checkpoint to speech: convert, speak, stream, batch, clone."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile

from benchmarks import random_chatterbox
from benchmarks.random_voice_parts import clip
from saywell.engine import launch
from saywell.engine.launch import TTS
from saywell.errors import BadCheckpoint, InvalidRequest
from saywell.models.base import find_spec, offline, offline_for
from saywell.models.chatterbox import convert as conversion
from saywell.models.chatterbox.config import PUBLISHED, recognise
from saywell.settings import Settings
from saywell.types import Reference

KINDS = ("english", "multilingual", "turbo")
PUBLISHED_FILES = {
    "english": {"ve.safetensors", "t3_cfg.safetensors", "s3gen.safetensors", "tokenizer.json", "conds.pt"},
    "multilingual": {"ve.pt", "t3_mtl23ls_v2.safetensors", "s3gen.pt", "grapheme_mtl_merged_expanded_v1.json"},
    "turbo": {"ve.safetensors", "t3_turbo_v1.safetensors", "s3gen_meanflow.safetensors", "vocab.json", "merges.txt"},
}
FRAMES = 40
TEXT = "Hello there."


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Converted tiny checkpoints by kind."""
    made = {}
    for kind in KINDS:
        source = random_chatterbox.write(tmp_path_factory.mktemp(f"{kind}-published"), kind)
        assert {path.name for path in offline_for(source).sources(source)} >= PUBLISHED_FILES[kind]
        made[kind] = conversion.convert(source, tmp_path_factory.mktemp(kind))
    return made


@pytest.fixture(scope="module", params=KINDS)
def tts(
    request: pytest.FixtureRequest, models: dict[str, Path], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[TTS]:
    settings = Settings(model_path=models[request.param], data_dir=tmp_path_factory.mktemp("data"), adapt=False)
    with launch.open(settings=settings) as tts:
        yield tts


def said(tts: TTS, text: str = TEXT, **fields: object) -> np.ndarray:
    """Random weights rarely stop, and what they say is no speech: raw, and of a few frames."""
    fields = {"seed": 3, "language": "en", "raw": True, "max_frames": FRAMES, **fields}
    return np.concatenate([chunk.samples for chunk in tts.stream(text, **fields)])


def test_speaks_the_same_for_the_same_seed_alone_and_in_a_batch(tts: TTS) -> None:
    alone = said(tts)
    assert len(alone) >= FRAMES * 960 - 960
    assert np.isfinite(alone).all()
    assert np.abs(alone).max() <= 1
    streams = [tts.stream(TEXT, seed=seed, language="en", raw=True, max_frames=FRAMES) for seed in (3, 4, 3)]
    first, other, second = [np.concatenate([chunk.samples for chunk in stream]) for stream in streams]
    np.testing.assert_array_equal(first, alone)
    np.testing.assert_array_equal(second, alone)
    assert not np.array_equal(other[: len(alone)], alone[: len(other)])


def test_speaks_like_a_recording(tts: TTS) -> None:
    samples = clip(7.0, 24_000)
    reference = Reference(pcm=samples.tobytes(), sample_rate=24_000)
    cloned = said(tts, reference=reference)
    assert len(cloned) >= FRAMES * 960 - 960
    assert not np.array_equal(cloned, said(tts)[: len(cloned)])
    np.testing.assert_array_equal(cloned, said(tts, reference=reference))


def test_options_change_the_sound_and_are_checked(tts: TTS) -> None:
    guided = "cfg_weight" in tts.spec.options
    option = {"exaggeration": 1.5} if guided else {"top_k": 2.0}
    assert not np.array_equal(said(tts, options=option)[:9600], said(tts)[:9600])
    with pytest.raises(InvalidRequest):
        said(tts, options={"top_k" if guided else "cfg_weight": 1})


def test_the_multilingual_model_speaks_a_language(models: dict[str, Path], tmp_path: Path) -> None:
    with launch.open(settings=Settings(model_path=models["multilingual"], data_dir=tmp_path, adapt=False)) as tts:
        with pytest.raises(InvalidRequest, match="does not speak"):
            said(tts, language="xx")
        english, german = said(tts, language="en"), said(tts, language="de")
        assert not np.array_equal(english, german)
        np.testing.assert_array_equal(said(tts, language=None), english)


def test_an_interrupted_conversion_continues(tmp_path: Path) -> None:
    source = random_chatterbox.write(tmp_path / "published", "turbo")
    steps: list[str] = []
    out = conversion.convert(source, tmp_path / "out", progress=lambda step, done, total: steps.append(step))
    assert any(step.startswith("write int4") for step in steps)
    steps.clear()
    conversion.convert(source, out, progress=lambda step, done, total: steps.append(step))
    assert not [step for step in steps if step.startswith("write")]
    assert find_spec(None, out).precisions == ("fp32", "int8", "int4")


def test_only_writing_graphs_needs_onnx_and_torch() -> None:
    """Planning, speaking, and looking for the family of any checkpoint work in the plain install."""
    modules = "model facts offline convert speakers"
    code = (
        "import sys; sys.modules['onnx'] = sys.modules['torch'] = None\n"
        f"import {', '.join(f'saywell.models.chatterbox.{each}' for each in modules.split())}"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_codes_and_audio_from_file_to_file(models: dict[str, Path], tmp_path: Path) -> None:
    soundfile.write(tmp_path / "clip.wav", clip(6.0, 24_000), 24_000)
    run = offline("chatterbox")
    codes = np.load(run.encode(tmp_path / "clip.wav", models["turbo"], tmp_path / "codes.npy", threads=1))
    assert codes.shape == (150,)
    samples, rate = soundfile.read(run.decode(tmp_path / "codes.npy", models["turbo"], tmp_path / "a.wav", threads=1))
    assert (len(samples), rate) == (150 * 960, 24_000)
    for wrong, message in ((np.array([7000]), "outside 0"), (np.zeros((2, 3), int), "integers"), (np.ones(3), "integ")):
        np.save(tmp_path / "wrong.npy", wrong)
        with pytest.raises(InvalidRequest, match=message):
            run.decode(tmp_path / "wrong.npy", models["turbo"], tmp_path / "b.wav", threads=1)


def test_the_report_names_the_layers(models: dict[str, Path]) -> None:
    run = offline("chatterbox")
    assert run.report(models["english"], "int8")[0].startswith("int8: 0 of 9 layers stay above it")
    assert run.report(models["english"], "fp32") == []


def test_a_tokenizer_of_another_model_is_refused(tmp_path: Path) -> None:
    source = random_chatterbox.write(tmp_path / "published", "english")
    tokenizer = json.loads((source / "tokenizer.json").read_text(encoding="utf-8"))
    tokenizer["model"]["vocab"]["extra"] = 704
    (source / "tokenizer.json").write_text(json.dumps(tokenizer), encoding="utf-8")
    with pytest.raises(BadCheckpoint, match="files of two models"):
        conversion.convert(source, tmp_path / "out", precisions=("fp32",))


@pytest.mark.parametrize("published", PUBLISHED, ids=lambda published: published.t3)
def test_what_is_missing_is_named(published: object, tmp_path: Path) -> None:
    (tmp_path / published.t3).touch()  # type: ignore[attr-defined]
    with pytest.raises(BadCheckpoint, match="lacks s3gen"):
        recognise(tmp_path)
    (tmp_path / PUBLISHED[0].t3).touch()
    (tmp_path / PUBLISHED[1].t3).touch()
    with pytest.raises(BadCheckpoint, match="keep the models in two directories"):
        recognise(tmp_path)
