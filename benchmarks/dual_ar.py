"""The DualAR family on this CPU, against what memory and arithmetic allow: every goal, and how cost grows.

The ceilings are measured first: gigabytes read and products done a second, by the threads the plan gives. Then, for
each precision, the sections asked for: `transformers` (a frame over batch and context, prompts), `load`, `first` (first
sound), `streams` (requests at once), `long` (sentences of one text side by side), `text` (texts of growing length),
`distance` (from full precision). `codec` is measured once; `ways` (its other ways to convolve) and `encoder` only when
asked for. Each measurement is made in a process of its own.
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
"""Of one precision, its plan and its ceiling."""


def main(args: list[str]) -> int:
    """Run what is asked for. 1 if a goal that was measured is missed."""
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
    parser.add_argument(
        "model", nargs="?", type=Path, help="a converted model (default: random weights of full size, made first)"
    )
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
    """The model's directory: the given one, or a temporary one of random weights (needs torch, 12 GB of disk)."""
    if model is not None:
        yield model
        return
    Console(stderr=True).print(
        "Random weights of full size are made first, which takes minutes. To keep them: `python -m "
        "benchmarks.random_checkpoint --size full`, `saywell convert`."
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
    """Everything asked for, printed as it comes: rates, ceiling and rows by precision and section."""
    wanted = options.section or ["codec", *SECTIONS]
    setups = [_setup(model, data, precision, options) for precision in options.precision or PRECISIONS]
    save_voice(model, data)
    plans = [plan_of(setup) for setup in setups]
    ways = dual_ar_codec.variants()
    kinds = {
        ceiling.arithmetic_of(way)
        for way in [*(way for way, _ in ways), *(plan.options["convolutions"] for plan in plans)]
    }
    rates = ceiling.rates(plans[0].threads, kinds)
    report.show(console, [asdict(rates)], "What this machine does at most")
    tops = [ceiling.ceiling(model, setup.precision, plan, rates) for setup, plan in zip(setups, plans, strict=True)]
    report.show(console, tops, "The least seconds of work for a second of audio")
    planned = {(plan.options["convolutions"], plan.executor) for plan in plans}
    once: dict[str, Callable[[], Rows]] = {
        "codec": lambda: dual_ar_codec.measure(model, rates, sorted(planned)),
        "ways": lambda: dual_ar_codec.measure(model, rates, sorted({*ways} - planned)),
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
    """With the share of the memory roofline where one sequence is alone."""
    rows: Rows = alone(dual_ar_transformers.measure, setup.model, setup.precision, plan)
    shares = {f"{part}_share": f"{part}_ms" for part in ("slow", "fast")}
    return [
        {**row, **({name: round(top[ms] / row[ms], 3) for name, ms in shares.items()} if row["batch"] == 1 else {})}
        for row in rows
    ]


def _prompts(setup: Setup, plan: Plan, _: Mapping[str, Any]) -> Rows:
    return list(alone(dual_ar_transformers.prompts, setup.model, setup.precision, plan))


def _load(setup: Setup, *_: Any) -> Rows:
    return [alone(dual_ar_engine.load, setup)]


def _first(setup: Setup, *_: Any) -> Rows:
    return list(alone(dual_ar_engine.first, setup))


def _streams(setup: Setup, *_: Any) -> Rows:
    return list(alone(dual_ar_engine.streams, setup, (1, 2, 4, ceiling.STREAMS, 16)))


def _long(setup: Setup, *_: Any) -> Rows:
    return [alone(dual_ar_engine.long, setup, count) for count in dual_ar_engine.LOOKAHEADS]


def _text(setup: Setup, *_: Any) -> Rows:
    return list(alone(dual_ar_engine.texts, setup))


def _distance(setup: Setup, plan: Plan, _: Mapping[str, Any]) -> Rows:
    if "fp32" not in facts("bench", setup.model).precisions:
        return []
    exact = dual_ar_distance.exact(setup.model, plan)
    return [dual_ar_distance.measure(setup.model, setup.precision, plan, exact)]


ONCE = ("codec", "ways", "encoder")
SECTIONS: dict[str, Section] = {
    "transformers": _transformers,
    "prompts": _prompts,
    "load": _load,
    "first": _first,
    "streams": _streams,
    "long": _long,
    "text": _text,
    "distance": _distance,
}


# -- goals


def goals(found: Mapping[str, Any]) -> Rows:
    """Bound, ceiling and figure of each goal that was measured, by precision, and whether it is met."""
    rows = [goal for name, row in found["precisions"].items() for goal in _of(name, row)]
    # One precision that speaks so fast is enough.
    reached = {row["goal"] for row in rows if row["met"] and row["goal"] in EITHER}
    rows = [{**row, "met": row["met"] or row["goal"] in reached} for row in rows]
    for row in found.get("codec", ()):
        rows += [_goal("codec in 16-frame chunks over whole", "", row["16"] / row["whole"], most=1.1, ceiling=1.0)]
        rows += [_goal("codec, SNR against fp32, dB", "", row["snr_db"], least=15.0)]
    return rows


ONE, LONG, EIGHT = "one stream, RTF", "long text, sentences side by side, RTF", "eight streams over one, throughput"
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
        yield _goal("held while one sentence is spoken, MB", name, each["speaking_mb"], most=1300.0)
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
    "streams": ("streams", "sentences at once"),
    "long": ("lookahead", "sentences of one text side by side"),
    "text": ("chars", "characters of the text"),
}


def panels(found: Mapping[str, Any]) -> list[Panel]:
    """For whatever grew with something: the slow step with context, a frame with the batch, work with the load."""
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
        Panel(title=f"{precision}, one sequence", x="positions behind it", y="ms", series=[slow],
              levels={read: top["slow_ms"]}),
        Panel(title=f"{precision}, a frame of all of a batch", x="sequences", y="ms", series=[frame],
              levels={read: top["slow_ms"] + top["fast_ms"]}),
    ]  # fmt: skip


def _grown(rows: Rows, key: str, label: str, precision: str) -> Panel:
    """What a second of audio costs, part upon part."""
    names, series, under = [str(row[key]) for row in rows], list[Series](), [0.0] * len(rows)
    for part in PARTS:
        heights = [row[part] for row in rows]
        series.append(Series(name=part, x=names, y=heights, mark="bars", under=under))
        under = [low + height for low, height in zip(under, heights, strict=True)]
    return Panel(title=f"{precision}: work per second of audio", x=label, y="RTF (lower is better)", series=series,
                 levels={"real time": 1.0})  # fmt: skip


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
