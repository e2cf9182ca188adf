"""What every model family provides, and how one is found.

A family is a folder of this room whose package has these functions::

    spec(name: str, path: Path | None) -> ModelSpec      cheap: reads a config file at most
    load(spec: ModelSpec, plan: Plan) -> Model           maps weights, starts what it needs
    missing() -> str                                     what has to be installed first; empty: nothing

and, if it can speak like a recording (`spec.clones`), a third::

    voice_store(spec: ModelSpec, plan: Plan) -> VoiceStore    without loading the model

The engine calls every method of a Model but `prepare` from one thread, the one that called `load`.
"""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass
from importlib import import_module, util
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, cast

from saywell.errors import InvalidRequest, MissingDependency, SaywellError, UnknownModel
from saywell.files import Damaged
from saywell.manifest import MANIFEST, Manifest
from saywell.types import Frame, ModelSpec, Request, Samples, Sequence, Voice, VoiceState

if TYPE_CHECKING:
    from saywell.plan.plan import Plan
    from saywell.voices.store import VoiceStore

_log = logging.getLogger(__name__)

HOME = "saywell.models"
DEFAULT_MODEL = "hibari"
FAMILY_OF = {"hibari": "hibari", "espeak": "espeak"}
"""Model name → family, for models that come with the program."""
OTHERS_VOICE = {"espeak:": "espeak"}
"""How the voices begin that the default model has not, and the model that has them."""
RETIRED = ("wren",)
"""Models of earlier versions. They go with the next release."""


class SequenceError(Exception):
    """One sequence failed, the model did not. `prefill`, `step` and `decode` may raise it, before they lose a result
    of another sequence; the engine ends that sequence's request with `cause`, releases it and calls again."""

    def __init__(self, sequence: Sequence, cause: SaywellError) -> None:
        super().__init__(cause.message)
        self.sequence = sequence
        self.cause = cause


class ModelBroken(Exception):
    """The model can do nothing any more, whatever is asked of it: a GPU whose context is lost, say. What the engine's
    thread calls may raise it. A worker ends and is replaced, and the next one goes on with the answers; an engine in
    this process fails."""


@dataclass(frozen=True, slots=True, eq=False)
class DecodeJob:
    """Frames of one sequence to be turned into samples. `frames` may be empty when `last` only flushes."""

    sequence: Sequence
    frames: list[Frame]
    last: bool


class Model(Protocol):
    """A loaded model. State of a sequence lives in `sequence.state`; nothing is shared between sequences."""

    spec: ModelSpec
    live: frozenset[str]
    """Plan fields besides `max_batch_size` that `adapt` can change; for any other the engine reloads the model once no
    request is running."""

    def voices(self) -> tuple[Voice, ...]:
        """All voices, the default first."""
        ...

    def prepare(self, request: Request) -> VoiceState | None:
        """The state of the voice of a request: of its reference, or of the saved voice `request.voice`, one of
        `voices()`; None for a voice the loaded model has all it needs for.

        Called before the request is scheduled from a thread that is not the engine's, for several requests at the same
        time, and not at all for one that speaks with the default voice. Its sequences carry the result, as
        `voice_state`, to `prefill`, if need be that of the same model loaded again with another precision. Raises a
        SaywellError.
        """
        ...

    def prefill(self, started: list[Sequence]) -> None:
        """Prepare sequences that have just been given a slot: prompt ids, KV cache.

        Sets `sequence.state` of each one prepared; one without is handed in again. Raises SequenceError for one.
        """
        ...

    def step(self, batch: list[Sequence]) -> list[Frame]:
        """Advance running sequences by one step.

        Returns at most one Frame a sequence; an autoregressive family one for each, a family that waits for
        processes those that are ready. Must return within a fraction of a second, so that others can join and leave.
        A row of the batch never depends on the other rows.
        """
        ...

    def decode(self, jobs: list[DecodeJob]) -> list[Samples]:
        """Samples for each job, in order. Any split of the frames over calls gives the identical samples."""
        ...

    def adapt(self, plan: Plan) -> None:
        """Take up what a changed plan says about `max_batch_size` and the fields of `live`.

        Called between steps, with sequences running, which go on as if nothing had happened: it changes memory and
        time, never sound. A model for which this raises is closed and loaded again.
        """
        ...

    def clear_caches(self) -> None:
        """Forget what is kept in memory only to be quicker next time. Called between steps, as `adapt` is."""
        ...

    def release(self, sequence: Sequence) -> None:
        """Forget a sequence, finished or aborted, at whatever stage, even before its prefill. Called once for each."""
        ...

    def close(self) -> None:
        """Give everything back."""
        ...


