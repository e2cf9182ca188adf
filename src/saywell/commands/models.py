"""`saywell convert`, `pull`, `fixture`, `encode`, `decode`: commands on checkpoints and codes in files."""

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
from saywell.models.installed import PULLED
from saywell.settings import Settings, default_data_dir

Progress = Callable[[str, int, int], None]


def convert(
    directory: Path, out: Path | None, precisions: list[str], sentences: int | None, settings: Settings
) -> None:
    """Convert a published checkpoint for the engine. `out`: None installs it under the checkpoint's name."""
    from saywell.models.dual_ar.convert.calibrate import TEXTS
    from saywell.models.dual_ar.convert.convert import PRECISIONS, SENTENCES
    from saywell.models.dual_ar.convert.convert import convert as run

    sentences = SENTENCES if sentences is None else sentences
    if not 1 <= sentences <= len(TEXTS):
        raise InvalidRequest(f"--calibration takes 1 to {len(TEXTS)} sentences, not {sentences}", param="calibration")
    unknown = [name for name in precisions if name not in PRECISIONS]
    if unknown:
        raise InvalidRequest(f"no precision {unknown[0]!r}; there is {', '.join(PRECISIONS)}", param="precision")
    target = out or place_of(directory, settings.data_dir or default_data_dir())
    with _bars() as progress:
        run(directory, target, progress=progress, precisions=precisions or PRECISIONS, sentences=sentences)
    for precision in precisions or PRECISIONS:
        _report_layers(target, precision)
    _say(f"{target} is ready: saywell say --model {out or target.name} …")


def _report_layers(model: Path, precision: str) -> None:
    """Print which layers were kept at a higher precision, and the largest error of the others."""
    from saywell.models.dual_ar.onnx.ar_files import layers_file

    file = model / layers_file(precision)
    if not file.is_file():  # fp32 has none
        return
    report = json.loads(file.read_bytes())
    errors, kept = report["errors"], report["kept"]
    worst = max((name for name in errors if name not in kept), key=errors.__getitem__, default=None)
    others = f"; largest error of the others: {errors[worst]:.3f} ({worst})" if worst else ""
    bound = report["bound"]
    _say(f"{precision}: {len(kept)} of {len(errors)} layers stay above it, for an error over {bound}{others}")
    for name, precision_kept in kept.items():
        _say(f"  {name}: {errors[name]:.3f}, kept as {precision_kept}")


def pull(name: str, directory: Path | None, settings: Settings, *, accept_license: bool, revision: str | None) -> None:
    """Download a published checkpoint."""
    from saywell.hub.sources import source
    from saywell.hub.weights import pull as run

    chosen = source(name)
    _say(f"{name}: {chosen.url}, {chosen.licence}. {chosen.terms}")
    target = directory or (settings.data_dir or default_data_dir()) / PULLED
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
    """Write a random checkpoint in the published layout."""
    if size not in ("tiny", "full"):
        raise InvalidRequest(f"--size takes tiny or full, not {size!r}", param="size")
    try:
        module: Any = import_module("saywell.models.dual_ar.convert.fixture")  # by name: needs torch
    except ModuleNotFoundError as error:
        raise MissingDependency(f"a fixture needs {error.name}: pip install 'saywell[torch]'") from error
    module.write(directory, size, seed)
    _say(f"{directory} holds a random {size} checkpoint: it makes noise, as fast as the published one makes speech")


def encode(audio: Path, model: Path, out: Path) -> None:
    """Encode an audio file into codes."""
    _say(f"{_offline(model).encode(audio, model, out, threads=detect().usable_cores)}")


def decode(codes: Path, model: Path, out: Path) -> None:
    """Decode codes into an audio file."""
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
