"""The teacher speaks: one shard of utterances after the other, until all texts are spoken or the time is up.

    python -m training.wren.synthesise --data DATA --minutes 20

DATA/texts.txt, a text a line; texts go to the voices in turn. DATA/corpus/VOICE/NNNN.npz, 100 utterances each:
    texts, words   JSON as bytes: the text of each utterance; the words of each as Flite says them
    symbols        uint8, ids (saywell.models.wren.phones) of all utterances, one after the other
    ends           int32, per symbol: the frame (5 ms) after its last, counted from the start of the utterance
    frames         float16 [frames, 31]: F0 in Hz (0: no voice), mel cepstrum 0–24, strengths of voicing of 5 bands
    samples        int16, 16 kHz
    symbol_starts, frame_starts, sample_starts   int64 [utterances + 1]: where each utterance begins in those
A shard that is there already is not spoken again.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from rich.progress import Progress

from saywell.models.wren.phones import SPEAKERS, encode
from training.wren.features import analysed
from training.wren.teacher import Floats, Spoken, Teacher

UTTERANCES = 100
LONGEST_S = 20.0


def spoken(teacher: Teacher, text: str) -> tuple[Spoken, Floats] | None:
    """What the teacher says and its frames; None for what it cannot say, or says too long."""
    try:
        said = teacher.speak(text)
    except ValueError:
        return None
    if len(said.samples) > LONGEST_S * 16000 or len(said.symbols) < 3:
        return None
    return said, said.parameters if said.parameters is not None else analysed(said)


def write(path: Path, texts: list[str], teacher: Teacher) -> None:
    """Speak `texts` into one shard, written under its name when it is complete."""
    said = [(text, *both) for text in texts if (both := spoken(teacher, text))]
    texts_said, spoken_texts, frames = zip(*said, strict=True)
    parts: dict[str, Any] = {
        "texts": _json(list(texts_said)),
        "words": _json([one.words for one in spoken_texts]),
        "symbols": np.concatenate([np.array(encode(one.symbols), np.uint8) for one in spoken_texts]),
        "ends": np.concatenate([one.ends for one in spoken_texts]),
        "frames": np.concatenate(frames).astype(np.float16),
        "samples": np.concatenate([one.samples for one in spoken_texts]),
        "symbol_starts": np.cumsum([0, *(len(one.symbols) for one in spoken_texts)]),
        "frame_starts": np.cumsum([0, *map(len, frames)]),
        "sample_starts": np.cumsum([0, *(len(one.samples) for one in spoken_texts)]),
    }
    part = path.with_suffix(".part.npz")
    np.savez(part, **parts)
    part.replace(path)


def synthesise(data: Path, shards: int) -> Iterator[tuple[int, int]]:
    """Speak at most `shards` shards of each voice; after each, how many there are, of how many."""
    texts = (data / "texts.txt").read_text(encoding="ascii").splitlines()
    teachers = {voice: Teacher(voice) for voice in SPEAKERS}
    starts = range(0, min(len(texts), shards * len(SPEAKERS) * UTTERANCES), UTTERANCES)
    for number, start in enumerate(starts):
        voice = SPEAKERS[number % len(SPEAKERS)]
        path = data / "corpus" / voice / f"{number // len(SPEAKERS):04}.npz"
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            write(path, texts[start : start + UTTERANCES], teachers[voice])
        yield number + 1, len(starts)


def _json(value: Any) -> Any:
    return np.frombuffer(json.dumps(value).encode(), np.uint8)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=1e9, help="of this process's computing time")
    parser.add_argument("--shards", type=int, default=10**6, help="at most so many of each voice")
    asked = parser.parse_args()
    with Progress(disable=not os.isatty(1)) as progress:
        bar = progress.add_task("Speaking")
        for done, count in synthesise(asked.data, asked.shards):
            progress.update(bar, completed=done, total=count)
            if time.process_time() > asked.minutes * 60:
                break


if __name__ == "__main__":
    main()
