"""How well each voice speaks under each plan: word errors by ASR, distance to fp32 and to the teacher, speaker, seams.

The text is held out of all training. Each model speaks it at each of its precisions; Flite, the teacher of the voices
trained here, speaks it in the same run. A precision that adds more than one point to the word error rate of fp32 may
not be used by default. Streamed must equal whole, batched must equal alone, bit for bit.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from saywell.bench import quality_report as report
from saywell.bench.alignment import align
from saywell.bench.hearing import Clip, hear_all
from saywell.bench.held_out import sentences
from saywell.bench.quality_figures import Take, figures
from saywell.bench.spectra import Print, voice_print
from saywell.bench.word_errors import verdict
from saywell.engine.launch import Decision, Speaker, decide, start
from saywell.errors import MissingDependency, SaywellError
from saywell.models.base import FAMILY_OF
from saywell.settings import load_settings
from saywell.types import Reference, Samples

TEACHER = "builtin"
TEACHERS = ("slt", "rms", "awb", "kal16")
"""Flite's voices, of whom the voices of this repository were learned."""
EXACT = "fp32"
LIKE = "like "
"""Before a teacher's name: a model that clones, prompted with a recording of it."""
_ENROL = 12
"""Sentences at the end of the text, by which a speaker is known; they are not measured."""
_PROMPT = 2
"""Of them, spoken for a cloning model to speak like."""
_SAME = 4
"""Sentences spoken once more, alone and in one piece, to be compared bit for bit."""
_AT_ONCE = 8
_TIMEOUT_S = 3600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Setup:
    """What is measured."""

    models: tuple[str, ...]
    """Names of built-in models, directories of converted ones."""
    voices: tuple[str, ...] = ()
    precisions: tuple[str, ...] = ()
    """Empty: all there are."""
    sentences: int = 40
    long: bool = True
    """Also the whole text at once, ten minutes, by each model as it is by default."""
    processes: int = 1
    """That listen side by side."""

    @property
    def texts(self) -> tuple[str, ...]:
        return sentences()[:-_ENROL][: self.sentences]


def main(args: list[str]) -> int:
    """Run it. 1 if a default would be worse than one point, a seam can be heard, or a sentence was lost."""
    options = _parser().parse_args(args)
    setup = Setup(
        models=(*sorted(FAMILY_OF, key=lambda name: (name != TEACHER, name)), *options.model),
        voices=tuple(options.voice),
        precisions=tuple(options.precision),
        sentences=6 if options.fast else options.sentences,
        long=not (options.fast or options.skip_long),
        processes=options.processes,
    )
    console = Console(width=160)
    rows = []
    for row in measure(setup, console):
        rows.append(row)
        report.show_line(console, row)
    report.show(console, rows)
    if options.plots:
        console.print(*(f"plotted {path}" for path in report.plot(rows, options.plots)), sep="\n")
    result = {"bench": "quality", "machine": report.machine(), "rows": rows, "good": good(rows)}
    print(json.dumps(result))  # noqa: T201 - the machine-readable last line
    return 0 if good(rows) else 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="saywell bench quality", description=__doc__)
    parser.add_argument("--model", action="append", default=[], help="directory of a converted model; may repeat")
    parser.add_argument("--voice", action="append", default=[], help="only this voice; may repeat")
    parser.add_argument("--precision", action="append", default=[], help="only this one and fp32; may repeat")
    parser.add_argument("--sentences", type=int, default=40, help="of each voice (default 40, at most 148)")
    parser.add_argument("--processes", type=int, default=1, help="that listen side by side (default 1)")
    parser.add_argument("--skip-long", action="store_true", help="without the text of ten minutes")
    parser.add_argument("--fast", action="store_true", help="six sentences and no long text: half a minute")
    parser.add_argument("--plots", type=Path, help="directory for PNG files")
    return parser


def good(rows: Sequence[dict[str, Any]]) -> bool:
    """Whether nothing that is used by default is worse than it may be."""
    return all(
        row["streamed"] is not False
        and row["batched"] is not False
        and not (row["default"] and row["verdict"] and not row["verdict"]["passed"])
        and not (row["long"] and (row["long"]["skipped"] or row["long"]["repeated"]))
        for row in rows
    )


def measure(setup: Setup, console: Console) -> Iterator[dict[str, Any]]:
    """A row for each model, voice and precision, as it comes."""
    meter = Meter(setup)
    for model in setup.models:
        try:
            yield from meter.model(model)
        except MissingDependency as error:
            console.print(f"{model}: not measured, {error.message}")


