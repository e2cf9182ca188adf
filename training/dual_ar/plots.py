"""Draw how training went.

python -m training.dual_ar.plots --run RUN --out training/dual_ar/curves.png
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np

LOSSES = {
    "semantic": "semantic codes",
    "book 1": "source book",
    "book 2": "first filter book",
    "book 3": "second filter book",
}
CODEC = {"decoder": ("log", "decoder: spectrum (nepers)"), "encoder": ("semantic", "encoder: semantic codes (nats)")}
RATES = {"phones": "phones", "filter": "words, by source and filter", "codec": "words, by the codec"}


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.exists() else []


def draw(run: Path, out: Path) -> None:
    """Losses of the transformers, of the codec, and error rates, over minutes of computing."""
    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(2, 2, figsize=(10, 7), layout="constrained")
    entries = lines(run / "ar.jsonl")
    minutes = [entry["seconds"] / 60 for entry in entries]
    for name, title in LOSSES.items():
        (drawn,) = axes[0, 0].plot(
            minutes, [entry["valid"].get(name, np.nan) for entry in entries], lw=1.2, label=title
        )
        axes[0, 0].plot(
            minutes, [entry["train"].get(name, np.nan) for entry in entries], lw=0.6, alpha=0.5, color=drawn.get_color()
        )
    axes[0, 0].set(title="transformers (nats; pale: in training, damaged)")
    axes[0, 0].legend()
    for axis, (name, (loss, title)) in zip((axes[0, 1], axes[1, 0]), CODEC.items(), strict=True):
        entries = lines(run / f"{name}.jsonl")
        axis.plot([entry["seconds"] / 60 for entry in entries], [entry["train"][loss] for entry in entries], lw=0.8)
        axis.set(title=title, yscale="log")
    entries = lines(run / "curve.jsonl")
    for name, title in RATES.items():
        axes[1, 1].plot([entry["ar"] / 60 for entry in entries], [entry[name] for entry in entries], "o-", label=title)
    axes[1, 1].set(title="errors on held-out sentences", ylim=(0, None))
    if entries:
        axes[1, 1].legend()
    for axis in axes.flat:
        axis.set(xlabel="minutes on one core")
        axis.grid(alpha=0.3)
    figure.savefig(out, dpi=80)
    plt.close(figure)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    asked = parser.parse_args()
    draw(asked.run, asked.out)


if __name__ == "__main__":
    main()
