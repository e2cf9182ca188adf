"""Finds skipped and repeated sentences of a long text by aligning it with its transcript."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from rapidfuzz.distance import Levenshtein

from benchmarks.held_out import words

SKIPPED = 0.25
"""A sentence counts as skipped if a smaller share of its words was recognised in place."""
REPEATED = 0.5
"""A sentence counts as repeated if at least this share of its words was recognised again in or next to it."""


@dataclass(slots=True, eq=False)
class AlignedSentence:
    """One sentence of the text, and the words recognised in its place."""

    text: str
    words: list[str]
    matched: int = 0
    """Words recognised in their place."""
    added: list[str] = field(default_factory=list)
    """Other words recognised there."""

    @property
    def share(self) -> float:
        return self.matched / max(1, len(self.words))


@dataclass(frozen=True, slots=True)
class Alignment:
    """Positions of skipped and repeated sentences, and the share of all words that was recognised."""

    skipped: tuple[int, ...]
    repeated: tuple[int, ...]
    matched: float


def align(sentences: Sequence[str], heard: str) -> Alignment:
    """Align the transcript of a recording with the sentences that it should contain."""
    rows = _rows(sentences, words(heard))
    spoken = sum(len(row.words) for row in rows)
    return Alignment(
        skipped=tuple(index for index, row in enumerate(rows) if row.words and row.share < SKIPPED),
        repeated=tuple(index for index in range(len(rows)) if _is_repeated(rows, index)),
        matched=sum(row.matched for row in rows) / max(1, spoken),
    )


def _rows(sentences: Sequence[str], heard: list[str]) -> list[AlignedSentence]:
    rows = [AlignedSentence(text, words(text)) for text in sentences]
    expected = [word for row in rows for word in row.words]
    owner = [index for index, row in enumerate(rows) for _ in row.words]
    for step in Levenshtein.opcodes(expected, heard):
        begin, recognised = step.src_start, heard[step.dest_start : step.dest_end]
        if step.tag == "equal":
            for index in range(begin, step.src_end):
                rows[owner[index]].matched += 1
        elif step.tag == "insert":
            rows[owner[min(begin, len(owner) - 1)]].added += recognised
        elif step.tag == "replace":
            for index, word in enumerate(recognised, begin):
                rows[owner[index]].added.append(word)
    return rows


def _is_repeated(rows: Sequence[AlignedSentence], index: int) -> bool:
    """Whether inserted and substituted words in and around a sentence repeat it."""
    row = rows[index]
    if row.share < SKIPPED:
        return False
    near = Counter(word for neighbour in rows[max(0, index - 1) : index + 2] for word in neighbour.added)
    repeated = (near & Counter(row.words)).total()
    return repeated >= max(3, REPEATED * len(row.words))
