"""DualAR on this CPU, compared with its limits of memory and arithmetic: the goals, and how the cost grows.

The limits are measured first: bytes read and multiplications a second, with the plan's threads. Then, for each
precision, the sections: `transformers` (a frame over batch and context), `prompts`, `load`, `first` (first sound),
`streams` (concurrent requests), `long` (parallel chunks of one text), `text` (texts of growing length), `distance`
(from full precision). `codec` is measured once; `conv_impls` (the other convolutions) and `encoder` only if named by
`--section`. Each measurement runs in a process of its own.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console

from benchmarks import ceiling, dual_ar_codec, dual_ar_distance, dual_ar_engine, dual_ar_transformers
from benchmarks.dual_ar_engine import PARTS, Setup, plan_of
from benchmarks.random_voice import save_voice
from saywell.bench import plot, report
from saywell.bench.plot import Panel, Series
from saywell.bench.speed import alone
from saywell.models.dual_ar.facts import facts
from saywell.plan.plan import Plan

PRECISIONS = ("int8", "int4")
Rows = list[dict[str, Any]]
Section = Callable[[Setup, Plan, Mapping[str, Any]], Rows]
"""Measures one precision, given its plan and ceiling."""


def main(args: list[str]) -> int:
    """Run the benchmark. Returns 1 if a measured goal is missed."""
    options = _options(args)
    if options.plot:
        plot.check(options.plot)
    console, here = Console(width=140), report.machine()
    console.print(report.about(here))
    with converted(options.model) as model, tempfile.TemporaryDirectory(prefix="saywell-bench-") as data:
        found = measure(console, model, Path(data), options)
    judged = goals(found)
    report.show(console, judged, "Goals")
    if options.plot and (drawn := panels(found)):
        plot.draw(drawn, options.plot)
    print(json.dumps({"bench": "dual-ar", "machine": here, **found, "goals": judged}))
    return 0 if all(goal["met"] for goal in judged) else 1


def _options(args: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.dual_ar", description=__doc__)
    parser.add_argument("model", nargs="?", type=Path, help="a converted model (default: random weights of full size)")
    parser.add_argument("--precision", action="append", help="may repeat (default: int8 and int4)")
    parser.add_argument("--section", action="append", choices=(*ONCE, *SECTIONS), help="only this; may repeat")
    parser.add_argument("--threads", type=int, help="default: by the plan")
    parser.add_argument("--executor", choices=("onnx", "openvino"), help="of the codec (default: by the plan)")
    parser.add_argument("--frames", type=int, default=172, help="of a sentence (default 172, 8 s)")
    parser.add_argument("--quick", action="store_true", help="shorter sentences, fewer of them")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="a PNG of what grew with what")
    return parser.parse_args(args)


@contextmanager
def converted(model: Path | None) -> Iterator[Path]:
    """The model's directory: `model`, or a temporary one of random weights (needs torch and 12 GB of disk)."""
    if model is not None:
        yield model
        return
    Console(stderr=True).print(
        "Making random weights of full size takes minutes. To keep them: "
        "`python -m benchmarks.random_checkpoint DIRECTORY --size full`, `saywell convert DIRECTORY`."
    )
    with tempfile.TemporaryDirectory(prefix="saywell-dual-ar-") as folder:
        alone(_write_random, Path(folder))
        yield Path(folder) / "model"


def _write_random(folder: Path) -> None:
    from benchmarks import random_checkpoint  # needs torch
    from saywell.models.dual_ar.convert.convert import convert

    published = random_checkpoint.write(folder / "published", "full")
    convert(published, folder / "model")
    shutil.rmtree(published)


