"""Random Chatterbox checkpoints in the exact published layout: tiny ones for tests, full-size ones for measuring.

python -m benchmarks.random_chatterbox DIRECTORY --kind turbo --size full
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors.numpy import save_file

from benchmarks import random_s3gen, random_t3, random_voice_parts
from benchmarks.random_chatterbox_text import Size, vocabulary, write_text
from saywell.models.chatterbox.convert import SIZES
from saywell.models.chatterbox.kinds import Kind
from saywell.models.chatterbox.s3gen.config import MEANFLOW, STANDARD, S3GenConfig
from saywell.models.chatterbox.t3.config import T3Config
from saywell.models.chatterbox.voice.config import VoiceConfig

Tensors = Mapping[str, npt.NDArray[Any]]
T3_FILE: dict[Kind, str] = {
    "english": "t3_cfg.safetensors",
    "multilingual": "t3_mtl23ls_v2.safetensors",
    "turbo": "t3_turbo_v1.safetensors",
    "nano": "t3_nano_v1.safetensors",
}
S3GEN_FILE: dict[Kind, str] = {
    "english": "s3gen.safetensors",
    "multilingual": "s3gen.pt",
    "turbo": "s3gen_meanflow.safetensors",
    "nano": "s3gen_meanflow.safetensors",
}
VE_FILE: dict[Kind, str] = {
    "english": "ve.safetensors",
    "multilingual": "ve.pt",
    "turbo": "ve.safetensors",
    "nano": "ve.safetensors",
}


def write(directory: str | Path, kind: Kind = "english", size: Size = "tiny", seed: int = 0) -> Path:
    """Write weights and text files. The same arguments give the same files. Those of the multilingual model ending in
    `.pt` need torch, and so does `conds.pt`, which is only written with it."""
    out = Path(directory)
    out.mkdir(parents=True, exist_ok=True)
    t3, s3gen, voice = _sizes(kind, size)
    if size == "tiny":
        sizes = {"s3gen": asdict(s3gen), "voice": asdict(voice)}
        (out / SIZES).write_text(json.dumps(sizes, indent=1) + "\n", encoding="utf-8")
    save_file(dict(random_t3.StandIn(t3, seed)), out / T3_FILE[kind])
    _save({**random_s3gen.weights(s3gen, seed), **random_voice_parts.s3gen(voice, seed)}, out / S3GEN_FILE[kind])
    _save(random_voice_parts.ve(voice, seed), out / VE_FILE[kind])
    write_text(out, kind, size)
    write_voice(out / "conds.pt", kind, seed)
    return out


def _sizes(kind: Kind, size: Size) -> tuple[T3Config, S3GenConfig, VoiceConfig]:
    meanflow = kind in ("turbo", "nano")
    if size == "full":
        return random_t3.FULL[kind], MEANFLOW if meanflow else STANDARD, VoiceConfig()
    t3 = replace(random_t3.FULL[kind], layers=2, hidden=128, ffn=256, text_vocab=vocabulary(kind, size))
    return t3, replace(random_s3gen.TINY, meanflow=meanflow, vocab=t3.start_speech), random_voice_parts.TINY


def _save(tensors: Tensors, path: Path) -> None:
    if path.suffix == ".safetensors":
        save_file(dict(tensors), path)
    else:
        import torch

        torch.save({name: torch.from_numpy(np.array(each)) for name, each in tensors.items()}, path)


def write_voice(path: Path, kind: Kind, seed: int = 0, tokens: int = 20) -> bool:
    """A random default voice; False without torch."""
    try:
        import torch
    except ModuleNotFoundError:
        return False
    random = np.random.Generator(np.random.Philox(key=seed))

    def floats(*shape: int) -> Any:
        return torch.from_numpy(random.standard_normal(shape, np.float32))

    def codes(count: int) -> Any:
        return torch.from_numpy(random.integers(0, 6561, (1, count)))

    t3 = {
        "speaker_emb": torch.nn.functional.normalize(floats(1, 256)),
        "clap_emb": None,
        "cond_prompt_speech_tokens": codes(375 if kind in ("turbo", "nano") else 150),
        "cond_prompt_speech_emb": None,
        "emotion_adv": torch.full((1, 1, 1), 0.5),
    }
    gen = {
        "prompt_token": codes(tokens),
        "prompt_token_len": torch.tensor([tokens]),
        "prompt_feat": floats(1, 2 * tokens, 80) - 4,
        "prompt_feat_len": None,
        "embedding": floats(1, 192),
    }
    torch.save({"t3": t3, "gen": gen}, path)
    return True


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("directory", type=Path)
    parser.add_argument("--kind", choices=[*T3_FILE], default="english")
    parser.add_argument("--size", choices=["tiny", "full"], default="tiny")
    options = parser.parse_args()
    write(options.directory, options.kind, options.size)
