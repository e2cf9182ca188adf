"""The prompt matrix."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks import random_checkpoint
from saywell.errors import InvalidRequest
from saywell.models.dual_ar import prompt
from saywell.models.dual_ar.config import Config
from saywell.models.dual_ar.tokenizer import Tokenizer


@pytest.fixture(scope="module")
def config() -> Config:
    return Config.parse(random_checkpoint.TINY)


@pytest.fixture(scope="module")
def tokenizer(config: Config, tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    return Tokenizer.read(random_checkpoint.write(tmp_path_factory.mktemp("tokenizer")), config)


def test_codes_of_the_reference_lie_below_their_semantic_tokens(config: Config, tokenizer: Tokenizer) -> None:
    codes = np.random.default_rng(3).integers(0, 32, (config.num_codebooks, 3))
    matrix = prompt.build(tokenizer, config, "b", [("a", codes)])
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
def test_codes_of_another_model_are_rejected(config: Config, tokenizer: Tokenizer, codes: np.ndarray) -> None:
    with pytest.raises(InvalidRequest, match="reference codes"):
        prompt.build(tokenizer, config, "b", [("a", codes)])
