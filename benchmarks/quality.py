"""Quality of each voice at each precision, compared with other engines: word errors, sound, speed, memory.

Every engine speaks the same held-out sentences one after the other in its own process. Words are recognised by Whisper
base, sound is scored by DNSMOS, intervals are 95 % by bootstrap over sentences. Saywell's own voices must also be
bit-identical streamed or whole, batched or alone, and speak ten minutes without skipping or repeating a sentence.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from rich.console import Console

from benchmarks import quality_report, weights
from benchmarks.alignment import align
from benchmarks.evenness import spread
from benchmarks.hearing import Clip, hear
from benchmarks.held_out import sentences
from benchmarks.quality_figures import figures
from benchmarks.speakers import TIMEOUT_S, Job, reference
from benchmarks.spectra import Print, spectrum, voice_print
from benchmarks.takes import Take, take
from saywell.bench import plot, report
from saywell.engine.launch import TTS, Decision, decide, start
from saywell.errors import MissingDependency, SaywellError
from saywell.models.base import DEFAULT_MODEL, built_in
from saywell.settings import load_settings
from saywell.types import Samples

EXACT = "fp32"
OTHERS = {"hibari-tts": ("heart", "as shipped"), "kokoro": ("af_heart", "int8"), "piper": ("joe", "fp32")}
"""Voice and precision of the engines that `scripts/meter others` installs."""
GATE = "hibari-tts"
"""The engine whose word error rate the default model must match."""
_LIKE = "like "
"""Prefix of the name of a recording that is cloned."""
_SAME = 4
"""Sentences that are compared bit by bit."""
_AT_ONCE = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Setup:
    """What is measured."""

    models: tuple[str, ...] = (DEFAULT_MODEL,)
    """Names of built-in models, directories of converted ones."""
    voices: tuple[str, ...] = ()
    """Empty: the default voice of each model."""
    like: tuple[Path, ...] = ()
    """Recordings to clone, each with a `transcript.txt` in its directory."""
    precisions: tuple[str, ...] = ()
    """In addition to fp32; empty: all of the model."""
    others: Path | None = None
    """Folder of `scripts/meter`'s downloads; None: other engines are not measured."""
    sentences: int = 40
    long: bool = True
    """Also speak ten minutes in one request, with each model at its default precision."""
    threads: int = 1
    """Threads of each engine."""
    hearing_threads: int = 1

    @property
    def texts(self) -> tuple[str, ...]:
        return sentences()[: self.sentences]


def main(args: list[str]) -> int:
    """Exit code 1 if `good` is false."""
    setup, file = _setup(args)
    if file:
        plot.check(file)
    console, rows = Console(width=180), []
    here = report.machine(quality_report.PACKAGES)
    console.print(report.about(here))
    for row in measure(setup):
        rows.append(row)
        quality_report.show_line(console, row)
    quality_report.show(console, rows)
    if file:
        plot.draw(quality_report.panels(rows), file)
    print(json.dumps({"bench": "quality", "machine": here, "load_after": report.load(), "rows": rows,
                      "good": good(rows)}))  # fmt: skip
    return 0 if good(rows) else 1


def _setup(args: list[str]) -> tuple[Setup, Path | None]:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.quality", description=__doc__)
    parser.add_argument("--model", action="append", default=[], help="directory of a converted model; may repeat")
    parser.add_argument("--voice", action="append", default=[], help="instead of default voices; may repeat")
    parser.add_argument("--like", type=Path, action="append", default=[], help="recording to clone; may repeat")
    parser.add_argument("--precision", action="append", default=[], help="only this one and fp32; may repeat")
    parser.add_argument(
        "--others", type=Path, nargs="?", const=weights.folder(), help="also measure the engines in this folder"
    )
    parser.add_argument("--sentences", type=int, default=40, help=f"default 40, at most {len(sentences())}")
    parser.add_argument("--threads", type=int, default=1, help="of each engine (default 1)")
    parser.add_argument("--hearing-threads", type=int, default=1, help="of Whisper (default 1)")
    parser.add_argument("--skip-long", action="store_true", help="skip the ten minutes in one request")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="plot words, sound and speed into a PNG file")
    options = parser.parse_args(args)
    comes_with = [name for name in (DEFAULT_MODEL, "espeak") if name in built_in()]
    setup = Setup(
        models=(*comes_with, *(str(Path(directory).absolute()) for directory in options.model)),
        voices=tuple(options.voice),
        like=tuple(path.absolute() for path in options.like),
        precisions=tuple(options.precision),
        others=options.others and options.others.absolute(),
        sentences=options.sentences,
        long=not options.skip_long,
        threads=options.threads,
        hearing_threads=options.hearing_threads,
    )
    return setup, options.plot


