"""Speed of the model in use: the ceiling set by memory bandwidth, then first audio, RTF and memory by streams."""

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
_READ_BYTES = 1 << 30
"""Bytes read to measure memory bandwidth; less on a machine with little memory."""


def alone(work: Callable[..., Any], *arguments: Any) -> Any:
    """`work(*arguments)` in a fresh process, so that its memory and threads are its own."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(work, *arguments).result()


def best(work: Callable[[], object], repeats: int = 2) -> float:
    """Seconds of the fastest of `repeats` runs, after a warm-up run."""
    work()
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - start)
    return min(seconds)


def read_rate(threads: int) -> float:
    """Read bandwidth of memory in GB/s, from an array far larger than the caches."""
    size = min(_READ_BYTES, psutil.virtual_memory().available // 4)
    parts = np.array_split(np.ones(size // 4, np.float32), threads)
    with ThreadPoolExecutor(threads) as pool:
        return size / 1e9 / best(lambda: list(pool.map(np.sum, parts)), repeats=5)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ceiling:
    """The best RTF of one stream that memory bandwidth allows. Streams in a batch share the reads."""

    gb_per_s: float
    rtf: float
    why: str


def ceiling(decision: Decision) -> Ceiling | str:
    """The measured ceiling, or the reason why none is known."""
    plan, spec = decision.plan, decision.spec
    size = variant_of(plan, spec).read_bytes_per_frame
    if not size:
        return f"No ceiling is known for {spec.name}: the bytes that its steps read have not been counted."
    if plan.device.kind != "cpu":
        return f"No ceiling is known for {plan.device}: only the memory of the CPU is measured."
    cache_bytes = max((cache.size * cache.count for cache in decision.hardware.cpu.caches), default=0)
    if size < cache_bytes:
        return f"No ceiling is known: what a frame reads of {spec.name} ({size / 1e6:.1f} MB) fits into the caches."
    rate = float(alone(read_rate, plan.threads))
    rtf = size * spec.frame_rate / rate / 1e9
    why = (
        f"Ceiling: {size * spec.frame_rate / 1e9:.1f} GB of weights read per second of audio, at {rate:.1f} GB/s "
        f"(measured with {plan.threads} threads): RTF at least {rtf:.3f} for one stream; concurrent streams share it. "
        "The arithmetic of decoding is not included."
    )
    return Ceiling(gb_per_s=round(rate, 2), rtf=round(rtf, 4), why=why)


def check(decision: Decision, streams: Sequence[int], lengths: Sequence[int]) -> None:
    """Raises InvalidRequest for what the plan would refuse, before anything is loaded."""
    plan = decision.plan
    limit = plan.max_batch_size + plan.max_queue
    if max(streams) > limit:
        raise InvalidRequest(f"this plan admits {limit} requests at once; use fewer --streams", param="streams")
    if max(lengths) > plan.max_text_chars:
        raise InvalidRequest(f"this plan takes texts of {plan.max_text_chars} characters at most", param="length")


def measure(
    decision: Decision, top: Ceiling | str, streams: Sequence[int], lengths: Sequence[int], repeats: int
) -> list[dict[str, Any]]:
    """A row for each number of streams and length of text, with the ceiling if one is known."""
    device = decision.plan.device
    # Among several devices of a kind, naming the index makes it one worker, whose memory is measured.
    several = sum(each.kind == device.kind for each in decision.hardware.devices) > 1
    settings = replace(decision.settings, device=f"{device.kind}:{device.index}" if several else str(device))
    with start(replace(decision, settings=settings), worker=True) as speaker:
        _together(speaker, 1, min(lengths), 0)  # the first of all pays for what is made once
        rows = [_row(speaker, count, chars, repeats) for count in streams for chars in lengths]
    if isinstance(top, Ceiling):
        rows = [{**row, "of_ceiling": round(top.rtf / row["streams"] / row["rtf"], 3)} for row in rows]
    return rows


def _row(tts: TTS, streams: int, chars: int, repeats: int) -> dict[str, Any]:
    assert isinstance(tts.engine, EngineClient)
    with Peak(tts.engine.pid) as peak:
        began = time.perf_counter()
        summaries = [one for turn in range(repeats) for one in _together(tts, streams, chars, 1 + turn)]
        seconds = time.perf_counter() - began
    first_ms = [1000 * one.first_audio_s for one in summaries]
    return {
        "streams": streams,
        "chars": chars,
        "first_ms": round(statistics.median(first_ms), 1),
        "first_ms_worst": round(max(first_ms), 1),
        "rtf": round(seconds / sum(one.audio_s for one in summaries), 4),
        "rtf_of_each": round(statistics.median(one.total_s / one.audio_s for one in summaries), 4),
        "memory_mb": round(peak.bytes / 1e6),
    }


def _together(tts: TTS, streams: int, chars: int, turn: int) -> list[Summary]:
    """`streams` requests at once, each with a text of `chars` characters."""
    with ThreadPoolExecutor(streams) as pool:
        futures = [pool.submit(tts.say, text_of(chars), seed=1000 * turn + number) for number in range(streams)]
        return [future.result().summary for future in futures]


def panels(rows: Sequence[dict[str, Any]]) -> list[Panel]:
    """RTF and first audio over streams, a series for each length of text."""
    lengths = dict.fromkeys(row["chars"] for row in rows)

    def series(name: str) -> list[Series]:
        return [
            Series(
                name=f"{chars} characters",
                x=[str(row["streams"]) for row in rows if row["chars"] == chars],
                y=[row[name] for row in rows if row["chars"] == chars],
                mark="bars",
            )
            for chars in lengths
        ]

    return [
        Panel(title="Work per second of audio", x="streams", y="RTF (lower is better)", series=series("rtf")),
        Panel(title="First audio", x="streams", y="ms", series=series("first_ms")),
    ]
