"""Published checkpoint → the directory that the engine maps at start. Needs torch, in a child process.

    model.safetensors     both transformers, published names without prefixes, in the stored precision (bf16)
    codec.safetensors     encoder, quantiser, decoder, weight norm folded, fp32
    config.json, codec_config.json, tokenizer.tiktoken, special_tokens.json, LICENSE…   copied
    *.onnx                written from the two files above by the graph builders
    saywell.json          the manifest: inputs, digest and size of each file

Each completed step is recorded in the manifest; another run repeats only steps whose inputs or results have changed.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from saywell.errors import BadCheckpoint, MissingDependency
from saywell.graphs.tensors import TensorFile
from saywell.models.conversion import Conversion, Progress, conversion
from saywell.models.dual_ar.config import CODEC_CONFIG_FILE, CONFIG_FILE, Config
from saywell.models.dual_ar.layout import FILES, codec_tensors, model_tensors
from saywell.models.dual_ar.tokenizer import RANKS_FILE, SPECIALS_FILE, Tokenizer
from saywell.models.torch_file import rewrite

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
    with conversion(source, target, "dual_ar", FORMAT, licence, progress) as run:
        for name in _COPIED:
            run.copy(name)
        _write_tensors(run, config, "model", MODEL)
        _write_tensors(run, config, "codec", CODEC)
        if graphs is not None:
            for step in graphs.steps(config, tokenizer, precisions, sentences):
                _write_graphs(run, step, graphs.VERSION)
    return target


def _write_tensors(run: Conversion, config: Config, kind: str, name: str) -> None:
    """`model.pth` or `codec.pth` as safetensors."""

    def build(folder: Path) -> list[Path]:
        rewrite("saywell.models.dual_ar.convert.checkpoint", run.source / FILES[kind], folder / name)
        shapes = model_tensors(config) if kind == "model" else codec_tensors(config.codec)
        TensorFile(folder / name).check(shapes)
        return [folder / name]

    made_from = run.digests(run.source, FILES[kind], CONFIG_FILE, CODEC_CONFIG_FILE)
    run.write(f"convert {name}", made_from, build, name)


def _write_graphs(run: Conversion, step: Any, version: str) -> None:
    """One group of graphs (`graphs.build.Step`); `version`: of the program that writes them."""
    tensors, files = {"model": MODEL, "codec": CODEC}[step.tensors], run.manifest.files
    made_from = {name: files[name].sha256 for name in (tensors, CONFIG_FILE, CODEC_CONFIG_FILE) if name in files}
    made_from.update(step=step.name, code=version, **step.made_from)
    run.write(f"write {step.name}", made_from, lambda folder: step.build(TensorFile(run.out / tensors), folder))


def _check_sources(source: Path, config: Config) -> None:
    missing = [name for name in FILES.values() if not (source / name).is_file()]
    if missing:
        raise BadCheckpoint(f"{source} lacks {' and '.join(missing)}")
    if config.codec.num_codebooks != config.num_codebooks:
        raise BadCheckpoint(
            f"{CONFIG_FILE} has num_codebooks {config.num_codebooks}, the codec {config.codec.num_codebooks}; "
            f"a codec of other sizes than S1-mini's needs a {CODEC_CONFIG_FILE}"
        )


def _graph_builder() -> Any:
    try:
        return import_module("saywell.models.dual_ar.graphs.build")  # by name, because it needs onnx
    except ModuleNotFoundError as error:
        raise MissingDependency(
            f"converting a checkpoint needs {error.name}, which is not installed: pip install 'saywell[convert]'"
        ) from error