def measure(console: Console, model: Path, data: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Measures and prints: rates, ceiling and rows by precision and section."""
    wanted = options.section or ["codec", *SECTIONS]
    setups = [_setup(model, data, precision, options) for precision in options.precision or PRECISIONS]
    save_voice(model, data)
    plans = [plan_of(setup) for setup in setups]
    variants = dual_ar_codec.variants()
    conv_impls = {*(name for name, _ in variants), *(plan.options["convolutions"] for plan in plans)}
    kinds = {ceiling.arithmetic_of(conv_impl) for conv_impl in conv_impls}
    rates = ceiling.rates(plans[0].threads, kinds)
    report.show(console, [asdict(rates)], "Limits of this machine")
    tops = [ceiling.ceiling(model, setup.precision, plan, rates) for setup, plan in zip(setups, plans, strict=True)]
    report.show(console, tops, "Lower bounds: seconds of work for a second of audio")
    planned = {(plan.options["convolutions"], plan.executor) for plan in plans}
    once: dict[str, Callable[[], Rows]] = {
        "codec": lambda: dual_ar_codec.measure(model, rates, sorted(planned)),
        "conv_impls": lambda: dual_ar_codec.measure(model, rates, sorted({*variants} - planned)),
        "encoder": lambda: [alone(dual_ar_codec.encoder_row, model, rates.threads)],
    }
    found: dict[str, Any] = {"rates": asdict(rates), "precisions": {}}
    for name in (name for name in ONCE if name in wanted):
        found[name] = once[name]()
        report.show(console, found[name], name)
    for setup, plan, top in zip(setups, plans, tops, strict=True):
        rows = {}
        for name in (name for name in SECTIONS if name in wanted):
            rows[name] = SECTIONS[name](setup, plan, top)
            report.show(console, rows[name], f"{name}, {setup.precision}")
        found["precisions"][setup.precision] = {"ceiling": top, **rows}
    return found


def _setup(model: Path, data: Path, precision: str, options: argparse.Namespace) -> Setup:
    few = {"frames": min(64, options.frames), "short": 16, "firsts": 5} if options.quick else {}
    overrides = {"executor": options.executor, "threads": options.threads, "precision": precision}
    return Setup(**{"model": model, "data": data, "frames": options.frames, **overrides, **few})


def _transformers(setup: Setup, plan: Plan, top: Mapping[str, Any]) -> Rows:
    """With the share of the memory roofline for a batch of one."""
    rows: Rows = alone(dual_ar_transformers.measure, setup.model, setup.precision, plan)
    shares = {f"{part}_share": f"{part}_ms" for part in ("slow", "fast")}
    return [
        {**row, **({name: round(top[ms] / row[ms], 3) for name, ms in shares.items()} if row["batch"] == 1 else {})}
        for row in rows
    ]


def _distance(setup: Setup, plan: Plan, _: Mapping[str, Any]) -> Rows:
    if "fp32" not in facts("bench", setup.model).precisions:
        return []
    exact = dual_ar_distance.exact(setup.model, plan)
    return [dual_ar_distance.measure(setup.model, setup.precision, plan, exact)]


ONCE = ("codec", "conv_impls", "encoder")
STREAM_COUNTS = (1, 2, 4, ceiling.STREAMS, 16)
SECTIONS: dict[str, Section] = {
    "transformers": _transformers,
    "prompts": lambda setup, plan, _: list(alone(dual_ar_transformers.prompts, setup.model, setup.precision, plan)),
    "load": lambda setup, *_: [alone(dual_ar_engine.load, setup)],
    "first": lambda setup, *_: list(alone(dual_ar_engine.first, setup)),
    "streams": lambda setup, *_: list(alone(dual_ar_engine.streams, setup, STREAM_COUNTS)),
    "long": lambda setup, *_: [alone(dual_ar_engine.long, setup, count) for count in dual_ar_engine.PARALLEL_CHUNKS],
    "text": lambda setup, *_: list(alone(dual_ar_engine.texts, setup)),
    "distance": _distance,
}


# -- goals


def goals(found: Mapping[str, Any]) -> Rows:
    """Bound, ceiling and result of each measured goal, by precision, and whether it is met."""
    rows = [goal for name, row in found["precisions"].items() for goal in _of(name, row)]
    # One fast precision is enough.
    reached = {row["goal"] for row in rows if row["met"] and row["goal"] in EITHER}
    rows = [{**row, "met": row["met"] or row["goal"] in reached} for row in rows]
    for row in found.get("codec", ()):
        rows += [_goal("codec in 16-frame chunks over whole", "", row["16"] / row["whole"], most=1.1, ceiling=1.0)]
        rows += [_goal("codec, SNR against fp32, dB", "", row["snr_db"], least=15.0)]
    return rows


ONE, LONG, EIGHT = "one stream, RTF", "long text, parallel chunks, RTF", "eight streams over one, throughput"
EITHER = (ONE, LONG, EIGHT)
ROOFLINE = {"int8": 0.70, "int4": 0.60}
LOGITS = {"int8": 0.12, "int4": 0.5}


def _of(name: str, row: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    top = row["ceiling"]
    if name in ROOFLINE and "transformers" in row:
        share = max(each["slow_share"] for each in row["transformers"] if "slow_share" in each)
        yield _goal("slow step, share of the memory roofline", name, share, least=ROOFLINE[name], ceiling=1.0)
    if "streams" in row:
        rtf = {each["streams"]: each["rtf"] for each in row["streams"]}
        yield _goal(ONE, name, rtf[1], most=1.0, ceiling=top["one"])
        yield _goal(EIGHT, name, rtf[1] / rtf[ceiling.STREAMS], least=4.0, ceiling=top["one"] / top["streams"])
    if "long" in row:
        yield _goal(LONG, name, min(each["rtf"] for each in row["long"]), most=0.5, ceiling=top["streams"])
    if "first" in row:
        took = row["first"][0]["median_s"]
        yield _goal("first sound, cached voice, median, s", name, took, most=0.5, ceiling=top["first_s"])
    for each in row.get("load", ()):
        yield _goal("resident while one sentence is spoken, MB", name, each["speaking_mb"], most=1300.0)
        yield _goal("load a converted model, s", name, each["load_s"], most=5.0)
    for each in row.get("distance", ()) if name in LOGITS else ():
        yield _goal("distance of the logits from fp32", name, each["logits"], most=LOGITS[name])


def _goal(
    name: str, precision: str, value: float, *, most: float | None = None, least: float | None = None,
    ceiling: float | None = None,
) -> dict[str, Any]:  # fmt: skip
    met = (most is None or value <= most) and (least is None or value >= least)
    bound = f"≤ {most:g}" if most is not None else f"≥ {least:g}"
    return {"goal": name, "precision": precision, "bound": bound, "ceiling": ceiling, "measured": round(value, 4),
            "met": met}  # fmt: skip


# -- plots

GROWN = {
    "streams": ("streams", "concurrent sentences"),
    "long": ("parallel_chunks", "parallel chunks of one text"),
    "text": ("chars", "characters of the text"),
}


def panels(found: Mapping[str, Any]) -> list[Panel]:
    """Slow step over context, frame over batch, work over load."""
    drawn = []
    for precision, row in found["precisions"].items():
        if "transformers" in row:
            drawn += _steps(precision, row["transformers"], row["ceiling"])
        drawn += [_grown(row[name], *GROWN[name], precision) for name in GROWN if name in row]
    return drawn


def _steps(precision: str, rows: Rows, top: Mapping[str, Any]) -> list[Panel]:
    slow_ms = {str(row["context"]): row["slow_ms"] for row in rows if row["batch"] == 1}
    frame_ms = {str(row["batch"]): row["frame_ms"] for row in rows if row["context"] == rows[0]["context"]}
    slow = Series(name="slow step", x=list(slow_ms), y=list(slow_ms.values()))
    frame = Series(name="frame", x=list(frame_ms), y=list(frame_ms.values()))
    read = "weights read once"
    return [
        Panel(title=f"{precision}, one sequence", x="positions in the cache", y="ms", series=[slow],
              levels={read: top["slow_ms"]}),
        Panel(title=f"{precision}, a frame of a batch", x="sequences", y="ms", series=[frame],
              levels={read: top["slow_ms"] + top["fast_ms"]}),
    ]  # fmt: skip


def _grown(rows: Rows, key: str, label: str, precision: str) -> Panel:
    """Stacked cost of a second of audio."""
    names, series, under = [str(row[key]) for row in rows], list[Series](), [0.0] * len(rows)
    for part in PARTS:
        heights = [row[part] for row in rows]
        series.append(Series(name=part, x=names, y=heights, mark="bars", under=under))
        under = [low + height for low, height in zip(under, heights, strict=True)]
    return Panel(title=f"{precision}: work per second of audio", x=label, y="RTF (lower is better)", series=series,
                 levels={"real time": 1.0})  # fmt: skip


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
