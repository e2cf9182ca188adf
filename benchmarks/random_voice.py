"""Benchmarks with random weights, which are as fast and as large as trained ones: a voice, and how often to retry."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path
from typing import Any

import numpy as np

from saywell.engine.launch import decide
from saywell.errors import InvalidRequest
from saywell.models.dual_ar.config import Config
from saywell.models.dual_ar.speakers import state_of, voice_store
from saywell.settings import Settings, parse_pairs

TRIES = 4
"""Attempts at a sentence, which random weights can end too early."""
VOICE = "bench"
_TRANSCRIPT = "The parcel came on a wet Tuesday, and nobody in the house had any idea who had sent it."
_VOICE_S = 10.0


def save_voice(model: Path, data: Path) -> None:
    """Save ten seconds of random codes as a voice in the engine's data directory."""
    config = Config.read(model)
    decision = decide(Settings(model_path=model, data_dir=data))
    top = min(config.codec.book_size(book) for book in range(config.num_codebooks))
    shape = (config.num_codebooks, round(_VOICE_S * config.codec.frame_rate))
    codes = np.random.default_rng(0).integers(0, top, shape)
    voice_store(decision.spec, decision.plan).save(VOICE, state_of(codes, _TRANSCRIPT))


def spoken_overrides(options: Namespace, folder: Path) -> dict[str, Any]:
    """Settings from `--set` and `--model`. With `--frames`, for random weights, also a voice saved in `folder`."""
    overrides = parse_pairs(options.set, "the command line")
    if options.model:
        overrides["model"] = options.model
    if not options.frames:
        return overrides
    if not options.model:
        raise InvalidRequest("--frames is for random weights: name their directory with --model", param="frames")
    save_voice(Path(options.model), folder)
    return {**overrides, "data_dir": str(folder), "voice": VOICE}
