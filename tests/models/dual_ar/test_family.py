"""Each member of the family, told apart by configuration alone: published files → converted → tokens of the reference.

Tiny sizes with the proportions and flags of the members; random weights.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from benchmarks import random_checkpoint
from conversion import convert_here
from dual_ar_rig import logits_of, speak
from reference import networks
from saywell.models.dual_ar.config import Config
from saywell.models.dual_ar.convert.checkpoint import read_model
from saywell.models.dual_ar.facts import facts
from saywell.models.dual_ar.onnx.runtime_ar import ArRuntime
from saywell.models.dual_ar.onnx.runtime_codec import load_decoder
from saywell.models.dual_ar.sampling import Sampling
from saywell.models.dual_ar.tokenizer import Tokenizer
from saywell.runtimes.base import Threading

THREADING = Threading(threads=1)
QWEN = {"attention_qk_norm": True, "fast_attention_qk_norm": False, "norm_eps": 1e-6}


@dataclass(frozen=True)
class Member:
    """Configuration and file layout of a member."""

    config: dict[str, Any]
    codec: dict[str, Any]
    spelling: random_checkpoint.Spelling = "flat"


MEMBERS = {
    # Eight books of one size, few heads for keys and values, no norm on queries and keys, q, k and v apart.
    "fish-1.5": Member(
        {
            "num_codebooks": 8,
            "codebook_size": 32,
            "n_head": 8,
            "n_local_heads": 1,
            "dim": 128,
            "head_dim": 16,
            "fast_dim": 128,
            "fast_n_head": 8,
            "fast_n_local_heads": 1,
            "fast_head_dim": 16,
            "attention_qk_norm": False,
            "norm_eps": 1e-5,
        },
        {"n_residual": 7, "semantic_codebook_size": 32, "residual_codebook_size": 32},
        "split",
    ),
    # Heads twice as wide as dim / n_head in the slow transformer, an untied head, small residual books.
    "s1-mini": Member({**QWEN, "head_dim": 32, "n_head": 4, "num_codebooks": 10}, {"n_residual": 9}),
    # A slow transformer wider than the fast one, which needs a projection between them.
    "s1": Member(
        {
            **QWEN,
            "dim": 80,
            "n_layer": 3,
            "n_head": 8,
            "head_dim": 16,
            "intermediate_size": 304,
            "num_codebooks": 10,
            "tie_word_embeddings": False,
        },
        {"n_residual": 9},
    ),
    # Nested files, a tied head, scaled codebook embeddings, the state after the norm, every residual logit counts.
    "s2-pro": Member(
        {
            **QWEN,
            "dim": 80,
            "n_layer": 3,
            "n_head": 8,
            "head_dim": 16,
            "intermediate_size": 304,
            "num_codebooks": 10,
            "tie_word_embeddings": True,
            "scale_codebook_embeddings": True,
            "norm_fast_input": True,
        },
        {"n_residual": 9},
        "nested",
    ),
}


class Rig:
    """A member's published files, converted, and its reference."""

    def __init__(self, member: Member, folder: Path) -> None:
        self.published = random_checkpoint.write(
            folder / "published", config=member.config, codec=member.codec, spelling=member.spelling
        )
        self.path = convert_here(self.published, folder / "model")
        self.config = Config.read(self.path)
        self.tokenizer = Tokenizer.read(self.path, self.config)
        state = read_model(self.published / random_checkpoint.MODEL_FILE, Config.read(self.published))
        self.state = networks.doubles(state)

    def runtime(self, precision: str) -> ArRuntime:
        cache = "fp32" if precision == "fp32" else "int8"
        return ArRuntime(self.path, precision, THREADING, slots=2, max_len=128, cache=cache)

    def prompt(self, seed: int) -> np.ndarray:
        """Text with some audio inside."""
        c, random = self.config, np.random.default_rng(seed)
        prompt = np.zeros((1 + c.num_codebooks, 24), np.int64)
        prompt[0] = random.integers(0, self.tokenizer.semantic_begin_id, 24)
        prompt[1, 4:14] = random.integers(0, c.codebook_size, 10)
        prompt[2:, 4:14] = random.integers(0, c.residual_logits, (c.num_codebooks - 1, 10))
        prompt[0, 4:14] = prompt[1, 4:14] + self.tokenizer.semantic_begin_id
        return prompt


