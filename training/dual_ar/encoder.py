"""Train the codec's way from sound to codes: only a reference clip needs it.

    python -m training.dual_ar.encoder --data DATA --run RUN --minutes 20

From a waveform nothing is learned in minutes, so it begins as what is known to help. The strided convolutions carry the
last 160 samples on as they are to the last of them, which is a bank of filters; the transformer's first feed-forward
layer squares and adds what they say. Then every 5 ms the teacher's own frame is asked for (`frame`), and the
convolutions after it begin as the projection of ten frames to a latent that the books were counted with. At last a
transformer over blocks, whose phones stand in directions of their own (`NAMED`), so that what a block is called does
not bend what it sounds like.

The books stay. RUN/encoder.pt, RUN/encoder.jsonl; schedules and resumption as in `train.py`.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional as fn

from saywell.models.dual_ar.codec_nets import Codec, ConvNeXt, EncoderBlock, WindowTransformer
from saywell.models.dual_ar.codec_nets import Encoder as Trunk
from saywell.models.wren.phones import SPEAKERS
from saywell.models.wren.source import HOP, ORDER
from training import command
from training.dual_ar.blocks import BLOCK, SAMPLES, STRENGTHS, Blocks, read
from training.dual_ar.books import LATENT, PERIODS_AT, WIDTH, Books, flat
from training.dual_ar.loop import Stage, run
from training.dual_ar.sizes import CODEC

ROWS, BLOCKS = 12, 24
CONTEXT = 3
RATE = 2e-3
SHARDS = 12
FRAME = ORDER + 1 + STRENGTHS
"""Numbers of a frame of 5 ms: the first channels behind the first transformer."""
NAMED = slice(PERIODS_AT - WIDTH, PERIODS_AT - 1)
"""Latents that say a block's phones; the components that were there are too weak to be missed."""
STEADY, STEADY_AT = 40.0, LATENT - 1
"""A latent that is always so much, for the last norm to leave the others' lengths alone."""
BANDS, TAPS = 64, 2 * HOP
SHARPNESS = 0.25
"""Of the semantic logits, in nats a neper²."""
SEMANTIC, FRAMES = 0.5, 0.1
"""Weights beside the distance of the latents."""


def bank(samples: Tensor) -> Tensor:
    """Cosines and sines in BANDS bands under a Hann window, each as loud on these samples [2 · BANDS, TAPS]."""
    mel = np.linspace(2595 * np.log10(1 + 90 / 700), 2595 * np.log10(1 + 7400 / 700), BANDS)
    turn = 2 * np.pi * 700 * (10 ** (mel / 2595) - 1) / CODEC.sample_rate
    angle = torch.from_numpy(np.outer(turn, np.arange(TAPS)).astype(np.float32))
    filters = torch.cat([angle.cos(), angle.sin()]) * torch.hann_window(TAPS)
    loud = fn.conv1d(samples[:, None], filters[:, None], stride=HOP).square().mean((0, 2)).sqrt()
    return filters / loud[:, None]


class Encoder(nn.Module):
    """Samples [B, blocks · SAMPLES] → frames [B, blocks · BLOCK, FRAME] and latents [B, blocks, LATENT]."""

    def __init__(self, books: Books) -> None:
        super().__init__()
        codec = Codec(CODEC)
        last = codec.encoder.block[len(CODEC.encoder_rates)]
        self.bank = nn.Conv1d(1, CODEC.encoder_out, TAPS, stride=HOP)
        self.hearing: WindowTransformer = last.block[-1]
        self.snake, self.frame = codec.encoder.block[-2], codec.encoder.block[-1]
        self.downsample, self.pre_module = codec.quantizer.downsample, codec.quantizer.pre_module
        self.register_buffer("entries", torch.from_numpy(books.entries[0]))
        self.entries: Tensor
        projecting(self.downsample, books)
        steady(self.pre_module)

    def forward(self, samples: Tensor) -> tuple[Tensor, Tensor]:
        heard = self.bank(fn.pad(samples[:, None], (TAPS - HOP, 0)))
        frames = self.frame(self.snake(self.hearing(heard)))
        latents = self.pre_module(self.downsample(frames)).transpose(1, 2)
        return frames.transpose(1, 2)[..., :FRAME], latents

    def semantic(self, latents: Tensor) -> Tensor:
        """Logits of the entries [B, blocks, ENTRIES]: squared distances, up to what all have in common."""
        named, length = latents[..., NAMED], 0.5 * self.entries.square().sum(1)
        return SHARPNESS * (named @ self.entries.T - length)

    @torch.no_grad()
    def tune(self, samples: Tensor) -> None:
        """Begin as a bank of filters and their power; `samples` [B, n] are what to expect."""
        self.bank.weight.normal_(0, 0.02)
        self.bank.bias.zero_()[-1] = 1.0  # by this the norms let loudness through
        self.bank.weight[: 2 * BANDS, 0] = bank(samples)
        squaring(self.hearing)

    @torch.no_grad()
    def fill(self, trunk: Trunk) -> None:
        """Write what was learned into the layout's encoder."""
        carry(trunk, self.bank)
        last = trunk.block[len(CODEC.encoder_rates)].block
        last[-1].load_state_dict(self.hearing.state_dict())
        trunk.block[-2].load_state_dict(self.snake.state_dict())
        trunk.block[-1].load_state_dict(self.frame.state_dict())


