"""The DualAR family on this CPU, against what memory and arithmetic allow: every goal, and how cost grows.

The ceilings are measured first: gigabytes read and products done a second, by the threads the plan gives. Then, for
each precision, the sections asked for: `transformers` (a frame over batch and context), `speech` (the real engine:
loading, memory, first sound, one stream, eight), `long` (sentences of one text side by side), `text` (texts of growing
length), `batch` (requests at once), `distance` (from full precision). `codec` is measured once; `ways` (its other ways
to convolve) and `encoder` only when asked for. Each measurement is made in a process of its own. A run may be split:
keep the last line of each piece in a file and name the files with --join.
"""

from __future__ import annotations

import argparse
import json
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console

from saywell.bench import dual_ar_ar, dual_ar_ceiling, dual_ar_codec, dual_ar_distance, dual_ar_goals, dual_ar_speech
from saywell.bench import dual_ar_report as report
from saywell.bench.alone import alone
from saywell.bench.dual_ar_speech import Setup, plan_of, save_voice
from saywell.bench.setting import check_outputs, reading
from saywell.models.dual_ar.facts import facts
from saywell.plan.plan import Plan

PRECISIONS = ("int8", "int4")
SECTIONS = ("transformers", "codec", "speech", "long", "text", "batch", "distance")
MORE = ("ways", "encoder")


def main(args: list[str]) -> int:
    """Run what is asked for, or join pieces. 1 if a goal that was measured is missed."""
    options = _options().parse_args(args)
    check_outputs(options)
    if options.join:
        with reading("the last line of a run"):
            texts = [path.read_text(encoding="utf-8") for path in options.join]
            found = report.join([json.loads(text.splitlines()[-1]) for text in texts])
    else:
        with converted(options.model) as model, tempfile.TemporaryDirectory(prefix="saywell-bench-") as data:
            found = measure(model, Path(data), options)
    found["goals"] = dual_ar_goals.reached(found)
    report.show_goals(Console(width=120), found["goals"])
    if options.plots:
        report.plot(found, options.plots)
    print(json.dumps(found))  # noqa: T201 - the machine-readable last line
    return 0 if all(goal["met"] for goal in found["goals"]) else 1


def _options() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="saywell bench dual-ar", description=__doc__)
    parser.add_argument(
        "model", nargs="?", type=Path, help="a converted model (default: random weights of full size, made first)"
    )
    parser.add_argument("--precision", action="append", help="may repeat (default: int8 and int4)")
    parser.add_argument("--section", action="append", choices=SECTIONS + MORE, help="only this; may repeat")
    parser.add_argument("--threads", type=int, help="default: by the plan")
    parser.add_argument("--executor", choices=("onnx", "openvino"), help="of the codec (default: by the plan)")
    parser.add_argument("--frames", type=int, default=172, help="of a sentence (default 172, 8 s)")
    parser.add_argument("--quick", action="store_true", help="shorter sentences, fewer of them")
    parser.add_argument("--plots", type=Path, help="directory for PNG files")
    parser.add_argument(
        "--join", nargs="+", type=Path, help="files whose last lines are pieces of one run; runs nothing"
    )
    return parser


@contextmanager
def converted(model: Path | None) -> Iterator[Path]:
    """The model's directory: the given one, or a temporary one of random weights (needs torch, 12 GB of disk)."""
    if model is not None:
        yield model
        return
    Console(stderr=True).print(
        "Random weights of full size are made first, which takes minutes. To keep some: `saywell fixture --size full`, "
        "`saywell convert`."
    )
    with tempfile.TemporaryDirectory(prefix="saywell-dual-ar-") as folder:
        alone(_write_random, Path(folder))
        yield Path(folder) / "model"


def _write_random(folder: Path) -> None:
    from saywell.models.dual_ar.convert import fixture  # needs torch
    from saywell.models.dual_ar.convert.convert import convert

    published = fixture.write(folder / "published", "full")
    convert(published, folder / "model")
    shutil.rmtree(published)


