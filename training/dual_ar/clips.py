"""A clip of each teacher to be spoken like, `clips/VOICE.flac`, and what all of them say, `clips/transcript.txt`.

    python -m training.dual_ar.clips --out CHECKPOINT

The text is held out, as that of the meter's own prompts is. `prints.json`: by which speech is told to be one teacher's,
the average spectrum of each (dB in mel bands, `saywell.bench.spectra`) over more sentences.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import soundfile

from saywell.bench.held_out import sentences
from saywell.bench.spectra import spectrum, voice_print
from saywell.models.wren.phones import SPEAKERS
from training.wren.teacher import RATE, Teacher

SENTENCES, KNOWN = 2, 12
"""Spoken in a clip; by which a teacher is known. The meter enrols speakers by the same ones."""


def write(out: Path) -> None:
    texts = sentences()[-KNOWN:]
    (out / "clips").mkdir(parents=True, exist_ok=True)
    prints = {}
    for name in SPEAKERS:
        teacher = Teacher(name)
        said = [teacher.speak(text).samples for text in texts]
        soundfile.write(out / "clips" / f"{name}.flac", np.concatenate(said[:SENTENCES]), RATE)
        prints[name] = voice_print([spectrum(one.astype(np.float32) / 32768, RATE) for one in said]).round(2).tolist()
    (out / "clips" / "transcript.txt").write_text(" ".join(texts[:SENTENCES]) + "\n", encoding="ascii")
    (out / "prints.json").write_text(json.dumps(prints) + "\n", encoding="ascii")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    write(parser.parse_args().out)


if __name__ == "__main__":
    main()
