"""The calibration sentences, and the scales of the int8 KV cache measured on them. Build time only.

One fixed scale for each channel of each layer, so that no sequence depends on another.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from saywell.graphs.numerics import Codes
from saywell.models.dual_ar.onnx.ar_files import scales_file
from saywell.models.dual_ar.onnx.runtime_ar import BROKEN, ArRuntime
from saywell.models.dual_ar.sampling import Sampling
from saywell.runtimes.base import Threading

TEXTS = (
    "The quick brown fox jumps over the lazy dog, doesn't it? 3.5 kilometres in 12 minutes!",
    "Am Anfang war das Wort; später kamen Bücher, Zeitungen und – endlich – das Radio.",
    "今天天气很好，我们一起去公园散步吧。",
    "Il était une fois, dans un pays lointain, une reine qui ne dormait jamais…",
    "Hello! How can I help you today?",
    "The committee will meet again on Thursday, the fourteenth of March, at half past nine in the morning.",
    "She sells sea shells by the sea shore; the shells she sells are surely sea shells.",
    "No. Absolutely not. Who told you that?",
    "Please call Stella and ask her to bring six spoons of fresh snow peas and five thick slabs of blue cheese.",
    "Der Zug nach Hamburg fährt heute ausnahmsweise von Gleis sieben ab.",
    "¿Dónde está la biblioteca? Está al otro lado de la plaza, junto al mercado.",
    "きょうはとてもいい天気ですね。散歩に行きましょう。",
    "In the beginning there was silence, and then, very slowly, a single note.",
    "Your order number is A, seven, nine, four, Q; it will arrive within two days.",
    "Rain fell on the roof all night, and by morning the river had risen over the lower road.",
    "Nel mezzo del cammin di nostra vita mi ritrovai per una selva oscura.",
)
"""Prompts. The frames that the model generates after them are measured too."""
FRAMES = 48


def write_scales(path: Path, out: Path, precision: str, prompts: Sequence[Codes], threads: int) -> list[Path]:
    """Measure the model in `path` on `prompts`, each [1 + num_codebooks, T]; write the cache scales to `out`."""
    longest = max(prompt.shape[1] for prompt in prompts) + FRAMES + 1
    runtime = ArRuntime(path, precision, Threading(threads=threads), slots=len(prompts), max_len=longest, cache="fp32")
    running = [runtime.prefill(prompt, Sampling(seed=seed)) for seed, prompt in enumerate(prompts)]
    going = list(running)
    for _ in range(FRAMES):
        frames = runtime.step(going)
        ended = (BROKEN, runtime.im_end)
        going = [sequence for sequence, frame in zip(going, frames, strict=True) if frame[0] not in ended]
    target = out / scales_file(precision)
    np.save(target, runtime.cache.scales((each.row, each.length) for each in running))
    return [target]
