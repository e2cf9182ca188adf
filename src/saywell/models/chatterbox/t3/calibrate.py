"""What lower precisions need to know, measured on prompts: which layers must stay at a higher one, and the scales of an
int8 KV cache. Build time only.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from saywell.graphs.numerics import Floats, Weights
from saywell.models.chatterbox.t3.activations import activations
from saywell.models.chatterbox.t3.conditioning import Ids, Tables
from saywell.models.chatterbox.t3.files import read_config, scales_file
from saywell.models.chatterbox.t3.runtime import BROKEN, T3Runtime
from saywell.models.chatterbox.t3.sampling import Sampling
from saywell.runtimes.base import Threading

FRAMES = 48


@dataclass(frozen=True, slots=True, eq=False)
class Prompt:
    """A voice and a text, as `T3Runtime.voice` and `T3Runtime.prefill` take them."""

    speaker: Floats
    tokens: Ids
    exaggeration: float
    text: Ids


def seen(path: Path, weights: Weights, prompts: Sequence[Prompt]) -> dict[str, Floats]:
    """Layer → its inputs, for the `Judge` of `graph.build`, of published weights whose tables are in `path`."""
    config = read_config(path)
    tables = Tables(path, config)
    return activations(config, weights, [inputs(tables, each) for each in prompts])


def inputs(tables: Tables, prompt: Prompt) -> Floats:
    """Rows of the voice, the text and, as speech after it, the voice's tokens."""
    voice = tables.voice(prompt.speaker, prompt.tokens, prompt.exaggeration)
    text = tables.prompt(prompt.text, len(voice))
    numbers = np.arange(len(prompt.tokens))
    return np.concatenate([voice, text, tables.spoken(prompt.tokens, 1 + numbers, len(voice) + len(text) + numbers)])


def write_scales(path: Path, out: Path, precision: str, prompts: Sequence[Prompt], threads: int) -> list[Path]:
    """Measure the model in `path` on `prompts` and the speech after them; write the cache scales to `out`.

    One fixed scale for each channel of each layer, so that no sequence depends on another. Give eight prompts or more:
    after fewer, values that they did not show are clipped. Returns the file.
    """
    count = len(prompts)
    longest = max(len(each.tokens) + len(each.text) for each in prompts) + 40 + FRAMES
    runtime = T3Runtime(path, precision, Threading(threads=threads), slots=count, max_len=longest, cache="fp32")
    running = []
    for seed, each in enumerate(prompts):
        voice = runtime.voice(each.speaker, each.tokens, each.exaggeration)
        running.append(runtime.prefill(each.text, Sampling.of(runtime.config, seed), voice))
    going = list(running)
    for _ in range(FRAMES):
        tokens = runtime.step(going)
        ended = (BROKEN, runtime.config.stop_speech)
        going = [each for each, token in zip(going, tokens, strict=True) if token not in ended]
    target = out / scales_file(precision)
    np.save(target, runtime.cache.scales((row.row, row.length) for each in running for row in each.rows))
    return [target]
