"""The acoustic model: symbols → durations, and frames of F0, voicing, mel cepstrum and strengths.

Parallel: an encoder over symbols predicts how long each lasts; each symbol's code is repeated over its frames with the
place inside it, two frames (10 ms) are taken as one step, and a decoder of convolutions reads the frames off. Plain
convolutions of three steps: the kind that oneDNN and ONNX Runtime both run near the processor's peak.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from saywell.models.wren.phones import SPEAKERS, SYMBOLS

CODE = 192
WIDTH = 256
ENCODER_DILATIONS = (1, 2, 4, 1, 2, 4)
DECODER_DILATIONS = (1, 2, 4, 2, 1, 1)
CONTEXT = sum(DECODER_DILATIONS)
"""Steps on either side that a step of the decoder sees."""
FRAMES_PER_STEP = 2
PLACES = 10
OUTPUTS = 32
"""log F0, voicing (logit), cepstrum 25, strengths 5."""


class Block(nn.Module):
    """Convolution, rectifier, mixing, residual; time is the last axis."""

    def __init__(self, width: int, kernel: int, dilation: int) -> None:
        super().__init__()
        self.wide = nn.Conv1d(width, width, kernel, padding=kernel // 2 * dilation, dilation=dilation)
        self.mix = nn.Conv1d(width, width, 1)
        self.scale = nn.Parameter(torch.full((width, 1), 0.3))

    def forward(self, x: Tensor) -> Tensor:
        mixed: Tensor = self.mix(functional.relu(self.wide(x)))
        return x + self.scale * mixed


class Encoder(nn.Module):
    """Symbols [batch, symbols], speaker [batch] → codes [batch, CODE, symbols], log frames of each [batch, symbols]."""

    def __init__(self) -> None:
        super().__init__()
        self.symbols = nn.Embedding(len(SYMBOLS), CODE)
        self.speakers = nn.Embedding(len(SPEAKERS), CODE)
        self.blocks = nn.ModuleList(Block(CODE, 5, dilation) for dilation in ENCODER_DILATIONS)
        self.lengths = nn.Sequential(nn.Conv1d(CODE, CODE, 3, padding=1), nn.ReLU(), nn.Conv1d(CODE, 1, 1))

    def forward(self, symbols: Tensor, speaker: Tensor) -> tuple[Tensor, Tensor]:
        known = (symbols > 0).unsqueeze(1).float()
        x = (self.symbols(symbols) + self.speakers(speaker)[:, None]).transpose(1, 2) * known
        for block in self.blocks:
            x = block(x) * known
        return x, self.lengths(x)[:, 0]


class Decoder(nn.Module):
    """Codes of each frame and places in it [batch, frames, ·] → standardised frames [batch, frames, OUTPUTS]."""

    def __init__(self) -> None:
        super().__init__()
        self.place = nn.Linear(PLACES, CODE)
        self.pair = nn.Linear(FRAMES_PER_STEP * CODE, WIDTH)
        self.speakers = nn.Embedding(len(SPEAKERS), WIDTH)
        self.blocks = nn.ModuleList(Block(WIDTH, 3, dilation) for dilation in DECODER_DILATIONS)
        self.read = nn.Conv1d(WIDTH, FRAMES_PER_STEP * OUTPUTS, 1)

    def forward(self, codes: Tensor, places: Tensor, speaker: Tensor, known: Tensor) -> Tensor:
        """`known`: which steps are inside the utterance [batch, 1, steps]; frames: twice as many."""
        batch, frames, _ = codes.shape
        x = functional.relu(codes + self.place(places)).reshape(batch, frames // FRAMES_PER_STEP, -1)
        x = (self.pair(x) + self.speakers(speaker)[:, None]).transpose(1, 2) * known
        for block in self.blocks:
            x = block(x) * known
        read: Tensor = self.read(x)
        return read.transpose(1, 2).reshape(batch, frames, OUTPUTS)


def places(elapsed: Tensor, frames: Tensor) -> Tensor:
    """Where a frame is in its symbol [..., PLACES]: `elapsed` of `frames`, both of natural length."""
    part = elapsed / frames
    waves = [torch.cos(torch.pi * turn * part) for turn in (1, 2, 3, 4)]
    left = frames - elapsed
    near = [torch.exp(-elapsed / 4), torch.exp(-left / 4), torch.exp(-elapsed / 16), torch.exp(-left / 16)]
    return torch.stack([*waves, *near, part, torch.log(frames) / 3], -1)


class Acoustic(nn.Module):
    """Both, and mean and deviation of what the teacher's frames are for each speaker [speakers, OUTPUTS]."""

    mean: Tensor
    deviation: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.encoder, self.decoder = Encoder(), Decoder()
        self.register_buffer("mean", torch.zeros(len(SPEAKERS), OUTPUTS))
        self.register_buffer("deviation", torch.ones(len(SPEAKERS), OUTPUTS))

    def forward(
        self, symbols: Tensor, speaker: Tensor, owner: Tensor, place: Tensor, known: Tensor
    ) -> tuple[Tensor, Tensor]:
        """`owner`: the symbol of each frame [batch, frames]. → log lengths [batch, symbols], standardised frames."""
        codes, lengths = self.encoder(symbols, speaker)
        each = codes.transpose(1, 2).gather(1, owner[..., None].expand(-1, -1, CODE))
        return lengths, self.decoder(each, place, speaker, known)
