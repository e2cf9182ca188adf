"""What this machine was measured to do: one JSON file for each machine, model and set of versions, read by every plan.

A file that belongs to another machine, model or version is never found, because its name is made of all three. One that
is damaged is told of, ignored and written anew by the next `saywell tune`.
"""

from __future__ import annotations

import hashlib
import logging
import tempfile
from contextlib import suppress
from dataclasses import replace
from datetime import datetime, timezone
from functools import cache
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import msgspec

from saywell import __version__
from saywell.errors import StorageFailure
from saywell.files import UNFINISHED, Damaged, read_plain, write_atomically
from saywell.manifest import Manifest
from saywell.plan.plan import Measurement

if TYPE_CHECKING:
    from saywell.machine import Hardware
    from saywell.types import ModelSpec

_log = logging.getLogger(__name__)

Goal = Literal["throughput", "latency"]
Value: TypeAlias = int | str | tuple[int, ...]
"""Of a field of the plan."""
FOLDER = "measured"
_SCHEMA = 1
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
    """Why there is no figure, or why it may not be chosen."""


class Chosen(msgspec.Struct, frozen=True, kw_only=True):
    value: Value
    why: str


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """All that one run of `saywell tune` found."""

    schema: int = _SCHEMA
    model: str
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


class Weighed(msgspec.Struct, frozen=True, kw_only=True):
    """What an engine on this machine was found to hold beside weights and slots."""

    schema: int = _SCHEMA
    when: str
    """UTC, ISO 8601."""
    overhead: dict[str, int]
    """Precision → bytes."""


class Store:
    """The files of one machine with one model. Reading never fails; writing raises OSError, but where said."""

    def __init__(self, data_dir: Path, hardware: Hardware, spec: ModelSpec, python: Path | None = None) -> None:
        """`python`: the interpreter the worker runs in, if not this one; its packages may be others."""
        key = _key(hardware, spec, python)
        self.path = data_dir / FOLDER / f"trials-{key}.json"
        # What an engine holds does not depend on the memory there is; a container of another size is no other machine.
        anywhere = replace(hardware, limits=replace(hardware.limits, memory=None))
        self._memory = data_dir / FOLDER / f"memory-{_key(anywhere, spec, python)}.json"

    def load(self) -> Record | None:
        """What was kept; None if there is nothing, or nothing that can be understood."""
        found = _read(self.path, Record)
        return found if found is not None and found.schema == _SCHEMA else None

    def check(self) -> None:
        """Raise StorageFailure unless a file can be kept here: known before minutes of measuring, not after."""
        try:
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=self.path.parent, prefix=UNFINISHED) as file:
                file.write(bytes(_ROOM))
        except OSError as error:
            raise self._failed(error) from error

    def save(self, record: Record) -> None:
        """Raises StorageFailure."""
        try:
            _write(self.path, record)
        except OSError as error:
            raise self._failed(error) from error

    def _failed(self, error: OSError) -> StorageFailure:
        out = "set SAYWELL_DATA_DIR to a place that can be written"
        return StorageFailure(f"what is measured cannot be kept in {self.path.parent}: {error.strerror}; {out}")

    def forget(self) -> None:
        for path in (self.path, self._memory):
            with suppress(FileNotFoundError):
                path.unlink()

    def weighed(self) -> Weighed | None:
        """What engines held; None if no busy one was seen yet."""
        found = _read(self._memory, Weighed)
        return found if found is not None and found.schema == _SCHEMA else None

    def weigh(self, precision: str, overhead: int) -> None:
        """Keep what a fully busy engine held: it replaces what was known."""
        known = self.weighed()
        self._keep({**(known.overhead if known else {}), precision: overhead})

    def learn(self, precision: str, overhead: int, thought: int) -> None:
        """Keep what an engine held that may have had little to do. More than was `thought` counts at once, less by half
        of the way: one run that did little must not undo what others showed."""
        known = self.weighed()
        before = known.overhead if known else {}
        figure = overhead if overhead > thought else (before.get(precision, thought) + overhead) // 2
        if abs(figure - before.get(precision, thought)) > thought // 50:
            self._keep({**before, precision: figure})

    def corrected(self, spec: ModelSpec) -> ModelSpec:
        """The model's facts with the memory that was measured here in place of what its family says."""
        known = self.weighed()
        return replace(spec, overhead_bytes=max(known.overhead.values())) if known and known.overhead else spec

    def _keep(self, overhead: dict[str, int]) -> None:
        when = datetime.now(timezone.utc).isoformat(timespec="seconds")
        _write(self._memory, Weighed(when=when, overhead=overhead))

    def measurements(self) -> dict[str, Measurement]:
        """For `make_plan`: field → measured value with its figures. Empty until this machine has been tuned."""
        record = self.load()
        return {} if record is None else measurements(record)


def measurements(record: Record) -> dict[str, Measurement]:
    return {name: Measurement(value=each.value, why=each.why) for name, each in record.chosen.items()}


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


def _key(hardware: Hardware, spec: ModelSpec, python: Path | None) -> str:
    """The machine's fingerprint holds the versions of its runtimes."""
    parts = [__version__, hardware.python, str(python or ""), hardware.fingerprint(), model_digest(spec)]
    return hashlib.sha256(msgspec.json.encode(parts)).hexdigest()[:32]


def _read(path: Path, kind: type[Any]) -> Any:
    """A file's content as `kind`; None, with a word in the log unless it is only absent, if it cannot be had."""
    try:
        return msgspec.json.decode(read_plain(path, _MAX_BYTES), type=kind)
    except (FileNotFoundError, NotADirectoryError):
        return None
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


def figures(trial: Trial) -> dict[str, float]:
    """Medians of a trial that has rounds."""
    return {"rtf": median(trial.rtf), "first_s": median(trial.first_s)}
