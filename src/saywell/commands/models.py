"""`saywell convert`, `pull`, `fixture`, `encode`, `decode`: checkpoints and codes from file to file."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

from saywell.commands.show import console
from saywell.errors import InvalidRequest, MissingDependency, StorageFailure
from saywell.machine import detect
from saywell.models.base import find_spec
from saywell.models.first_use import place_of
from saywell.settings import Settings, default_data_dir

Progress = Callable[[str, int, int], None]


def convert(
    directory: Path, out: Path | None, precisions: list[str], sentences: int | None, settings: Settings
) -> None:
    """A published checkpoint → what an engine maps at start. `out`: None installs it under the checkpoint's name."""
    from saywell.models.dual_ar.convert.calibrate import TEXTS
    from saywell.models.dual_ar.convert.convert import PRECISIONS, SENTENCES
    from saywell.models.dual_ar.convert.convert import convert as run

    sentences = SENTENCES if sentences is None else sentences
    if not 1 <= sentences <= len(TEXTS):
        raise InvalidRequest(f"--calibration takes 1 to {len(TEXTS)} sentences, not {sentences}", param="calibration")
    unknown = [name for name in precisions if name not in PRECISIONS]
    if unknown:
        raise InvalidRequest(f"no precision {unknown[0]!r}; there is {', '.join(PRECISIONS)}", param="precision")
    place = out or place_of(directory, settings.data_dir or default_data_dir())
    with _bars() as progress:
        run(directory, place, progress=progress, precisions=precisions or PRECISIONS, sentences=sentences)
    for precision in precisions or PRECISIONS:
        _tell_layers(place, precision)
    _say(f"{place} is ready: saywell say --model {out or place.name} …")


def _tell_layers(model: Path, precision: str) -> None:
    """Which layers of a precision were kept above it, and how near the others came."""
    from saywell.models.dual_ar.onnx.ar_files import layers_file

    report = model / layers_file(precision)
    if not report.is_file():  # fp32 has none
        return
    found = json.loads(report.read_bytes())
    errors, kept = found["errors"], found["kept"]
    below = max((name for name in errors if name not in kept), key=errors.__getitem__, default=None)
    worst = f"; largest error of the others: {errors[below]:.3f} ({below})" if below else ""
    _say(f"{precision}: {len(kept)} of {len(errors)} layers stay above it, for an error over {found['bound']}{worst}")
    for name, fmt in kept.items():
        _say(f"  {name}: {errors[name]:.3f}, kept as {fmt}")


def pull(name: str, directory: Path | None, settings: Settings, *, accept_license: bool, revision: str | None) -> None:
    """Download a published checkpoint."""
    from saywell.hub.sources import source
    from saywell.hub.weights import pull as run

    chosen = source(name)
    _say(f"{name}: {chosen.url}, {chosen.licence}. {chosen.terms}")
    target = directory or (settings.data_dir or default_data_dir()) / "checkpoints"
    try:
        with _bars() as progress:
            path = run(
                name, target, accept_licence=accept_license, revision=revision, token=settings.hub_token,
                progress=progress,
            )  # fmt: skip
    except OSError as error:
        raise StorageFailure(f"cannot write to {target}: {error.strerror}; name another directory with -o") from error
    _say(f"{path} is complete. Next: {chosen.next.format(path=path, name=name)}")


def fixture(directory: Path, size: str, seed: int) -> None:
    """A random checkpoint in the published layout."""
    if size not in ("tiny", "full"):
        raise InvalidRequest(f"--size takes tiny or full, not {size!r}", param="size")
    try:
        made: Any = import_module("saywell.models.dual_ar.convert.fixture")  # by name: needs torch
    except ModuleNotFoundError as error:
        raise MissingDependency(f"a fixture needs {error.name}: pip install 'saywell[torch]'") from error
    made.write(directory, size, seed)
    _say(f"{directory} holds a random {size} checkpoint: it says nothing, but it runs like the real one")


def encode(audio: Path, model: Path, out: Path) -> None:
    """Audio file → codes."""
    _say(f"{_offline(model).encode(audio, model, out, threads=detect().usable_cores)}")


def decode(codes: Path, model: Path, out: Path) -> None:
    """Codes → audio file."""
    _say(f"{_offline(model).decode(codes, model, out, threads=detect().usable_cores)}")


def _offline(model: Path) -> Any:
    spec = find_spec(None, model)
    return import_module(f"saywell.models.{spec.family}.offline")


def _say(message: str) -> None:
    console(stderr=True).print(message, markup=False, highlight=False, soft_wrap=True)


@contextmanager
def _bars() -> Iterator[Progress]:
    """A progress bar on standard error for each step that reports."""
    from rich.progress import BarColumn, TaskProgressColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bars

    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    with Bars(*columns, console=console(stderr=True)) as bars:
        tasks: dict[str, Any] = {}

        def progress(step: str, done: int, total: int) -> None:
            kind = step.split()[0] if step.startswith("verify ") else step  # one bar for many short steps
            if kind not in tasks:
                tasks[kind] = bars.add_task(step, total=total)
            bars.update(tasks[kind], description=step, completed=done, total=total)

        yield progress
