"""Which sentences a voice may be trained on: never those the meter is read from (see `saywell.bench.held_out`)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from saywell.bench.held_out import Part, part


def only(wanted: Part, texts: Iterable[str]) -> Iterator[str]:
    """Those of `texts` that belong to one part: "train", "valid" or "test"."""
    return (text for text in texts if part(text) == wanted)
