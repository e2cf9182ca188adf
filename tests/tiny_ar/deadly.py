"""The tiny family, with texts that kill or hang the process."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

from saywell.errors import Unavailable
from saywell.models.base import ModelBroken
from saywell.plan.plan import Plan
from saywell.types import Frame, ModelSpec, Sequence
from tiny_ar import family


def spec(name: str, path: Path | None) -> ModelSpec:
    return family.spec(name, path)


def load(spec: ModelSpec, plan: Plan) -> family.TinyModel:
    if Path(os.environ.get("TINY_AR_GONE", "")).is_file():
        raise Unavailable("the model is not there at the moment")
    return _Deadly(spec, plan)


class _Deadly(family.TinyModel):
    def step(self, batch: list[Sequence]) -> list[Frame]:
        text = batch[0].text
        if "die" in text:
            os.kill(os.getpid(), signal.SIGKILL)
        poison = Path(os.environ.get("TINY_AR_POISON", ""))
        if poison.is_file():
            poison.unlink()
            raise ModelBroken("the context of the device is lost")
        if "hang" in text:
            time.sleep(60)
        return super().step(batch)

    def release(self, sequence: Sequence) -> None:
        if "break" in sequence.text:
            raise RuntimeError("release failed")
        super().release(sequence)
