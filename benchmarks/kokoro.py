"""Kokoro by Saywell and by the package kokoro-onnx: same weights, voice and texts, in turns.

    python -m benchmarks.kokoro FOLDER [--rounds 3]      speed as installed, all cores: work, first sound, memory
    python -m benchmarks.kokoro FOLDER --voices 12       word errors of 20 sentences by each of so many voices
    python -m benchmarks.kokoro FOLDER --languages       character errors of eight sentences in each other language
    python -m benchmarks.kokoro FOLDER --streams 8       so many texts at once against one after the other

FOLDER holds the published int8 graph and `voices/*.bin` (npm package kokoro-js). $METER has kokoro-onnx (`scripts/meter
others`).
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
import unicodedata
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from rapidfuzz.distance import Levenshtein
from rich.console import Console
from rich.progress import track
from rich.table import Table

from benchmarks import weights
from benchmarks.hearing import hear
from benchmarks.held_out import sentences
from benchmarks.speakers import Job
from benchmarks.takes import Take, take
from saywell.machine import detect
from saywell.models.base import find_spec
from saywell.models.kokoro import files

_LONG_CHARS = 330
"""About 20 seconds of speech."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--voices", type=int)
    parser.add_argument("--languages", action="store_true")
    parser.add_argument("--streams", type=int)
    options = parser.parse_args()
    folder = options.folder.resolve()
    Console().print(f"load {os.getloadavg()[0]:.2f}, {os.cpu_count()} CPUs")
    if options.voices:
        _voices(folder, options.voices)
    elif options.languages:
        _languages(folder)
    elif options.streams:
        _streams(folder, options.streams)
    else:
        _speed(folder, options.rounds)


def _saywell(folder: Path, texts: Sequence[str], voice: str, threads: int = 0, executor: str = "") -> Take:
    settings = {"model": str(folder), "adapt": False, **({"threads": threads} if threads else {})}
    settings |= {"executor": executor} if executor else {}
    job = Job(texts=texts, out="", settings=settings, voice=voice, threads=threads)
    return take("saywell", job, sys.executable, own_packages=False)


def _package(folder: Path, texts: Sequence[str], voice: str, threads: int = 0) -> Take:
    with _as_it_wants(folder, voice) as own:
        job = Job(texts=texts, out="", weights=str(own), voice=voice, threads=threads)
        return take("kokoro", job, str(weights.others_python(weights.folder())), own_packages=True)


@contextmanager
def _as_it_wants(folder: Path, voice: str) -> Iterator[Path]:
    """A folder with the graph and one voice in kokoro-onnx's format."""
    found = files.look(folder)
    with tempfile.TemporaryDirectory() as own:
        (Path(own) / "kokoro").mkdir()
        (Path(own) / "kokoro" / "kokoro-int8.onnx").symlink_to(found.graph.resolve())
        packs: dict[str, Any] = {voice: files.pack(found, voice).reshape(-1, 1, files.STYLE)}
        np.savez(Path(own) / "kokoro" / "voices.npz", **packs)
        yield Path(own)


def _speed(folder: Path, rounds: int) -> None:
    text = " ".join(sentences())[:_LONG_CHARS].rsplit(" ", 1)[0] + "."
    ours = {f"saywell, {executor}": executor for executor in _executors(folder)}
    takes: dict[str, list[Take]] = {"kokoro-onnx": [], **{name: [] for name in ours}}
    for _ in track(range(rounds), "in turns", console=Console(stderr=True), transient=True):
        takes["kokoro-onnx"].append(_package(folder, [text], "af_heart"))
        for name, executor in ours.items():
            takes[name].append(_saywell(folder, [text], "af_heart", executor=executor))
    table = Table("engine", "audio", "seconds", "RTF", "first audible sound", "peak memory")
    rtf, first = {}, {}
    for name, made in takes.items():
        audio = len(made[0].clips[0][0]) / made[0].clips[0][1]
        seconds = median(one.total_s[0] for one in made)
        rtf[name], first[name] = seconds / audio, median(one.first_audible_s[0] or 0.0 for one in made)
        memory = max(one.memory_bytes for one in made) / 2**20
        table.add_row(
            name, f"{audio:.1f} s", f"{seconds:.2f}", f"{rtf[name]:.3f}", f"{first[name]:.2f} s", f"{memory:.0f} MB"
        )
    Console().print(table)
    for name in ours:
        turns = [a.total_s[0] / b.total_s[0] for a, b in zip(takes["kokoro-onnx"], takes[name], strict=True)]
        Console().print(
            f"{name}: RTF {median(turns):.2f} times lower ({min(turns):.2f} to {max(turns):.2f} in a turn), "
            f"first audible sound {first['kokoro-onnx'] / first[name]:.1f} times earlier"
        )


