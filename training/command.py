"""The command line every training has in common."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import torch


def run(about: str | None, train: Callable[[Path, Path, float, float], Path], cool: float) -> None:
    """Train in `--run` on `--data` for `--minutes`; `cool`: share of them, at the end, in which the rate falls."""
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--run", type=Path, required=True)
    parser.add_argument("--minutes", type=float, required=True)
    parser.add_argument("--cool", type=float, default=cool)
    parser.add_argument("--threads", type=int, default=1)
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    train(asked.data, asked.run, asked.minutes, asked.cool)
