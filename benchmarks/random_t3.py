"""A stand-in for T3: random weights in the published layout, and what is said with them."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from benchmarks.random_tensors import tensor
from saywell.graphs.numerics import Floats
from saywell.models.chatterbox.t3 import layout
from saywell.models.chatterbox.t3.config import ENGLISH, MULTILINGUAL, NANO, TURBO, T3Config
from saywell.models.chatterbox.t3.sampling import DEFAULTS, Sampling

Ids = npt.NDArray[np.int64]
FULL = {"english": ENGLISH, "multilingual": MULTILINGUAL, "turbo": TURBO, "nano": NANO}
TINY = {
    "english": replace(ENGLISH, layers=2, ffn=256),
    "multilingual": replace(MULTILINGUAL, layers=2, ffn=256),
    "turbo": replace(TURBO, layers=3, hidden=128, ffn=512, text_vocab=600),
}
_HEAD = 5.0
"""Factor on the random head: it gives tokens of speech a spread of probability as trained weights do."""


class StandIn(Mapping[str, Floats]):
    """Tensors by published name, made on access."""

    def __init__(self, config: T3Config, seed: int = 0) -> None:
        self.shapes, self._seed = layout.published(config), seed

    def __getitem__(self, name: str) -> Floats:
        array = tensor(name, self.shapes[name], self._seed)
        return array * np.float32(_HEAD) if name == "speech_head.weight" else array

    def __iter__(self) -> Iterator[str]:
        return iter(self.shapes)

    def __len__(self) -> int:
        return len(self.shapes)


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """Something said."""

    model: str
    sampling: Sampling
    tokens: int = 40
    """Most that are drawn."""
    text: int = 20
    prompt: int = 30
    seed: int = field(default=0)


_LLAMA, _GPT2 = DEFAULTS["llama"], DEFAULTS["gpt2"]
CASES = {
    "english": Case(model="english", sampling=replace(_LLAMA, seed=1)),
    "english strong": Case(
        model="english",
        sampling=replace(_LLAMA, seed=2, cfg_weight=1.0, exaggeration=0.9, top_p=0.8, temperature=1.0),
        seed=1,
    ),
    "english free": Case(
        model="english", sampling=replace(_LLAMA, seed=3, cfg_weight=0.0, min_p=0.0, repetition_penalty=2.0), seed=2
    ),
    "multilingual": Case(model="multilingual", sampling=replace(_LLAMA, seed=4), seed=3),
    "turbo": Case(model="turbo", sampling=replace(_GPT2, seed=5), seed=4),
    "turbo narrow": Case(
        model="turbo",
        sampling=replace(_GPT2, seed=6, top_k=50, top_p=0.8, temperature=1.2, repetition_penalty=1.5),
        seed=5,
    ),
}


def text(config: T3Config, count: int, seed: int) -> Ids:
    """Random text ids as upstream's tokeniser gives them."""
    ids = np.random.default_rng(seed).integers(config.start_text + 1, config.text_vocab, count)
    return np.concatenate([[config.start_text], ids, [config.stop_text]]) if config.guided else ids


def voice(config: T3Config, count: int, seed: int) -> tuple[Floats, Ids]:
    """A speaker embedding, and the prompt's tokens."""
    random = np.random.default_rng(seed)
    speaker = random.standard_normal(config.speaker).astype(np.float32)
    return speaker / np.linalg.norm(speaker), random.integers(0, config.start_speech, count)


def write(config: T3Config, path: Path, seed: int = 0) -> None:
    """A safetensors file."""
    from safetensors.numpy import save_file

    save_file(dict(StandIn(config, seed)), path)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", choices=FULL)
    parser.add_argument("out", type=Path, help="the safetensors file")
    options = parser.parse_args()
    write(FULL[options.model], options.out)
