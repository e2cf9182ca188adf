"""Train the acoustic model on the teacher's frames.

    python -m training.wren.train --data DATA --run RUN --minutes 60

Schedules go by computing time, not steps or the clock, so a process that is stopped for a while loses nothing. The rate
rises, stays, and falls to nothing over the last `--cool` of the time. RUN/state.pt is written every two minutes and
resumed from; RUN/log.jsonl: a line every half minute. New shards are taken in as they come.
"""

from __future__ import annotations

import copy
import json
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from torch import Tensor
from torch.nn import functional

from saywell.models.wren.phones import SPEAKERS
from training import command
from training.schedule import rate_at
from training.wren.data import Batch, Corpus, collate, grouped, targets
from training.wren.features import cosines
from training.wren.nets import Acoustic

BATCH_FRAMES = 6400
RATE = 1.5e-3
WARM_STEPS = 100
KEEP = 0.998
"""Of the averaged weights, each step."""
LOG_S, SAVE_S, REFRESH_S = 30.0, 120.0, 120.0
BINS = 97
WEIGHTS = {"length": 0.5, "pitch": 0.5, "voicing": 0.5, "cepstrum": 0.3, "spectrum": 2.0, "strength": 0.2}


def losses(model: Acoustic, batch: Batch, waves: Tensor) -> dict[str, Tensor]:
    """Each a mean over what it is of. spectrum: nepers."""
    lengths, frames = model(batch.symbols, batch.speaker, batch.owner, batch.place, batch.known)
    mean, deviation = model.mean[batch.speaker][:, None], model.deviation[batch.speaker][:, None]
    error = (frames - (batch.target - mean) / deviation).abs() * batch.inside[..., None]
    count, spoken = batch.inside.sum(), batch.lengths > 0
    wrong = (error[..., 2:27] * deviation[..., 2:27]) * torch.sign(
        frames[..., 2:27] - (batch.target - mean)[..., 2:27] / deviation[..., 2:27]
    )
    return {
        "length": functional.smooth_l1_loss(lengths[spoken], batch.lengths[spoken].log(), beta=0.1),
        "pitch": (error[..., 0] * batch.voiced).sum() / batch.voiced.sum(),
        "voicing": (
            functional.binary_cross_entropy_with_logits(frames[..., 1], batch.voiced, reduction="none") * batch.inside
        ).sum()
        / count,
        "cepstrum": error[..., 2:27].sum() / count / 25,
        "spectrum": (wrong @ waves).abs().sum() / count / BINS,
        "strength": error[..., 27:].sum() / count / 5,
    }


def standardise(model: Acoustic, corpus: Corpus) -> None:
    """Mean and deviation of each speaker's frames, from at most 200 utterances of each."""
    for speaker in range(len(SPEAKERS)):
        few = [one for one in corpus.utterances if one.speaker == speaker][:200]
        rows = np.concatenate([targets(one) for one in few])
        voiced = rows[rows[:, 1] > 0]
        mean, deviation = rows.mean(0), rows.std(0)
        mean[0], deviation[0] = voiced[:, 0].mean(), voiced[:, 0].std()
        mean[1], deviation[1] = 0, 1
        model.mean[speaker], model.deviation[speaker] = torch.from_numpy(mean), torch.from_numpy(deviation)


@dataclass
class Run:
    """What is saved: both weights, the optimiser, steps and seconds computed."""

    model: Acoustic
    average: Acoustic
    optimiser: torch.optim.Optimizer
    step: int = 0
    seconds: float = 0.0

    def save(self, path: Path) -> None:
        parts = {
            "model": self.model.state_dict(),
            "average": self.average.state_dict(),
            "optimiser": self.optimiser.state_dict(),
        }
        torch.save({**parts, "step": self.step, "seconds": self.seconds}, path.with_suffix(".part"))
        path.with_suffix(".part").replace(path)

    def load(self, path: Path) -> None:
        saved: dict[str, Any] = torch.load(path, weights_only=True)
        self.model.load_state_dict(saved["model"])
        self.average.load_state_dict(saved["average"])
        self.optimiser.load_state_dict(saved["optimiser"])
        self.step, self.seconds = saved["step"], saved["seconds"]

    def advance(self, batch: Batch, waves: Tensor, rate: float) -> dict[str, Tensor]:
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        found = losses(self.model, batch, waves)
        self.optimiser.zero_grad(set_to_none=True)
        loss: Any = torch.stack([WEIGHTS[name] * value for name, value in found.items()]).sum()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimiser.step()
        keep = min(KEEP, (1 + self.step) / (10 + self.step))
        with torch.no_grad():
            for mine, theirs in zip(self.average.parameters(), self.model.parameters(), strict=True):
                mine.lerp_(theirs, 1 - keep)
        self.step += 1
        return found


def validate(model: Acoustic, corpus: Corpus, waves: Tensor) -> dict[str, float]:
    groups = [
        collate(group) for group in grouped(sorted(corpus.valid[:80], key=lambda one: len(one.frames)), BATCH_FRAMES)
    ]
    with torch.no_grad():
        found = [losses(model, batch, waves) for batch in groups]
    return {name: float(np.mean([float(one[name]) for one in found])) for name in found[0]}


def train(data: Path, folder: Path, minutes: float, cool: float, seed: int = 1) -> Path:
    """Train for `minutes` of computing, those of earlier calls included. Returns the checkpoint."""
    torch.manual_seed(seed)
    corpus, model = Corpus(data), Acoustic()
    corpus.refresh()
    standardise(model, corpus)
    run = Run(
        model, copy.deepcopy(model), torch.optim.AdamW(model.parameters(), RATE, betas=(0.9, 0.98), weight_decay=0.01)
    )
    state = folder / "state.pt"
    if state.exists():
        run.load(state)
    folder.mkdir(parents=True, exist_ok=True)
    waves = torch.from_numpy(cosines(BINS)).float()
    batches = corpus.batches(BATCH_FRAMES, np.random.default_rng([seed, run.step]))
    before, logged, saved, refreshed = run.seconds - time.process_time(), run.seconds, run.seconds, run.seconds
    recent: list[dict[str, Tensor]] = []
    columns = (TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn())
    with Progress(*columns, disable=not os.isatty(1)) as progress, (folder / "log.jsonl").open("a") as log:
        bar = progress.add_task("Training", total=minutes * 60)
        while run.seconds < minutes * 60:
            recent.append(
                run.advance(next(batches), waves, rate_at(RATE, run.step, run.seconds / (minutes * 60), cool))
            )
            run.seconds = before + time.process_time()
            progress.update(bar, completed=run.seconds)
            if run.seconds - logged > LOG_S:
                means = {name: float(torch.stack([one[name].detach() for one in recent]).mean()) for name in recent[0]}
                entry = {
                    "step": run.step,
                    "seconds": round(run.seconds, 1),
                    "utterances": len(corpus.utterances),
                    "train": means,
                }
                print(json.dumps({**entry, "valid": validate(run.average, corpus, waves)}), file=log, flush=True)
                recent, logged = [], run.seconds
            if run.seconds - saved > SAVE_S:
                run.save(state)
                saved = run.seconds
            if run.seconds - refreshed > REFRESH_S:
                corpus.refresh()
                refreshed = run.seconds
    run.save(state)
    return state


if __name__ == "__main__":
    command.run(__doc__, train, 0.3)
