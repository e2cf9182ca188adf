"""`saywell convert`, `pull`, `encode`, `decode`: checkpoints and codes from file to file."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from saywell.commands.show import console
from saywell.errors import InvalidRequest, StorageFailure
from saywell.machine import detect
from saywell.models.base import Offline, find_spec, offline, offline_for
from saywell.models.first_use import place_of
from saywell.settings import Settings, default_data_dir

Progress = Callable[[str, int, int], None]


def convert(
    directory: Path, out: Path | None, precisions: list[str], sentences: int | None, settings: Settings
) -> None:
    """A published checkpoint → what an engine maps at start. `out`: None installs it under the checkpoint's name."""
    run = offline_for(directory)
    sentences = run.SENTENCES if sentences is None else sentences
    if not 1 <= sentences <= run.MAX_SENTENCES:
        raise InvalidRequest(
            f"--calibration takes 1 to {run.MAX_SENTENCES} sentences, not {sentences}", param="calibration"
        )
    unknown = [name for name in precisions if name not in run.PRECISIONS]
    if unknown:
        raise InvalidRequest(f"no precision {unknown[0]!r}; there is {', '.join(run.PRECISIONS)}", param="precision")
    chosen = precisions or run.PRECISIONS
    place = out or place_of(directory, settings.data_dir or default_data_dir())
    with _bars() as progress:
        run.convert(directory, place, progress=progress, precisions=chosen, sentences=sentences)
    for line in (line for precision in chosen for line in run.report(place, precision)):
        _say(line)
    _say(f"{place} is ready: saywell say --model {out or place.name} …")


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


def encode(audio: Path, model: Path, out: Path) -> None:
    """Audio file → codes."""
    _say(f"{_offline(model).encode(audio, model, out, threads=detect().usable_cores)}")


def decode(codes: Path, model: Path, out: Path) -> None:
    """Codes → audio file."""
    _say(f"{_offline(model).decode(codes, model, out, threads=detect().usable_cores)}")


def _offline(model: Path) -> Offline:
    return offline(find_spec(None, model).family)


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