@torch.no_grad()
def squaring(hearing: WindowTransformer) -> None:
    """The first feed-forward layer: silu(4 c) · c of both signs of a band's cosine and sine, added, is its power."""
    for layer in hearing.layers:
        layer.attention.wo.weight *= 0.3
    forward = hearing.layers[0].feed_forward
    band = torch.arange(BANDS)
    for place, (part, sign) in enumerate([(0, 1.0), (0, -1.0), (1, 1.0), (1, -1.0)]):
        unit, channel = band + place * BANDS, band + part * BANDS
        for matrix, scale in ((forward.w1.weight, 4.0), (forward.w3.weight, 1.0)):
            matrix[unit] *= 0.1
            matrix[unit, channel] = sign * scale
        forward.w2.weight[:, unit] *= 0.1
        forward.w2.weight[band % (CODEC.encoder_out - 2 * BANDS) + 2 * BANDS, unit] = 0.3


@torch.no_grad()
def projecting(downsample: nn.Sequential, books: Books) -> None:
    """Ten frames → the latent they were counted as; channels beyond a frame's are free to carry something else."""
    basis = torch.from_numpy(books.basis).clone()
    basis[:, NAMED] = 0
    cepstrum, period, strengths = basis.split([BLOCK * ORDER, 1, BLOCK * STRENGTHS])
    period = period.expand(BLOCK, -1) / BLOCK
    each = torch.cat([cepstrum.view(BLOCK, ORDER, -1), period[:, None], strengths.view(BLOCK, STRENGTHS, -1)], 1)
    pair, five = (part[0].conv for part in downsample)
    for tap in range(2):
        pair.weight[tap * FRAME : (tap + 1) * FRAME] *= 0.1
        pair.weight[tap * FRAME : (tap + 1) * FRAME, :FRAME, tap] = torch.eye(FRAME)
    pair.bias[: 2 * FRAME] = 0
    known = torch.ones(LATENT, dtype=torch.bool)
    known[NAMED] = False
    five.weight[known] = 0
    for tap in range(5):
        both = each[2 * tap : 2 * tap + 2].reshape(2 * FRAME, -1)
        five.weight[known, : 2 * FRAME, tap] = both.T[known]
    five.bias.zero_()
    five.weight[STEADY_AT], five.bias[STEADY_AT] = 0, STEADY
    for part in downsample:
        neighbours: ConvNeXt = part[1]
        neighbours.gamma.fill_(0.2)
        neighbours.gamma[STEADY_AT] = 0


@torch.no_grad()
def steady(module: WindowTransformer) -> None:
    """Norms that leave lengths as they are where one channel is STEADY and the others are small."""
    length = STEADY / LATENT**0.5
    for layer in module.layers:
        for norm in (layer.attention_norm, layer.ffn_norm):
            norm.weight.fill_(length / 2)
            norm.weight[STEADY_AT] = 0.3
        for scale in (layer.attention_layer_scale, layer.ffn_layer_scale):
            scale.gamma.fill_(0.2)
            scale.gamma[STEADY_AT] = 0
    module.norm.weight.fill_(length)


@torch.no_grad()
def carry(trunk: Trunk, filters: nn.Conv1d) -> None:
    """Strided convolutions that pass samples on, each in a channel of its own, to the last, which filters them."""
    first, last = trunk.block[0].conv, len(CODEC.encoder_rates)
    first.weight.zero_()[0, 0, -1] = 1
    first.bias.zero_()
    ages, pace = [0], 1
    for number, rate in enumerate(CODEC.encoder_rates, 1):
        block: EncoderBlock = trunk.block[number]
        *units, snake, strided = [part for part in block.block if not isinstance(part, WindowTransformer)]
        for unit in units:
            unit.block[-1].conv.weight.zero_()
            unit.block[-1].conv.bias.zero_()
        snake.alpha.fill_(1e-3)
        conv, taps = strided.conv, range(2 * rate) if number == last else range(rate, 2 * rate)
        conv.weight.zero_()
        conv.bias.zero_()
        aged = [(age + (2 * rate - 1 - tap) * pace, channel, tap) for tap in taps for channel, age in enumerate(ages)]
        for place, (age, channel, tap) in enumerate(aged):
            if number < last:
                conv.weight[place, channel, tap] = 1
            else:
                conv.weight[:, channel, tap] = filters.weight[:, 0, TAPS - 1 - age]
        ages, pace = [age for age, _, _ in aged], pace * rate
    conv.bias.copy_(filters.bias)


