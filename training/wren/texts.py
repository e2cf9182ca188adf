"""Text to speak: sentences of a machine's documentation and of a grammar, with other words put in; lists of words.

    python -m training.wren.texts --out DATA/texts.txt /usr/share/man /usr/share/doc ...

Held-out sentences never get in (training.split).
"""

from __future__ import annotations

import argparse
import gzip
import html
import random
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from training.split import only
from training.wren import plain

SUFFIXES = {".gz", ".md", ".rst", ".txt", ".html", ".py"}
FORMAT = re.compile(r"<[^>]*>|^[.'\\].*$|\\f.|\\[&%|^]|\\-|``?|\*\*?|\[\d+\]", re.MULTILINE)
SENTENCE = re.compile(r"(?<![\w.])[A-Z][a-z']*(?:[ ,;:]+[A-Za-z'-]+|\s\d{1,4}){2,24}[.?!](?=\s)")
ODD = re.compile(r"[^\x20-\x7e]|(?:\b[A-Za-z]\b.*){4}|[A-Z]{3}|[a-z][A-Z]|\b[b-hj-z]\b")
DICTIONARY = Path("/usr/share/dict/words")
BYTES_OF_A_FILE = 400_000


def prose(path: Path) -> str:
    """The text of a manual page, a document or a module, without its markup; empty for what is none."""
    raw = path.read_bytes()[:BYTES_OF_A_FILE]
    if path.suffix == ".gz":
        try:
            with gzip.open(path) as stream:
                raw = stream.read(BYTES_OF_A_FILE)
        except (OSError, EOFError):
            return ""
    return re.sub(r"\s+", " ", html.unescape(FORMAT.sub(" ", raw.decode("utf-8", "ignore"))))


def sentences(text: str) -> Iterator[str]:
    for match in SENTENCE.finditer(text):
        sentence = re.sub(r"\s+([,;:.?!])", r"\1", match.group())
        if not ODD.search(sentence) and 12 <= len(sentence) <= 180:
            yield sentence


def documents(roots: Iterable[Path], rng: random.Random, limit: int) -> list[str]:
    """Distinct sentences of the files under `roots`, at most 40 of one file."""
    paths = [path for root in roots for path in root.rglob("*") if path.suffix in SUFFIXES and path.is_file()]
    rng.shuffle(paths)
    found: dict[str, None] = {}
    for path in paths:
        here = list(dict.fromkeys(sentences(prose(path))))
        found.update(dict.fromkeys(rng.sample(here, min(40, len(here)))))
        if len(found) >= limit:
            break
    return list(found)


def dictionary() -> list[str]:
    words = DICTIONARY.read_text(encoding="utf-8").split()
    return [
        word
        for place, word in enumerate(words)
        if re.fullmatch(r"[A-Za-z][a-z]{1,13}" + "(?:'s)?" * (place % 16 == 0), word)
    ]


def mixed(base: list[str], words: list[str], rng: random.Random) -> str:
    """One text: a sentence, one with other words in it, a list of words, a short phrase, or two sentences."""
    kind = rng.random()
    sentence = plain.sentence(rng) if rng.random() < 0.35 else rng.choice(base)
    if kind < 0.3:
        return sentence
    if kind < 0.6:
        parts = sentence.split(" ")
        return " ".join(
            re.sub(r"[A-Za-z']{4,}", rng.choice(words), part) if rng.random() < 0.35 else part for part in parts
        )
    if kind < 0.8:
        few = [
            rng.choice(words) + rng.choice(["", "", "", "", ",", " and", " of the", " in", " was"])
            for _ in range(rng.randint(4, 12))
        ]
        return " ".join(few).capitalize().rstrip(",") + rng.choice("...?!,")
    if kind < 0.88:
        start = rng.randrange(max(1, len(sentence.split()) - 4))
        return " ".join(sentence.split()[start : start + rng.randint(1, 4)])
    if kind < 0.92:
        return f"{sentence[:-1]}, {rng.randint(0, 99999)} {rng.choice(words)}."
    if kind < 0.95:
        return sentence[:-1] + rng.choice("?!")
    return f"{sentence} {rng.choice(base)}"


def write(out: Path, roots: Iterable[Path], sentences: int, count: int, seed: int) -> int:
    """Write at most `count` distinct texts of at most `sentences` sentences; how many they are."""
    rng = random.Random(seed)
    base, words = documents(roots, rng, sentences), dictionary()
    texts = list(dict.fromkeys(only("train", (mixed(base, words, rng) for _ in range(count)))))
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text("\n".join(texts) + "\n", encoding="ascii")
    return len(texts)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("roots", nargs="+", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--sentences", type=int, default=40_000)
    parser.add_argument("--texts", type=int, default=40_000)
    parser.add_argument("--seed", type=int, default=1)
    asked = parser.parse_args()
    count = write(asked.out, asked.roots, asked.sentences, asked.texts, asked.seed)
    print(f"{count} texts in {asked.out}")


if __name__ == "__main__":
    main()
