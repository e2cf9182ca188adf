"""The transformers: against a second implementation, alone and in a batch, in every variant of the family."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from benchmarks import random_checkpoint
from reference import naive
from reference.nets import DualAR, RMSNorm, generate, rotary_table, rotate
from saywell.errors import InvalidRequest, ModelFailure, TooLarge
from saywell.models.dual_ar import prompt
from saywell.models.dual_ar.config import Config
from saywell.models.dual_ar.convert.checkpoint import read_model
from saywell.models.dual_ar.sampling import Sampling
from saywell.models.dual_ar.tokenizer import Tokenizer

GREEDY = Sampling(temperature=0.0, repetition_penalty=1.0)
VARIANTS: dict[str, dict[str, Any]] = {
    "s1-mini": {},
    "tied": {"tie_word_embeddings": True},
    "biases": {"attention_qkv_bias": True, "attention_o_bias": True},
    "scaled": {"scale_codebook_embeddings": True},
    "projected": {"fast_dim": 48, "fast_intermediate_size": 96},
    "no qk norm": {"attention_qk_norm": False},
    "after the norm": {"norm_fast_input": True, "fast_attention_qk_norm": True},
    "all heads": {"n_local_heads": 4, "fast_n_local_heads": 4},
}


@dataclass
class Loaded:
    path: Path
    config: Config
    tokenizer: Tokenizer
    net: DualAR

    def prompt(self, text: str, *references: prompt.Reference) -> prompt.Matrix:
        return prompt.build(self.tokenizer, self.config, text, references)


def loaded(path: Path, seed: int = 0, **config: Any) -> Loaded:
    random_checkpoint.write(path, "tiny", seed, config)
    sizes = Config.read(path)
    tokenizer = Tokenizer.read(path, sizes)
    return Loaded(path, sizes, tokenizer, DualAR.load(sizes, tokenizer, read_model(path / "model.pth", sizes)))


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Loaded:
    return loaded(tmp_path_factory.mktemp("tiny"))


def codes_of(tiny: Loaded, frames: int) -> np.ndarray[Any, Any]:
    return np.random.default_rng(3).integers(0, 32, (tiny.config.num_codebooks, frames))


@pytest.mark.parametrize("variant", VARIANTS)
def test_greedy_tokens_and_logits_are_those_of_the_second_implementation(tmp_path: Path, variant: str) -> None:
    one = loaded(tmp_path, 1, **VARIANTS[variant])
    start = one.prompt("Hello!", ("Who?", codes_of(one, 5)))
    state = naive.published(tmp_path / "model.pth")
    sizes = asdict(one.config)
    begin, im_end = one.tokenizer.semantic_begin_id, one.tokenizer.im_end_id

    logits, hidden = one.net(torch.from_numpy(start)[None], torch.zeros(1, dtype=torch.long), one.net.new_cache(1, 64))
    wanted, wanted_hidden = naive.slow(state, sizes, start, begin)
    allowed = [*range(begin, begin + one.config.codebook_size), im_end]
    np.testing.assert_allclose(logits[0], wanted[allowed], atol=2e-4)
    np.testing.assert_allclose(hidden[0], wanted_hidden, atol=2e-4)

    frames = generate(one.net, start, GREEDY, 12)
    second = naive.greedy(state, sizes, start, 12, begin, im_end, one.config.residual_logits)
    np.testing.assert_array_equal(frames, second)
    assert frames.shape[1] > 1


def test_prompt_at_once_equals_prompt_in_pieces(tiny: Loaded) -> None:
    columns = torch.from_numpy(tiny.prompt("One two three.", ("Ref.", codes_of(tiny, 4))))[None]
    whole, hidden = tiny.net(columns, torch.tensor([0]), tiny.net.new_cache(1, 64))
    cache, at = tiny.net.new_cache(1, 64), 0
    for piece in columns.split([1, 7, columns.shape[2] - 8], dim=2):
        logits, last = tiny.net(piece, torch.tensor([at]), cache)
        at += piece.shape[2]
    torch.testing.assert_close(logits, whole, atol=1e-5, rtol=0)
    torch.testing.assert_close(last, hidden, atol=1e-5, rtol=0)


def test_rows_of_different_ages_share_a_step(tiny: Loaded) -> None:
    prompts = [tiny.prompt(text) for text in ("Yes.", "A much longer sentence than that.", "Hm?")]
    cache = tiny.net.new_cache(3, 64)
    alone = []
    frame = torch.tensor([tiny.tokenizer.semantic_begin_id + 5, 5, 1, 2, 3])[:, None]
    for row, each in enumerate(prompts):
        tiny.net(torch.from_numpy(each)[None], torch.tensor([0]), cache.row(row))
        own = tiny.net.new_cache(1, 64)
        tiny.net(torch.from_numpy(each)[None], torch.tensor([0]), own)
        alone.append(tiny.net(frame[None], torch.tensor([each.shape[1]]), own)[0][0])
    lengths = torch.tensor([each.shape[1] for each in prompts])
    together, _ = tiny.net(frame.expand(3, -1, -1), lengths, cache)
    torch.testing.assert_close(together, torch.stack(alone), atol=1e-5, rtol=0)


def test_codes_count_at_semantic_positions_only(tiny: Loaded) -> None:
    text = torch.tensor([[[65], [1], [2], [3], [4]]])
    torch.testing.assert_close(tiny.net.embed(text)[0, 0], tiny.net.embeddings.weight[65])


def test_generation_is_repeatable_and_seeds_differ(tiny: Loaded) -> None:
    start = tiny.prompt("Say something, please.")
    once, again, other = (generate(tiny.net, start, Sampling(seed=seed), 30) for seed in (5, 5, 6))
    np.testing.assert_array_equal(once, again)
    assert not np.array_equal(once, other)


def test_frames_hold_token_and_codes(tiny: Loaded) -> None:
    frames = generate(tiny.net, tiny.prompt("Hello there."), Sampling(seed=2), 40)
    assert frames.dtype == np.int64
    assert frames.shape[0] == 1 + tiny.config.num_codebooks
    np.testing.assert_array_equal(frames[0] - tiny.tokenizer.semantic_begin_id, frames[1])
    assert frames[1:].min() >= 0
    assert frames[1].max() < tiny.config.codebook_size
    assert frames[2:].max() < tiny.config.residual_logits


def test_some_sequences_end_by_themselves(tiny: Loaded) -> None:
    lengths = {generate(tiny.net, tiny.prompt("Hello."), Sampling(seed=seed), 60).shape[1] for seed in range(6)}
    assert min(lengths) < 60
    assert len(lengths) > 1


def test_length_limits(tiny: Loaded) -> None:
    assert generate(tiny.net, tiny.prompt("Hi"), Sampling(seed=1), 1).shape[1] <= 1
    long = np.repeat(tiny.prompt("x"), 600, axis=1)[:, :1024]
    with pytest.raises(TooLarge, match="1024 positions"):
        generate(tiny.net, long, GREEDY, 5)


def test_nan_is_a_model_failure(tiny: Loaded, tmp_path: Path) -> None:
    broken = loaded(tmp_path)
    broken.net.norm.weight[3] = float("nan")
    with pytest.raises(ModelFailure, match="NaN"):
        generate(broken.net, broken.prompt("Hi"), Sampling(), 3)


def test_rotary_table_is_rounded_to_bfloat16() -> None:
    table = rotary_table(300, 32, 1e6)
    assert table.dtype == torch.bfloat16
    exact = torch.cos(torch.tensor(299.0))
    assert table[299, 0, 0].float() == exact.bfloat16().float() != exact


def test_rotary_turns_interleaved_pairs() -> None:
    x = torch.zeros(1, 1, 1, 4)
    x[..., 0] = 1.0
    turned = rotate(x, torch.tensor([[[[0.0, 1.0], [1.0, 0.0]]]]))
    assert turned.flatten().tolist() == [0.0, 1.0, 0.0, 0.0]


def test_norm_casts_before_the_weight() -> None:
    norm = RMSNorm(3, 1e-6).to(torch.bfloat16)
    with torch.no_grad():
        norm.weight.copy_(torch.tensor([1.01, 0.3, 2.7]))
    x = torch.tensor([0.3, -1.7, 5.1]).bfloat16()
    wide = x.float() * torch.rsqrt(x.float().square().mean() + 1e-6)
    assert torch.equal(norm(x), wide.bfloat16() * norm.weight)


def test_prompt_rows(tiny: Loaded) -> None:
    codes = codes_of(tiny, 3)
    matrix = tiny.prompt("b", ("a", codes))
    tokenizer = tiny.tokenizer
    speaker = tokenizer.encode("<|speaker:0|>")
    assert len(speaker) > 1
    row = [tokenizer.control("<|interleave|>"), *speaker, *tokenizer.encode("a")]
    audio = slice(len(row), len(row) + 3)
    row += [int(code) + tokenizer.semantic_begin_id for code in codes[0]]
    row += [tokenizer.im_end_id, *speaker, *tokenizer.encode("b")]
    assert matrix[0].tolist() == row
    np.testing.assert_array_equal(matrix[1:, audio], codes)
    assert not np.delete(matrix[1:], np.r_[audio], axis=1).any()


@pytest.mark.parametrize(
    "codes", [np.zeros((3, 2), int), np.zeros(4, int), np.full((4, 2), 64), np.full((4, 2), -1), np.zeros((4, 2))]
)
def test_codes_of_another_model_are_refused(tiny: Loaded, codes: np.ndarray[Any, Any]) -> None:
    with pytest.raises(InvalidRequest, match="reference codes"):
        tiny.prompt("b", ("a", codes))


@pytest.fixture
def full_size(tmp_path: Path) -> Iterator[Path]:
    yield random_checkpoint.write(tmp_path, "full")
    shutil.rmtree(tmp_path)  # 3.6 GB that pytest would keep


@pytest.mark.slow
def test_full_size_speaks(full_size: Path) -> None:
    sizes = Config.read(full_size)
    tokenizer = Tokenizer.read(full_size, sizes)
    net = DualAR.load(sizes, tokenizer, read_model(full_size / "model.pth", sizes))
    frames = generate(net, prompt.build(tokenizer, sizes, "Hello there."), GREEDY, 4)
    assert frames.shape == (11, 4)
    assert len(set(frames[0])) > 1
