"""Conversion of a published checkpoint in steps, for every family.

Each completed step is recorded in the manifest; another run repeats only steps whose inputs or results have changed.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from filelock import FileLock

from saywell.errors import BadCheckpoint
from saywell.files import UNFINISHED, Damaged, open_file, replacing, sha256
from saywell.hub.weights import read_record
from saywell.manifest import MANIFEST, Entry, Manifest

Progress = Callable[[str, int, int], None]
"""Called with (step, done, total)."""
Build = Callable[[Path], Iterable[Path]]
"""Writes files into a folder and returns them."""


class Conversion:
    """From the directory `source` to the directory `out`."""

    def __init__(self, source: Path, out: Path, manifest: Manifest, progress: Progress) -> None:
        self.source, self.out, self.manifest = source, out, manifest
        self._progress = progress
        self._digests: dict[Path, str] = {}

    def copy(self, name: str) -> None:
        """Copy a file of the checkpoint, if there is one."""
        if not (self.source / name).is_file():
            return
        made_from = self.digests(self.source, name)
        if not self._is_done(name, made_from):
            with open_file(self.source / name) as source, replacing(self.out / name) as copy:
                shutil.copyfileobj(source, copy)
            self._record(name, made_from)

    def write(self, title: str, made_from: Mapping[str, str], build: Build, name: str = "") -> None:
        """The files of one step, written again as a whole if any of its inputs `made_from` has changed.

        They are one file of that name, or all whose inputs name the same "step".
        """
        of_step = [
            file for file, entry in self.manifest.files.items() if entry.made_from.get("step") == made_from.get("step")
        ]
        written = [name] if name else of_step
        if written and all(self._is_done(file, made_from) for file in written):
            return
        with self._step(title) as folder:
            paths = [*build(folder)]
            for path in paths:
                path.chmod((self.out / MANIFEST).stat().st_mode)  # onnx makes files that only their owner can read
                path.replace(self.out / path.name)
        for path in paths:
            self._record(path.name, made_from)

    def digests(self, directory: Path, *names: str) -> dict[str, str]:
        """Of the files that exist, by name."""
        return {name: self._digest(directory / name) for name in names if (directory / name).is_file()}

    @contextmanager
    def _step(self, title: str) -> Iterator[Path]:
        """Report progress; yields a temporary folder in `out`, which the next run deletes if this one is killed."""
        self._progress(title, 0, 1)
        with tempfile.TemporaryDirectory(dir=self.out, prefix=UNFINISHED) as folder:
            yield Path(folder)
        self._progress(title, 1, 1)

    def _digest(self, path: Path) -> str:
        if path not in self._digests:
            self._digests[path] = sha256(path, partial(self._progress, f"verify {path.name}"))
        return self._digests[path]

    def _is_done(self, name: str, made_from: Mapping[str, str]) -> bool:
        """True if `name` was made from the same inputs and has not changed since."""
        entry, path = self.manifest.files.get(name), self.out / name
        return bool(
            entry
            and entry.made_from == made_from
            and path.is_file()
            and path.stat().st_size == entry.bytes
            and self._digest(path) == entry.sha256
        )

    def _record(self, name: str, made_from: Mapping[str, str]) -> None:
        path = self.out / name
        self._digests.pop(path, None)
        entry = Entry(bytes=path.stat().st_size, sha256=self._digest(path), made_from=dict(made_from))
        self.manifest.files[name] = entry
        self.manifest.write(self.out)


@contextmanager
def conversion(
    source: Path, out: Path, family: str, version: int, licence: str | None, progress: Progress | None
) -> Iterator[Conversion]:
    """A conversion to continue or to begin, alone in its directory. `version`: of the family's files. `licence`: of the
    weights; None: the one accepted by `saywell pull`. Raises BadCheckpoint for a damaged manifest."""
    out.mkdir(parents=True, exist_ok=True)
    with FileLock(out / ".lock"):
        for leftover in out.glob(f"{UNFINISHED}*"):
            shutil.rmtree(leftover) if leftover.is_dir() else leftover.unlink()
        manifest = read_manifest(out) if (out / MANIFEST).exists() else None
        if manifest is None or (manifest.format, manifest.family) != (version, family):
            manifest = Manifest(format=version, family=family, files={})
            manifest.write(out)
        manifest.licence = licence or read_record(source).get("accepted") or manifest.licence
        yield Conversion(source, out, manifest, progress or (lambda *_: None))


def read_manifest(directory: Path) -> Manifest:
    """The manifest of a converted model. Raises BadCheckpoint if it is missing or damaged."""
    path = directory / MANIFEST
    try:
        return Manifest.read(directory)
    except FileNotFoundError:
        raise BadCheckpoint(f"{path} is missing; `saywell convert` makes it") from None
    except Damaged as error:
        raise BadCheckpoint(f"{path} is damaged, {error}; delete it and convert again") from None


def layers_file(precision: str) -> str:
    """Report of a conversion: the error of each layer, and which layers stay at a higher precision."""
    return f"layers-{precision}.json"


def write_layers(
    out: Path, precision: str, sentences: int, bound: float, errors: Mapping[str, float], kept: Mapping[str, str]
) -> Path:
    """`errors` at that precision on so many sentences; `kept`: layers over the `bound` → their number format."""
    path = out / layers_file(precision)
    report = {"bound": bound, "sentences": sentences, "kept": kept, "errors": errors}
    path.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    return path


def layers_report(model: Path, precision: str) -> list[str]:
    """Which layers of a precision were kept above it, and the largest error of the others."""
    file = model / layers_file(precision)
    if not file.is_file():  # fp32 has none
        return []
    found = json.loads(file.read_bytes())
    errors, kept = found["errors"], found["kept"]
    below = max((name for name in errors if name not in kept), key=errors.__getitem__, default=None)
    worst = f"; largest error of the others: {errors[below]:.3f} ({below})" if below else ""
    head = f"{precision}: {len(kept)} of {len(errors)} layers stay above it, for an error over {found['bound']}{worst}"
    return [head, *(f"  {name}: {errors[name]:.3f}, kept as {fmt}" for name, fmt in kept.items())]
