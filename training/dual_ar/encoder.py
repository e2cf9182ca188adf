"""Train the codec's way from sound to codes, last: only a reference clip needs it.

    python -m training.dual_ar.encoder --data DATA --run RUN --minutes 10

The teacher's own sound goes in; the latents its frames have come out, and the pair of symbols by their angle. The books
stay. RUN/encoder.pt, RUN/encoder.jsonl; schedules and resumption as in `train.py`.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional as fn

from saywell.models.dual_ar.codec_nets import Codec
from saywell.models.wren.phones import SPEAKERS
from training import command
from training.dual_ar.blocks import SAMPLES, Floats, Ints, read
from training.dual_ar.books import CONSTANT, RADIUS, Books
from training.dual_ar.loop import Stage, run
from training.dual_ar.sizes import CODEC

ROWS, BLOCKS = 8, 24
CONTEXT = 4
RATE = 2e-3
SHARDS = 8
SHARPNESS = RADIUS**2
"""Cosines → logits: a neper² of distance is a nat, as if entries were Gaussian."""


class Encoder(nn.Module):
    """Samples [B, blocks · SAMPLES] → latents [B, blocks, LATENT]."""

    def __init__(self, books: Books, spread: Floats) -> None:
        super().__init__()
        codec = Codec(CODEC)
        self.encoder, self.downsample, self.pre_module = (
            codec.encoder,
            codec.quantizer.downsample,
            codec.quantizer.pre_module,
        )
        with torch.no_grad():
            self.pre_module.norm.weight.copy_(torch.from_numpy(spread))
        self.register_buffer("basis", torch.from_numpy(books.bases[0]))
        self.register_buffer("entries", torch.from_numpy(books.entries[0]))
        self.basis: Tensor
        self.entries: Tensor

    def forward(self, samples: Tensor) -> Tensor:
        return self.pre_module(self.downsample(self.encoder(samples[:, None]))).transpose(1, 2)

    def semantic(self, latents: Tensor) -> Tensor:
        """Logits of the entries [B, blocks, ENTRIES], as the book will compare them."""
        one, other = (
            fn.normalize(fn.pad(each, (0, 1), value=RADIUS), dim=-1) for each in (latents @ self.basis, self.entries)
        )
        return SHARPNESS * (one @ other.T)


def clips(data: Path, books: Books) -> list[tuple[npt.NDArray[np.int16], Floats, Ints]]:
    """Samples, latents and semantic codes of utterances long enough."""
    found = []
    for voice in SPEAKERS:
        for path in sorted((data / "corpus" / voice).glob("[0-9][0-9][0-9][0-9].npz"))[:SHARDS]:
            with np.load(path) as shard:
                samples, starts = shard["samples"], shard["sample_starts"]
            for one, block in enumerate(read(path)):
                here = samples[starts[one] : starts[one + 1]]
                whole = len(here) // SAMPLES
                if whole > BLOCKS:
                    found.append((here, books.latents(block)[:whole], books.semantic(block.pairs)[:whole]))
    return found


def batches(
    found: list[tuple[npt.NDArray[np.int16], Floats, Ints]], rng: np.random.Generator
) -> Iterator[tuple[Tensor, ...]]:
    """Samples, latents and semantic codes of cuts, each clip a little louder or softer, for ever."""
    while True:
        cut = []
        for place in rng.integers(len(found), size=ROWS):
            samples, latents, codes = found[place]
            at = int(rng.integers(len(latents) - BLOCKS))
            piece = samples[at * SAMPLES : (at + BLOCKS) * SAMPLES].astype(np.float32) / 32768
            cut.append((piece, latents[at : at + BLOCKS], codes[at : at + BLOCKS]))
        yield tuple(torch.from_numpy(np.stack(parts)) for parts in zip(*cut, strict=True))


def losses(model: Encoder, batch: tuple[Tensor, ...]) -> dict[str, Tensor]:
    """distance: mean square, in nepers² of a frame; semantic: nats."""
    samples, wanted, codes = batch
    found = model(samples)[:, CONTEXT:]
    wanted = torch.cat([wanted[:, CONTEXT:, :-1], torch.full_like(wanted[:, CONTEXT:, -1:], CONSTANT)], -1)
    logits = model.semantic(found)
    return {
        "distance": (found - wanted).square().sum(-1).mean() / 10,
        "semantic": fn.cross_entropy(logits.flatten(0, 1), codes[:, CONTEXT:].flatten()),
    }


def total(found: dict[str, Tensor]) -> Tensor:
    return found["distance"] + found["semantic"]


def train(data: Path, folder: Path, minutes: float, cool: float, seed: int = 1) -> Path:
    """Train for `minutes` of computing, those of earlier calls included. Returns the checkpoint."""
    torch.manual_seed(seed)
    books = Books.load(folder / "books.npz")
    found = clips(data, books)
    spread = np.concatenate([latents for _, latents, _ in found[::10]]).std(0) + 0.05
    model = Encoder(books, spread.astype(np.float32))
    stage = Stage("encoder", folder, model, RATE, minutes, cool)
    return run(
        stage,
        lambda step: batches(found, np.random.default_rng([seed, step])),
        lambda batch: losses(model, batch),
        total,
    )


if __name__ == "__main__":
    command.run(__doc__, train, 0.5)
