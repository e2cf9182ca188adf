"""Written to spoken: everyday texts read right, by kind, next to other normalisers on the same texts in the same run.

    python -m benchmarks.words [--json FILE]

Texts with their right readings are in `tests/text/everyday.jsonl`; compared without case, punctuation, hyphens, the
word "and" and the spelling of metre. `kitten-text-processing` and `num2words` are compared if they are installed.
"""

from __future__ import annotations

import argparse
import json
import re
import time
from collections import Counter
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from statistics import median

from rich.console import Console
from rich.progress import track
from rich.table import Table

from saywell.text.normalise import normalise

CASES = Path(__file__).parents[1] / "tests" / "text" / "everyday.jsonl"
Normaliser = Callable[[str], str]


def key(spoken: str) -> list[str]:
    """What is compared of a reading."""
    spoken = re.sub(r"(?<=met)re", "er", spoken.lower()).replace("-", " ")
    return [word for word in re.sub(r"[^\w\s']", " ", spoken).split() if word != "and"]


def load() -> list[tuple[str, str, list[str]]]:
    """(kind, text, right readings)."""
    rows = [json.loads(line) for line in CASES.read_text(encoding="utf-8").splitlines()]
    return [(row["kind"], row["text"], row["spoken"]) for row in rows]


def normalisers() -> dict[str, Normaliser]:
    """Those installed, Saywell's first."""
    found: dict[str, Normaliser] = {"saywell": normalise, "num2words on digits": _digits_only}
    if find_spec("kitten_text_processing"):
        from kitten_text_processing import normalize_text, warm

        warm()
        found["kitten-text-processing"] = normalize_text
    return found


def _digits_only(text: str) -> str:
    """What most servers do: each number through num2words."""
    from num2words import num2words

    return re.sub(r"\d+(?:\.\d+)?", lambda found: str(num2words(found[0])), text)


def measure(normaliser: Normaliser, cases: list[tuple[str, str, list[str]]], name: str) -> tuple[Counter[str], float]:
    """Readings that are right, by kind, and the median milliseconds per text."""
    normaliser("On 3 May 2021 it was $5.")
    right: Counter[str] = Counter()
    times = []
    for kind, text, spoken in track(cases, name, console=Console(stderr=True), transient=True):
        began = time.perf_counter()
        found = normaliser(text)
        times.append(1000 * (time.perf_counter() - began))
        right[kind] += key(found) in [key(each) for each in spoken]
    return right, median(times)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    options = parser.parse_args()
    cases = load()
    results = {name: measure(each, cases, name) for name, each in normalisers().items()}
    table = Table("kind", "texts", *results)
    for kind, count in Counter(kind for kind, _, _ in cases).items():
        table.add_row(kind, str(count), *(str(right[kind]) for right, _ in results.values()))
    table.add_section()
    table.add_row("all", str(len(cases)), *(str(sum(right.values())) for right, _ in results.values()))
    table.add_row("ms per text", "", *(f"{ms:.2f}" for _, ms in results.values()))
    Console().print(table)
    if options.json:
        figures = {name: {"right": dict(right), "ms": ms} for name, (right, ms) in results.items()}
        options.json.write_text(json.dumps({"texts": len(cases), **figures}, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
