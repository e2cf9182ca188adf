"""Voices made of clips against what the published package makes of them (`tests/reference/chatterbox_voice.py`)."""

from __future__ import annotations

import math
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from benchmarks import random_voice_parts
from benchmarks.random_voice_parts import CLIPS, MEL_EVERY
from saywell.errors import BadCheckpoint, InvalidRequest
from saywell.graphs.tensors import TensorFile
from saywell.models.chatterbox.voice import builtin, features, graphs
from saywell.models.chatterbox.voice.config import VoiceConfig
from saywell.models.chatterbox.voice.layout import s3gen_tensors, tables, ve_tensors
from saywell.models.chatterbox.voice.runtime import VoiceEncoder, resampled
from saywell.runtimes.base import Threading

TINY = random_voice_parts.TINY
VOICE = "saywell.models.chatterbox.voice"


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> VoiceEncoder:
    """Written from files in the published layout."""
    path = tmp_path_factory.mktemp("voice")
    save_file(random_voice_parts.s3gen(TINY), path / "s3gen.safetensors")
    save_file(random_voice_parts.ve(TINY), path / "ve.safetensors")
    s3gen, ve = TensorFile(path / "s3gen.safetensors"), TensorFile(path / "ve.safetensors")
    s3gen.check(s3gen_tensors(TINY) | tables(TINY))
    ve.check(ve_tensors(TINY))
    files = graphs.write(s3gen, ve, TINY, path)
    assert all(file.is_file() for file in files)
    return VoiceEncoder(path, Threading(threads=1))


@pytest.fixture(scope="module")
def recorded() -> dict[str, np.ndarray]:
    with np.load(Path(__file__).parent / "recorded_voice.npz") as file:
        return dict(file)


@pytest.mark.parametrize("name", CLIPS)
def test_equals_the_published_package(encoder: VoiceEncoder, recorded: dict[str, np.ndarray], name: str) -> None:
    kind, seconds, rate = CLIPS[name]
    voice = encoder(random_voice_parts.clip(seconds, rate), rate, kind)
    for key in ("t3_prompt_tokens", "prompt_tokens"):
        assert voice[key].dtype == np.int64
        np.testing.assert_array_equal(voice[key], recorded[f"{name}.{key}"])
    for key in ("speaker_emb", "x_vector"):
        assert voice[key].dtype == np.float32
        np.testing.assert_allclose(voice[key], recorded[f"{name}.{key}"], atol=2e-5)
    assert voice["prompt_mel"].shape == (recorded[f"{name}.frames"], 80)
    assert len(voice["prompt_mel"]) == 2 * len(voice["prompt_tokens"])
    np.testing.assert_allclose(voice["prompt_mel"][::MEL_EVERY], recorded[f"{name}.prompt_mel"], atol=5e-4)


def test_clips_make_different_voices(encoder: VoiceEncoder) -> None:
    one, other = (encoder(random_voice_parts.clip(2.5, 24000, seed), 24000, "english") for seed in (0, 1))
    assert np.abs(one["x_vector"] - other["x_vector"]).max() > 1e-3
    assert (one["prompt_tokens"] != other["prompt_tokens"]).any()


@pytest.mark.parametrize(
    ("kind", "seconds", "prompt"), [("english", 12, 150), ("multilingual", 4, 100), ("turbo", 16, 375)]
)
def test_lengths(encoder: VoiceEncoder, kind: str, seconds: int, prompt: int) -> None:
    voice = encoder(random_voice_parts.clip(seconds, 16000), 16000, kind)
    decoder = 25 * min(seconds, 10)
    assert voice["t3_prompt_tokens"].shape == (prompt,)
    assert voice["prompt_tokens"].shape == (decoder,)
    assert voice["prompt_mel"].shape == (2 * decoder, 80)
    assert voice["speaker_emb"].shape == (256,)
    assert voice["x_vector"].shape == (192,)