def good(rows: Sequence[dict[str, Any]]) -> bool:
    """Whether all requirements are met: word errors at the default precision, equal samples, no sentence lost."""
    return all(
        row["streamed"] is not False
        and row["batched"] is not False
        and all(row["against"][name]["verdict"]["passed"] for name in row["gates"])
        and not (row["long"] and (row["long"]["skipped"] or row["long"]["repeated"]))
        for row in rows
    )


def measure(setup: Setup) -> Iterator[dict[str, Any]]:
    """Yields a row per engine, voice and precision; other engines come first, as references."""
    references: dict[str, Take] = {}
    for name, (voice, precision) in OTHERS.items() if setup.others else ():
        references[name] = _other(setup, name)
        yield _row(references[name], {}, model=name, voice=voice, precision=precision)
    for model in setup.models:
        try:
            yield from _model(setup, model, references)
        except MissingDependency as error:
            print(f"{model}: not measured, {error.message}", file=sys.stderr)


def _row(recorded: Take, references: dict[str, Take], speaker: Print | None = None, **more: Any) -> dict[str, Any]:
    checks = {"default": False, "gates": [], "streamed": None, "batched": None, "long": None}
    return {**figures(recorded, references, speaker), **checks, **more}


def _other(setup: Setup, name: str) -> Take:
    folder = setup.others or weights.folder()
    job = Job(texts=setup.texts, out="", weights=str(folder), threads=setup.threads)
    recorded = take(name, job, str(weights.others_python(folder)), own_packages=True)
    return replace(recorded, hearing_threads=setup.hearing_threads)


def _model(setup: Setup, model: str, others: dict[str, Take]) -> Iterator[dict[str, Any]]:
    """Rows of one model, full precision first."""
    settings = {
        "model": model,
        "threads": setup.threads,
        "max_text_chars": len(" ".join(sentences())),
        "adapt": False,
    }
    decision = decide(load_settings(settings))
    exact: dict[str, Take] = {}
    for precision in _precisions(setup, decision.spec.precisions):
        own_settings = {**settings, "precision": precision}
        default = precision == decision.plan.precision
        checks = _check(setup, decide(load_settings(own_settings)), long=setup.long and default)
        for voice, check in checks.items():
            recorded = _own(setup, own_settings, voice)
            references = {**others, **({EXACT: exact[voice]} if voice in exact else {})}
            gates = [
                name for name in references if default and (name == EXACT or (name, model) == (GATE, DEFAULT_MODEL))
            ]
            row = _row(
                recorded, references, _speaker(setup, voice, exact.get(voice)),
                model=Path(model).name, voice=voice, precision=precision, default=default, gates=gates,
            )  # fmt: skip
            if precision == EXACT:
                exact[voice] = recorded
            yield {**row, **check.against(recorded)}


def _precisions(setup: Setup, available: Sequence[str]) -> list[str]:
    chosen = [name for name in available if not setup.precisions or name in setup.precisions or name == EXACT]
    return sorted(chosen, key=lambda name: name != EXACT)


def _own(setup: Setup, settings: dict[str, Any], voice: str) -> Take:
    job = Job(
        texts=setup.texts,
        out="",
        threads=setup.threads,
        settings=settings,
        voice="" if voice.startswith(_LIKE) else voice,
        reference=str(_recording(setup, voice) or ""),
    )
    return replace(take("saywell", job, sys.executable, own_packages=False), hearing_threads=setup.hearing_threads)


def _recording(setup: Setup, voice: str) -> Path | None:
    return next((path for path in setup.like if voice == _LIKE + path.stem), None)


