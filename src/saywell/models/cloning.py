"""What families that speak like a recording share: encoders loaded on demand, saved voices, prompts computed once."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TypeVar

from saywell.errors import BadCheckpoint, OutOfMemory
from saywell.machine.monitor import available_memory
from saywell.models.conversion import read_manifest
from saywell.models.on_demand import OnDemand
from saywell.models.verified import check_files
from saywell.plan.memory import mb
from saywell.plan.plan import Plan
from saywell.runtimes.base import Threading
from saywell.runtimes.kv_cache import Prefix
from saywell.types import ModelSpec, Reference, Request, Voice, VoiceState
from saywell.voices.cache import MemoryCache
from saywell.voices.store import VoiceStore

T = TypeVar("T")


class Cloning:
    """Base of such models. The subclass calls `__init__` with its store of voices."""

    spec: ModelSpec
    live = frozenset({"cache_entries", "cache_bytes"})

    def __init__(self, voices: VoiceStore, plan: Plan) -> None:
        self._voices = voices
        self._prefixes: MemoryCache[Prefix] = MemoryCache(plan.cache_bytes - states_bytes(plan), plan.cache_entries)

    def prepare(self, request: Request) -> VoiceState | None:
        """None for the default voice."""
        if request.reference is not None:
            return self._voices.encode(request.reference)
        return None if request.voice in (None, self.spec.default_voice) else self._voices.load(request.voice)

    def adapt(self, plan: Plan) -> None:
        self._voices.limit(states_bytes(plan), plan.cache_entries)
        self._prefixes.limit(plan.cache_bytes - states_bytes(plan), plan.cache_entries)

    def clear_caches(self) -> None:
        self._prefixes.clear()
        self._voices.clear_memory()

    def close(self) -> None:
        self._prefixes.clear()

    def _known_voices(self, default: str, language: str) -> tuple[Voice, ...]:
        """The default voice, described so, and the saved ones."""
        named = ((name, "made from a recording") for name in self._voices.named())
        return tuple(
            Voice(id=voice, name=voice, language=language, sample_rate=self.spec.sample_rate, description=description)
            for voice, description in ((self.spec.default_voice, default), *named)
        )

    def _prefix(self, key: str, compute: Callable[[], Prefix]) -> Prefix:
        """Keys and values of a prompt before the text, computed once for each key."""
        prefix = self._prefixes.get(key)
        if prefix is None:
            prefix = compute()
            self._prefixes.put(key, prefix)
        return prefix


def store(
    spec: ModelSpec, plan: Plan, encode: Callable[[Reference], VoiceState], *, model: str, recipe: str
) -> VoiceStore:
    """The voices of a model. `model`: digest of its weights; `recipe`: how recordings are prepared."""
    return VoiceStore(
        plan.data_dir / "voices",
        encode,
        family=spec.family,
        model=model,
        recipe=recipe,
        memory_bytes=states_bytes(plan),
        memory_entries=plan.cache_entries,
    )


def states_bytes(plan: Plan) -> int:
    """The share of the plan's cache for voice states: those take tens or hundreds of KB, keys and values megabytes."""
    return plan.cache_bytes // 16


def encoder(path: Path, files: list[str], plan: Plan, load: Callable[[Threading], T]) -> OnDemand[T]:
    """An encoder of recordings, checked and loaded when one comes. `files`: its weights in the model's directory."""

    def checked() -> T:
        if plan.check_memory:
            _check_room(path, files)
        check_files(path, files, plan.data_dir / "voices")
        # Without spinning, so that an idle encoder leaves the cores to the engine.
        return load(Threading(threads=plan.threads, affinity=plan.affinity, spin=False))

    return OnDemand(checked)


def digest(directory: Path, files: Iterable[str]) -> str:
    """Of files of a converted model, from its manifest. Raises BadCheckpoint."""
    try:
        return read_manifest(directory).digest(files)
    except KeyError as error:
        raise BadCheckpoint(f"{directory} was not converted completely, it lacks {error}; convert it again") from None


def _check_room(directory: Path, files: list[str]) -> None:
    """Raise OutOfMemory if the encoder's weights, most of what encoding takes, exceed the available memory."""
    need = sum((directory / name).stat().st_size for name in files)
    free = available_memory()
    if need > free:
        raise OutOfMemory(
            f"encoding a new reference needs {mb(need)} temporarily and {mb(free)} is available; close other programs "
            "or raise the memory limit",
            retry_after=5.0,
        )
