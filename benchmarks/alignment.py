"""Which sentences of a long text were skipped or repeated, by aligning its transcript with the text."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from rapidfuzz.distance import Levenshtein

from benchmarks.held_out import words

SKIPPED = 0.25
"""A sentence is skipped if less than this share of its words was heard in place."""
REPEATED = 0.5
"""A sentence is repeated if at least this share of its words was heard again in or next to it."""


@dataclass(slots=True, eq=False)
class Heard:
    """One sentence of the text and what was heard in its place."""

    text: str
    words: list[str]
    matched: int = 0
    """Words heard in their place."""
    added: list[str] = field(default_factory=list)
    """Other words heard there."""

    @property
    def share(self) -> float:
        return self.matched / max(1, len(self.words))


@dataclass(frozen=True, slots=True)
class Alignment:
    """Positions of skipped and repeated sentences, and the share of all words that was heard."""

    skipped: tuple[int, ...]
    repeated: tuple[int, ...]
    matched: float


def align(sentences: Sequence[str], heard: str) -> Alignment:
    """Align the transcript of a whole recording with the sentences it should say."""
    rows = _rows(sentences, words(heard))
    spoken = sum(len(row.words) for row in rows)
    return Alignment(
        skipped=tuple(at for at, row in enumerate(rows) if row.words and row.share < SKIPPED),
        repeated=tuple(at for at in range(len(rows)) if _twice(rows, at)),
        matched=sum(row.matched for row in rows) / max(1, spoken),
    )


def _rows(sentences: Sequence[str], heard: list[str]) -> list[Heard]:
    rows = [Heard(text, words(text)) for text in sentences]
    asked = [word for row in rows for word in row.words]
    owner = [at for at, row in enumerate(rows) for _ in row.words]
    for step in Levenshtein.opcodes(asked, heard):
        begin, said = step.src_start, heard[step.dest_start : step.dest_end]
        if step.tag == "equal":
            for at in range(begin, step.src_end):
                rows[owner[at]].matched += 1
        elif step.tag == "insert":
            rows[owner[min(begin, len(owner) - 1)]].added += said
        elif step.tag == "replace":
            for at, word in enumerate(said, begin):
                rows[owner[at]].added.append(word)
    return rows


def _twice(rows: Sequence[Heard], at: int) -> bool:
    """Whether extra words in and around a sentence, substitutions included, repeat it."""
    row = rows[at]
    if row.share < SKIPPED:
        return False
    near = Counter(word for each in rows[max(0, at - 1) : at + 2] for word in each.added)
    again = (near & Counter(row.words)).total()
    return again >= max(3, REPEATED * len(row.words))
