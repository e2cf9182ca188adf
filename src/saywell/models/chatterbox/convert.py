"""Published checkpoint → the directory that the engine maps at start. Needs onnx; torch only for files of PyTorch.

*.onnx, *.data        written by the graph builders of `t3`, `s3gen` and `voice`
t3-tables.safetensors embeddings and the layers that read a voice, mapped
voice-default.npz     the checkpoint's own voice, if it has one
tokenizer.json …      copied
chatterbox.json       which model it is
saywell.json          the manifest: inputs, digest and size of each file
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from functools import cache, partial
from importlib import import_module
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from saywell.errors import BadCheckpoint, MissingDependency
from saywell.graphs.numerics import Shapes
from saywell.graphs.tensors import TensorFile
from saywell.machine import detect
from saywell.models.chatterbox.config import CONFIG, Config, Published, recognise
from saywell.models.chatterbox.facts import FORMAT, PRECISIONS
from saywell.models.chatterbox.s3gen import layout as s3gen_layout
from saywell.models.chatterbox.s3gen.config import MEANFLOW, STANDARD, S3GenConfig
from saywell.models.chatterbox.speakers import BUILT_IN as OWN_VOICE
from saywell.models.chatterbox.speakers import built_in, t3_voice
from saywell.models.chatterbox.t3 import layout as t3_layout
from saywell.models.chatterbox.t3.calibrate import Prompt, seen, write_scales
from saywell.models.chatterbox.t3.config import T3Config
from saywell.models.chatterbox.text import check_vocabulary, read
from saywell.models.chatterbox.voice import builtin
from saywell.models.chatterbox.voice import layout as voice_layout
from saywell.models.chatterbox.voice.config import VoiceConfig
from saywell.models.conversion import Conversion, Progress, conversion
from saywell.models.torch_file import rewrite

VERSION = "1"
"""Of the graphs. When it changes, `saywell convert` writes the graphs of converted models again."""
SIZES = "sizes.json"
"""Optional, for checkpoints of other sizes than the published ones: those of `s3gen` and `voice`."""
_COPIED = ("LICENSE", "LICENSE.md", "README.md")
_READER = "saywell.models.chatterbox.torch_reader"
TEXTS = (
    "The quick brown fox jumps over the lazy dog, doesn't it?",
    "The committee will meet again on Thursday, the fourteenth of March, at half past nine in the morning.",
    "No. Absolutely not. Who told you that?",
    "Rain fell on the roof all night, and by morning the river had risen over the lower road.",
    "Please call Stella and ask her to bring six spoons of fresh snow peas and five thick slabs of blue cheese.",
    "Hello! How can I help you today?",
    "She sells sea shells by the sea shore, and the shells she sells are surely sea shells.",
    "Your order number is A, seven, nine, four, Q, and it will arrive within two days.",
)
"""What lower precisions are measured on. With one sentence a full-size int8 cache clips, with eight it does not."""

_JUDGED = 2
"""Of them, how many decide which layers stay at a higher precision: each has hundreds of positions."""


class Sizes(msgspec.Struct):
    s3gen: S3GenConfig | None = None
    voice: VoiceConfig | None = None


def convert(
    directory: Path,
    out: Path,
    *,
    progress: Progress | None = None,
    precisions: Sequence[str] = PRECISIONS,
    sentences: int = len(TEXTS),
) -> Path:
    """Convert a published checkpoint; returns the directory `out`. Steps that an earlier run completed are skipped.

    Raises BadCheckpoint naming the file, MissingDependency without onnx, or without torch for files of PyTorch.
    """
    published, sizes = recognise(directory), _sizes(directory)
    graphs = _builders()  # imported now, to report a missing package at once
    with conversion(directory, out, "chatterbox", FORMAT, None, progress) as run:
        for name in (*_COPIED, *published.text, *published.optional):
            run.copy(name)
        _write_config(run, published)
        s3gen, speaker = _tensors(run, published.s3gen), _tensors(run, published.speaker)
        _write_own_voice(run)
        _write_t3(run, published, graphs["t3"], precisions, sentences)
        _write_decoder(run, published, graphs["s3gen"], s3gen, sizes, precisions)
        voice = sizes.voice or VoiceConfig()
        _check(published.s3gen, s3gen.shapes, voice_layout.s3gen_tensors(voice))
        _check(published.speaker, speaker.shapes, voice_layout.ve_tensors(voice))
        made = _made(run, published.s3gen, "voice encoder") | run.digests(run.source, published.speaker)
        write = partial(graphs["voice"].write, s3gen, speaker, voice)
        run.write("write voice encoder", made, write)
    return out


def _write_decoder(
    run: Conversion, published: Published, graphs: Any, weights: TensorFile, sizes: Sizes, precisions: Sequence[str]
) -> None:
    config = _s3gen_config(published, sizes, weights.shapes)
    flows = tuple(dict.fromkeys("fp32" if each == "fp32" else "int8" for each in precisions))
    made = _made(run, published.s3gen, "decoder", flows=" ".join(flows))
    run.write("write decoder graphs", made, lambda folder: graphs.build(weights, config, folder, flows))


def _check(file: str, shapes: Shapes, expected: Shapes) -> None:
    """Raise BadCheckpoint naming the tensors that a file lacks or has in another shape."""
    wrong = [name for name, shape in expected.items() if shapes.get(name) != shape]
    if wrong:
        raise BadCheckpoint(f"{file} lacks or has a wrong shape for {', '.join(wrong[:8])}")


def _write_config(run: Conversion, published: Published) -> None:
    config = Config(kind=published.kind, generation=published.generation)

    def write(folder: Path) -> list[Path]:
        (folder / CONFIG).write_text(json.dumps(asdict(config)) + "\n", encoding="utf-8")
        return [folder / CONFIG]

    run.write("write configuration", {"step": "configuration", "kind": published.t3}, write)


def _tensors(run: Conversion, name: str) -> TensorFile:
    """Of a published file; one of PyTorch is written as safetensors first."""
    if name.endswith(".safetensors"):
        return TensorFile(run.source / name)
    safe = f"{Path(name).stem}.safetensors"

    def write(folder: Path) -> list[Path]:
        rewrite(_READER, run.source / name, folder / safe)
        return [folder / safe]

    run.write(f"convert {name}", run.digests(run.source, name), write, safe)
    return TensorFile(run.out / safe)


def _write_own_voice(run: Conversion) -> None:
    if not (run.source / builtin.FILE).is_file():
        return

    def write(folder: Path) -> list[Path]:
        rewrite(_READER, run.source / builtin.FILE, folder / "conds.safetensors")
        np.savez(folder / OWN_VOICE, allow_pickle=False, **builtin.voice_of(TensorFile(folder / "conds.safetensors")))
        return [folder / OWN_VOICE]

    run.write("convert the voice", run.digests(run.source, builtin.FILE), write, OWN_VOICE)


def _write_t3(run: Conversion, published: Published, graphs: Any, precisions: Sequence[str], sentences: int) -> None:
    weights = TensorFile(run.source / published.t3)
    config = t3_layout.recognised(weights.shapes, published.t3)
    made = _made(run, published.t3, "tables")
    run.write("write tables", made, lambda folder: graphs.build_tables(config, weights, folder))
    heard = {"sentences": str(sentences), **run.digests(run.source, builtin.FILE)}
    prompts = _prompts(run, config, sentences)
    heard_by = cache(lambda: seen(run.out, weights, prompts[:_JUDGED]))  # once for all precisions, if any is written

    def write(precision: str, folder: Path) -> list[Path]:
        known = {} if precision == "fp32" else heard_by()
        files: list[Path] = graphs.build_judged(config, weights, folder, precision, known, min(sentences, _JUDGED))
        return files

    for precision in precisions:
        made = _made(run, published.t3, f"{precision} graphs", **({} if precision == "fp32" else heard))
        run.write(f"write {precision} graphs", made, partial(write, precision))
    for precision in precisions:
        if precision != "fp32":
            made = _made(run, published.t3, f"{precision} cache scales", **heard)
            measure = partial(
                write_scales, run.out, precision=precision, prompts=prompts, threads=detect().usable_cores
            )
            run.write(f"write {precision} cache scales", made, measure)


def _prompts(run: Conversion, config: T3Config, sentences: int) -> list[Prompt]:
    """What lower precisions are measured on: sentences in the checkpoint's own voice, or in a made-up one."""
    tokeniser, own = read(run.out, Config.read(run.out)), built_in(run.out)
    check_vocabulary(tokeniser, config.text_vocab)
    random = np.random.Generator(np.random.Philox(key=0))
    if own is not None:
        speaker, heard = t3_voice(own)
    else:
        speaker = random.standard_normal(config.speaker, np.float32)
        speaker /= np.linalg.norm(speaker)
        heard = random.integers(0, config.start_speech, config.prompt_tokens)
    return [Prompt(speaker, heard, 0.5, np.array(tokeniser.prompt(text), np.int64)) for text in TEXTS[:sentences]]