class Meter:
    """Remembers what later takes are compared with."""

    def __init__(self, setup: Setup) -> None:
        self.setup = setup
        self.prints: dict[str, Print] = {}
        """The teacher's voices."""
        self.prompts: dict[str, Reference] = {}
        """A recording of each, and what it says."""
        self.exact: dict[tuple[str, str], Take] = {}
        """Model and voice → its take at full precision."""

    def model(self, model: str) -> Iterator[dict[str, Any]]:
        """Rows of one model, full precision first."""
        wishes = {"model": model, "max_text_chars": len(" ".join(sentences())), "adapt": False}
        decision = decide(load_settings(wishes))
        for precision in self._precisions(decision.spec.precisions):
            mine = decide(load_settings({**wishes, "precision": precision}))
            with closing(start(mine)) as speaker:
                voices = self._voices(speaker)
                if model == TEACHER:
                    self._enrol(speaker, voices)
                pieces = {voice: self._pieces(speaker, voice) for voice in voices}
                first = self._long(speaker, voices[0]) if precision == decision.plan.precision else None
            whole = self._whole(mine, voices)
            for voice in voices:
                row = self._row(model, voice, precision, pieces[voice], whole[voice])
                yield {**row, "default": precision == decision.plan.precision, "long": first}
                first = None

    def _precisions(self, there: Sequence[str]) -> list[str]:
        wanted = self.setup.precisions
        kept = [each for each in there if not wanted or each in wanted or each == EXACT]
        return sorted(kept, key=lambda each: each != EXACT)

    def _voices(self, speaker: Speaker) -> list[str]:
        """The teacher's own, a trained model's all, and for one that clones, like each of the teacher's."""
        there = [voice.id for voice in speaker.voices()]
        if speaker.spec.clones and self.prompts:
            there = [LIKE + name for name in self.prompts]
        elif any(teacher(voice) for voice in there):
            there = [voice for voice in there if teacher(voice)]
        wanted = [voice for voice in there if not self.setup.voices or {voice, teacher(voice)} & {*self.setup.voices}]
        return wanted or there[:1]

    def _enrol(self, speaker: Speaker, voices: Sequence[str]) -> None:
        """Know the teacher's voices by text that is not measured."""
        texts = sentences()[-_ENROL:]
        for voice in voices:
            clips = self._say(speaker, texts, voice)
            spectra = [each for each in Take(texts, clips).spectra if each is not None]
            self.prints[voice] = voice_print(spectra)
            said, rate = np.concatenate([samples for samples, _ in clips[:_PROMPT]]), clips[0][1]
            self.prompts[voice] = Reference(pcm=said.tobytes(), sample_rate=rate, transcript=" ".join(texts[:_PROMPT]))

    def _pieces(self, speaker: Speaker, voice: str) -> tuple[list[Clip], bool]:
        """All texts, many at once; whether a few, spoken alone, are the same."""
        texts = self.setup.texts
        together = self._say(speaker, texts, voice, _AT_ONCE)
        return together, same(together, self._say(speaker, texts[:_SAME], voice))

    def _whole(self, decision: Decision, voices: Sequence[str]) -> dict[str, list[Clip]]:
        """A few texts by each voice, each decoded in one piece."""
        frames = decision.plan.max_frames
        plan = replace(decision.plan, first_frames=frames, chunk_frames=frames)
        with closing(start(replace(decision, plan=plan))) as speaker:
            return {voice: self._say(speaker, self.setup.texts[:_SAME], voice) for voice in voices}

    def _say(self, speaker: Speaker, texts: Sequence[str], voice: str, at_once: int = 1) -> list[Clip]:
        """A clip for each text, each with a seed of its own; one that failed has no samples."""
        reference = self.prompts[voice.removeprefix(LIKE)] if voice.startswith(LIKE) else None
        name = None if reference else voice

        def one(text: str, seed: int) -> Clip:
            try:
                audio = speaker.say(text, voice=name, reference=reference, seed=seed, timeout_s=_TIMEOUT_S)
            except SaywellError:
                return np.zeros(0, np.float32), speaker.spec.sample_rate
            return audio.samples, audio.sample_rate

        with ThreadPoolExecutor(at_once) as readers:
            return list(readers.map(one, texts, range(len(texts))))

    def _long(self, speaker: Speaker, voice: str) -> dict[str, Any] | None:
        """Ten minutes at once: sentences left out or said twice."""
        if not self.setup.long:
            return None
        samples, rate = self._say(speaker, [" ".join(sentences())], voice)[0]
        if not len(samples):
            return {"seconds": 0.0, "skipped": list(range(len(sentences()))), "repeated": [], "matched": 0.0}
        found = align(sentences(), hear_all([(samples, rate)])[0])
        return {"seconds": round(len(samples) / rate, 1), **asdict(found)}

    def _row(
        self, model: str, voice: str, precision: str, pieces: tuple[list[Clip], bool], whole: list[Clip]
    ) -> dict[str, Any]:
        clips, batched = pieces
        take = Take(self.setup.texts, clips, self.setup.processes)
        if precision == EXACT:
            self.exact[model, voice] = take
        exact, by = self.exact.get((model, voice)), teacher(voice)
        taught = self.exact.get((TEACHER, by)) if by and model != TEACHER else None
        row = {"model": Path(model).name, "voice": voice, "precision": precision}
        row |= figures(take, None if precision == EXACT else exact, taught, self.prints, by)
        judged = asdict(verdict(take.score, exact.score)) if exact and precision != EXACT else None
        return {**row, "batched": batched, "streamed": same(clips, whole), "verdict": judged}


def teacher(voice: str) -> str | None:
    """Of which of Flite's voices a voice was learned: it bears the name."""
    parts = voice.replace("_", " ").replace("-", " ").replace(":", " ").split()
    return next((name for name in TEACHERS if name in parts), None)


def same(some: Sequence[Clip], others: Sequence[Clip]) -> bool:
    """Whether the clips of `others` equal the first of `some` to the bit."""
    return all(_equal(one, other) for (one, _), (other, _) in zip(some, others, strict=False))


def _equal(one: Samples, other: Samples) -> bool:
    return bool(np.array_equal(one, other))
