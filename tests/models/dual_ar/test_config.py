"""Sizes, and the names and shapes derived from them."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import pytest

from saywell.errors import BadConfig
from saywell.models.dual_ar.config import CodecConfig, Config
from saywell.models.dual_ar.layout import codec_tensors, model_tensors

SPEC = Path(__file__).parent / "spec"
S1_MINI = json.loads((SPEC / "s1-mini-config.json").read_text())


def tabled(file: str) -> dict[str, tuple[int, ...]]:
    """The published tensor list with `{n}` and `{q}` expanded, without rotary tables and masks."""
    shapes = {}
    for line in (SPEC / file).read_text().splitlines()[1:]:
        name, shape, *_, count = line.split("\t")
        for index in range(int(count)) if "{" in name else (0,):
            full = name.replace("{n}", str(index)).replace("{q}", str(index))
            shapes[full] = tuple(int(each) for each in shape.strip("()").split(",") if each)
    return {name: shape for name, shape in shapes.items() if not name.endswith(("freqs_cis", "causal_mask"))}


def test_s1_mini_model_tensors_are_the_published_ones() -> None:
    assert model_tensors(Config.parse(S1_MINI)) == tabled("s1-mini-model-tensors.tsv")


def test_s1_mini_codec_tensors_are_the_published_ones() -> None:
    random_checkpoint = pytest.importorskip("benchmarks.random_checkpoint", reason="needs torch")
    assert random_checkpoint.published_codec_tensors(CodecConfig()) == tabled("s1-mini-codec-tensors.tsv")


def test_folded_codec_has_one_weight_for_each_convolution() -> None:
    folded = codec_tensors(CodecConfig())
    assert folded["decoder.model.1.block.1.conv.weight"] == (1536, 768, 16)
    assert folded["quantizer.quantizer.quantizers.8.in_proj.weight"] == (8, 1024, 1)
    assert not [name for name in folded if "parametrizations" in name or name.endswith(("weight_g", "weight_v"))]


def test_s1_mini_derived_facts() -> None:
    config = Config.parse(S1_MINI)
    assert config.residual_logits == 1024
    assert not config.projects_fast_input
    assert config.fast_head_dim == 64
    assert config.fast_rope_base == 1e6
    assert config.codec.frame == 2048
    assert config.codec.frame_rate == pytest.approx(21.533, abs=1e-3)
    assert config.codec.encoder_out == 1024


def test_defaults_where_keys_are_missing() -> None:
    config = Config.parse(
        {
            "vocab_size": 32000,
            "dim": 1024,
            "n_layer": 24,
            "n_head": 16,
            "codebook_size": 1024,
            "num_codebooks": 8,
            "n_fast_layer": 4,
        }
    )
    assert (config.n_local_heads, config.head_dim, config.intermediate_size) == (16, 64, 2816)
    assert (config.norm_eps, config.rope_base) == (1e-5, 10000.0)
    assert (config.fast_dim, config.fast_n_head, config.fast_intermediate_size) == (1024, 16, 2816)
    assert config.fast_attention_qk_norm is config.attention_qk_norm is False


def test_minus_one_and_null_select_the_default() -> None:
    config = Config.parse({**S1_MINI, "n_local_heads": -1, "fast_dim": None, "intermediate_size": None})
    assert (config.n_local_heads, config.fast_dim, config.intermediate_size) == (16, 1024, 2816)


def test_nested_config_is_parsed() -> None:
    text = {"vocab_size": 155776, "dim": 2560, "n_layer": 36, "n_head": 32, "n_local_heads": 8, "head_dim": 128}
    audio = {"dim": 1024, "n_layer": 4, "n_head": 16, "n_local_heads": 8, "vocab_size": 4096, "num_codebooks": 10}
    config = Config.parse({"text_config": text, "audio_decoder_config": audio, "eos_token_id": 151645})
    assert (config.dim, config.fast_dim, config.fast_head_dim, config.codebook_size) == (2560, 1024, 64, 4096)
    assert config.projects_fast_input
    assert config.scale_codebook_embeddings
    assert config.norm_fast_input
    assert config.residual_logits == 4096
    assert config.im_end_id == 151645


def test_complete_config_is_unchanged() -> None:
    config = Config.parse(S1_MINI)
    assert Config.parse(asdict(config), config.codec) == config


def test_optional_codec_sizes(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(S1_MINI))
    (tmp_path / "codec_config.json").write_text(json.dumps({"encoder_rates": [2, 4], "decoder_rates": [4, 2]}))
    assert Config.read(tmp_path).codec.frame == 32


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"dim": "wide"}, "dim"),
        ({"dim": True}, "dim"),
        ({"vocab_size": 0}, "vocab_size"),
        ({"vocab_size": 1 << 40}, "vocab_size"),
        ({"n_layer": 2.5}, "n_layer"),
        ({"rope_base": float("nan")}, "rope_base"),
        ({"attention_qk_norm": "yes"}, "attention_qk_norm"),
        ({"n_local_heads": 3}, "n_local_heads"),
        ({"head_dim": 127}, "head_dim"),
        ({"codebook_size": None}, "codebook_size"),
        ({"num_codebooks": -1}, "num_codebooks"),
    ],
)
def test_wrong_value_is_rejected_by_key(change: dict[str, object], named: str) -> None:
    with pytest.raises(BadConfig, match=named):
        Config.parse({**S1_MINI, **change})


@pytest.mark.parametrize(
    "key", ["vocab_size", "dim", "n_layer", "n_head", "codebook_size", "num_codebooks", "n_fast_layer"]
)
def test_missing_size_is_rejected_by_key(key: str) -> None:
    with pytest.raises(BadConfig, match=key):
        Config.parse({name: value for name, value in S1_MINI.items() if name != key})


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff\xfe", b"[" * 100_000])
def test_unreadable_file_is_rejected_by_name(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "config.json").write_bytes(content)
    with pytest.raises(BadConfig, match=r"config\.json"):
        Config.read(tmp_path)


def test_missing_file_is_rejected_by_name(tmp_path: Path) -> None:
    with pytest.raises(BadConfig, match=r"config\.json is missing"):
        Config.read(tmp_path)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"encoder_rates": []}, "encoder_rates"),
        ({"encoder_rates": [2, 2]}, "product"),
        ({"head_dim": 7}, "head_dim"),
        ({"n_residual": "nine"}, "n_residual"),
        ({"decoder_dim": 1000}, "decoder_dim"),
    ],
)
def test_wrong_codec_size_is_rejected_by_key(tmp_path: Path, change: dict[str, object], named: str) -> None:
    (tmp_path / "codec_config.json").write_text(json.dumps(change))
    with pytest.raises(BadConfig, match=named):
        CodecConfig.read(tmp_path)


def test_runtime_modules_do_not_import_torch() -> None:
    rooms = "config layout tokenizer prompt sampling offline convert.convert graphs"
    modules = ", ".join(f"saywell.models.dual_ar.{room}" for room in rooms.split())
    program = f"import sys, {modules}; print('torch' in sys.modules)"
    assert (
        subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout == "False\n"
    )
