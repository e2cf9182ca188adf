"""One way to train: schedules by computing time, a log, a checkpoint every two minutes, resumed from."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import torch
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from torch import Tensor, nn

from training.schedule import rate_at

LOG_S, SAVE_S = 30.0, 120.0

Batch = TypeVar("Batch")
Losses = dict[str, Tensor]


@dataclass
class Stage:
    """What is trained, for how long, and how far it is: FOLDER/NAME.pt, FOLDER/NAME.jsonl."""

    name: str
    folder: Path
    model: nn.Module
    rate: float
    minutes: float
    cool: float
    step: int = 0
    seconds: float = 0.0
    optimiser: torch.optim.Optimizer = field(init=False)

    def __post_init__(self) -> None:
        self.optimiser = torch.optim.AdamW(self.model.parameters(), self.rate, betas=(0.8, 0.98), weight_decay=0.0)
        if self.state.exists():
            saved: dict[str, Any] = torch.load(self.state, weights_only=True)
            self.model.load_state_dict(saved["model"])
            self.optimiser.load_state_dict(saved["optimiser"])
            self.step, self.seconds = saved["step"], saved["seconds"]

    @property
    def state(self) -> Path:
        return self.folder / f"{self.name}.pt"

    def save(self) -> None:
        parts = {"model": self.model.state_dict(), "optimiser": self.optimiser.state_dict()}
        part = self.state.with_suffix(".part")
        torch.save({**parts, "step": self.step, "seconds": self.seconds}, part)
        part.replace(self.state)

    def advance(self, loss: Any) -> None:
        for group in self.optimiser.param_groups:
            group["lr"] = rate_at(self.rate, self.step, self.seconds / (self.minutes * 60), self.cool)
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimiser.step()
        self.step += 1


def run(
    stage: Stage,
    source: Callable[[int], Iterator[Batch]],
    losses: Callable[[Batch], Losses],
    total: Callable[[Losses], Tensor],
) -> Path:
    """Train to the end of the stage; `source` begins at a step. Returns the checkpoint."""
    batches, recent = source(stage.step), list[Losses]()
    before, logged, kept = stage.seconds - time.process_time(), stage.seconds, stage.seconds
    columns = (TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn())
    with (
        Progress(*columns, disable=not os.isatty(1)) as progress,
        (stage.folder / f"{stage.name}.jsonl").open("a") as log,
    ):
        bar = progress.add_task(stage.name, total=stage.minutes * 60)
        while stage.seconds < stage.minutes * 60:
            found = losses(next(batches))
            stage.advance(total(found))
            recent.append({name: value.detach() for name, value in found.items()})
            stage.seconds = before + time.process_time()
            progress.update(bar, completed=stage.seconds)
            if stage.seconds - logged > LOG_S:
                means = {name: float(torch.stack([one[name] for one in recent]).mean()) for name in recent[0]}
                entry = {"step": stage.step, "seconds": round(stage.seconds, 1), "train": means}
                print(json.dumps(entry), file=log, flush=True)
                recent, logged = [], stage.seconds
            if stage.seconds - kept > SAVE_S:
                stage.save()
                kept = stage.seconds
    stage.save()
    return stage.state
