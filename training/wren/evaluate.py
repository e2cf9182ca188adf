"""Hear the voice and its teacher on the held-out sentences, and compare what was heard.

    python -m training.wren.evaluate --voice src/saywell/models/wren/data --sentences 50 --out RUN/evaluation.json

For each speaker: word error rate by pocketsphinx of the teacher, of the voice from the teacher's phones and of the
voice from its own reader; how long it speaks beside the teacher; distance of log mel spectra on the teacher's timing
(dB); samples at full scale; the longest silence inside (s); seconds of computing per second of speech.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pocketsphinx
from rich.console import Console
from rich.table import Table

from saywell.bench.held_out import sentences, words
from saywell.models.wren.phones import SPEAKERS, encode
from saywell.models.wren.reader import read
from saywell.models.wren.source import HOP, RATE, Floats
from saywell.models.wren.synth import Prosody, Synthesiser
from saywell.text.normalise import normalise
from training.wren.teacher import Teacher

FFT = 512
MELS = 40
QUIET = 0.003
COLUMNS = ("teacher", "phones", "reader", "length", "mel_db", "clipped", "silence_s", "rtf")


class Ear:
    """An English recogniser."""

    def __init__(self) -> None:
        self._decoder = pocketsphinx.Decoder(samprate=RATE, loglevel="FATAL")

    def hear(self, samples: npt.NDArray[np.int16]) -> list[str]:
        self._decoder.start_utt()
        self._decoder.process_raw(samples.tobytes(), full_utt=True)
        self._decoder.end_utt()
        heard = self._decoder.hyp()
        return words(heard.hypstr) if heard else []


def distance(one: list[str], other: list[str]) -> int:
    """Words to change, put in or take out (Levenshtein)."""
    row = list(range(len(other) + 1))
    for place, word in enumerate(one, 1):
        above, row[0] = row[0], place
        for at, there in enumerate(other, 1):
            above, row[at] = row[at], min(row[at - 1] + 1, row[at] + 1, above + (word != there))
    return row[-1]


def mel_filters() -> Floats:
    """[MELS, bins], triangles on the mel scale (HTK)."""
    edges = 700 * (10 ** (np.linspace(0, 2595 * np.log10(1 + RATE / 2 / 700), MELS + 2) / 2595) - 1)
    hertz = np.linspace(0, RATE / 2, FFT // 2 + 1)
    rising = (hertz - edges[:-2, None]) / np.diff(edges)[:-1, None]
    falling = (edges[2:, None] - hertz) / np.diff(edges)[1:, None]
    return np.maximum(0, np.minimum(rising, falling)).astype(np.float32)


def log_mel(samples: npt.NDArray[Any]) -> Floats:
    """dB [frames, MELS], 10 ms apart."""
    pieces = np.lib.stride_tricks.sliding_window_view(samples.astype(np.float32), FFT)[:: RATE // 100]
    power = np.abs(np.fft.rfft(pieces * np.hanning(FFT), axis=1)) ** 2
    return np.asarray(10 * np.log10(power @ mel_filters().T + 1e-4), np.float32)


def silence(samples: Floats) -> float:
    """Seconds of the longest stretch below QUIET that is not at an end."""
    loud = np.flatnonzero(np.abs(samples) > QUIET)
    return float(np.diff(loud).max() / RATE) if len(loud) > 1 else len(samples) / RATE


def timed(prosody: Prosody, ends: npt.NDArray[np.int32]) -> Prosody:
    """The same utterance with the teacher's lengths."""
    lengths = np.diff(ends, prepend=0)
    return Prosody(
        prosody.speaker,
        np.append(ends[:-1], ends[-1] + ends[-1] % 2).astype(np.int64),
        lengths.astype(np.float32),
        prosody.codes,
    )


def pcm(samples: Floats) -> npt.NDArray[np.int16]:
    return (samples * 32767).astype(np.int16)


def evaluate(voice: Synthesiser, speaker: int, texts: Iterable[str], ear: Ear) -> dict[str, float]:
    """COLUMNS of one speaker; word error rates are of all words together."""
    teacher = Teacher(SPEAKERS[speaker])
    wrong, count, lengths, mels, clipped, still, spent = np.zeros(3), 0, np.zeros(2), [], 0, 0.0, 0.0
    for text in texts:
        taught = teacher.speak(text)
        phones = voice.prosody(encode(taught.symbols), speaker)
        begun = time.process_time()
        own = voice.whole(voice.prosody(encode(read(normalise(text)).symbols), speaker))
        spent += time.process_time() - begun
        heard = (taught.samples, pcm(voice.whole(phones)), pcm(own))
        said = words(text)
        wrong += [distance(said, ear.hear(samples)) for samples in heard]
        count += len(said)
        lengths += [len(taught.samples), phones.samples]
        same = voice.whole(timed(phones, taught.ends))
        ours, theirs = log_mel(same * 32768), log_mel(np.pad(taught.samples, (0, HOP)))
        frames = min(len(ours), len(theirs))
        mels.append(float(np.abs(ours[:frames] - theirs[:frames]).mean()))
        clipped, still = clipped + int((np.abs(own) >= 1).sum()), max(still, silence(own))
        spent_on = lengths[1] / RATE
    rates = wrong / count
    row = (*rates, lengths[1] / lengths[0], np.mean(mels), clipped, still, spent / spent_on)
    return {name: round(float(value), 4) for name, value in zip(COLUMNS, row, strict=True)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--voice", type=Path, required=True)
    parser.add_argument("--sentences", type=int, default=50)
    parser.add_argument("--out", type=Path)
    asked = parser.parse_args()
    voice, ear = Synthesiser(asked.voice), Ear()
    found = {name: evaluate(voice, number, sentences()[: asked.sentences], ear) for number, name in enumerate(SPEAKERS)}
    table = Table("speaker", *COLUMNS)
    for name, row in found.items():
        table.add_row(name, *(f"{value:.3f}" for value in row.values()))
    Console().print(table)
    if asked.out:
        asked.out.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
