"""How fast the model in use speaks here: what memory allows first, then first sound, RTF and memory by streams."""

from __future__ import annotations

import multiprocessing
import statistics
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import psutil

from saywell.bench.plot import Panel, Series
from saywell.bench.service import text_of
from saywell.engine.launch import TTS, Decision, start
from saywell.engine.worker.client import EngineClient
from saywell.errors import InvalidRequest
from saywell.machine.process_memory import Peak
from saywell.plan.memory import variant_of
from saywell.types import Summary

LENGTHS = (300,)
_READ = 1 << 30
"""Bytes read to find out how fast memory is; less where there is less."""


def alone(work: Callable[..., Any], *arguments: Any) -> Any:
    """`work(*arguments)` in a fresh process, so that its memory and threads are its own."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(work, *arguments).result()


def best(work: Callable[[], object], repeats: int = 2) -> float:
    """Seconds of the fastest of `repeats` runs after a first one."""
    work()
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - start)
    return min(seconds)


def read_rate(threads: int) -> float:
    """GB/s at which memory far larger than any cache is read."""
    size = min(_READ, psutil.virtual_memory().available // 4)
    parts = np.array_split(np.ones(size // 4, np.float32), threads)
    with ThreadPoolExecutor(threads) as pool:
        return size / 1e9 / best(lambda: list(pool.map(np.sum, parts)), repeats=5)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ceiling:
    """The least seconds of work for a second of audio that memory allows, one stream; many share what is read."""

    gb_per_s: float
    rtf: float
    why: str
    """In a sentence."""


def ceiling(decision: Decision) -> Ceiling | str:
    """Measured now; or why none is known."""
    plan, spec = decision.plan, decision.spec
    size = variant_of(plan, spec).read_bytes_per_frame
    if not size:
        return f"No ceiling is known for {spec.name}: nobody has counted what its steps must read and multiply."
    if plan.device.kind != "cpu":
        return f"No ceiling is known for {plan.device}: only this machine's own memory is measured."
    cached = max((each.size * each.count for each in decision.hardware.cpu.caches), default=0)
    if size < cached:
        return f"No ceiling is known: what a frame reads of {spec.name} ({size / 1e6:.1f} MB) fits into the caches."
    rate = float(alone(read_rate, plan.threads))
    rtf = size * spec.frame_rate / rate / 1e9
    why = (
        f"Ceiling: {size * spec.frame_rate / 1e9:.1f} GB of weights to read for a second of audio, at {rate:.1f} GB/s "
        f"(measured with {plan.threads} threads): RTF {rtf:.3f} at the least for one stream, its share for each of "
        "several. What decoding multiplies comes on top and is not in it."
    )
    return Ceiling(gb_per_s=round(rate, 2), rtf=round(rtf, 4), why=why)


def check(decision: Decision, streams: Sequence[int], lengths: Sequence[int]) -> None:
    """Raises InvalidRequest for what the plan would refuse, before anything is loaded."""
    plan = decision.plan
    if max(streams) > plan.max_batch_size + plan.max_queue:
        most = plan.max_batch_size + plan.max_queue
        raise InvalidRequest(f"this plan lets in {most} requests at once; ask for no more --streams", param="streams")
    if max(lengths) > plan.max_text_chars:
        raise InvalidRequest(f"this plan takes texts of {plan.max_text_chars} characters at most", param="length")


def measure(
    decision: Decision, top: Ceiling | str, streams: Sequence[int], lengths: Sequence[int], repeats: int
) -> list[dict[str, Any]]:
    """A row for each number of streams and length of text, beside the ceiling if one is known."""
    device = decision.plan.device
    # Naming the index makes it one worker, whose memory is measured.
    settings = replace(decision.settings, device=f"{device.kind}:{device.index}")
    with start(replace(decision, settings=settings), worker=True) as speaker:
        _together(speaker, 1, min(lengths), 0)  # the first of all pays for what is made once
        rows = [_row(speaker, count, chars, repeats) for count in streams for chars in lengths]
    if isinstance(top, Ceiling):
        rows = [{**row, "of_ceiling": round(top.rtf / row["streams"] / row["rtf"], 3)} for row in rows]
    return rows


def _row(speaker: TTS, streams: int, chars: int, repeats: int) -> dict[str, Any]:
    assert isinstance(speaker.engine, EngineClient)
    with Peak(speaker.engine.pid) as peak:
        began = time.perf_counter()
        found = [each for turn in range(repeats) for each in _together(speaker, streams, chars, 1 + turn)]
        took = time.perf_counter() - began
    firsts = [1000 * each.first_audio_s for each in found]
    return {
        "streams": streams,
        "chars": chars,
        "first_ms": round(statistics.median(firsts), 1),
        "first_ms_worst": round(max(firsts), 1),
        "rtf": round(took / sum(each.audio_s for each in found), 4),
        "rtf_of_each": round(statistics.median(each.total_s / each.audio_s for each in found), 4),
        "memory_mb": round(peak.bytes / 1e6),
    }


def _together(speaker: TTS, streams: int, chars: int, turn: int) -> list[Summary]:
    """So many clients ask for a text of that length at once."""
    with ThreadPoolExecutor(streams) as pool:
        asked = [pool.submit(speaker.say, text_of(chars), seed=1000 * turn + each) for each in range(streams)]
        return [each.result().summary for each in asked]


def panels(rows: Sequence[dict[str, Any]]) -> list[Panel]:
    """RTF and first sound over streams, a series for each length of text: what to draw."""

    def over(name: str) -> list[Series]:
        lengths = dict.fromkeys(row["chars"] for row in rows)
        by = {chars: [row for row in rows if row["chars"] == chars] for chars in lengths}
        return [
            Series(name=f"{chars} characters", x=[str(row["streams"]) for row in some], y=[row[name] for row in some],
                   mark="bars") for chars, some in by.items()
        ]  # fmt: skip

    return [
        Panel(title="Work per second of audio", x="streams", y="RTF (lower is better)", series=over("rtf")),
        Panel(title="First sound", x="streams", y="ms", series=over("first_ms")),
    ]
