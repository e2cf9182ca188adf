"""Written to spoken: everyday texts read right, by kind, next to other normalisers on the same texts in the same run.

    python -m benchmarks.words [--json FILE]
    python -m benchmarks.words --heard 60   texts spoken by the default voice and written down by Whisper
    python -m benchmarks.words --abroad     other languages: kitten-text-processing and what eSpeak reads by itself
    python -m benchmarks.words --readmes    descriptions of the installed packages: markup that is spoken

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
ABROAD = Path(__file__).parent / "data" / "abroad.tsv"
READINGS = CASES.with_name("readings.tsv")
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


def heard(count: int) -> None:
    """Sentences among the texts, spoken, heard, and compared by sound: Whisper writes 5 km, and Sweet for Suite."""
    import saywell
    from benchmarks.hearing import hear
    from saywell.models.base import phones_of

    written = [text for _, text, _ in load()] + [
        line.split("\t")[1] for line in READINGS.read_text(encoding="utf-8").splitlines()[::7]
    ]
    chosen = [text for text in written if len(text.split()) > 3 and "\\n" not in text and "\n" not in text][:count]
    pairs, transcripts = [], list[str]()
    with saywell.open() as tts:
        for text in track(chosen, "spoken and heard", console=Console(stderr=True), transient=True):
            audio = tts.say(text)
            transcripts.append(hear(audio.samples, audio.sample_rate))
            pairs.append((normalise(text, "en-US"), normalise(transcripts[-1], "en-US")))
        sounds = phones_of(tts.spec, None, [each.lower() for pair in pairs for each in pair])
    sounds = [re.sub(r"[^\w]|[ˈˌ]", "", sound) for sound in sounds]
    table = Table("text", "heard")
    for at, (text, (_, transcript)) in enumerate(zip(chosen, pairs, strict=True)):
        if sounds[2 * at] != sounds[2 * at + 1] and _bare(text) != _bare(transcripts[at]):
            table.add_row(text, transcript)
    Console().print(table)
    Console().print(f"{len(chosen) - table.row_count} of {len(chosen)} heard as read")


def _bare(text: str) -> str:
    """Letters and digits: Whisper may write a text as it was written."""
    return re.sub(r"[\W_]", "", text.lower())


def abroad() -> None:
    """Right by the phones that eSpeak makes of a text, as it is and from kitten-text-processing."""
    from saywell.models.espeak.binding import phonemes

    def sound(text: str, language: str) -> str:
        return re.sub(r"[ˈˌː| .‍^]", "", phonemes([text], language)[0])

    rows = [line.split("\t") for line in ABROAD.read_text(encoding="utf-8").splitlines()]
    table = Table("language", "texts", "eSpeak alone", "kitten-text-processing", "its ms per text", "its errors")
    for language in dict.fromkeys(row[0] for row in rows):
        cases = [row[1:] for row in rows if row[0] == language]
        alone = other = failed = 0
        times = []
        for text, spoken in cases:
            wanted = sound(normalise(spoken, language), language)
            alone += sound(normalise(text, language), language) == wanted
            began = time.perf_counter()
            try:
                from kitten_text_processing import normalize_text

                other += sound(normalize_text(text, language), language) == wanted
            except Exception:  # noqa: BLE001 - counted
                failed += 1
            times.append(1000 * (time.perf_counter() - began))
        table.add_row(language, *map(str, (len(cases), alone, other)), f"{median(times):.0f}", str(failed))
    Console().print(table)


_LEFT = re.compile(r"[*#|`<>{}\\^_~]|\[|\]|\b(?:asterisk|backtick|pipe|href|img|src|span|div)\b")


def readmes() -> None:
    """What is left of the markup of package descriptions."""
    from importlib.metadata import distributions

    table = Table("package", "characters", "left")
    for package in distributions():
        text = (package.read_text("METADATA") or "").partition("\n\n")[2]
        if len(text) < 2000:
            continue
        left = Counter(_LEFT.findall(normalise(text)))
        found = " ".join(f"{sign} {count}" for sign, count in left.most_common(6))
        table.add_row(package.metadata["Name"], str(len(text)), found)
    Console().print(table)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--heard", type=int, metavar="N")
    parser.add_argument("--abroad", action="store_true")
    parser.add_argument("--readmes", action="store_true")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    options = parser.parse_args()
    if options.heard or options.abroad or options.readmes:
        heard(options.heard) if options.heard else abroad() if options.abroad else readmes()
        return
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
