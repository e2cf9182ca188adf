"""Hear a run as it is, and keep the figures: the curve over training time.

    python -m training.dual_ar.evaluate --run RUN --sentences 12

On held-out sentences, without a reference: errors in the phones its semantic codes name, and word error rates by
pocketsphinx, of the codec's sound and of what the same codes sound like by the source and filter the codec learned
from. One line more in RUN/curve.jsonl.
"""

from __future__ import annotations

import argparse
import itertools
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from rapidfuzz.distance import Levenshtein

from saywell.bench.hearing import hear
from saywell.bench.held_out import sentences
from saywell.bench.word_errors import score
from saywell.models.dual_ar import prompt
from saywell.models.dual_ar.checkpoint import fold_weight_norm
from saywell.models.dual_ar.codec_nets import Codec
from saywell.models.dual_ar.nets import DualAR, generate
from saywell.models.dual_ar.sampling import Sampling
from saywell.models.wren.phones import SYMBOLS
from saywell.models.wren.reader import read
from training.dual_ar.blocks import Ints, spoken
from training.dual_ar.books import Books
from training.dual_ar.export import codec, tokenizer, transformers
from training.dual_ar.sizes import CODEC, config

LONGEST = 200
MARKS = {"", "^", "_", ",", ".", "?", "!"}


def phones(pairs: Ints) -> list[str]:
    """What a row of pairs spells: each symbol once while it lasts, no stress, no pauses."""
    names = [SYMBOLS[number].rstrip("01") for pair in pairs.tolist() for number in pair]
    return [name for name, _ in itertools.groupby(names) if name not in MARKS]


def spelled(text: str) -> list[str]:
    return phones(np.array([[SYMBOLS.index(each)] for each in read(text).symbols]))


def evaluate(run: Path, texts: Sequence[str], seed: int = 0) -> dict[str, float]:
    """Rates over all texts together."""
    books = Books.load(run / "books.npz")
    written = tokenizer()
    net = DualAR.load(config(), written, transformers(books, run))
    voice = Codec.load(CODEC, fold_weight_norm(codec(books, run)))
    wrong = count = 0
    heard: dict[str, list[str]] = {"codec": [], "filter": []}
    for number, text in enumerate(texts):
        matrix = prompt.build(written, config(), text)
        codes = generate(net, matrix, Sampling(seed=seed + number), LONGEST)[1:]
        wanted, said = spelled(text), phones(books.pairs[np.minimum(codes[0], len(books.pairs) - 1)])
        wrong, count = wrong + Levenshtein.distance(wanted, said), count + len(wanted)
        sounds = {"codec": voice.decode(torch.from_numpy(codes)).numpy(), "filter": spoken(*books.decode(codes.T))}
        for name, samples in sounds.items():
            heard[name].append(hear(np.asarray(samples, np.float32), CODEC.sample_rate))
    rates = {name: score(texts, words).wer for name, words in heard.items()}
    return {"phones": wrong / count, **rates}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, required=True)
    parser.add_argument("--sentences", type=int, default=12)
    asked = parser.parse_args()
    seconds = {
        name: round(float(torch.load(path, weights_only=True)["seconds"]))
        for name in ("ar", "decoder")
        if (path := asked.run / f"{name}.pt").exists()
    }
    found = evaluate(asked.run, sentences()[: asked.sentences])
    line = {**seconds, "sentences": asked.sentences, **{name: round(value, 4) for name, value in found.items()}}
    with (asked.run / "curve.jsonl").open("a") as curve:
        print(json.dumps(line), file=curve)
    print(json.dumps(line))


if __name__ == "__main__":
    main()
