"""A model whose encoding of a reference the test controls."""

from __future__ import annotations

import threading
from dataclasses import replace

import numpy as np

from plans import TINY
from saywell.engine.engine import Engine
from saywell.plan.plan import Plan
from saywell.types import ModelSpec, Reference, Request, VoiceState
from tiny_ar import family as tiny_ar

SPEC = replace(TINY, clones=True)
RECORDING = Reference(pcm=np.zeros(16_000, np.float32).tobytes(), sample_rate=16_000)
KNOWN = replace(RECORDING, transcript="Encoded before.")


class Encoder(tiny_ar.TinyModel):
    """Encoding blocks until the test sets `may_end`."""

    def __init__(self, spec: ModelSpec, plan: Plan) -> None:
        super().__init__(spec, plan)
        self.begun, self.may_end, self.encoded = threading.Semaphore(0), threading.Event(), 0

    def prepare(self, request: Request) -> VoiceState | None:
        self.begun.release()
        if request.reference is KNOWN or request.reference is None:
            return None
        assert self.may_end.wait(10.0)
        self.encoded += 1
        return None


def model(engine: Engine) -> Encoder:
    found = engine._resident.model
    assert isinstance(found, Encoder)
    return found