def _executors(folder: Path) -> list[str]:
    """That are installed."""
    there = detect().runtimes
    return list(dict.fromkeys(each.executor for each in find_spec(None, folder).variants if each.package in there))


def _voices(folder: Path, count: int) -> None:
    names = [name for name in files.look(folder).voices if name[0] in "ab"]
    chosen = names[:: max(1, len(names) // count)][:count]
    texts = sentences()[:20]
    table = Table("voice", "kokoro-onnx", "saywell", "points")
    for voice in track(chosen, "heard", console=Console(stderr=True), transient=True):
        theirs = _package(folder, texts, voice, 1).score.wer
        ours = _saywell(folder, texts, voice, 1).score.wer
        table.add_row(voice, f"{100 * theirs:.1f} %", f"{100 * ours:.1f} %", f"{100 * (ours - theirs):+.1f}")
    Console().print(table)


_LANGUAGES = Path(__file__).parent / "data" / "languages.tsv"
_SPEAKERS = {"es": "e", "fr": "f", "hi": "h", "it": "i", "pt": "p", "ja": "j", "zh": "z"}


def _languages(folder: Path) -> None:
    lines = [line.split("\t") for line in _LANGUAGES.read_text(encoding="utf-8").splitlines()]
    table = Table("language", "voice", "kokoro-onnx", "saywell", "heard first")
    for language, letter in track(_SPEAKERS.items(), "heard", console=Console(stderr=True), transient=True):
        texts = [text for tag, text in lines if tag == language]
        voice = next(name for name in files.look(folder).voices if name.startswith(letter))
        # kokoro-onnx reads neither Japanese nor Chinese.
        theirs = f"{_characters(_package(folder, texts, voice, 1), language)[0]:.1%}" if letter not in "jz" else ""
        ours, heard = _characters(_saywell(folder, texts, voice, 1), language)
        table.add_row(language, voice, theirs, f"{ours:.1%}", heard)
    Console().print(table)


def _characters(made: Take, language: str) -> tuple[float, str]:
    """Character errors, and what was heard of the first text. Marks and spaces do not count."""
    heard = [hear(*clip, language=language) for clip in made.clips]
    pairs = [(_plain(text), _plain(found)) for text, found in zip(made.texts, heard, strict=True)]
    edits = sum(Levenshtein.distance(text, found) for text, found in pairs)
    return edits / sum(len(text) for text, _ in pairs), heard[0] or made.errors[0]


def _plain(text: str) -> str:
    kept = (letter for letter in text.casefold() if unicodedata.category(letter)[0] in "LMN")
    return unicodedata.normalize("NFC", "".join(kept))


def _streams(folder: Path, count: int) -> None:
    from saywell.engine import launch

    texts = sentences()[:count]
    with launch.open(str(folder), adapt=False) as tts:
        tts.say("Ready.")
        began = time.perf_counter()
        alone = [tts.say(text) for text in texts]
        one_s, began = time.perf_counter() - began, time.perf_counter()
        streams = [tts.stream(text) for text in texts]
        together = [np.concatenate([chunk.samples for chunk in stream]) for stream in streams]
        all_s = time.perf_counter() - began
    same = all(np.array_equal(a.samples, b) for a, b in zip(alone, together, strict=True))
    audio = sum(one.duration_s for one in alone)
    Console().print(
        f"{count} texts, {audio:.0f} s of audio: one after the other {one_s:.1f} s, at once {all_s:.1f} s "
        f"({one_s / all_s:.2f} times), samples {'equal' if same else 'DIFFER'}"
    )


if __name__ == "__main__":
    main()
