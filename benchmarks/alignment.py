"""Which sentences of a long text were left out, and which were said twice: by laying what was heard over the text."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from rapidfuzz.distance import Levenshtein

from saywell.bench.held_out import words

SKIPPED = 0.25
"""A sentence of which fewer words than this share were heard in their place was not said."""
REPEATED = 0.5
"""A sentence of which this share of words was heard a second time, right beside the first, was said twice."""


@dataclass(slots=True, eq=False)
class Heard:
    """One sentence of the text and what the recording has in its place."""

    text: str
    words: list[str]
    matched: int = 0
    """Words heard in their place."""
    added: list[str] = field(default_factory=list)
    """Words heard beyond them."""

    @property
    def share(self) -> float:
        return self.matched / max(1, len(self.words))


@dataclass(frozen=True, slots=True)
class Alignment:
    """The sentences that went wrong, as positions in the text, and the share of all words that were heard."""

    skipped: tuple[int, ...]
    repeated: tuple[int, ...]
    matched: float


def align(sentences: Sequence[str], heard: str) -> Alignment:
    """Lay the words of a whole recording over those of the text it should say."""
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
    """Whether the words added in and around a sentence, replaced ones among them, say it once more."""
    row = rows[at]
    if row.share < SKIPPED:
        return False
    near = Counter(word for each in rows[max(0, at - 1) : at + 2] for word in each.added)
    again = (near & Counter(row.words)).total()
    return again >= max(3, REPEATED * len(row.words))