def measure(model: Path, data: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Everything asked for, printed as it comes."""
    console, sections = Console(width=120), options.section or SECTIONS
    setups = [_setup(model, data, precision, options) for precision in options.precision or PRECISIONS]
    save_voice(setups[0])
    plans = [plan_of(setup) for setup in setups]
    rates = dual_ar_ceiling.rates(plans[0].threads, _kinds(plans))
    report.show_rates(console, rates)
    rows: list[dict[str, Any]] = []
    for setup, plan in zip(setups, plans, strict=True):
        top = dual_ar_ceiling.ceiling(model, setup.precision, plan, rates)
        report.show_ceiling(console, setup.precision, top)
        rows.append({"precision": setup.precision, "ceiling": top})
    found: dict[str, Any] = {
        "bench": "dual-ar",
        "machine": report.machine(),
        "rates": asdict(rates),
        "precisions": rows,
    }
    planned = {(plan.options["convolutions"], plan.executor) for plan in plans}
    for section, wanted in (("codec", planned), ("ways", {*dual_ar_codec.variants()} - planned)):
        if section in sections:
            found[section] = dual_ar_codec.measure(model, rates, sorted(wanted))
            report.show_codec(console, found[section])
    if "encoder" in sections:
        found["encoder"] = alone(dual_ar_codec.encoder_row, model, rates.threads)
        report.show_encoder(console, found["encoder"])
    for row, setup, plan in zip(rows, setups, plans, strict=True):
        console.rule(setup.precision)
        _sections(console, row, setup, plan, sections)
    if "distance" in sections and "fp32" in facts("bench", model).precisions:
        _distances(console, rows, setups, plans)
    return found


def _kinds(plans: Sequence[Plan]) -> set[str]:
    ways = {way for way, _ in dual_ar_codec.variants()} | {plan.options["convolutions"] for plan in plans}
    return {dual_ar_ceiling.arithmetic_of(way) for way in ways}


def _setup(model: Path, data: Path, precision: str, options: argparse.Namespace) -> Setup:
    few = {"frames": min(64, options.frames), "short": 16, "repeats": 1, "firsts": 10} if options.quick else {}
    wishes = {"executor": options.executor, "threads": options.threads, "precision": precision}
    return Setup(**{"model": model, "data": data, "frames": options.frames, **wishes, **few})


def _sections(console: Console, row: dict[str, Any], setup: Setup, plan: Plan, sections: Sequence[str]) -> None:
    """All of one precision but its distance."""
    if "transformers" in sections:
        row["transformers"] = found = alone(dual_ar_ar.measure, setup.model, setup.precision, plan)
        found["roofline"] = _roofline(row["ceiling"], found)
        report.show_transformers(console, found)
    if "speech" in sections:
        row.update(alone(dual_ar_speech.speech, setup))
        report.show_speech(console, row)
    if "long" in sections:
        row["long"] = [alone(dual_ar_speech.long, setup, count) for count in dual_ar_speech.LOOKAHEADS]
        report.show_rows(console, "A text of nine sentences, so many side by side", "lookahead", row["long"])
    if "batch" in sections:
        row["batch"] = alone(dual_ar_speech.batches, setup)
        report.show_rows(console, "Requests at once, one sentence each", "streams", row["batch"])
    if "text" in sections:
        row["text"] = alone(dual_ar_speech.texts, setup)
        report.show_rows(console, f"Length of the text, {setup.short} frames a sentence", "chars", row["text"])


def _roofline(top: dict[str, Any], found: dict[str, Any]) -> dict[str, float]:
    """Share of what memory allows, one sequence at the shortest context, which was measured twice."""
    took = {part: min(rows[0][part] for rows in (found["batch"], found["context"])) for part in ("slow_ms", "fast_ms")}
    return {part: round(top[part] / each, 3) for part, each in took.items()}


def _distances(console: Console, rows: list[dict[str, Any]], setups: list[Setup], plans: list[Plan]) -> None:
    """Of every precision from fp32."""
    exact = dual_ar_distance.exact(setups[0].model, plans[0])
    for row, setup, plan in zip(rows, setups, plans, strict=True):
        row["distance"] = dual_ar_distance.measure(setup.model, setup.precision, plan, exact)
        report.show_distance(console, setup.precision, row["distance"])
