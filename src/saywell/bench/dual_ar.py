"""The DualAR family on this CPU: transformers, then codec; see `dual_ar_ar` and `dual_ar_codec` for each."""

from __future__ import annotations

import argparse
import json
from typing import Any

from rich.console import Console

from saywell.bench import dual_ar_ar, dual_ar_codec
from saywell.hardware import detect
from saywell.models.dual_ar.config import CodecConfig


def main(args: list[str]) -> int:
    """Run both. 1 if a goal is missed."""
    parser = argparse.ArgumentParser(prog="saywell bench dual_ar", description=__doc__)
    dual_ar_ar.add_options(parser)
    parser.add_argument("--frames", type=int, default=64, help="decoded whole by the codec (default 64)")
    options = parser.parse_args(args)
    threads = options.threads or detect().usable_cores
    with dual_ar_ar.graphs(options.model, options.precision) as directory:
        transformers = dual_ar_ar.measure(directory, options.precision, threads)
    with dual_ar_codec.graphs(options.model, encoder=False) as directory:
        sizes = CodecConfig.read(directory)
        codec = dual_ar_codec.measure(directory, sizes, threads, options.frames, encoder=False)
    total = together(transformers, codec, sizes.frame_rate)
    console = Console(width=120)
    for row in total:
        console.print(
            f"{row['precision']}, transformers and codec one after the other: RTF {row['rtf']:.2f} alone, "
            f"{row['rtf_8']:.2f} each second with 8 side by side; first sound after {row['first_ms']:.0f} ms"
        )
    result = {"bench": "dual_ar", "transformers": transformers, "codec": codec, "together": total}
    print(json.dumps(result))  # noqa: T201 - the machine-readable last line
    reached = all(row["rtf_8"] <= 0.5 and row["first_ms"] <= 500 for row in total) and min(r["rtf"] for r in total) <= 1
    return 0 if reached and dual_ar_ar.met(transformers) and dual_ar_codec.met(codec) else 1


def together(transformers: dict[str, Any], codec: dict[str, Any], rate: float) -> list[dict[str, Any]]:
    """What both add up to, for each precision of the transformers with the fastest codec."""
    best = min(
        (row for row in codec["decoder"] if row["convolutions"] != "fp32"), key=lambda row: row["s_per_audio_s"]["16"]
    )
    sound = best["s_per_audio_s"]["16"]
    rows = []
    for row in transformers["rows"]:
        frame = {each["batch"]: each["frame_ms"] / 1e3 / each["batch"] for each in row["batch"]}
        first = row["prompt_ms"]["32"] + 3 * row["batch"][0]["frame_ms"] + row["batch"][0]["fast_ms"] + best["first_ms"]
        rows.append(
            {
                "precision": row["precision"],
                "rtf": round(frame[1] * rate + sound, 3),
                "rtf_8": round(frame[8] * rate + sound, 3),
                "first_ms": round(first, 1),
            }
        )
    return rows
