"""What every model family provides, and how one is found.

A family is a folder of this room whose package has two functions::

    spec(name: str, path: Path | None) -> ModelSpec      cheap: reads a config file at most
    load(spec: ModelSpec, plan: Plan) -> Model           maps weights, starts what it needs

The engine calls every method of a Model from one thread, the one that called `load`.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module, util
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, cast

from saywell.errors import MissingDependency, SaywellError, UnknownModel
from saywell.types import Frame, ModelSpec, Samples, Sequence, Voice

if TYPE_CHECKING:
    from saywell.plan import Plan

HOME = "saywell.models"
DEFAULT_MODEL = "builtin"
FAMILY_OF = {"builtin": "builtin"}
"""Model name → family."""


class SequenceError(Exception):
    """One sequence failed, the model did not. `prefill`, `step` and `decode` may raise it, before they lose a result
    of another sequence; the engine ends that sequence's request with `cause`, releases it and calls again."""

    def __init__(self, sequence: Sequence, cause: SaywellError) -> None:
        super().__init__(cause.message)
        self.sequence = sequence
        self.cause = cause


@dataclass(frozen=True, slots=True, eq=False)
class DecodeJob:
    """Frames of one sequence to be turned into samples. `frames` may be empty when `last` only flushes."""

    sequence: Sequence
    frames: list[Frame]
    last: bool


class Model(Protocol):
    """A loaded model. State of a sequence lives in `sequence.state`; nothing is shared between sequences."""

    spec: ModelSpec

    def voices(self) -> tuple[Voice, ...]:
        """All voices, the default first."""
        ...

    def prefill(self, started: list[Sequence]) -> None:
        """Prepare sequences that have just been given a slot: prompt ids, voice state, KV cache.

        Sets `sequence.state` of each one prepared; one without is handed in again. Raises SequenceError for one at fault.
        """
        ...

    def step(self, batch: list[Sequence]) -> list[Frame]:
        """Advance running sequences by one step.

        Returns at most one Frame a sequence; an autoregressive family one for each, a family that waits for
        synthesisers those that are ready. Must return within a fraction of a second, so that others can join and leave.
        A row of the batch never depends on the other rows.
        """
        ...

    def decode(self, jobs: list[DecodeJob]) -> list[Samples]:
        """Samples for each job, in order. Any split of the frames over calls gives the identical samples."""
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


def find_spec(model: str | None, path: Path | None = None) -> ModelSpec:
    """The spec of a model by name. Raises UnknownModel naming what there is."""
    name = model or DEFAULT_MODEL
    family = FAMILY_OF.get(name)
    if family is None:
        raise UnknownModel(f"no model {name!r}; there is {', '.join(sorted(FAMILY_OF))}", param="model")
    return load_family(family).spec(name, path)


def load_family(family: str) -> Family:
    """Import a family by its id, or by a dotted module path. An unknown name and a missing dependency are told apart."""
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
