"""Random checkpoints in the exact published layout: tiny ones for tests, full-size ones for measuring. Needs torch.

python -m benchmarks.random_checkpoint DIRECTORY --size full
"""

from __future__ import annotations

import argparse
import base64
import itertools
import json
import math
import sys
from collections.abc import Iterator, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch

from saywell.graphs.numerics import Shape, Shapes, rotary
from saywell.models.dual_ar.config import CODEC_CONFIG_FILE, CONFIG_FILE, CodecConfig, Config
from saywell.models.dual_ar.convert.checkpoint import read_codec, read_model
from saywell.models.dual_ar.layout import codec_tensors, model_tensors
from saywell.models.dual_ar.tokenizer import IM_END, RANKS_FILE, SPECIALS_FILE, special_names
from saywell.models.torch_tensors import State

Size = Literal["tiny", "full"]
Spelling = Literal["flat", "nested", "split"]
"""Layout of the published files. flat: S1-mini and S1. nested: S2-Pro, whose configuration and tensor names are those
of two models in one. split: Fish Speech 1.5, with separate q, k and v, in a wrapped and prefixed state dict."""
MODEL_FILE = "model.pth"
CODEC_FILE = "codec.pth"

FULL: dict[str, Any] = {
    "model_type": "dual_ar",
    "vocab_size": 155776,
    "dim": 1024,
    "n_layer": 28,
    "n_head": 16,
    "n_local_heads": 8,
    "head_dim": 128,
    "intermediate_size": 3072,
    "rope_base": 1000000,
    "norm_eps": 1e-6,
    "max_seq_len": 8192,
    "attention_qk_norm": True,
    "attention_qkv_bias": False,
    "attention_o_bias": False,
    "codebook_size": 4096,
    "num_codebooks": 10,
    "n_fast_layer": 4,
    "fast_dim": 1024,
    "fast_n_head": 16,
    "fast_n_local_heads": 8,
    "fast_head_dim": 64,
    "fast_intermediate_size": 3072,
    "fast_attention_qk_norm": False,
    "tie_word_embeddings": False,
    "scale_codebook_embeddings": False,
}
TINY: dict[str, Any] = {
    **FULL,
    "vocab_size": 512,
    "dim": 64,
    "n_layer": 2,
    "n_head": 4,
    "n_local_heads": 2,
    "head_dim": 32,
    "intermediate_size": 128,
    "max_seq_len": 1024,
    "codebook_size": 64,
    "num_codebooks": 4,
    "n_fast_layer": 2,
    "fast_dim": 64,
    "fast_n_head": 4,
    "fast_n_local_heads": 2,
    "fast_head_dim": 16,
    "fast_intermediate_size": 128,
}
TINY_CODEC = CodecConfig(
    encoder_dim=4,
    latent_dim=48,
    decoder_dim=64,
    semantic_codebook_size=64,
    residual_codebook_size=32,
    n_residual=3,
    head_dim=16,
    encoder_layers=2,
    encoder_window=16,
    module_layers=2,
    module_window=8,
)
_RANKS = {"tiny": 400, "full": 151643}
_TABLES = {"tiny": (256, 64), "full": (16384, 4096)}
"""Positions of the rotary tables and masks: of the encoder's transformer, of the two modules."""


def write(
    directory: str | Path,
    size: Size = "tiny",
    seed: int = 0,
    config: Mapping[str, Any] | None = None,
    codec: Mapping[str, Any] | None = None,
    spelling: Spelling = "flat",
) -> Path:
    """Write config, weights and tokeniser files. The same arguments give the same tensors in every layout.

    `config` and `codec` override single sizes. Activations stay near unit RMS, logits have a spread of a few units.
    Most sequences of a tiny model end by themselves, because it has few tokens; those of a full-size one rarely do.
    """
    out = Path(directory)
    out.mkdir(parents=True, exist_ok=True)
    raw = {**(FULL if size == "full" else TINY), **(config or {})}
    codec_config = replace(CodecConfig() if size == "full" else TINY_CODEC, **(codec or {}))
    parsed = Config.parse(raw, codec_config)
    if codec_config != CodecConfig():
        (out / CODEC_CONFIG_FILE).write_text(json.dumps(asdict(codec_config), indent=2) + "\n", encoding="utf-8")
    ids = _write_tokenizer(out, _RANKS[size], parsed.codebook_size, parsed.vocab_size)
    written = _nested(raw, ids) if spelling == "nested" else raw
    (out / CONFIG_FILE).write_text(json.dumps(written, indent=2) + "\n", encoding="utf-8")
    torch.save(_spelled(_model_state(parsed, seed), parsed, spelling), out / MODEL_FILE)
    torch.save(_codec_state(codec_config, seed, _TABLES[size]), out / CODEC_FILE)
    return out


