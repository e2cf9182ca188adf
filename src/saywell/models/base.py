"""The contract of a model family, and how a family is found.

A family is a folder in this directory whose package has these functions::

    spec(name: str, path: Path | None) -> ModelSpec      cheap: reads a config file at most
    load(spec: ModelSpec, plan: Plan) -> Model           maps weights, starts what it needs
    missing() -> str                                     what must be installed first; empty: nothing

It is a model under its own name, and speaks the voices `NAME:…`, unless it sets `NEEDS_FILES = True`. It may have::

    voice_store(spec: ModelSpec, plan: Plan) -> VoiceStore    the saved voices of a cloning model, without loading it
    about() -> About                                          for `saywell doctor`
    recognises(directory: Path) -> bool                       a published export that needs no conversion
    offline.py                                                conversion and codecs: a module that implements `Offline`
    sources.json                                              published weights: name → `saywell.hub.sources.Source`

The engine calls every method of a Model except `prepare` from one thread, the one that called `load`.
"""

from __future__ import annotations

import logging
import os
import pkgutil
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from functools import cache
from importlib import import_module, util
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, TypeVar, cast

from saywell.errors import InvalidRequest, MissingDependency, SaywellError, UnknownModel
from saywell.files import Damaged
from saywell.manifest import MANIFEST, Manifest
from saywell.types import Frame, ModelSpec, Request, Samples, Sequence, Voice, VoiceState

if TYPE_CHECKING:
    from saywell.plan.plan import Plan
    from saywell.voices.store import VoiceStore

_log = logging.getLogger(__name__)

T = TypeVar("T")

HOME = "saywell.models"
DEFAULT_MODEL = "hibari"
RETIRED = ("wren",)
"""Models of earlier versions, for which the default model speaks. The next release refuses them."""


class SequenceError(Exception):
    """One sequence failed; the model still works. `prefill`, `step` and `decode` may raise it before they consume a
    result of another sequence; the engine ends that sequence's request with `cause`, releases it and calls again."""

    def __init__(self, sequence: Sequence, cause: SaywellError) -> None:
        super().__init__(cause.message)
        self.sequence = sequence
        self.cause = cause


class ModelBroken(Exception):
    """The model can no longer work, for example because a GPU lost its context. Raised by any method that the engine's
    thread calls. A worker exits, and its replacement resumes the requests; an in-process engine fails."""


@dataclass(frozen=True, slots=True, eq=False)
class DecodeJob:
    """Frames of one sequence to decode into samples. `frames` may be empty if `last`: the decoder is flushed."""

    sequence: Sequence
    frames: list[Frame]
    last: bool


class Model(Protocol):
    """A loaded model. State of a sequence lives in `sequence.state`; nothing is shared between sequences."""

    spec: ModelSpec
    live: frozenset[str]
    """Plan fields besides `max_batch_size` that `adapt` can change; for others the engine reloads the model when no
    request is running."""

    def voices(self) -> tuple[Voice, ...]:
        """All voices, the default first."""
        ...

    def prepare(self, request: Request) -> VoiceState | None:
        """The voice state of a request: of its reference, or of the saved voice `request.voice`, one of `voices()`;
        None for a voice that the loaded model already contains.

        Called before the request is scheduled, from threads other than the engine's, for several requests at the same
        time; not called for the default voice. The request's sequences carry the result, as `voice_state`, to
        `prefill`, possibly after the model was reloaded with another precision. Raises a SaywellError.
        """
        ...

    def prefill(self, started: list[Sequence]) -> None:
        """Start sequences that were just given a slot: prompt ids, KV cache.

        Sets `sequence.state` of each started sequence; the engine passes one without a state again. Raises
        SequenceError.
        """
        ...

    def step(self, batch: list[Sequence]) -> list[Frame]:
        """Advance running sequences by one step.

        Returns at most one Frame per sequence: an autoregressive family one for each, other families those that are
        ready. Must return within a fraction of a second, so that sequences can join and leave. A row of the batch
        never depends on other rows.
        """
        ...

    def decode(self, jobs: list[DecodeJob]) -> Iterable[Samples | None]:
        """Samples of each job, in order; None: more work is needed, and the engine passes the same job again after its
        next step. Must return within a fraction of a second, so that other sequences go on and any can be cancelled.

        A sequence has one job at a time. Any split of the frames across jobs gives identical samples.
        """
        ...

    def adapt(self, plan: Plan) -> None:
        """Apply the `max_batch_size` and the `live` fields of a changed plan.

        Called between steps, while sequences run: it changes memory and time, never sound. If it raises, the model is
        closed and reloaded.
        """
        ...

    def clear_caches(self) -> None:
        """Drop the caches. Called between steps."""
        ...

    def release(self, sequence: Sequence) -> None:
        """Free a finished or aborted sequence, in any state, even before its prefill. Called once per sequence."""
        ...

    def close(self) -> None:
        """Free all resources."""
        ...


