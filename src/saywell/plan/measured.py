"""What this machine was measured to do and to hold: JSON files, read by every plan.

A file that belongs to another machine or model is never found, because its name is made of both; what was measured with
other versions of the packages that run the model goes unused. A damaged file is told of, ignored and written anew.
"""

from __future__ import annotations

import hashlib
import logging
import tempfile
from contextlib import suppress
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, TypeVar

import msgspec

from saywell import __version__
from saywell.errors import StorageFailure
from saywell.files import UNFINISHED, Damaged, read_plain, write_atomically
from saywell.manifest import Manifest
from saywell.plan.plan import Measurement, Plan

if TYPE_CHECKING:
    from saywell.machine import Hardware
    from saywell.types import ModelSpec

T = TypeVar("T")
_log = logging.getLogger(__name__)

Goal = Literal["throughput", "latency"]
Value: TypeAlias = int | str | tuple[int, ...]
"""Of a field of the plan."""
FOLDER = "measured"
_SCHEMA = 2
"""Of the files: one of another schema is never found."""
_MAX_BYTES = 4 << 20
_ROOM = 256 << 10
"""Bytes that the files of one run may take."""


class Trial(msgspec.Struct, frozen=True, kw_only=True):
    """One candidate and what each of its rounds took."""

    values: dict[str, Value]
    """What it sets beside the rules."""
    rtf: tuple[float, ...] = ()
    """Seconds of work per second of audio with all its streams busy, a figure a round."""
    first_s: tuple[float, ...] = ()
    """Seconds to the first sound of a lone request, a figure a round."""
    peak_bytes: int = 0
    """Most memory its processes held; 0: not told on this system."""
    failed: str = ""
    """Why it may not be chosen."""

    def plus(self, more: Trial) -> Trial:
        """With more rounds of the same candidate."""
        return Trial(
            values=self.values,
            rtf=self.rtf + more.rtf,
            first_s=self.first_s + more.first_s,
            peak_bytes=max(self.peak_bytes, more.peak_bytes),
            failed=more.failed or self.failed,
        )


class Chosen(msgspec.Struct, frozen=True, kw_only=True):
    value: Value
    why: str


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """All that one run of `saywell tune` found."""

    model: str
    runtime: str
    """What ran the model: packages and their versions."""
    device: str
    """It was measured on; no plan for another one follows it."""
    goal: Goal
    when: str
    """UTC, ISO 8601."""
    seconds: float
    """What it took."""
    best: dict[str, Value]
    """The values of the trial that won."""
    chosen: dict[str, Chosen]
    """Field of the plan → its best value."""
    trials: list[Trial]