def weights(directory: str | Path) -> tuple[dict[str, npt.NDArray[np.float32]], dict[str, npt.NDArray[np.float32]]]:
    """All tensors of a published checkpoint as fp32 arrays: (transformers, codec with weight norm folded)."""
    path = Path(directory)
    config = Config.read(path)
    model, codec = read_model(path / MODEL_FILE, config), read_codec(path / CODEC_FILE, config.codec)
    return _arrays(model), _arrays(codec)


def _arrays(state: State) -> dict[str, npt.NDArray[np.float32]]:
    return {name: tensor.float().numpy() for name, tensor in state.items()}


def _model_state(config: Config, seed: int) -> State:
    random = torch.Generator().manual_seed(seed)
    return {
        name: (torch.randn(shape, generator=random) * _deviation(name, shape) + _mean(name)).bfloat16()
        for name, shape in model_tensors(config).items()
    }


def _nested(raw: Mapping[str, Any], ids: Mapping[str, int]) -> dict[str, Any]:
    """S2-Pro's configuration: an object for each transformer, special ids at the top level."""
    fast = {name.removeprefix("fast_"): value for name, value in raw.items() if name.startswith("fast_")}
    shared = {name: raw[name] for name in ("num_codebooks", "rope_base", "norm_eps") if name in raw}
    apart = ("model_type", "codebook_size", "num_codebooks", "n_fast_layer")
    return {
        "model_type": raw["model_type"],
        "text_config": {k: v for k, v in raw.items() if not k.startswith("fast_") and k not in apart},
        "audio_decoder_config": {**shared, **fast, "n_layer": raw["n_fast_layer"], "vocab_size": raw["codebook_size"]},
        "semantic_start_token_id": ids["<|semantic:0|>"],
        "semantic_end_token_id": ids[f"<|semantic:{raw['codebook_size'] - 1}|>"],
        "eos_token_id": ids[IM_END],
    }


def _spelled(state: State, config: Config, spelling: Spelling) -> dict[str, Any]:
    if spelling == "nested":
        return {_nested_name(name): tensor for name, tensor in state.items()}
    if spelling == "split":
        return {"state_dict": {f"model.{name}": each for name, each in _split(state, config)}}
    return dict(state)


def _nested_name(name: str) -> str:
    if name.startswith("fast_"):
        return f"audio_decoder.{name.removeprefix('fast_')}"
    return f"audio_decoder.{name}" if name.startswith("codebook_embeddings") else f"text_model.model.{name}"


def _split(state: State, config: Config) -> Iterator[tuple[str, torch.Tensor]]:
    """With separate q, k and v."""
    for name, tensor in state.items():
        if ".wqkv." not in name:
            yield name, tensor
            continue
        prefix = "fast_" if name.startswith("fast_") else ""
        heads, kv, size = (getattr(config, prefix + key) for key in ("n_head", "n_local_heads", "head_dim"))
        for letter, part in zip("qkv", torch.split(tensor, [heads * size, kv * size, kv * size]), strict=True):
            yield name.replace("wqkv", f"w{letter}"), part.clone()


def _mean(name: str) -> float:
    return 1.0 if name.endswith("norm.weight") else 0.0


def _deviation(name: str, shape: Shape) -> float:
    """Standard deviation that keeps the RMS of activations."""
    if len(shape) == 1:
        return 0.1
    if name.endswith("codebook_embeddings.weight"):
        return 0.3
    if name.endswith("embeddings.weight"):
        return 0.7
    return (3.0 if name.endswith("output.weight") else 1.0) / math.sqrt(shape[1])


def published_codec_tensors(codec: CodecConfig) -> Shapes:
    """Names and shapes in the published codec file (weight norm in two parts), without masks and rotary tables."""
    shapes: Shapes = {}
    for name, shape in codec_tensors(codec).items():
        parts = _weight_norm_names(name)
        if parts is None:
            shapes[name] = shape
        else:
            g, v = parts
            shapes[g], shapes[v] = (shape[0], *(1 for _ in shape[1:])), shape
    return shapes


