"""The default voice on this machine: start, first sound, speed on one core, memory, size.

Each start is a process of its own (`python -c`), timed from outside; the rest is measured in one engine, warm, as the
median of several requests.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from saywell.bench.held_out import sentences
from saywell.bench.watch import Watch, memory
from saywell.engine import launch
from saywell.models import wren
from saywell.settings import load_settings

GOALS = {"ready_s": 2.0, "first_audio_ms": 80.0, "rtf": 0.05, "rss_mb": 200.0, "data_mb": 15.0}
"""At most. `ready_s`: process start to an engine that has spoken. `rss_mb`: of that process, while it speaks."""
_STARTS = 3
_START = "import saywell; saywell.open('wren').say('Ready.')"


def main(args: list[str]) -> int:
    """Run it. 1 if a goal is missed."""
    parser = argparse.ArgumentParser(prog="saywell bench wren", description=__doc__)
    parser.add_argument("--sentences", type=int, default=30, help="how many are spoken (default 30)")
    texts = sentences()[: parser.parse_args(args).sentences]
    result: dict[str, Any] = {"ready_s": statistics.median(_start() for _ in range(_STARTS)), "data_mb": _data_mb()}
    result |= _speak(texts)
    Console().print(_table(result))
    print(json.dumps({name: round(value, 4) for name, value in result.items()}))  # noqa: T201 - the machine-readable end
    return 0 if all(result[name] <= goal for name, goal in GOALS.items()) else 1


def _start() -> float:
    """Seconds from the start of a process to the end of its first word."""
    began = time.perf_counter()
    subprocess.run([sys.executable, "-c", _START], check=True)
    return time.perf_counter() - began


def _data_mb() -> float:
    """Megabytes of weights, lexicon and letter trees as they lie on the disk."""
    home = Path(wren.__file__).parent
    return sum(file.stat().st_size for file in home.rglob("*") if file.is_file() and file.suffix != ".pyc") / 1e6


def _speak(texts: Sequence[str]) -> dict[str, float]:
    """One request after the other, one sequence at a time: median milliseconds to first audio, RTF, memory."""
    decision = launch.decide(load_settings({"model": "wren", "slots": 1, "adapt": False}))
    with launch.start(decision) as tts, Watch() as watch:
        said = [tts.say(text) for text in texts]
        rss = memory()["rss"]
    rtf = sum(audio.summary.total_s for audio in said) / sum(audio.duration_s for audio in said)
    first = statistics.median(audio.summary.first_audio_s for audio in said)
    return {"first_audio_ms": 1000 * first, "rtf": rtf, "rss_mb": max(rss, watch.peak["rss"]), "others": watch.others}


def _table(result: dict[str, float]) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for title in ("", "measured", "goal, at most"):
        table.add_column(title)
    for name, value in result.items():
        table.add_row(name, f"{value:.3g}", f"{GOALS[name]:g}" if name in GOALS else "")
    return table
