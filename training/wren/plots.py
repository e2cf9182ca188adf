"""Draw how training went.

python -m training.wren.plots --run RUN --out training/wren/curves.png
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import matplotlib as mpl

PANELS = {
    "spectrum": "spectrum (nepers)",
    "cepstrum": "cepstrum (deviations)",
    "pitch": "log F0 (deviations)",
    "length": "lengths (log, Huber)",
    "voicing": "voicing (cross entropy)",
    "strength": "strengths (deviations)",
}


def draw(log: Path, out: Path) -> None:
    """A panel for each loss over minutes of computing: training, and validation with averaged weights."""
    mpl.use("Agg")
    from matplotlib import pyplot as plt

    entries = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]
    minutes = [entry["seconds"] / 60 for entry in entries]
    figure, axes = plt.subplots(2, 3, figsize=(10, 5), layout="constrained")
    for axis, (name, title) in zip(axes.flat, PANELS.items(), strict=True):
        axis.plot(minutes, [entry["train"][name] for entry in entries], lw=0.8, alpha=0.6, label="training")
        axis.plot(minutes, [entry["valid"][name] for entry in entries], lw=1.2, label="validation")
        axis.set(title=title, yscale="log", xlabel="minutes on one core")
        axis.grid(alpha=0.3)
    axes.flat[0].legend()
    figure.savefig(out, dpi=80)
    plt.close(figure)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    asked = parser.parse_args()
    draw(asked.run / "log.jsonl", asked.out)


if __name__ == "__main__":
    main()