def _weight_norm_names(name: str) -> tuple[str, str] | None:
    """Names of magnitude and direction, or None for a weight that is not normalised."""
    if not name.endswith(".weight"):
        return None
    if name.endswith("conv.weight") and not name.startswith("quantizer."):
        stem = name.removesuffix("weight") + "parametrizations.weight.original"
        return f"{stem}0", f"{stem}1"
    if name.endswith("_proj.weight"):
        return f"{name}_g", f"{name}_v"
    return None


def _codec_state(codec: CodecConfig, seed: int, tables: tuple[int, int]) -> State:
    random = torch.Generator().manual_seed(seed + 1)
    state = {name: codec_tensor(name, shape, random, codec) for name, shape in published_codec_tensors(codec).items()}
    last = f"encoder.block.{len(codec.encoder_rates)}.block.{len(codec.dilations) + 2}."
    for at, positions in (
        (last, tables[0]),
        ("quantizer.pre_module.", tables[1]),
        ("quantizer.post_module.", tables[1]),
    ):
        table = np.stack(rotary(positions, codec.head_dim, codec.rope_base), axis=-1)
        state[f"{at}freqs_cis"] = torch.from_numpy(table).bfloat16()
        state[f"{at}causal_mask"] = torch.ones(positions, positions, dtype=torch.bool).tril()
    return state


def codec_tensor(name: str, shape: Shape, random: torch.Generator, codec: CodecConfig) -> torch.Tensor:
    noise = torch.randn(shape, generator=random)
    if name.endswith("alpha"):
        return noise.mul(0.3).exp()
    if name.endswith("gamma"):
        return 0.3 + 0.1 * noise
    if name.endswith(("original0", "weight_g")):
        return _magnitude(name, codec) * (1 + 0.1 * noise)
    if name.endswith("norm.weight"):
        return 1 + 0.1 * noise
    if len(shape) == 1:
        return 0.05 * noise
    return noise if name.endswith("codebook.weight") else noise / math.sqrt(_fan_in(name, shape))


def _fan_in(name: str, shape: Shape) -> int:
    # Of a stride-2 transposed convolution only one tap reaches each output.
    return shape[0] if ".upsample." in name and name.endswith("0.conv.weight") else math.prod(shape[1:])


def _magnitude(name: str, codec: CodecConfig) -> float:
    """‖w‖ of each filter: 1 keeps the RMS; less on residual branches."""
    if name.startswith("decoder.model.") and ".block.1.conv.param" in name and name.count(".block.") == 1:
        rate = codec.decoder_rates[int(name.split(".")[2]) - 1]
        return math.sqrt(rate / 2)  # transposed: the norm is over outputs, and two inputs contribute to each sample
    if ".block.3.conv.param" in name:
        return 0.4
    if name.startswith(f"decoder.model.{len(codec.decoder_rates) + 2}."):
        return 0.1
    return 1.0 if "out_proj" not in name else 0.3


def _write_tokenizer(out: Path, ranks: int, semantic: int, vocab_size: int) -> dict[str, int]:
    """Write both files; returns the ids of the special tokens."""
    lines = (f"{base64.b64encode(token).decode()} {rank}\n" for rank, token in enumerate(_tokens(ranks)))
    (out / RANKS_FILE).write_text("".join(lines), encoding="ascii")
    ids = {name: ranks + offset for offset, name in enumerate(special_names(semantic))}
    if ranks + len(ids) > vocab_size:
        raise ValueError(f"vocab_size {vocab_size} is below the number of tokens, {ranks + len(ids)}")
    (out / SPECIALS_FILE).write_text(json.dumps(ids, indent=1) + "\n", encoding="utf-8")
    return ids


def _tokens(count: int) -> Iterator[bytes]:
    """All bytes, then groups of letters with and without a leading space, by length."""
    groups = (
        (space + "".join(letters)).encode()
        for length in itertools.count(1)
        for space in ("", " ")
        for letters in itertools.product("etaoinshrdlucmfwypvbgkjqxz", repeat=length)
        if length > 1 or space
    )
    return itertools.islice(itertools.chain((bytes([each]) for each in range(256)), groups), count)


def main(args: list[str]) -> int:
    """Write a random checkpoint."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.random_checkpoint", description=__doc__)
    parser.add_argument("directory", type=Path, help="where to write it")
    parser.add_argument("--size", choices=("tiny", "full"), default="tiny")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(args)
    write(options.directory, options.size, options.seed)
    print(f"{options.directory} holds a random {options.size} checkpoint; next: saywell convert {options.directory}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
