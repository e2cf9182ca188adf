"""Published checkpoint → the directory an engine maps at start. Needs torch, in a process of its own; running does not.

    model.safetensors     both transformers, published names without prefixes, in the stored precision (bf16), so that
                          embedding rows can be gathered from the map
    codec.safetensors     encoder, quantiser, decoder, weight norm folded, fp32
    config.json, codec_config.json, tokenizer.tiktoken, special_tokens.json, LICENSE…   copied
    *.onnx                written from the two files above by the graph builders
    saywell.json          the manifest: what was made from what, digests and sizes

Each step is recorded in the manifest when it is done, so that a second run does only what is missing or has changed.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any

from filelock import FileLock

from saywell.child import interpreter
from saywell.errors import MissingDependency
from saywell.files import UNFINISHED, Damaged, open_file, replacing, sha256
from saywell.hub.weights import read_record
from saywell.manifest import MANIFEST, Entry, Manifest
from saywell.models.dual_ar.config import CODEC_CONFIG_FILE, CONFIG_FILE, Config
from saywell.models.dual_ar.convert.child import FILES, REFUSED
from saywell.models.dual_ar.convert.tensors import TensorFile
from saywell.models.dual_ar.errors import BadCheckpoint
from saywell.models.dual_ar.layout import codec_tensors, model_tensors
from saywell.models.dual_ar.tokenizer import RANKS_FILE, SPECIALS_FILE, Tokenizer

FORMAT = 1
PRECISIONS = ("fp32", "int8", "int4")
SENTENCES = 4
"""Read by the calibration unless another number is asked for."""
MODEL, CODEC = "model.safetensors", "codec.safetensors"
_COPIED = (
    CONFIG_FILE,
    CODEC_CONFIG_FILE,
    RANKS_FILE,
    SPECIALS_FILE,
    "LICENSE",
    "LICENSE.md",
    "LICENSE.txt",
    "README.md",
)
SOURCES = (*FILES.values(), CONFIG_FILE, CODEC_CONFIG_FILE, RANKS_FILE, SPECIALS_FILE)
"""What a conversion depends on, as far as a checkpoint has it."""

Progress = Callable[[str, int, int], None]
"""Called with (step, done, total)."""


@dataclass(slots=True)
class _Work:
    """One conversion: where from, where to, what the manifest knows already."""

    source: Path
    out: Path
    manifest: Manifest
    progress: Progress
    digests: dict[str, str] = field(default_factory=dict)

    def digest(self, path: Path) -> str:
        """sha256 of a file, computed once a run."""
        key = str(path)
        if key not in self.digests:
            self.digests[key] = _digest(path, self.progress)
        return self.digests[key]

    def is_done(self, name: str, made_from: dict[str, str]) -> bool:
        """True if `name` was made from the same inputs and is still what it was."""
        entry, path = self.manifest.files.get(name), self.out / name
        return bool(
            entry
            and entry.made_from == made_from
            and path.is_file()
            and path.stat().st_size == entry.bytes
            and self.digest(path) == entry.sha256
        )

    def record(self, name: str, made_from: dict[str, str]) -> None:
        path = self.out / name
        self.digests.pop(str(path), None)
        entry = Entry(bytes=path.stat().st_size, sha256=self.digest(path), made_from=made_from)
        self.manifest.files[name] = entry
        self.manifest.write(self.out)

    @contextmanager
    def folder(self) -> Iterator[Path]:
        """Where files are made before they are moved into `out`; the next run deletes what a killed one has left."""
        with tempfile.TemporaryDirectory(dir=self.out, prefix=UNFINISHED) as folder:
            yield Path(folder)


def convert(
    directory: str | Path,
    out: str | Path,
    *,
    progress: Progress | None = None,
    precisions: Sequence[str] = PRECISIONS,
    licence: str | None = None,
    sentences: int = SENTENCES,
) -> Path:
    """Convert a published checkpoint; the directory `out`. Does only what a former run has not done.

    `precisions`: of the transformers' graphs; none at all: no graphs. `licence`: of the weights, kept in the manifest;
    None: the one acknowledged when they were pulled. `sentences`: how many of the calibration (`calibrate.TEXTS`).
    Raises BadConfig and BadCheckpoint naming the file at fault, MissingDependency without torch.
    """
    source, target = Path(directory), Path(out)
    if not source.is_dir():
        raise BadCheckpoint(f"{source} is not a directory; name the one that holds {CONFIG_FILE}")
    config = Config.read(source)
    tokenizer = Tokenizer.read(source, config)
    _check_sources(source, config)
    graphs = _graph_writer() if precisions else None  # what is missing is said before minutes of work
    target.mkdir(parents=True, exist_ok=True)
    with FileLock(target / ".lock"):
        for leftover in target.glob(f"{UNFINISHED}*"):
            shutil.rmtree(leftover) if leftover.is_dir() else leftover.unlink()
        manifest = _manifest(target, licence or read_record(source).get("accepted"))
        work = _Work(source, target, manifest, progress or _silent)
        for name in _COPIED:
            _copy(work, name)
        _tensors(work, config, "model", MODEL)
        _tensors(work, config, "codec", CODEC)
        if graphs is not None:
            _graphs(work, graphs.version(), graphs.steps(config, tokenizer, precisions, sentences))
    return target


def _silent(_step: str, _done: int, _total: int) -> None:
    """No progress wanted."""


def _check_sources(source: Path, config: Config) -> None:
    missing = [name for name in FILES.values() if not (source / name).is_file()]
    if missing:
        raise BadCheckpoint(f"{source} lacks {' and '.join(missing)}")
    if config.codec.num_codebooks != config.num_codebooks:
        raise BadCheckpoint(
            f"{CONFIG_FILE} has num_codebooks {config.num_codebooks}, the codec {config.codec.num_codebooks}; "
            f"a codec of other sizes than S1-mini's needs a {CODEC_CONFIG_FILE}"
        )


def _manifest(out: Path, licence: str | None) -> Manifest:
    if (out / MANIFEST).exists():
        known = read_manifest(out)
        if (known.format, known.family) == (FORMAT, "dual_ar"):
            known.licence = licence or known.licence
            return known
    return Manifest(format=FORMAT, family="dual_ar", licence=licence, files={})


def read_manifest(directory: Path) -> Manifest:
    """The manifest of a converted model. Raises BadCheckpoint if there is none or it is damaged."""
    path = directory / MANIFEST
    try:
        return Manifest.read(directory)
    except FileNotFoundError:
        raise BadCheckpoint(f"{path} is missing; `saywell convert` makes it") from None
    except Damaged as error:
        raise BadCheckpoint(f"{path} is damaged, {error}; delete it and convert again") from None


def _copy(work: _Work, name: str) -> None:
    if not (work.source / name).is_file():
        return
    made_from = {name: work.digest(work.source / name)}
    if work.is_done(name, made_from):
        return
    with open_file(work.source / name) as source, replacing(work.out / name) as copy:
        shutil.copyfileobj(source, copy)
    work.record(name, made_from)


def _tensors(work: _Work, config: Config, kind: str, name: str) -> None:
    inputs = (FILES[kind], CONFIG_FILE, CODEC_CONFIG_FILE)
    made_from = {each: work.digest(work.source / each) for each in inputs if (work.source / each).is_file()}
    if work.is_done(name, made_from):
        return
    with work.folder() as folder:
        made = folder / name
        work.progress(f"convert {name}", 0, 1)
        _run_child(kind, work.source, made)
        work.progress(f"convert {name}", 1, 1)
        shapes = model_tensors(config) if kind == "model" else codec_tensors(config.codec)
        TensorFile(made).check(shapes)
        made.replace(work.out / name)
    work.record(name, made_from)


def _run_child(kind: str, source: Path, out: Path) -> None:
    command = [interpreter(), "-m", "saywell.models.dual_ar.convert.child", kind, str(source), str(out)]
    child = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    if child.returncode == REFUSED:
        why = json.loads(child.stdout)
        if "refused" in why:
            raise BadCheckpoint(why["refused"])
        raise MissingDependency(
            f"reading {FILES[kind]} needs {why['missing']}, which is not installed: pip install 'saywell[convert]'"
        )
    if child.returncode:
        trouble = child.stderr.strip().splitlines()
        ended = trouble[-1][:300] if trouble else f"exit status {child.returncode}"
        raise BadCheckpoint(f"{FILES[kind]} could not be converted: the process doing it ended with {ended}")


def _graph_writer() -> Any:
    try:
        return import_module("saywell.models.dual_ar.graphs.build")  # by name: only this needs onnx
    except ModuleNotFoundError as error:
        raise MissingDependency(
            f"converting a checkpoint needs {error.name}, which is not installed: pip install 'saywell[convert]'"
        ) from error


def _graphs(work: _Work, version: str, steps: Sequence[Any]) -> None:
    """Graphs, each group made again when its tensors, the sizes or the code that writes it change."""
    for step in steps:
        inputs = {"model": MODEL, "codec": CODEC}[step.tensors], *(CONFIG_FILE, CODEC_CONFIG_FILE)
        files = work.manifest.files
        made_from = {each: files[each].sha256 for each in inputs if each in files}
        made_from.update(step=step.name, code=version, **step.made_from)
        _graph_group(work, step, made_from)


def _graph_group(work: _Work, step: Any, made_from: dict[str, str]) -> None:
    done = [name for name, entry in work.manifest.files.items() if entry.made_from.get("step") == step.name]
    if done and all(work.is_done(name, made_from) for name in done):
        return
    work.progress(f"write {step.name}", 0, 1)
    with work.folder() as folder:
        tensors = TensorFile(work.out / (MODEL if step.tensors == "model" else CODEC))
        written = step.build(tensors, folder)
        for path in written:
            path.chmod((work.out / MANIFEST).stat().st_mode)  # onnx writes for the owner alone
            path.replace(work.out / path.name)
        for path in written:
            work.record(path.name, made_from)
    work.progress(f"write {step.name}", 1, 1)


def _digest(path: Path, progress: Progress) -> str:
    return sha256(path, lambda done, total: progress(f"verify {path.name}", done, total))
