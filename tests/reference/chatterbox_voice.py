"""What the published package chatterbox-tts 0.1.7 makes of reference clips, with random tensors.

    PYTHONPATH=src:. python tests/reference/chatterbox_voice.py             records recorded_voice.npz for the tests
    PYTHONPATH=src:. python tests/reference/chatterbox_voice.py --full DIR  compares and times full-size networks

Needs chatterbox-tts, and for `--full` onnx and onnxruntime. The tests need neither.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import soundfile
import torch
from chatterbox.models.s3gen.s3gen import S3Token2Mel
from chatterbox.models.s3gen.utils.mel import mel_spectrogram
from chatterbox.models.s3gen.xvector import CAMPPlus
from chatterbox.models.s3tokenizer import S3Tokenizer
from chatterbox.models.voice_encoder import VoiceEncConfig, VoiceEncoder
from chatterbox.tts import ChatterboxTTS
from chatterbox.tts_turbo import ChatterboxTurboTTS
from s3tokenizer.model_v2 import S3TokenizerV2

from benchmarks import random_voice_parts
from benchmarks.random_voice_parts import CLIPS, MEL_EVERY
from saywell.models.chatterbox.voice.builtin import NAMES
from saywell.models.chatterbox.voice.config import VoiceConfig

RECORDED = Path(__file__).parents[1] / "models" / "chatterbox" / "recorded_voice.npz"


class S3Gen(S3Token2Mel):
    """The parts of the published class that listen, in any size."""

    def __init__(self, config: VoiceConfig) -> None:
        torch.nn.Module.__init__(self)
        sizes, x = S3TokenizerV2.__init__.__defaults__[0], config.xvector
        sizes.n_audio_layer, sizes.n_audio_state = config.tokenizer.layers, config.tokenizer.dim
        sizes.n_audio_head = config.tokenizer.heads
        self.tokenizer = S3Tokenizer("speech_tokenizer_v2_25hz")
        self.mel_extractor = mel_spectrogram
        self.speaker_encoder = CAMPPlus(
            memory_efficient=False, embedding_size=x.size, growth_rate=x.growth, bn_size=x.bottleneck,
            init_channels=x.channels,
        )  # fmt: skip

    dtype = torch.float32


def models(config: VoiceConfig) -> dict[str, Any]:
    """Kind → the published class with random networks, loaded strictly."""
    hp = VoiceEncConfig()
    hp.ve_hidden_size, hp.speaker_embed_size = config.speaker.hidden, config.speaker.size
    s3gen, ve = S3Gen(config).eval(), VoiceEncoder(hp).eval()
    s3gen.load_state_dict(_tensors(random_voice_parts.s3gen(config)), strict=True)
    ve.load_state_dict(_tensors(random_voice_parts.ve(config)), strict=True)
    made = {}
    for kind, cls, tokens in (("english", ChatterboxTTS, 150), ("turbo", ChatterboxTurboTTS, 375)):
        model = object.__new__(cls)
        model.s3gen, model.ve, model.device = s3gen, ve, "cpu"
        model.t3 = SimpleNamespace(hp=SimpleNamespace(speech_cond_prompt_len=tokens))
        made[kind] = model
    levelled = made["turbo"].norm_loudness
    # The package was written for NumPy 1, where a gain in float64 leaves samples in float32; with NumPy 2 it fails.
    made["turbo"].norm_loudness = lambda wav, rate: levelled(wav, rate).astype(np.float32)
    return made


def _tensors(arrays: dict[str, np.ndarray]) -> dict[str, torch.Tensor]:
    return {name: torch.from_numpy(np.array(each)) for name, each in arrays.items()}


def prepared(model: Any, samples: np.ndarray, rate: int) -> dict[str, np.ndarray]:
    """Of a clip, by `prepare_conditionals`, with the names of `saywell`."""
    with tempfile.NamedTemporaryFile(suffix=".wav") as file, torch.inference_mode():
        soundfile.write(file.name, samples, rate, subtype="FLOAT")
        model.prepare_conditionals(file.name)
    parts = {"t3": vars(model.conds.t3), "gen": model.conds.gen}
    found = {}
    for name, stored in NAMES.items():
        part, _, key = stored.partition(".")
        found[name] = parts[part][key][0].numpy()
    found["prompt_mel"] = found["prompt_mel"][: 2 * len(found["prompt_tokens"])]
    return found


def record() -> None:
    made, arrays = models(random_voice_parts.TINY), {}
    for name, (kind, seconds, rate) in CLIPS.items():
        for key, each in prepared(made[kind], random_voice_parts.clip(seconds, rate), rate).items():
            arrays[f"{name}.{key}"] = each[::MEL_EVERY] if key == "prompt_mel" else each
            if key == "prompt_mel":
                arrays[f"{name}.frames"] = np.array(len(each))
    np.savez_compressed(RECORDED, **arrays)
    print(RECORDED, RECORDED.stat().st_size, {name: each.shape for name, each in arrays.items()})


def compare(directory: Path) -> None:
    """Full size: largest differences, and CPU seconds on one thread, in turns."""
    from saywell.models.chatterbox.voice import graphs
    from saywell.models.chatterbox.voice.runtime import VoiceEncoder as Ours
    from saywell.runtimes.base import Threading

    torch.set_num_threads(1)
    config = VoiceConfig()
    graphs.write(random_voice_parts.s3gen(config), random_voice_parts.ve(config), config, directory)
    ours, made = Ours(directory, Threading(threads=1)), models(config)
    for kind, seconds, rate in (*CLIPS.values(), ("english", 10.0, 24000)):
        samples = random_voice_parts.clip(seconds, rate)
        for turn in range(3):
            start = time.process_time()
            theirs = prepared(made[kind], samples, rate)
            between = time.process_time()
            found = ours(samples, rate, kind)
            print(
                f"{kind} {seconds} s, turn {turn}: {between - start:.2f} s, ours {time.process_time() - between:.2f} s"
            )
        for name, each in theirs.items():
            assert found[name].shape == each.shape
            print(f"  {name} {each.shape}: {np.abs(found[name].astype(float) - each).max():.2e}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--full", type=Path, metavar="DIR", help="compare full-size networks, with graphs in DIR")
    options = parser.parse_args()
    sys.exit(compare(options.full) if options.full else record())
