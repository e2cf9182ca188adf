"""What chatterbox-tts 0.1.7 makes of the stand-in weights: expected arrays for the tests of `models/chatterbox/s3gen`.

Needs an interpreter with chatterbox-tts, and this repository and its `src` on PYTHONPATH::

    python -m tests.reference.chatterbox_s3gen --record tests/models/chatterbox/recorded_s3gen.npz
    python -m tests.reference.chatterbox_s3gen --full FOLDER [--time]

`--full` writes the same arrays at full size into FOLDER (300 MB of memory for each), for
`python -m benchmarks.chatterbox_s3gen --reference FOLDER`.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import numpy as np
import torch
from chatterbox.models.s3gen import flow_matching, hifigan
from chatterbox.models.s3gen.configs import CFM_PARAMS
from chatterbox.models.s3gen.decoder import ConditionalDecoder
from chatterbox.models.s3gen.f0_predictor import ConvRNNF0Predictor
from chatterbox.models.s3gen.flow import CausalMaskedDiffWithXvec
from chatterbox.models.s3gen.flow_matching import CausalConditionalCFM
from chatterbox.models.s3gen.hifigan import HiFTGenerator
from chatterbox.models.s3gen.transformer.upsample_encoder import PreLookaheadLayer, Upsample1D, UpsampleConformerEncoder

from benchmarks import random_s3gen
from benchmarks.random_tensors import tensor
from saywell.graphs.numerics import Floats
from saywell.models.chatterbox.s3gen.config import MEANFLOW, STANDARD, S3GenConfig
from saywell.models.chatterbox.s3gen.noise import Noise

SEED, PROMPT, TOKENS = 7, 7, 9
"""Of the recorded arrays: seed of the noise, tokens of the prompt and of the speech."""
FULL = (125, 125)
"""Tokens of the prompt and of the speech at full size."""


def modules(config: S3GenConfig, weights: dict[str, Floats]) -> SimpleNamespace:
    """The real modules, with these weights."""
    encoder = UpsampleConformerEncoder(
        input_size=config.width, output_size=config.width, attention_heads=config.heads, linear_units=config.ffn,
        num_blocks=config.blocks,
    )  # fmt: skip
    encoder.pre_lookahead_layer = PreLookaheadLayer(config.width, config.look_ahead)
    encoder.up_layer = Upsample1D(config.width, config.width, config.frames)
    encoder.up_encoders = encoder.up_encoders[: config.up_blocks]
    estimator = ConditionalDecoder(
        in_channels=config.estimator_inputs, out_channels=config.mel, channels=[config.channels],
        attention_head_dim=config.head_dim, n_blocks=config.flow_blocks, num_mid_blocks=config.mid_stages,
        num_heads=config.flow_heads, meanflow=config.meanflow,
    )  # fmt: skip
    cfm = CausalConditionalCFM(spk_emb_dim=config.mel, cfm_params=CFM_PARAMS, estimator=estimator)
    flow = CausalMaskedDiffWithXvec(
        input_size=config.width, vocab_size=config.vocab, spk_embed_dim=config.speaker, encoder=encoder, decoder=cfm
    )
    c = config.vocoder
    hift = HiFTGenerator(
        sampling_rate=config.sample_rate, base_channels=c.base, upsample_rates=list(c.rates),
        upsample_kernel_sizes=list(c.kernels), source_resblock_kernel_sizes=list(c.source_kernels),
        source_resblock_dilation_sizes=[list(c.dilations)] * len(c.rates),
        f0_predictor=ConvRNNF0Predictor(cond_channels=c.f0_channels),
    )  # fmt: skip
    both = torch.nn.ModuleDict({"flow": flow, "mel2wav": hift})
    both.load_state_dict({name: torch.from_numpy(np.array(array)) for name, array in weights.items()}, strict=True)
    both.eval()
    return SimpleNamespace(flow=flow, encoder=encoder, estimator=estimator, hift=hift)


class FixedNoise:
    """Replaces the noise that the modules draw by that of `Noise`."""

    def __init__(self, config: S3GenConfig, noise: Noise, prompt: int, frames: int) -> None:
        self._flow = torch.from_numpy(np.concatenate([noise.prompt(0, prompt), noise.frames(0, frames)]).T[None].copy())
        self._source = torch.from_numpy(noise.source(0, frames).T[None].copy())
        self._phases = torch.from_numpy(noise.phases())[None, :, None]
        self._mel = config.mel

    def randn_like(self, like: torch.Tensor) -> torch.Tensor:
        if like.shape[1] == self._mel:
            return self._flow[..., : like.shape[2]].clone()
        return self._source if like.shape[1] == self._source.shape[1] else torch.zeros_like(like)

    def __enter__(self) -> None:
        uniform = SimpleNamespace(sample=lambda **_: self._phases.clone())
        self._stack = contextlib.ExitStack()
        self._stack.enter_context(mock.patch.object(flow_matching.torch, "randn_like", self.randn_like))
        self._stack.enter_context(mock.patch.object(hifigan, "Uniform", return_value=uniform))
        self._stack.enter_context(contextlib.redirect_stdout(io.StringIO()))
        self._stack.enter_context(contextlib.redirect_stderr(io.StringIO()))

    def __exit__(self, *_: object) -> None:
        self._stack.close()


@torch.inference_mode()
def arrays(config: S3GenConfig, prompt: int, tokens: int, *, timed: bool = False) -> dict[str, Floats]:
    """The arrays of one configuration."""
    real = modules(config, random_s3gen.weights(config))
    speech = torch.from_numpy(random_s3gen.speech(config, tokens))[None]
    prompt_tokens, prompt_mel, speaker = (torch.from_numpy(part)[None] for part in random_s3gen.voice(config, prompt))
    frames, fixed = config.frames * (prompt + tokens), Noise(config, SEED)
    found: dict[str, Any] = {}

    x, mu, cond = (torch.from_numpy(tensor(name, (2, config.mel, frames), SEED)) for name in ("x", "mu", "cond"))
    time_, end = torch.tensor([0.3, 0.3]), torch.tensor([0.7, 0.7])
    mask, target = torch.ones(2, 1, frames), torch.from_numpy(tensor("speaker", (2, config.mel), SEED))
    found["dxdt"] = real.estimator(x, mask, mu, time_, target, cond, r=end if config.meanflow else None)

    given = {
        "prompt_token": prompt_tokens, "prompt_token_len": torch.tensor([prompt]), "prompt_feat": prompt_mel,
        "prompt_feat_len": None, "embedding": speaker,
    }  # fmt: skip
    with FixedNoise(config, fixed, config.frames * prompt, config.frames * tokens):
        joined = real.flow.input_embedding(torch.cat([prompt_tokens, speech], dim=1))
        found["mu"] = real.flow.encoder_proj(real.encoder(joined, torch.tensor([prompt + tokens]))[0])
        real.hift.inference(torch.zeros(1, config.mel, config.frames * tokens))  # the first run allocates memory
        began, spent = time.perf_counter(), time.process_time()
        mel, _ = real.flow.inference(
            token=speech, token_len=torch.tensor([tokens]), finalize=True, n_timesteps=config.steps,
            meanflow=config.meanflow, **given,
        )  # fmt: skip
        flowed, flow_cpu = time.perf_counter(), time.process_time()
        samples, source = real.hift.inference(mel)
        ended, all_cpu = time.perf_counter(), time.process_time()
        found |= {"mel": mel, "samples": samples, "source": source, "f0": real.hift.f0_predictor(mel)}
    if timed:
        found |= {"seconds": np.array([flowed - began, ended - flowed, flow_cpu - spent, all_cpu - flow_cpu])}
    return {name: np.asarray(array, np.float32) for name, array in found.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--record", type=Path)
    parser.add_argument("--full", type=Path)
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    if args.record:
        tiny = {"standard": random_s3gen.TINY, "meanflow": random_s3gen.TINY_MEANFLOW}
        made = {f"{kind}.{name}": array for kind, config in tiny.items()
                for name, array in arrays(config, PROMPT, TOKENS).items()}  # fmt: skip
        np.savez_compressed(args.record, **made)
    if args.full:
        args.full.mkdir(parents=True, exist_ok=True)
        for kind, config in {"standard": STANDARD, "meanflow": MEANFLOW}.items():
            np.savez(args.full / f"{kind}.npz", **arrays(config, *FULL, timed=True))
            print(kind, "done", file=sys.stderr)


if __name__ == "__main__":
    main()