class Family(Protocol):
    """The package of a family, as a module."""

    def spec(self, name: str, path: Path | None) -> ModelSpec: ...

    def load(self, spec: ModelSpec, plan: Plan) -> Model: ...

    def missing(self) -> str:
        """What must be installed before a model of this family can speak, in a sentence; empty: nothing."""
        ...


class CloningFamily(Family, Protocol):
    """The package of a family whose models speak like a reference recording."""

    def voice_store(self, spec: ModelSpec, plan: Plan) -> VoiceStore: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class About:
    """What `saywell doctor` shows of a model that comes with the program."""

    title: str
    found: str
    """If it is installed."""
    purpose: str
    """If it is not."""
    example: str
    """A command that speaks with it."""
    install: str
    """The command that installs what is missing."""


class Offline(Protocol):
    """The module `offline` of a family: work on its checkpoints from file to file."""

    PUBLISHED: tuple[str, ...]
    """Files that a published checkpoint has, before it is converted."""
    PRECISIONS: tuple[str, ...]
    SENTENCES: int
    """Number of calibration sentences by default; MAX_SENTENCES: at most."""
    MAX_SENTENCES: int

    def sources(self, directory: Path) -> list[Path]:
        """The files in a directory that a conversion depends on."""
        ...

    def convert(
        self,
        directory: Path,
        out: Path,
        *,
        progress: Callable[[str, int, int], None],
        precisions: Collection[str] = ...,
        sentences: int = ...,
    ) -> Path:
        """Convert a published checkpoint. Does only what an earlier run has not done. `progress`: (step, done, total).

        Raises a SaywellError.
        """
        ...

    def report(self, model: Path, precision: str) -> list[str]:
        """What the conversion to a precision did, in lines for people."""
        ...

    def encode(self, audio: Path, model: Path, out: Path, *, threads: int) -> Path:
        """Audio file → codes."""
        ...

    def decode(self, codes: Path, model: Path, out: Path, *, threads: int) -> Path:
        """Codes → audio file."""
        ...


@cache
def families() -> tuple[str, ...]:
    """The folders in this directory, by name."""
    return tuple(info.name for info in pkgutil.iter_modules([str(Path(__file__).parent)]) if info.ispkg)


@cache
def built_in() -> dict[str, str]:
    """Model name → family of the models that come with the program, the default first, then by name."""
    order = sorted(families(), key=lambda name: (name != DEFAULT_MODEL, name))
    return {name: name for name in order if not _declared(name, "NEEDS_FILES", False)}


def language_of(spec: ModelSpec, voice: str | None) -> str:
    """The BCP-47 tag of a voice (None: the default one) of a model that is not loaded; `und`: it speaks any."""
    language: Callable[[ModelSpec, str | None], str] = _declared(spec.family, "language", lambda _spec, _voice: "und")
    return language(spec, voice)


def phones_of(spec: ModelSpec, voice: str | None, texts: list[str]) -> list[str]:
    """The phones of spoken texts in the notation of the model's family; empty if it gives none."""
    phones: Callable[[ModelSpec, str | None, list[str]], list[str]] = _declared(
        spec.family, "phones", lambda _spec, _voice, texts: [""] * len(texts)
    )
    return phones(spec, voice, texts)


def missing(family: str) -> str:
    """`Family.missing`, also for a family whose package cannot be imported. Raises UnknownModel."""
    try:
        return load_family(family).missing()
    except MissingDependency as error:
        return error.message


def _declared(family: str, name: str, default: T) -> T:
    """An optional attribute of a family. The default also if its package cannot be imported."""
    try:
        return cast(T, getattr(load_family(family), name, default))
    except MissingDependency:
        return default


