"""The model while it is in memory, and the plan it was loaded under."""

from __future__ import annotations

import ctypes
import gc
import sys
import threading
from collections.abc import Callable
from copy import copy
from dataclasses import replace

from saywell.errors import SaywellError
from saywell.models.base import Model
from saywell.plan.plan import Plan
from saywell.types import Request, VoiceState

READ = ("precision", "options", "threads", "cache_entries", "cache_bytes")
"""Fields that pressure changes and models go by. (Every model does with fewer slots.)"""

Loader = Callable[[Plan], Model]


class ModelHolder:
    """Loads and unloads in the engine's thread. Only `prepare` is called from another."""

    def __init__(self, load: Loader, plan: Plan) -> None:
        self._load = load
        self._planned = plan
        self._model: Model | None = None
        self._leaving: Model | None = None
        """Closed as soon as nobody prepares a voice with it."""
        self._plan = plan
        self._changed = threading.Condition()
        self._over: SaywellError | None = None
        self._preparing = 0

    @property
    def loaded(self) -> bool:
        return self._model is not None

    @property
    def preparing(self) -> bool:
        """Whether somebody prepares a voice: until then the model cannot be closed."""
        return self._preparing > 0

    @property
    def model(self) -> Model:
        """Raises RuntimeError while there is none."""
        if self._model is None:
            raise RuntimeError("the model is not loaded")
        return self._model

    def load(self, plan: Plan) -> None:
        """Raises what loading raises."""
        # Room for all planned slots is kept, or they could not be given back without loading again; what no
        # sequence has touched of it takes no memory.
        model = self._load(
            replace(
                plan, max_batch_size=self._planned.max_batch_size, max_parallel_chunks=self._planned.max_parallel_chunks
            )
        )
        model.adapt(plan)
        with self._changed:
            self._model, self._plan = model, plan
            self._changed.notify_all()

    def unload(self) -> None:
        """Never waits: while a voice is prepared with the model, closing it is left to `finish_unload`."""
        with self._changed:
            if self._model is not None:
                self._leaving, self._model = self._model, None
        self.finish_unload()

    def finish_unload(self) -> bool:
        """Close an unloaded model if nobody uses it any more. False: not yet, and there may be no room for another."""
        with self._changed:
            if self._leaving is not None and self.preparing:
                return False
            leaving, self._leaving = self._leaving, None
        if leaving is not None:
            leaving.close()
            del leaving
            trim_heap()
        return True

    def stale(self, plan: Plan) -> tuple[str, ...]:
        """Fields of `plan` that only loading again can bring about."""
        model = self._model
        fixed = [name for name in READ if model is not None and name not in model.live]
        return tuple(name for name in fixed if getattr(plan, name) != getattr(self._plan, name))

    def prepare(self, request: Request, timeout_s: float) -> VoiceState | None:
        """Have a request's voice prepared, once the model is there. For any number of threads at the same time.

        Raises what the model raises, TimeoutError, and why there will be no model any more.
        """
        with self._changed:
            there = self._changed.wait_for(lambda: self.loaded or self._over is not None, timeout_s)
            if self._over is not None:
                raise copy(self._over)
            if not there or timeout_s <= 0:
                raise TimeoutError
            model = self.model
            self._preparing += 1
        try:
            return model.prepare(request)
        finally:
            with self._changed:
                self._preparing -= 1

    def give_up(self, why: SaywellError) -> None:
        """Nothing is loaded from now on: whoever waits for a model is told."""
        with self._changed:
            self._over = why
            self._changed.notify_all()


def trim_heap() -> None:
    """Return memory to the system that nobody holds any more but the allocator keeps."""
    gc.collect()
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc's; musl has none and keeps little
        if trim is not None:
            trim(0)
