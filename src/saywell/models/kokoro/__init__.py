"""Kokoro-82M: 54 voices in nine languages, from any published ONNX export.

files.py      the folder: which graph, which voices      graphs.py     the graph, rewritten once and kept
phonemes.py   spoken text → phones, by language          model.py      the Model
voices.py     voice packs and blends of them             sources.json  the weights to pull
"""

from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from saywell.errors import UnknownModel
from saywell.types import SPEED, ModelSpec, Variant

if TYPE_CHECKING:
    from saywell.models.base import About, Model
    from saywell.plan.plan import Plan

NEEDS_FILES = True
MIB = 1 << 20
RATE = 24000
HOP = 600
"""Samples of one frame of a duration."""
DEFAULT = "af_heart"
LANGUAGES = {
    "a": "en-US", "b": "en-GB", "e": "es", "f": "fr-FR", "h": "hi", "i": "it", "j": "ja", "p": "pt-BR", "z": "zh",
}  # fmt: skip
"""First letter of a voice → its language."""


def spec(name: str, path: Path | None) -> ModelSpec:
    """Reads the folder's listing only. Bytes as measured on x86-64 Linux. Raises UnknownModel."""
    from saywell.models.kokoro import files

    if path is None:
        raise UnknownModel("kokoro needs its files: saywell pull kokoro, or --model DIRECTORY", param="model_path")
    found = files.look(path)
    size = found.graph.stat().st_size
    return ModelSpec(
        name=name,
        family="kokoro",
        kind="single-shot",
        sample_rate=RATE,
        frame_rate=0.3,
        variants=tuple(_variants(size)),
        overhead_bytes=110 * MIB,
        # 450 MB while 12 s are made, but never in more slots at once than there are threads.
        slot_bytes=120 * MIB,
        max_threads=16,
        options=SPEED,
        timestamps=True,
        phones=True,
        whole=True,
        blends=True,
        default_voice=DEFAULT if DEFAULT in found.voices else found.voices[0],
        path=path,
    )


def _variants(size: int) -> Iterator[Variant]:
    """For a graph of so many bytes."""
    precision = "int8" if size < 150 * MIB else "fp32"  # published int8 graphs have 92 or 114 MB
    yield Variant(
        executor="onnx",
        package="onnxruntime",
        precision=precision,
        weight_bytes=2 * size,
        about="ONNX Runtime, the published graph rewritten",
    )
    if precision == "int8":
        yield Variant(
            executor="openvino",
            package="openvino",
            precision=precision,
            requires=("exact-int8", "fast-bf16"),
            weight_bytes=2 * size + 200 * MIB,
            options={"decoder": "int8"},
            about="OpenVINO for the decoder: as fast as ONNX Runtime where measured, in 300 MB more",
            why="8-bit products are exact on this processor, and it has bf16 for what is between them",
        )


def recognises(directory: Path) -> bool:
    """Whether a folder without a manifest holds a published export."""
    from saywell.models.kokoro import files

    try:
        files.look(directory)
    except UnknownModel:
        return False
    return True


def load(spec: ModelSpec, plan: Plan) -> Model:
    """Rewrite the graph at first use, and load it. Raises MissingDependency, ModelFailure."""
    from saywell.models.kokoro.model import KokoroModel

    return KokoroModel(spec, plan)


def language(spec: ModelSpec, voice: str | None) -> str:
    """That of `voice`, or of the default one; of a blend, that of its first voice."""
    return LANGUAGES.get((voice or spec.default_voice)[:1].lower(), "und")


def phones(spec: ModelSpec, voice: str | None, texts: list[str]) -> list[str]:
    """The phones of spoken texts, for `say --explain`."""
    from saywell.models.kokoro.phonemes import Phonemiser
    from saywell.text.check import speakable

    reader, tag = Phonemiser(), language(spec, voice)
    try:
        return [" ".join(one.phones for one in reader.read(text, tag)) if speakable(text) else "" for text in texts]
    finally:
        reader.close()


def missing() -> str:
    from saywell.models.hibari import package

    if find_spec("onnx") is None:
        return "Kokoro needs the Python package onnx to rewrite its graph: pip install 'saywell[kokoro]'"
    return package.problem()


def about() -> About:
    from saywell.models.base import About

    return About(
        title="Kokoro",
        found="54 voices in nine languages",
        purpose="more voices",
        example='saywell say -m kokoro "Hello there."',
        install="saywell pull kokoro",
    )
