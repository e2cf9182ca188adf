"""Measurements of `saywell tune` and of memory, kept as JSON files and used by every plan.

File names contain a hash of machine and model. Results of other package versions are ignored; a damaged file is
reported, ignored and rewritten.
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
"""Value of a plan field."""
FOLDER = "measured"
_SCHEMA = 2
"""File format; part of the file name."""
_MAX_BYTES = 4 << 20
_ROOM = 256 << 10
"""Bytes reserved for the files of one run."""


class Trial(msgspec.Struct, frozen=True, kw_only=True):
    """One candidate and its measured rounds."""

    values: dict[str, Value]
    """Plan fields that differ from the rules' plan."""
    rtf: tuple[float, ...] = ()
    """RTF with all streams busy, per round."""
    first_s: tuple[float, ...] = ()
    """TTFA of a single request in seconds, per round."""
    peak_bytes: int = 0
    """Peak memory of its processes; 0: not available."""
    failed: str = ""
    """Why it is excluded."""

    def plus(self, more: Trial) -> Trial:
        """This trial with further rounds of the same candidate."""
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
    """Result of one run of `saywell tune`."""

    model: str
    runtime: str
    """Packages that ran the model, with versions."""
    device: str
    """Device it was measured on; not used for others."""
    goal: Goal
    when: str
    """UTC, ISO 8601."""
    seconds: float
    """Duration of the run."""
    best: dict[str, Value]
    """Values of the winning trial."""
    chosen: dict[str, Chosen]
    """Field of the plan → its best value."""
    trials: list[Trial]


class Store:
    """Measurement files of one machine and model. Reading never fails; writing raises OSError unless noted."""

    def __init__(self, data_dir: Path, hardware: Hardware, spec: ModelSpec, python: Path | None = None) -> None:
        """`python`: the worker's interpreter if it is not this one; its package versions are unknown."""
        self._runtimes = {name: _runtime(hardware, spec, name, python) for name in spec.executors}
        # Memory use does not depend on the limit: containers of other sizes share this file.
        anywhere = replace(hardware, limits=replace(hardware.limits, memory=None))
        self.path = data_dir / FOLDER / f"trials-{_key(hardware, spec)}.json"
        self._memory = data_dir / FOLDER / f"memory-{_key(anywhere, spec)}.json"

    def runtime(self, executor: str) -> str:
        """Packages of an executor, with versions."""
        return self._runtimes[executor]

    def load(self) -> Record | None:
        """The stored record; None if there is none for the installed versions."""
        found = _read(self.path, Record)
        return found if found is not None and found.runtime in self._runtimes.values() else None

    def measurements(self) -> dict[str, Measurement]:
        """For `make_plan`: field → measured value with its figures."""
        record = self.load()
        chosen = {} if record is None else record.chosen
        return {name: Measurement(value=each.value, why=each.why) for name, each in chosen.items()}

    def check(self) -> None:
        """Raise StorageFailure if no file can be stored, before measuring starts."""
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
        out = "set SAYWELL_DATA_DIR to a writable directory"
        return StorageFailure(f"measurements cannot be stored in {self.path.parent}: {error.strerror}; {out}")

    def forget(self) -> None:
        for path in (self.path, self._memory):
            path.unlink(missing_ok=True)

    # -- memory

    def weighed(self) -> dict[str, dict[str, int]]:
        """Measured overhead bytes by packages and precision."""
        return _read(self._memory, dict[str, dict[str, int]]) or {}

    def weigh(self, plan: Plan, overhead: int) -> None:
        """Store the overhead of a fully busy engine, replacing the earlier value."""
        known, runtime = self.weighed(), self._runtimes[plan.executor]
        _write(self._memory, {**known, runtime: {**known.get(runtime, {}), plan.precision: overhead}})

    def learn(self, plan: Plan, overhead: int, thought: int) -> None:
        """Store the overhead of an engine that may have been mostly idle. A value above `thought` counts fully, a lower
        one by half, so that one idle run does not undo earlier measurements."""
        before = self.weighed().get(self._runtimes[plan.executor], {}).get(plan.precision, thought)
        figure = overhead if overhead > thought else (before + overhead) // 2
        if abs(figure - before) > thought // 50:
            self.weigh(plan, figure)

    def corrected(self, spec: ModelSpec) -> ModelSpec:
        """The spec with the overhead measured on this machine."""
        here = [each for runtime, each in self.weighed().items() if runtime in self._runtimes.values()]
        most = max((size for each in here for size in each.values()), default=None)
        return spec if most is None else replace(spec, overhead_bytes=most)


def model_digest(spec: ModelSpec) -> str:
    """Digest of the model's facts and files, without the measured memory."""
    names = spec.__dataclass_fields__.keys() - {"path", "overhead_bytes"}
    facts = {name: getattr(spec, name) for name in sorted(names)}
    digest = hashlib.sha256(msgspec.json.encode(facts, order="deterministic"))
    if spec.path is not None:
        with suppress(OSError, Damaged):
            digest.update(Manifest.read(spec.path).digest().encode())
    return digest.hexdigest()


def _key(hardware: Hardware, spec: ModelSpec) -> str:
    """Hash of machine and model, without package versions."""
    machine = replace(hardware, runtimes={}).fingerprint()
    return hashlib.sha256(f"{_SCHEMA} {machine} {model_digest(spec)}".encode()).hexdigest()[:32]


def _runtime(hardware: Hardware, spec: ModelSpec, executor: str, python: Path | None) -> str:
    """This program and the packages of an executor's variants, with versions."""
    variants = [variant for variant in spec.variants if variant.executor == executor]
    required = [name for variant in variants for name, newer, _ in (each.partition(">=") for each in variant.requires)
                if newer]  # fmt: skip
    packages = sorted({variant.package for variant in variants if variant.package} | set(required))
    if python is not None:
        return f"saywell {__version__}, {', '.join(packages)} of {python}"
    there = {name: runtime.version for name, runtime in hardware.runtimes.items()}
    return ", ".join([f"saywell {__version__}", *(f"{name} {there.get(name, 'missing')}" for name in packages)])


def _read(path: Path, kind: type[T]) -> T | None:
    """A file decoded as `kind`; None if absent, or unreadable (logged)."""
    try:
        return msgspec.json.decode(read_plain(path, _MAX_BYTES), type=kind)
    except (FileNotFoundError, NotADirectoryError):
        pass
    except (msgspec.MsgspecError, Damaged, ValueError):
        _log.warning("ignoring damaged measurements in %s; run `saywell tune` again", path.name)
    except OSError as error:
        _tell(path.parent, error.strerror or str(error))
    return None


@cache
def _tell(folder: Path, why: str) -> None:
    """Log once per folder: each plan reads several files."""
    _log.warning("ignoring unreadable measurements in %s: %s", folder, why)


def _write(path: Path, value: Any) -> None:
    write_atomically(path, msgspec.json.format(msgspec.json.encode(value), indent=1))