@pytest.mark.parametrize("samples", [24000 * 2 + cut for cut in (0, 1, 479, 480, 700, 959)])
def test_a_length_that_is_not_whole_tokens(encoder: VoiceEncoder, samples: int) -> None:
    voice = encoder(random_voice_parts.clip(3, 24000)[:samples], 24000, "english")
    assert len(voice["prompt_tokens"]) == samples // 960
    assert len(voice["prompt_mel"]) == 2 * (samples // 960)


@pytest.mark.parametrize(("kind", "seconds"), [("english", 0.1), ("turbo", 5.0), ("nano", 4.0)])
def test_a_clip_that_is_too_short(encoder: VoiceEncoder, kind: str, seconds: float) -> None:
    with pytest.raises(InvalidRequest, match="needs more than"):
        encoder(random_voice_parts.clip(seconds, 16000), 16000, kind)


def test_the_shortest_clip_and_silence_have_finite_voices(encoder: VoiceEncoder) -> None:
    for samples in (random_voice_parts.clip(0.11, 16000), np.zeros(16000, np.float32)):
        voice = encoder(samples, 16000, "english")
        assert all(np.isfinite(each).all() for each in voice.values())
    assert np.isfinite(encoder(np.zeros(6 * 16000, np.float32), 16000, "turbo")["x_vector"]).all()


def test_full_size_layout_has_the_published_numbers_of_parameters() -> None:
    def count(prefix: str) -> int:
        shapes = s3gen_tensors(VoiceConfig())
        trained = (name for name in shapes if not re.search(r"running_|num_batches", name))
        return sum(math.prod(shapes[name]) for name in trained if name.startswith(prefix))

    assert count("tokenizer.") == pytest.approx(123.7e6, rel=1e-3)
    assert count("speaker_encoder.") == pytest.approx(6.85e6, rel=1e-2)
    assert sum(math.prod(shape) for shape in ve_tensors(VoiceConfig()).values()) == pytest.approx(1.42e6, rel=1e-2)


def test_run_time_imports_neither_onnx_nor_torch() -> None:
    code = f"import sys, {VOICE}.runtime, {VOICE}.builtin; print({{'onnx', 'torch', 'scipy'}} & sys.modules.keys())"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "set()\n"


def stored(tokens: int = 5, frames: int = 10) -> dict[str, np.ndarray]:
    """The tensors of a `conds.pt`."""
    return {
        "t3.speaker_emb": np.ones((1, 256), np.float32),
        "t3.cond_prompt_speech_tokens": np.arange(150)[None],
        "t3.emotion_adv": np.full((1, 1, 1), 0.5, np.float32),
        "gen.prompt_token": np.arange(tokens)[None],
        "gen.prompt_token_len": np.array([tokens]),
        "gen.prompt_feat": np.ones((1, frames, 80), np.float32),
        "gen.embedding": np.ones((1, 192), np.float32),
    }


def test_the_default_voice_of_a_checkpoint() -> None:
    voice = builtin.voice_of(stored(frames=11))
    assert {name: each.shape for name, each in voice.items()} == {
        "speaker_emb": (256,),
        "t3_prompt_tokens": (150,),
        "x_vector": (192,),
        "prompt_tokens": (5,),
        "prompt_mel": (10, 80),
    }
    assert voice["prompt_tokens"].dtype == np.int64


def test_a_damaged_default_voice_is_named() -> None:
    with pytest.raises(BadCheckpoint, match=r"lacks gen\.embedding"):
        builtin.voice_of({name: each for name, each in stored().items() if name != "gen.embedding"})
    for name, wrong in {
        "gen.prompt_feat": np.ones((1, 10, 79), np.float32),
        "t3.speaker_emb": np.full((1, 256), np.nan, np.float32),
        "gen.prompt_token": np.zeros((1, 0), np.int64),
    }.items():
        with pytest.raises(BadCheckpoint, match=name):
            builtin.voice_of(stored() | {name: wrong})


def test_conds_are_read_from_the_published_file(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    from saywell.models import torch_file

    parts: dict[str, dict[str, object]] = {"t3": {"clap_emb": None}, "gen": {"prompt_feat_len": None}}
    for name, each in stored().items():
        part, _, key = name.partition(".")
        parts[part][key] = torch.from_numpy(each)
    torch.save(parts, tmp_path / "conds.pt")
    torch_file.rewrite("saywell.models.chatterbox.torch_reader", tmp_path / "conds.pt", tmp_path / "conds.safetensors")
    voice = builtin.voice_of(TensorFile(tmp_path / "conds.safetensors"))
    np.testing.assert_array_equal(voice["prompt_tokens"], np.arange(5))


def test_trimming_keeps_what_is_within_20_db() -> None:
    sound = random_voice_parts.clip(1, 16000)
    kept = features.trimmed(np.concatenate([np.zeros(16000, np.float32), sound, np.zeros(20000, np.float32)]))
    assert 0.8 * 16000 < len(kept) < 1.2 * 16000


def test_loudness_of_a_tone_and_of_silence() -> None:
    tone = np.sin(2 * np.pi * 997 * np.arange(5 * 48000) / 48000).astype(np.float32)
    assert features.loudness(tone, 48000) == pytest.approx(-3.01, abs=0.05)  # BS.1770 defines it: one channel
    assert features.loudness(features.levelled(tone, 48000), 48000) == pytest.approx(features.LOUDNESS, abs=1e-3)
    silence = np.zeros(48000, np.float32)
    np.testing.assert_array_equal(features.levelled(silence, 48000), silence)
    assert features.loudness(tone[:1000], 48000) == -np.inf


def test_resampled_lengths_are_rounded_up() -> None:
    for count in (1, 999, 24001):
        assert len(resampled(np.zeros(count, np.float32), 24000, 16000)) == -(-count * 2 // 3)
