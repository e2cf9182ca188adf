"""The loaded model and the plan it was loaded under."""

from __future__ import annotations

import threading
from collections.abc import Callable
from copy import copy
from dataclasses import replace

from saywell.errors import SaywellError
from saywell.models.base import Model
from saywell.plan.plan import Plan
from saywell.runtimes.pages import trim_heap
from saywell.types import Request, VoiceState

READ = ("precision", "options", "threads", "cache_entries", "cache_bytes")
"""Plan fields that degradation changes and models read. (Fewer slots need nothing from the model.)"""

Loader = Callable[[Plan], Model]


class ModelHolder:
    """Loads and unloads the model. All methods but `prepare` are called from the engine's thread."""

    def __init__(self, load: Loader, plan: Plan) -> None:
        self._load = load
        self._planned = plan
        self._model: Model | None = None
        self._leaving: Model | None = None
        """Unloaded; closed once no voice is being prepared with it."""
        self._plan = plan
        self._changed = threading.Condition()
        self._over: SaywellError | None = None
        self._preparing = 0

    @property
    def loaded(self) -> bool:
        return self._model is not None

    @property
    def preparing(self) -> bool:
        """Whether a voice is being prepared, so that the model cannot be closed."""
        return self._preparing > 0

    @property
    def model(self) -> Model:
        """Raises RuntimeError if none is loaded."""
        if self._model is None:
            raise RuntimeError("the model is not loaded")
        return self._model

    def load(self, plan: Plan) -> None:
        """Raises what loading raises."""
        # Always allocate all planned slots: a degraded plan can then return to them without a reload, and slots that
        # no sequence has used take no physical memory.
        model = self._load(
            replace(
                plan, max_batch_size=self._planned.max_batch_size, max_parallel_chunks=self._planned.max_parallel_chunks
            )
        )
        model.adapt(plan)
        trim_heap()
        with self._changed:
            self._model, self._plan = model, plan
            self._changed.notify_all()

    def unload(self) -> None:
        """Never blocks: if a voice is being prepared, the model is closed by a later `finish_unload`."""
        with self._changed:
            if self._model is not None:
                self._leaving, self._model = self._model, None
        self.finish_unload()

    def finish_unload(self) -> bool:
        """Close the unloaded model if it is unused. Returns False if it is still in use and holds its memory."""
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
        """Fields of `plan` that take effect only by a reload."""
        model = self._model
        fixed = [name for name in READ if model is not None and name not in model.live]
        return tuple(name for name in fixed if getattr(plan, name) != getattr(self._plan, name))

    def prepare(self, request: Request, timeout_s: float) -> VoiceState | None:
        """Prepare a request's voice, waiting for the model to be loaded. Thread-safe.

        Raises what the model raises, TimeoutError, and the error given to `give_up`.
        """
        with self._changed:
            ready = self._changed.wait_for(lambda: self.loaded or self._over is not None, timeout_s)
            if self._over is not None:
                raise copy(self._over)
            if not ready or timeout_s <= 0:
                raise TimeoutError
            model = self.model
            self._preparing += 1
        try:
            return model.prepare(request)
        finally:
            with self._changed:
                self._preparing -= 1

    def give_up(self, why: SaywellError) -> None:
        """No model will be loaded any more: waiting calls of `prepare` raise `why`."""
        with self._changed:
            self._over = why
            self._changed.notify_all()