@pytest.fixture(scope="module", params=MEMBERS)
def rig(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Rig:
    return Rig(MEMBERS[request.param], tmp_path_factory.mktemp(request.param))


def test_sizes_come_from_the_configuration(rig: Rig, request: pytest.FixtureRequest) -> None:
    member = MEMBERS[request.node.callspec.params["rig"]]
    for name, value in member.config.items():
        assert getattr(rig.config, name) == value, name
    everything = request.node.callspec.params["rig"] == "s2-pro"
    assert (rig.config.residual_logits == rig.config.codebook_size) == (everything or rig.config.codebook_size == 32)
    assert rig.config.projects_fast_input == (rig.config.dim != rig.config.fast_dim)
    assert facts("model", rig.path).precisions == ("fp32", "int8", "int4")


@pytest.mark.parametrize(
    "sampling",
    [
        Sampling(temperature=0, repetition_penalty=1.0),
        Sampling(temperature=0.8, top_p=0.8, repetition_penalty=1.2, seed=5, repetition_aware=True),
    ],
    ids=["greedy", "drawn"],
)
def test_tokens_equal_the_reference(rig: Rig, sampling: Sampling) -> None:
    runtime = rig.runtime("fp32")
    for seed in range(3):
        ids = {"begin": runtime.begin, "im_end": runtime.im_end}
        wanted = networks.generate(rig.state, rig.config, rig.prompt(seed), sampling, 24, **ids)
        np.testing.assert_array_equal(speak(runtime, rig.prompt(seed), sampling, 24), wanted)


# Relative error of the logits (RMS) at sizes so small that little averages out.
@pytest.mark.parametrize(("precision", "limit"), [("int8", 0.08), ("int4", 0.45)])
def test_quantised_logits_are_close(rig: Rig, precision: str, limit: float) -> None:
    exact, rough = rig.runtime("fp32"), rig.runtime(precision)
    wanted = np.stack([logits_of(exact, rig.prompt(seed)) for seed in range(4)])
    found = np.stack([logits_of(rough, rig.prompt(seed)) for seed in range(4)])
    assert 0 < np.sqrt(np.square(found - wanted).mean() / wanted.var()) < limit


def test_samples_are_close_to_the_reference(rig: Rig) -> None:
    state = networks.published(rig.published / random_checkpoint.CODEC_FILE)
    codec, random = rig.config.codec, np.random.default_rng(0)
    codes = np.stack([random.integers(0, codec.book_size(book), 9) for book in range(codec.num_codebooks)])
    decoder = load_decoder(rig.path, codec, THREADING, quantizer="fp32", conv_impl="fp32")
    wanted = networks.decode(state, codec, codes)
    np.testing.assert_allclose(decoder.decode(decoder.start(), codes), wanted, atol=1e-4)


def test_all_published_layouts_give_the_same_tensors(tmp_path: Path) -> None:
    """`random_checkpoint` writes the same tensors for the same seed."""
    flags = {"scale_codebook_embeddings": True, "norm_fast_input": True}
    states = []
    for spelling in ("flat", "nested", "split"):
        path = random_checkpoint.write(tmp_path / spelling, config=flags, spelling=spelling)
        config = Config.read(path)
        states.append((asdict(config), read_model(path / random_checkpoint.MODEL_FILE, config)))
    (flat, tensors), (nested, again), (split, third) = states
    assert split == flat
    ids = ("semantic_begin_id", "semantic_end_id", "im_end_id")
    assert {**nested, **dict.fromkeys(ids)} == flat
    assert json.loads((tmp_path / "nested" / "config.json").read_text())["eos_token_id"] == nested["im_end_id"]
    for other in (again, third):
        assert other.keys() == tensors.keys()
        assert all(torch.equal(other[name], tensors[name]) for name in tensors)