def _made(run: Conversion, name: str, step: str, **more: str) -> dict[str, str]:
    return {**run.digests(run.source, name), "code": VERSION, "step": step, **more}


def _s3gen_config(published: Published, sizes: Sizes, shapes: dict[str, tuple[int, ...]]) -> S3GenConfig:
    choices = (sizes.s3gen,) if sizes.s3gen else (STANDARD, MEANFLOW)
    config = s3gen_layout.recognised(shapes, choices)
    if config.meanflow != (published.kind in ("turbo", "nano")):
        raise BadCheckpoint(f"{published.s3gen} is the decoder of another model than {published.t3}")
    return config


def _sizes(directory: Path) -> Sizes:
    if not (directory / SIZES).is_file():
        return Sizes()
    try:
        return msgspec.json.decode((directory / SIZES).read_bytes(), type=Sizes)
    except (OSError, msgspec.DecodeError) as error:
        raise BadCheckpoint(f"{directory / SIZES}: {error}") from None


def _builders() -> dict[str, Any]:
    """By name, because they need onnx."""
    at = "saywell.models.chatterbox"
    names = {"t3": f"{at}.t3.graph", "s3gen": f"{at}.s3gen.graphs.build", "voice": f"{at}.voice.graphs"}
    try:
        return {part: import_module(module) for part, module in names.items()}
    except ModuleNotFoundError as error:
        raise MissingDependency(
            f"converting a checkpoint needs {error.name}, which is not installed: pip install 'saywell[convert]'"
        ) from error
