"""Train the codec's way from codes to sound: transformer, upsampling, convolutions. The books stay as counted.

    python -m training.dual_ar.decoder --data DATA --run RUN --minutes 20

What it should sound like is computed from the codes (`Books.decode`, `blocks.spoken`), so there is nothing to invent.
RUN/decoder.pt, RUN/decoder.jsonl; schedules and resumption as in `train.py`.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from saywell.models.dual_ar.codec_nets import Codec
from saywell.models.wren.phones import SPEAKERS
from training import command
from training.dual_ar.blocks import Floats, spoken
from training.dual_ar.books import CONSTANT, Books
from training.dual_ar.loop import Stage, run
from training.dual_ar.sizes import CODEC

ROWS, BLOCKS = 6, 22
RATE = 2e-3
FFTS = (1024, 320, 96)
QUIET = 1e-3
WAVE = 20.0


class Decoder(nn.Module):
    """Latents of the books [B, blocks, LATENT] → samples [B, blocks · SAMPLES]."""

    def __init__(self) -> None:
        super().__init__()
        codec = Codec(CODEC)
        self.post_module, self.upsample = codec.quantizer.post_module, codec.quantizer.upsample
        self.decoder = codec.decoder

    def forward(self, latents: Tensor) -> Tensor:
        return self.decoder(self.upsample(self.post_module(latents.transpose(1, 2))))[:, 0]


def spectrum(samples: Tensor, fft: int) -> Tensor:
    return torch.stft(samples, fft, fft // 4, window=torch.hann_window(fft), return_complex=True)


def losses(said: Tensor, wanted: Tensor) -> dict[str, Tensor]:
    """wave: with the high frequencies lifted; log: nepers; ratio: of what differs to what there is."""
    lifted = [each[:, 1:] - 0.7 * each[:, :-1] for each in (said, wanted)]
    found = {"wave": (lifted[0] - lifted[1]).abs().mean(), "log": said.new_zeros(()), "ratio": said.new_zeros(())}
    for fft in FFTS:
        ours, theirs = spectrum(said, fft).abs(), spectrum(wanted, fft).abs()
        floor = QUIET * fft**0.5
        found["log"] += ((ours + floor).log() - (theirs + floor).log()).abs().mean() / len(FFTS)
        found["ratio"] += (ours - theirs).norm() / theirs.norm() / len(FFTS)
    return found


def total(found: dict[str, Tensor]) -> Tensor:
    return WAVE * found["wave"] + found["log"] + 0.5 * found["ratio"]


def codes(data: Path) -> list[Floats]:
    """Codes of the teacher's utterances, those of all voices in turn [blocks, books] each."""
    found = []
    for path in itertools.chain(
        *zip(*(sorted((data / "codes" / voice).glob("*.npz"))[:40] for voice in SPEAKERS), strict=False)
    ):
        with np.load(path) as shard:
            found += np.split(shard["codes"].astype(np.int64), shard["starts"][1:-1])
    return [each for each in found if len(each) > BLOCKS]


def batches(found: list[Any], books: Books, rng: np.random.Generator) -> Iterator[tuple[Tensor, Tensor]]:
    """Latents [ROWS, BLOCKS, LATENT] and samples [ROWS, BLOCKS · SAMPLES], for ever."""
    while True:
        drawn = [found[place] for place in rng.integers(len(found), size=ROWS)]
        cut = [one[at : at + BLOCKS] for one in drawn for at in [rng.integers(len(one) - BLOCKS + 1)]]
        latents = np.stack([books.quantised(one) for one in cut])
        latents[..., -1] = CONSTANT
        yield torch.from_numpy(latents), torch.from_numpy(np.stack([spoken(*books.decode(one)) for one in cut]))


def train(data: Path, folder: Path, minutes: float, cool: float, seed: int = 1) -> Path:
    """Train for `minutes` of computing, those of earlier calls included. Returns the checkpoint."""
    torch.manual_seed(seed)
    books, found, model = Books.load(folder / "books.npz"), codes(data), Decoder()
    stage = Stage("decoder", folder, model, RATE, minutes, cool)
    return run(
        stage,
        lambda step: batches(found, books, np.random.default_rng([seed, step])),
        lambda batch: losses(model(batch[0]), batch[1]),
        total,
    )


if __name__ == "__main__":
    command.run(__doc__, train, 0.5)
