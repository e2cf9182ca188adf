"""Train both transformers on the codes of the corpus.

    python -m training.dual_ar.train --data DATA --run RUN --minutes 60

Schedules go by computing time, as in `training.wren.train`. What the model hears of its own past is damaged while it
learns, a different part of each sequence: it will have to live with its own mistakes. In every other step its weights
are damaged too, by as much as int4 will. RUN/ar.pt is written every two
minutes and resumed from; RUN/ar.jsonl: a line every half minute.
"""

from __future__ import annotations

import contextlib
import copy
import json
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from torch import Tensor, nn
from torch.nn import functional as fn

from saywell.models.dual_ar.linears import block_of
from training import command
from training.dual_ar.books import ENTRIES, Books
from training.dual_ar.nets import Training
from training.dual_ar.sequences import NONE, Batch, Speech, collate, grouped, sequence
from training.schedule import rate_at

POSITIONS = 2600
"""Of a batch."""
RATE = 2e-3
KEEP = 0.998
LOG_S, SAVE_S = 30.0, 120.0
WRONG, DROPPED = 0.3, 0.5
"""At most such a part of a sequence's codes is wrong, of its frames unheard."""
FAST_SHARE = 0.4
"""Of the frames, drawn anew each time, the fast transformer learns from."""
GUIDED = 0.3
CENTRED = 0.02
"""Weight of the log of the partition function, squared: logits become log probabilities, which a repetition penalty
hardly touches where the model is sure."""

ROUNDED = 0.5
"""Of the steps are learned with weights as far off as 4 bits may put them."""


@contextlib.contextmanager
def rounded(model: Training, random: torch.Generator) -> Iterator[None]:
    """Inside, the weights that int4 rounds are off by up to half a step of it, at random (Fan et al., "Training with
    quantization noise", ICLR 2021); afterwards they are what they were."""
    layers = [*model.net.layers, *model.net.fast_layers]
    weights = [each.weight for layer in layers for each in layer.modules() if isinstance(each, nn.Linear)]
    kept = [weight.detach().clone() for weight in weights]
    with torch.no_grad():
        for weight in weights:
            blocks = weight.view(len(weight), -1, block_of(weight.shape[1], "w4"))
            step = blocks.abs().amax(-1, keepdim=True) / 8
            blocks += (torch.rand(blocks.shape, generator=random) - 0.5) * step
    yield
    with torch.no_grad():
        for weight, before in zip(weights, kept, strict=True):
            weight.copy_(before)


def damaged(codes: Tensor, random: torch.Generator) -> Tensor:
    """Codes as heard: some replaced by others of the batch, some frames missing; NONE stays NONE."""
    rows = (codes.shape[0], 1, 1)
    wrong = torch.rand(rows, generator=random) * WRONG
    dropped = (torch.rand(rows, generator=random) * 2 * DROPPED - DROPPED).clamp(min=0)
    spoken = codes[codes[..., 0] != NONE]
    other = spoken[torch.randint(len(spoken), codes.shape[:2], generator=random)]
    known = codes != NONE
    heard = torch.where((torch.rand(codes.shape, generator=random) < wrong) & known & (other != NONE), other, codes)
    unheard = torch.rand(codes.shape[:2], generator=random)[..., None] < dropped
    return torch.where(unheard & known, NONE, heard)


def losses(model: Training, batch: Batch, random: torch.Generator | None) -> dict[str, Tensor]:
    """Cross entropies in nats; `random`: what damages the past and draws frames, None: nothing does."""
    heard = damaged(batch.codes, random) if random else batch.codes
    out = model.slow(batch.tokens, heard, batch.letters)
    says = batch.semantic != NONE
    logits, wanted = out.semantic[says], batch.semantic[says]
    full = says & (batch.semantic < ENTRIES) & (batch.residual[..., 0] != NONE)
    if random:
        full &= torch.rand(full.shape, generator=random) < FAST_SHARE
    found = {
        "semantic": fn.cross_entropy(logits, wanted),
        "centre": torch.logsumexp(logits, -1).square().mean(),
        "guided": out.guided,
    }
    if full.any():
        codes = batch.residual[full]
        fast = model.fast(out.hidden[full], batch.semantic[full], codes)
        found["centre"] = found["centre"] + torch.logsumexp(fast, -1).square().mean()
        for book in range(codes.shape[1]):
            found[f"book {book + 1}"] = fn.cross_entropy(fast[:, book], codes[:, book])
    return found