def clips(data: Path) -> list[tuple[npt.NDArray[np.int16], Blocks]]:
    """Samples and blocks of utterances long enough."""
    found = []
    for voice in SPEAKERS:
        for path in sorted((data / "corpus" / voice).glob("[0-9][0-9][0-9][0-9].npz"))[:SHARDS]:
            with np.load(path) as shard:
                samples, starts = shard["samples"], shard["sample_starts"]
            for one, block in enumerate(read(path)):
                here = samples[starts[one] : starts[one + 1]]
                if len(here) // SAMPLES > BLOCKS:
                    found.append((here, block))
    return found


def batches(
    found: list[tuple[npt.NDArray[np.int16], Blocks]], books: Books, rng: np.random.Generator
) -> Iterator[tuple[Tensor, ...]]:
    """Samples, blocks as `flat` has them, less their mean, and semantic codes of cuts, for ever."""
    while True:
        cut = []
        for place in rng.integers(len(found), size=ROWS):
            samples, block = found[place]
            at = int(rng.integers(len(samples) // SAMPLES - BLOCKS))
            here = slice(at, at + BLOCKS)
            piece = samples[at * SAMPLES : (at + BLOCKS) * SAMPLES].astype(np.float32) / 32768
            part = Blocks(
                "",
                0,
                block.pairs[here],
                block.cepstrum[here],
                block.periods[here],
                block.strengths[here],
                block.letters[here],
            )
            cut.append((piece, flat(part) - books.mean, books.semantic(part.pairs)))
        yield tuple(torch.from_numpy(np.stack(parts)) for parts in zip(*cut, strict=True))


class Judge:
    """How far frames and latents are off."""

    def __init__(self, books: Books) -> None:
        self.basis = torch.from_numpy(books.basis)
        heard = np.concatenate(books.bases[1:], 1)
        # Only what the residual books look at counts, and twice what more than one of them does.
        self.heard = torch.from_numpy(np.linalg.qr(heard)[0].astype(np.float32))
        self.heard[NAMED] = 0
        self.heard[STEADY_AT] = 0

    def __call__(self, model: Encoder, batch: tuple[Tensor, ...]) -> dict[str, Tensor]:
        """distance: mean square, in nepers² of a frame; frames: the same before blocks are made; semantic: nats."""
        samples, blocks, codes = batch
        frames, latents = model(samples)
        latents, known, codes = latents[:, CONTEXT:], blocks[:, CONTEXT:], codes[:, CONTEXT:]
        cepstrum, period, strengths = blocks.split([BLOCK * ORDER, 1, BLOCK * STRENGTHS], -1)
        parts = (cepstrum.unflatten(-1, (BLOCK, ORDER)), period[..., None].expand(-1, -1, BLOCK, 1))
        wanted = torch.cat([*parts, strengths.unflatten(-1, (BLOCK, STRENGTHS))], -1).flatten(1, 2)
        logits = model.semantic(latents)
        return {
            "distance": ((latents - known @ self.basis) @ self.heard).square().sum(-1).mean() / BLOCK,
            "frames": (frames - wanted)[:, CONTEXT * BLOCK :].square().sum(-1).mean(),
            "semantic": fn.cross_entropy(logits.flatten(0, 1), codes.flatten()),
            "named": (logits.argmax(-1) == codes).float().mean(),
        }


def total(found: dict[str, Tensor]) -> Tensor:
    return found["distance"] + FRAMES * found["frames"] + SEMANTIC * found["semantic"]


def train(data: Path, folder: Path, minutes: float, cool: float, seed: int = 1) -> Path:
    """Train for `minutes` of computing, those of earlier calls included. Returns the checkpoint."""
    torch.manual_seed(seed)
    books = Books.load(folder / "books.npz")
    found, model, judge = clips(data), Encoder(books), Judge(books)
    model.tune(next(batches(found, books, np.random.default_rng(seed)))[0])
    stage = Stage("encoder", folder, model, RATE, minutes, cool)
    return run(
        stage,
        lambda step: batches(found, books, np.random.default_rng([seed, step])),
        lambda batch: judge(model, batch),
        total,
    )


if __name__ == "__main__":
    command.run(__doc__, train, 0.6)