class Store:
    """The files of one machine with one model. Reading never fails; writing raises OSError, but where said."""

    def __init__(self, data_dir: Path, hardware: Hardware, spec: ModelSpec, python: Path | None = None) -> None:
        """`python`: the interpreter the worker runs in, if not this one; its packages are not known here."""
        self._runtimes = {name: _runtime(hardware, spec, name, python) for name in spec.executors}
        # What an engine holds does not depend on the memory there is; a container of another size is no other machine.
        anywhere = replace(hardware, limits=replace(hardware.limits, memory=None))
        self.path = data_dir / FOLDER / f"trials-{_key(hardware, spec)}.json"
        self._memory = data_dir / FOLDER / f"memory-{_key(anywhere, spec)}.json"

    def runtime(self, executor: str) -> str:
        """The packages that run the model by an executor, with their versions."""
        return self._runtimes[executor]

    def load(self) -> Record | None:
        """What was kept; None if there is nothing that holds for the versions that are here."""
        found = _read(self.path, Record)
        return found if found is not None and found.runtime in self._runtimes.values() else None

    def measurements(self) -> dict[str, Measurement]:
        """For `make_plan`: field → measured value with its figures. Empty until this machine has been tuned."""
        record = self.load()
        chosen = {} if record is None else record.chosen
        return {name: Measurement(value=each.value, why=each.why) for name, each in chosen.items()}

    def check(self) -> None:
        """Raise StorageFailure unless a file can be kept here: known before minutes of measuring, not after."""
        try:
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=self.path.parent, prefix=UNFINISHED) as file:
                file.write(bytes(_ROOM))
        except OSError as error:
            raise self._unkept(error) from error

    def save(self, record: Record) -> None:
        """Raises StorageFailure."""
        try:
            _write(self.path, record)
        except OSError as error:
            raise self._unkept(error) from error

    def _unkept(self, error: OSError) -> StorageFailure:
        out = "set SAYWELL_DATA_DIR to a place that can be written"
        return StorageFailure(f"what is measured cannot be kept in {self.path.parent}: {error.strerror}; {out}")

    def forget(self) -> None:
        for path in (self.path, self._memory):
            path.unlink(missing_ok=True)

    # -- memory

    def weighed(self) -> dict[str, dict[str, int]]:
        """Bytes that engines held beside weights and slots, by what ran them and by precision."""
        return _read(self._memory, dict[str, dict[str, int]]) or {}

    def weigh(self, plan: Plan, overhead: int) -> None:
        """Keep what a fully busy engine held: it replaces what was known."""
        known, runtime = self.weighed(), self._runtimes[plan.executor]
        _write(self._memory, {**known, runtime: {**known.get(runtime, {}), plan.precision: overhead}})

    def learn(self, plan: Plan, overhead: int, thought: int) -> None:
        """Keep what an engine held that may have had little to do. More than was `thought` counts at once, less by half
        of the way: one run that did little must not undo what others showed."""
        before = self.weighed().get(self._runtimes[plan.executor], {}).get(plan.precision, thought)
        figure = overhead if overhead > thought else (before + overhead) // 2
        if abs(figure - before) > thought // 50:
            self.weigh(plan, figure)

    def corrected(self, spec: ModelSpec) -> ModelSpec:
        """The model's facts with the memory that was measured here in place of what its family says."""
        here = [each for runtime, each in self.weighed().items() if runtime in self._runtimes.values()]
        most = max((size for each in here for size in each.values()), default=None)
        return spec if most is None else replace(spec, overhead_bytes=most)


def model_digest(spec: ModelSpec) -> str:
    """Changes when the model's facts or files do.

    Not with what was measured of its memory, which is kept under this digest.
    """
    names = spec.__dataclass_fields__.keys() - {"path", "overhead_bytes"}
    facts = {name: getattr(spec, name) for name in sorted(names)}
    digest = hashlib.sha256(msgspec.json.encode(facts, order="deterministic"))
    if spec.path is not None:
        with suppress(OSError, Damaged):
            digest.update(Manifest.read(spec.path).digest().encode())
    return digest.hexdigest()


def _key(hardware: Hardware, spec: ModelSpec) -> str:
    """Of machine and model. Packages come and go: which ones count depends on the plan."""
    machine = replace(hardware, runtimes={}).fingerprint()
    return hashlib.sha256(f"{_SCHEMA} {machine} {model_digest(spec)}".encode()).hexdigest()[:32]


def _runtime(hardware: Hardware, spec: ModelSpec, executor: str, python: Path | None) -> str:
    """What an executor runs the model with: this program and the packages of its variants, by version."""
    variants = [variant for variant in spec.variants if variant.executor == executor]
    required = [name for variant in variants for name, newer, _ in (each.partition(">=") for each in variant.requires)
                if newer]  # fmt: skip
    packages = sorted({variant.package for variant in variants if variant.package} | set(required))
    if python is not None:
        return f"saywell {__version__}, {', '.join(packages)} of {python}"
    there = {name: runtime.version for name, runtime in hardware.runtimes.items()}
    return ", ".join([f"saywell {__version__}", *(f"{name} {there.get(name, 'missing')}" for name in packages)])


def _read(path: Path, kind: type[T]) -> T | None:
    """A file's content as `kind`; None, with a word in the log unless it is only absent, if it cannot be had."""
    try:
        return msgspec.json.decode(read_plain(path, _MAX_BYTES), type=kind)
    except (FileNotFoundError, NotADirectoryError):
        pass
    except (msgspec.MsgspecError, Damaged, ValueError):
        _log.warning("the measurements in %s are damaged and go unused; `saywell tune` takes them anew", path.name)
    except OSError as error:
        _tell(path.parent, error.strerror or str(error))
    return None


@cache
def _tell(folder: Path, why: str) -> None:
    """Once: each plan looks at several files."""
    _log.warning("what was measured in %s cannot be read and goes unused: %s", folder, why)


def _write(path: Path, value: Any) -> None:
    write_atomically(path, msgspec.json.format(msgspec.json.encode(value), indent=1))