def total(found: dict[str, Tensor], guided: float) -> Tensor:
    books = [value for name, value in found.items() if name.startswith("book")]
    loss = found["semantic"] * 2 + CENTRED * found["centre"] + guided * found["guided"]
    return loss + torch.stack(books).mean() if books else loss


def means(recent: list[dict[str, Tensor]]) -> dict[str, float]:
    """Of each loss over the steps that had it."""
    names = dict.fromkeys(name for one in recent for name in one)
    return {name: float(torch.stack([one[name] for one in recent if name in one]).mean()) for name in names}


@dataclass
class Run:
    """What is saved: both weights, the optimiser, steps and seconds computed."""

    model: Training
    average: Training = field(init=False)
    optimiser: torch.optim.Optimizer = field(init=False)
    step: int = 0
    seconds: float = 0.0

    def __post_init__(self) -> None:
        self.average = copy.deepcopy(self.model)
        self.optimiser = torch.optim.AdamW(self.model.parameters(), RATE, betas=(0.9, 0.98), weight_decay=0.02)

    def save(self, path: Path) -> None:
        parts = {name: getattr(self, name).state_dict() for name in ("model", "average", "optimiser")}
        torch.save({**parts, "step": self.step, "seconds": self.seconds}, path.with_suffix(".part"))
        path.with_suffix(".part").replace(path)

    def load(self, path: Path) -> None:
        saved: dict[str, Any] = torch.load(path, weights_only=True)
        for name in ("model", "average", "optimiser"):
            getattr(self, name).load_state_dict(saved[name])
        self.step, self.seconds = saved["step"], saved["seconds"]

    def advance(self, batch: Batch, rate: float, guided: float) -> dict[str, Tensor]:
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        random = torch.Generator().manual_seed(self.step)
        off = rounded(self.model, random) if torch.rand((), generator=random) < ROUNDED else contextlib.nullcontext()
        with off:
            found = losses(self.model, batch, random)
            self.optimiser.zero_grad(set_to_none=True)
            loss: Any = total(found, guided)
            loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimiser.step()
        keep = min(KEEP, (1 + self.step) / (10 + self.step))
        with torch.no_grad():
            for mine, theirs in zip(self.average.parameters(), self.model.parameters(), strict=True):
                mine.lerp_(theirs, 1 - keep)
        self.step += 1
        return found


def validate(model: Training, speech: Speech) -> dict[str, float]:
    chosen = sorted(
        (sequence([one]) for one in speech.valid[:: max(1, len(speech.valid) // 60)]), key=lambda s: s.length
    )
    with torch.no_grad():
        return means([losses(model, collate(group), None) for group in grouped(chosen, POSITIONS)])


def train(data: Path, folder: Path, minutes: float, cool: float, seed: int = 1) -> Path:
    """Train for `minutes` of computing, those of earlier calls included. Returns the checkpoint."""
    torch.manual_seed(seed)
    speech = Speech(data)
    run = Run(Training(torch.from_numpy(Books.load(folder / "books.npz").pairs)))
    state = folder / "ar.pt"
    if state.exists():
        run.load(state)
    batches = speech.batches(POSITIONS, np.random.default_rng([seed, run.step]))
    before, logged, saved = run.seconds - time.process_time(), run.seconds, run.seconds
    recent: list[dict[str, Tensor]] = []
    columns = (TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn())
    with Progress(*columns, disable=not os.isatty(1)) as progress, (folder / "ar.jsonl").open("a") as log:
        bar = progress.add_task("Training", total=minutes * 60)
        while run.seconds < minutes * 60:
            part = run.seconds / (minutes * 60)
            found = run.advance(next(batches), rate_at(RATE, run.step, part, cool), GUIDED * (1 - part))
            recent.append({name: value.detach() for name, value in found.items()})
            run.seconds = before + time.process_time()
            progress.update(bar, completed=run.seconds)
            if run.seconds - logged > LOG_S:
                entry = {"step": run.step, "seconds": round(run.seconds, 1), "train": means(recent)}
                print(json.dumps({**entry, "valid": validate(run.average, speech)}), file=log, flush=True)
                recent, logged = [], run.seconds
            if run.seconds - saved > SAVE_S:
                run.save(state)
                saved = run.seconds
    run.save(state)
    return state


if __name__ == "__main__":
    command.run(__doc__, train, 0.4)