def _speaker(setup: Setup, voice: str, exact: Take | None) -> Print | None:
    """Print of the intended speaker: the cloned recording, else the same voice at full precision if measured."""
    path = _recording(setup, voice)
    if path:
        samples, rate = soundfile.read(path, dtype="float32")
        return voice_print([spectrum(samples, rate)])
    return exact.voice if exact else None


@dataclass(frozen=True, slots=True)
class Check:
    """The first sentences of a voice, and the result of its ten minutes."""

    batched: list[Clip]
    whole: list[Clip]
    """Decoded in one piece."""
    long: dict[str, Any] | None

    def against(self, recorded: Take) -> dict[str, Any]:
        """Whether they equal a take, which was spoken alone, streamed, and in another process."""
        return {
            "batched": same(recorded.clips, self.batched),
            "streamed": same(recorded.clips, self.whole),
            "long": self.long,
        }


def _check(setup: Setup, decision: Decision, *, long: bool) -> dict[str, Check]:
    """By voice; the ten minutes of the first voice only."""
    with closing(start(decision)) as tts:
        voices = _voices(setup, tts)
        batched = {voice: _say(setup, tts, setup.texts[:_AT_ONCE], voice, _AT_ONCE) for voice in voices}
        minutes = {voices[0]: _long(setup, tts, voices[0])} if long else {}
    frames = decision.plan.max_frames
    plan = replace(decision.plan, first_frames=frames, chunk_frames=frames)
    with closing(start(replace(decision, plan=plan))) as tts:
        whole = {voice: _say(setup, tts, setup.texts[:_SAME], voice) for voice in voices}
    return {voice: Check(batched[voice], whole[voice], minutes.get(voice)) for voice in voices}


def _voices(setup: Setup, tts: TTS) -> list[str]:
    """The chosen voices that the model has, else its default, and the recordings if it clones."""
    available = [voice.id for voice in tts.voices()]
    chosen = [voice for voice in available if voice in setup.voices] or available[:1]
    return [*chosen, *(_LIKE + path.stem for path in setup.like if tts.spec.clones)]


def _say(setup: Setup, tts: TTS, texts: Sequence[str], voice: str, at_once: int = 1) -> list[Clip]:
    """A clip for each text, with the seeds of `speakers`; a failed text has a clip without samples."""
    path = _recording(setup, voice)
    fields: dict[str, Any] = {"reference": reference(str(path))} if path else {"voice": voice}

    def one(text: str, seed: int) -> Clip:
        try:
            audio = tts.say(text, seed=seed, timeout_s=TIMEOUT_S, **fields)
        except SaywellError:
            return np.zeros(0, np.float32), tts.spec.sample_rate
        return audio.samples, audio.sample_rate

    with ThreadPoolExecutor(at_once) as readers:
        return list(readers.map(one, texts, range(len(texts))))


def _long(setup: Setup, tts: TTS, voice: str) -> dict[str, Any]:
    """All sentences in one request: the indices of skipped and repeated sentences, and how even the chunks are."""
    path, text = _recording(setup, voice), " ".join(sentences())
    fields: dict[str, Any] = {"reference": reference(str(path))} if path else {"voice": voice}
    texts, pieces = dict[int, str](), dict[int, list[Samples]]()
    for chunk in tts.stream(text, seed=0, timeout_s=TIMEOUT_S, **fields):
        texts[chunk.index] = texts.get(chunk.index) or chunk.text
        pieces.setdefault(chunk.index, []).append(chunk.samples)
    chunks = [(texts[index], np.concatenate(pieces[index])) for index in texts]
    samples, rate = np.concatenate([each for _, each in chunks]), tts.spec.sample_rate
    alignment = align(sentences(), hear(samples, rate, setup.hearing_threads))
    return {"seconds": round(len(samples) / rate, 1), **asdict(alignment), **spread(chunks, rate)}


def same(clips: Sequence[Clip], first: Sequence[Clip]) -> bool:
    """Whether `clips` begin with clips bit-identical to `first`."""
    return all(np.array_equal(one, other) for (one, _), (other, _) in zip(clips, first, strict=False))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