class Family(Protocol):
    """The package of a family, as a module."""

    def spec(self, name: str, path: Path | None) -> ModelSpec: ...

    def load(self, spec: ModelSpec, plan: Plan) -> Model: ...

    def missing(self) -> str:
        """What keeps all models of this family from speaking here, in a sentence; empty: nothing."""
        ...


class CloningFamily(Family, Protocol):
    """The package of a family whose models speak like a recording."""

    def voice_store(self, spec: ModelSpec, plan: Plan) -> VoiceStore: ...


def open_voices(spec: ModelSpec, plan: Plan) -> VoiceStore:
    """The voices made of recordings of a model that is not loaded. Raises InvalidRequest if it has none."""
    if not spec.clones:
        raise InvalidRequest(f"{spec.name} cannot speak like a recording; name another --model", param="model")
    return cast(CloningFamily, load_family(spec.family)).voice_store(spec, plan)


def find_spec(model: str | None, path: Path | None = None, voice: str | None = None) -> ModelSpec:
    """The spec of a model: by name, or by the directory of a converted one. Raises UnknownModel naming what there is.

    Without either the default model, or the one that has `voice`.
    For settings only: a name that comes with a request never gets here.
    """
    if path is None and model is not None and model not in FAMILY_OF and Path(model).is_dir():
        path, model = Path(model), None
    if path is not None:
        place = Path(os.path.realpath(path))
        return load_family(family_in(place)).spec(model or place.name, place)
    name = _current(model) if model else _model_with(voice or "")
    family = FAMILY_OF.get(name)
    if family is None:
        there = ", ".join(sorted(FAMILY_OF))
        raise UnknownModel(
            f"no model {name!r}; there is {there}, an installed one (saywell models), or the directory of a converted "
            "one",
            param="model",
        )
    return load_family(family).spec(name, None)


def _current(model: str) -> str:
    if model in RETIRED:
        _log.warning("the model %s is gone, %s speaks for it; the next version refuses it", model, DEFAULT_MODEL)
        return DEFAULT_MODEL
    return model


def _model_with(voice: str) -> str:
    return next((model for start, model in OTHERS_VOICE.items() if voice.lower().startswith(start)), DEFAULT_MODEL)


def family_in(directory: Path) -> str:
    """The family a converted model's manifest names."""
    if not directory.is_dir():
        raise UnknownModel(f"{directory} is not a directory", param="model_path")
    try:
        family = Manifest.read(directory).family
    except FileNotFoundError:
        raise UnknownModel(
            f"{directory} holds no converted model ({MANIFEST} is missing); run `saywell convert` on a published one",
            param="model_path",
        ) from None
    except Damaged:
        raise UnknownModel(f"{directory / MANIFEST} is damaged; convert the model again", param="model_path") from None
    if not family.isidentifier():
        raise UnknownModel(f"{directory / MANIFEST} names no model family", param="model_path")
    return family


def load_family(family: str) -> Family:
    """Import a family by its id or dotted module path. An unknown name and a missing dependency are told apart."""
    module = family if "." in family else f"{HOME}.{family}"
    if not _exists(module):
        raise UnknownModel(f"no model family {family!r}", param="model")
    try:
        found: Any = import_module(module)
    except ModuleNotFoundError as error:
        raise MissingDependency(
            f"model family {family!r} needs the Python package {error.name!r}, which is not installed"
        ) from error
    return cast(Family, found)


def _exists(module: str) -> bool:
    try:
        return util.find_spec(module) is not None
    except ModuleNotFoundError:
        return False
