"""Detection of loops and runaway generation from the tokens alone, while a sequence runs."""

from __future__ import annotations

from saywell.models.chatterbox.t3.config import T3Config
from saywell.models.loops import Loops
from saywell.types import FinishReason

LOOP_FRAMES = 100
"""Tokens that repeat exactly for so long are a loop: 4 s, because a pause may repeat its one token for a while."""
LEAST = 100
"""Tokens of speech allowed for any text."""
PER_TOKEN = {"llama": 10, "gpt2": 25}
"""And for each token of the text: English speech has up to 2.5, GPT-2's longer pieces of words have 16 at most."""
PER_TAG = 100
"""And for each tag, such as a laugh."""


def limit(config: T3Config, text: int, tags: int = 0) -> int:
    """Speech tokens after which the generation of `text` tokens, `tags` of them sounds, is a runaway."""
    return min(config.max_frames, LEAST + PER_TOKEN[config.kind] * text + PER_TAG * tags)


class Guard:
    """Watches the tokens of one sequence."""

    def __init__(self, limit: int) -> None:
        self._limit, self._loops = limit, Loops(LOOP_FRAMES)

    def add(self, token: int) -> FinishReason | None:
        """Why the sequence must end after this token; None if it may continue."""
        loops = self._loops.add(token.to_bytes(8, "little"))
        if self._loops.count >= self._limit:
            return "length"
        return "loop" if loops else None
