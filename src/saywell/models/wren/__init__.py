"""wren: the voice that comes with the package. Text → phones → prosody and spectra → samples.

words.py     text → words and pauses           synth.py     symbols → samples, tile after tile
lexicon.py   word → phones                     source.py    frames of a tile → samples
reader.py    words → symbols of an utterance   model.py     the Model of the engine
phones.py    the symbols                       english/, data/   what they know
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from saywell.types import ModelSpec

if TYPE_CHECKING:
    from saywell.models.base import Model
    from saywell.plan import Plan

WEIGHTS = Path(__file__).with_name("data")
MIB = 1 << 20
VOICES = {
    "rms": ("Ramsay", "US English, male"),
    "slt": ("Selina", "US English, female"),
    "awb": ("Angus", "English with a Scottish accent, male"),
    "kal16": ("Kal", "US English, male, plain and clear"),
}
"""Id → name and description. The default, which a recogniser understands best, is the first. Each learned from the CMU
Flite voice of the same id."""


def spec(name: str, path: Path | None) -> ModelSpec:
    """The facts. Bytes beside the weights as measured on x86-64 Linux."""
    place = path or WEIGHTS
    return ModelSpec(
        name=name,
        family="wren",
        kind="single-shot",
        sample_rate=16000,
        frame_rate=1 / 0.96,
        executors=("onnx",),
        precisions=("fp32",),
        weight_bytes={"fp32": sum(file.stat().st_size for file in place.glob("*.onnx"))},
        overhead_bytes=84 * MIB,
        slot_bytes=2 * MIB,
        max_threads=8,
        honours=("seed",),
        timestamps=True,
        default_voice=next(iter(VOICES)),
        path=place,
    )


def load(spec: ModelSpec, plan: Plan) -> Model:
    """Load the weights and the lexicon. Raises ModelFailure when the files are not there or damaged."""
    from saywell.models.wren.model import WrenModel

    return WrenModel(spec, plan)
