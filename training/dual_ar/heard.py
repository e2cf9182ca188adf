"""What the encoder hears of the teacher's own sound: references as they will be, not as the books would have them.

    python -m training.dual_ar.heard --data DATA --run RUN --shards 8

DATA/heard/VOICE/NNNN.npz: codes uint16 [blocks, books] of the utterances of the same shard of the corpus, starts. The
transformers are prompted with them while they train (`sequences.py`). A shard that is there already is not heard again.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

import numpy as np
import torch
from rich.progress import track

from saywell.models.dual_ar.checkpoint import fold_weight_norm
from saywell.models.dual_ar.codec_nets import Codec
from saywell.models.wren.phones import SPEAKERS
from training.dual_ar.books import Books
from training.dual_ar.export import codec
from training.dual_ar.sizes import CODEC


def write(data: Path, run: Path, shards: int) -> None:
    voice = Codec.load(CODEC, fold_weight_norm(codec(Books.load(run / "books.npz"), run)))
    paths = [path for name in SPEAKERS for path in sorted((data / "corpus" / name).glob("*[0-9].npz"))[:shards]]
    for path in track(paths, "Hearing", disable=not os.isatty(1)):
        out = data / "heard" / path.parent.name / path.name
        if out.exists():
            continue
        out.parent.mkdir(parents=True, exist_ok=True)
        with np.load(path) as shard:
            samples, starts = shard["samples"].astype(np.float32) / 32768, shard["sample_starts"]
        codes = [voice.encode(torch.from_numpy(one)).numpy().T for one in np.split(samples, starts[1:-1])]
        part = out.with_suffix(".part.npz")
        np.savez(part, codes=np.concatenate(codes).astype(np.uint16), starts=np.cumsum([0, *map(len, codes)]))
        part.replace(out)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--run", type=Path, required=True)
    parser.add_argument("--shards", type=int, default=8, help="of each voice")
    parser.add_argument("--threads", type=int, default=1)
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    write(asked.data, asked.run, asked.shards)


if __name__ == "__main__":
    main()
