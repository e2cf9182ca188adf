"""What T3 of chatterbox-tts 0.1.7 says with the stand-in weights: expected arrays for the tests of `chatterbox/t3`.

Needs an interpreter with chatterbox-tts, and this repository and its `src` on PYTHONPATH::

    python -m tests.reference.chatterbox_t3 --record tests/models/chatterbox/recorded_t3.npz
    python -m tests.reference.chatterbox_t3 --full FILE [--models english turbo] [--tokens 48]

`--full` writes the same arrays, and seconds, at full size, for `python -m benchmarks.chatterbox_t3`. Two things of the
modules are replaced: the generator (by the draws of `sampling.draw`: inverse transform in ascending order of id) and
the logits of ids that are no speech (very low, as they are absent in ours).
"""

from __future__ import annotations

import argparse
import contextlib
import io
import time
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
from chatterbox.models.t3 import t3 as upstream
from chatterbox.models.t3.llama_configs import GPT2_MEDIUM_CONFIG, LLAMA_520M_CONFIG_DICT
from chatterbox.models.t3.modules.cond_enc import T3Cond
from chatterbox.models.t3.modules.t3_config import T3Config as UpstreamConfig

from benchmarks import random_t3
from benchmarks.random_t3 import Case
from saywell.models.chatterbox.t3.config import T3Config
from saywell.runtimes.draws import uniforms

SHOWN = 8
"""Every eighth column of logits and rows is recorded."""
_NEVER = -1e9


def module(config: T3Config) -> upstream.T3:
    """The real module with the stand-in weights."""
    hp = UpstreamConfig(text_tokens_dict_size=config.text_vocab)
    if config.kind == "llama":
        LLAMA_520M_CONFIG_DICT.update(num_hidden_layers=config.layers, intermediate_size=config.ffn)
    else:
        GPT2_MEDIUM_CONFIG.update(
            n_layer=config.layers, n_embd=config.hidden, hidden_size=config.hidden, n_head=config.heads,
            vocab_size=config.text_vocab,
        )  # fmt: skip
        hp.llama_config_name, hp.input_pos_emb = "GPT2_medium", None
        hp.speech_tokens_dict_size, hp.speech_cond_prompt_len = config.speech_vocab, config.prompt_tokens
        hp.use_perceiver_resampler = hp.emotion_adv = False
    with torch.device("meta"):
        real = upstream.T3(hp)
    real = real.to_empty(device="cpu")
    # Rotary frequencies are no tensors of the file: made again, because `meta` has none.
    if config.kind == "llama":
        real.tfmr.rotary_emb = type(real.tfmr.rotary_emb)(real.cfg)
    state = {name: torch.from_numpy(array) for name, array in random_t3.StandIn(config).items()}
    real.load_state_dict(state, strict=True, assign=True)
    return real.eval()


def arrays(case: Case, config: T3Config, real: upstream.T3) -> dict[str, Any]:
    """Rows of the voice, tokens drawn (with the end, if it was), logits of each draw [draw, 1 or 2, …], and seconds of
    all cores and of the clock."""
    s = case.sampling
    speaker, prompt = random_t3.voice(config, case.prompt, case.seed)
    cond = T3Cond(
        speaker_emb=torch.from_numpy(speaker)[None],
        cond_prompt_speech_tokens=torch.from_numpy(prompt)[None],
        emotion_adv=s.exaggeration * torch.ones(1, 1, 1),
    )
    never = torch.tensor(sorted(set(range(config.speech_vocab)) - set(config.emitted)))
    logits: list[np.ndarray] = []
    drawn: list[int] = []

    def head(_module: Any, _inputs: Any, output: torch.Tensor) -> torch.Tensor:
        logits.append(output[:, -1, config.emitted].numpy().copy())
        return output.index_fill(-1, never, _NEVER)

    def multinomial(probabilities: torch.Tensor, **_: Any) -> torch.Tensor:
        heap = np.cumsum(probabilities.numpy()[0].astype(np.float64))
        place = np.searchsorted(heap, uniforms(s.seed, len(drawn), 1)[0] * heap[-1], side="right")
        drawn.append(int(place))
        return torch.tensor([[place]])

    hook = real.speech_head.register_forward_hook(head)
    quiet = contextlib.redirect_stderr(io.StringIO())
    with torch.inference_mode(), mock.patch.object(torch, "multinomial", multinomial), quiet:
        rows = real.prepare_conditioning(cond)[0].numpy()
        text = torch.from_numpy(random_t3.text(config, case.text, case.seed))[None]
        began = time.process_time(), time.perf_counter()
        if config.kind == "llama":
            # Twice also without guidance, which crashes otherwise.
            real.inference(
                t3_cond=cond, text_tokens=text.repeat(2, 1), max_new_tokens=case.tokens, temperature=s.temperature,
                top_p=s.top_p, min_p=s.min_p, repetition_penalty=s.repetition_penalty, cfg_weight=s.cfg_weight,
            )  # fmt: skip
        else:
            real.inference_turbo(
                cond, text, temperature=s.temperature, top_k=s.top_k, top_p=s.top_p,
                repetition_penalty=s.repetition_penalty, max_gen_len=case.tokens - 1,
            )  # fmt: skip
        seconds = np.array([time.process_time(), time.perf_counter()]) - began
    hook.remove()
    return {"rows": rows, "tokens": np.array(drawn), "logits": np.stack(logits[: case.tokens]), "seconds": seconds}


def record(path: Path) -> None:
    made = {}
    with mock.patch.object(UpstreamConfig, "is_multilingual", False):  # no alignment analyser
        for name, case in random_t3.CASES.items():
            config = random_t3.TINY[case.model]
            found = arrays(case, config, module(config))
            made[f"{name}/rows"] = found["rows"][:, ::SHOWN]
            made[f"{name}/tokens"] = found["tokens"]
            made[f"{name}/logits"] = found["logits"][:2, :, ::SHOWN]
    np.savez_compressed(path, **made)


def full(path: Path, models: list[str], tokens: int) -> None:
    made = {}
    with mock.patch.object(UpstreamConfig, "is_multilingual", False):
        for model in models:
            config = random_t3.FULL[model]
            real = module(config)
            for name, case in random_t3.CASES.items():
                if case.model == model:
                    found = arrays(replace(case, tokens=tokens), config, real)
                    made |= {f"{name}/{key}": array for key, array in found.items()}
                    print(name, f"{len(found['tokens']) / found['seconds'][1]:.2f} tokens/s")
            del real
    np.savez(path, **made)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--record", type=Path)
    parser.add_argument("--full", type=Path)
    parser.add_argument("--models", nargs="*", default=["english", "multilingual", "turbo"])
    parser.add_argument("--tokens", type=int, default=48)
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    if args.record:
        record(args.record)
    if args.full:
        full(args.full, args.models, args.tokens)


if __name__ == "__main__":
    main()
