"""Published checkpoint → the directory that the engine maps at start. Needs torch, in a child process.

    model.safetensors     both transformers, published names without prefixes, in the stored precision (bf16)
    codec.safetensors     encoder, quantiser, decoder, weight norm folded, fp32
    config.json, codec_config.json, tokenizer.tiktoken, special_tokens.json, LICENSE…   copied
    *.onnx                written from the two files above by the graph builders
    saywell.json          the manifest: inputs, digest and size of each file

Each completed step is recorded in the manifest; another run repeats only steps whose inputs or results have changed.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

from filelock import FileLock

from saywell.child import interpreter
from saywell.errors import BadCheckpoint, MissingDependency
from saywell.files import UNFINISHED, Damaged, open_file, replacing, sha256
from saywell.graphs.tensors import TensorFile
from saywell.hub.weights import read_record
from saywell.manifest import MANIFEST, Entry, Manifest
from saywell.models.dual_ar.config import CODEC_CONFIG_FILE, CONFIG_FILE, Config
from saywell.models.dual_ar.convert.child import FILES, REFUSED
from saywell.models.dual_ar.layout import codec_tensors, model_tensors
from saywell.models.dual_ar.tokenizer import RANKS_FILE, SPECIALS_FILE, Tokenizer

FORMAT = 1
PRECISIONS = ("fp32", "int8", "int4")
SENTENCES = 4
"""Calibration sentences by default."""
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
"""Files of a checkpoint that a conversion reads; some are optional."""

Progress = Callable[[str, int, int], None]
"""Called with (step, done, total)."""


def convert(
    directory: str | Path,
    out: str | Path,
    *,
    progress: Progress | None = None,
    precisions: Sequence[str] = PRECISIONS,
    licence: str | None = None,
    sentences: int = SENTENCES,
) -> Path:
    """Convert a published checkpoint; returns the directory `out`. Steps that an earlier run completed are skipped.

    `precisions`: of the transformers' graphs; empty: no graphs at all. `licence`: of the weights, for the manifest;
    None: the licence accepted by `saywell pull`. `sentences`: how many of `calibrate.TEXTS` the calibration reads.
    Raises BadConfig and BadCheckpoint naming the file, MissingDependency without torch.
    """
    source, target = Path(directory), Path(out)
    if not source.is_dir():
        raise BadCheckpoint(f"{source} is not a directory; name the one that holds {CONFIG_FILE}")
    config = Config.read(source)
    tokenizer = Tokenizer.read(source, config)
    _check_sources(source, config)
    graphs = _graph_builder() if precisions else None  # imported now, to report a missing package at once
    target.mkdir(parents=True, exist_ok=True)
    with FileLock(target / ".lock"):
        for leftover in target.glob(f"{UNFINISHED}*"):
            shutil.rmtree(leftover) if leftover.is_dir() else leftover.unlink()
        manifest = _manifest(target, licence or read_record(source).get("accepted"))
        conversion = _Conversion(source, target, config, manifest, progress or (lambda *_: None))
        for name in _COPIED:
            conversion.copy(name)
        conversion.write_tensors("model", MODEL)
        conversion.write_tensors("codec", CODEC)
        if graphs is not None:
            for step in graphs.steps(config, tokenizer, precisions, sentences):
                conversion.write_graphs(step, graphs.VERSION)
    return target


@dataclass(slots=True)
class _Conversion:
    source: Path
    out: Path
    config: Config
    manifest: Manifest
    progress: Progress
    digests: dict[Path, str] = field(default_factory=dict)

    def copy(self, name: str) -> None:
        if not (self.source / name).is_file():
            return
        made_from = self._inputs(self.source, name)
        if not self._is_done(name, made_from):
            with open_file(self.source / name) as source, replacing(self.out / name) as copy:
                shutil.copyfileobj(source, copy)
            self._record(name, made_from)

    def write_tensors(self, kind: str, name: str) -> None:
        """`model.pth` or `codec.pth` as safetensors."""
        made_from = self._inputs(self.source, FILES[kind], CONFIG_FILE, CODEC_CONFIG_FILE)
        if self._is_done(name, made_from):
            return
        with self._step(f"convert {name}") as folder:
            _run_child(kind, self.source, folder / name)
            shapes = model_tensors(self.config) if kind == "model" else codec_tensors(self.config.codec)
            TensorFile(folder / name).check(shapes)
            (folder / name).replace(self.out / name)
        self._record(name, made_from)

    def write_graphs(self, step: Any, version: str) -> None:
        """One group of graphs (`graphs.build.Step`), rewritten as a whole if its inputs or the `version` change."""
        tensors = {"model": MODEL, "codec": CODEC}[step.tensors]
        files = self.manifest.files
        made_from = {name: files[name].sha256 for name in (tensors, CONFIG_FILE, CODEC_CONFIG_FILE) if name in files}
        made_from.update(step=step.name, code=version, **step.made_from)
        written = [name for name, entry in files.items() if entry.made_from.get("step") == step.name]
        if written and all(self._is_done(name, made_from) for name in written):
            return
        with self._step(f"write {step.name}") as folder:
            paths = step.build(TensorFile(self.out / tensors), folder)
            for path in paths:
                path.chmod((self.out / MANIFEST).stat().st_mode)  # onnx makes files that only their owner can read
                path.replace(self.out / path.name)
        for path in paths:
            self._record(path.name, made_from)

    @contextmanager
    def _step(self, name: str) -> Iterator[Path]:
        """Report progress; yields a temporary folder in `out`, which the next run deletes if this one is killed."""
        self.progress(name, 0, 1)
        with tempfile.TemporaryDirectory(dir=self.out, prefix=UNFINISHED) as folder:
            yield Path(folder)
        self.progress(name, 1, 1)

    def _inputs(self, directory: Path, *names: str) -> dict[str, str]:
        """Digests of the files that exist, by name."""
        return {name: self._digest(directory / name) for name in names if (directory / name).is_file()}

    def _digest(self, path: Path) -> str:
        if path not in self.digests:
            report = partial(self.progress, f"verify {path.name}")
            self.digests[path] = sha256(path, report)
        return self.digests[path]

    def _is_done(self, name: str, made_from: dict[str, str]) -> bool:
        """True if `name` was made from the same inputs and has not changed since."""
        entry, path = self.manifest.files.get(name), self.out / name
        return bool(
            entry
            and entry.made_from == made_from
            and path.is_file()
            and path.stat().st_size == entry.bytes
            and self._digest(path) == entry.sha256
        )

    def _record(self, name: str, made_from: dict[str, str]) -> None:
        path = self.out / name
        self.digests.pop(path, None)
        entry = Entry(bytes=path.stat().st_size, sha256=self._digest(path), made_from=made_from)
        self.manifest.files[name] = entry
        self.manifest.write(self.out)


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
    """The manifest to continue, or a new one."""
    if (out / MANIFEST).exists():
        known = read_manifest(out)
        if (known.format, known.family) == (FORMAT, "dual_ar"):
            known.licence = licence or known.licence
            return known
    return Manifest(format=FORMAT, family="dual_ar", licence=licence, files={})


def read_manifest(directory: Path) -> Manifest:
    """The manifest of a converted model. Raises BadCheckpoint if it is missing or damaged."""
    path = directory / MANIFEST
    try:
        return Manifest.read(directory)
    except FileNotFoundError:
        raise BadCheckpoint(f"{path} is missing; `saywell convert` makes it") from None
    except Damaged as error:
        raise BadCheckpoint(f"{path} is damaged, {error}; delete it and convert again") from None


def _run_child(kind: str, source: Path, out: Path) -> None:
    command = [interpreter(), "-m", "saywell.models.dual_ar.convert.child", kind, str(source), str(out)]
    child = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    if child.returncode == REFUSED:
        reply = json.loads(child.stdout)
        if "refused" in reply:
            raise BadCheckpoint(reply["refused"])
        raise MissingDependency(
            f"reading {FILES[kind]} needs {reply['missing']}, which is not installed: pip install 'saywell[convert]'"
        )
    if child.returncode:
        lines = child.stderr.strip().splitlines()
        reason = lines[-1][:300] if lines else f"exit status {child.returncode}"
        raise BadCheckpoint(f"{FILES[kind]} could not be converted: the child process failed with {reason}")


def _graph_builder() -> Any:
    try:
        return import_module("saywell.models.dual_ar.graphs.build")  # by name, because it needs onnx
    except ModuleNotFoundError as error:
        raise MissingDependency(
            f"converting a checkpoint needs {error.name}, which is not installed: pip install 'saywell[convert]'"
        ) from error
