"""Sizes of another member of the family; generation with a runtime."""

from __future__ import annotations

from typing import Any

import numpy as np

from saywell.models.dual_ar.onnx.runtime_ar import ArRuntime
from saywell.models.dual_ar.sampling import Sampling

RELATIVE: dict[str, Any] = {
    "tie_word_embeddings": True,
    "norm_fast_input": True,
    "attention_qk_norm": False,
    "attention_qkv_bias": True,
    "attention_o_bias": True,
    "fast_attention_qk_norm": True,
    "fast_dim": 48,
    "fast_intermediate_size": 96,
}
"""A member of the family that differs from S1-mini in every flag."""


def speak(runtime: ArRuntime, prompt: np.ndarray, sampling: Sampling, frames: int) -> np.ndarray:
    """As `reference.networks.generate`: [1 + num_codebooks, T], without the end column."""
    running = runtime.prefill(prompt, sampling)
    out = []
    for _ in range(frames):
        frame = runtime.step([running])[0]
        if frame[0] == runtime.im_end:
            break
        out.append(frame)
    runtime.release(running)
    return np.array(out, np.int64).reshape(-1, prompt.shape[0]).T


def logits_of(runtime: ArRuntime, prompt: np.ndarray) -> np.ndarray:
    running = runtime.prefill(prompt, Sampling())
    assert running.ready is not None
    runtime.release(running)
    return running.ready[0]