def describe(model: str) -> About:
    """For a model that comes with the program, by name."""
    example = f'saywell say -m {model} "Hello there."'
    plain = About(
        title=model, found="comes with the program", purpose=f"the model {model}", example=example, install=""
    )
    return _declared(built_in()[model], "about", lambda: plain)()


def offline(family: str) -> Offline:
    """The module `offline` of a family. Raises InvalidRequest if it has none."""
    if not _exists(f"{HOME}.{family}.offline"):
        raise InvalidRequest(f"models of the family {family} cannot be converted", param="model")
    return cast(Offline, import_module(f"{HOME}.{family}.offline"))


def offline_for(checkpoint: Path) -> Offline:
    """The module `offline` of the family of a published checkpoint. Raises UnknownModel."""
    modules = [offline(family) for family in families() if _exists(f"{HOME}.{family}.offline")]
    for module in modules:
        if any((checkpoint / name).is_file() for name in module.PUBLISHED):
            return module
    published = ", ".join(name for module in modules for name in module.PUBLISHED)
    raise UnknownModel(
        f"{checkpoint} holds no checkpoint, neither a converted one ({MANIFEST}) nor a published one ({published}); "
        "name another directory",
        param="model_path",
    )


def open_voices(spec: ModelSpec, plan: Plan) -> VoiceStore:
    """The saved voices of a model, without loading it. Raises InvalidRequest for a model that cannot clone."""
    if not spec.clones:
        raise InvalidRequest(f"{spec.name} cannot speak like a recording; choose another --model", param="model")
    return cast(CloningFamily, load_family(spec.family)).voice_store(spec, plan)


def find_spec(model: str | None, path: Path | None = None, voice: str | None = None) -> ModelSpec:
    """The spec of a model, by name or by the directory of a converted one. Raises UnknownModel naming the valid ones.

    Without either: the model of `voice`, or the default model. For settings only, since a name may be a path; never
    call it with a name from a request.
    """
    if path is None and model is not None and model not in built_in() and Path(model).is_dir():
        path, model = Path(model), None
    if path is not None:
        place = Path(os.path.realpath(path))
        return load_family(family_in(place)).spec(model or place.name, place)
    name = _current(model) if model else _model_with(voice or "")
    family = built_in().get(name)
    if family is None:
        from saywell.hub.sources import SOURCES  # reads a file of each family

        there = ", ".join(sorted(built_in()))
        if name in SOURCES:
            raise UnknownModel(f"{name} is not installed yet: saywell pull {name}", param="model")
        raise UnknownModel(
            f"no model {name!r}; choose {there}, an installed one (saywell models) or a directory of a converted one",
            param="model",
        )
    return load_family(family).spec(name, None)


def _current(model: str) -> str:
    if model in RETIRED:
        _log.warning(
            "the model %s was removed; %s is used instead; the next release rejects the name", model, DEFAULT_MODEL
        )
        return DEFAULT_MODEL
    return model


def _model_with(voice: str) -> str:
    """The model of a voice `NAME:…`; the default model for any other."""
    name, colon, _ = voice.lower().partition(":")
    return name if colon and name in built_in() else DEFAULT_MODEL


def family_in(directory: Path) -> str:
    """The family in a model's manifest, or the one that recognises a published export. Raises UnknownModel."""
    if not directory.is_dir():
        raise UnknownModel(f"{directory} is not a directory", param="model_path")
    try:
        family = Manifest.read(directory).family
    except FileNotFoundError:
        for name in families():
            recognises: Callable[[Path], bool] = _declared(name, "recognises", lambda _directory: False)
            if recognises(directory):
                return name
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
    """Import a family by its id or dotted module path. Raises UnknownModel, or MissingDependency if an import fails."""
    module = family if "." in family else f"{HOME}.{family}"
    if not _exists(module):
        raise UnknownModel(f"no model family {family!r}", param="model")
    try:
        return cast(Family, import_module(module))
    except ModuleNotFoundError as error:
        raise MissingDependency(
            f"model family {family!r} needs the Python package {error.name!r}, which is not installed"
        ) from error


def _exists(module: str) -> bool:
    try:
        return util.find_spec(module) is not None
    except ModuleNotFoundError:
        return False
