"""Graphs change only with their version, so that gigabytes of converted models are rewritten only if they must be."""

from __future__ import annotations

import json

import pytest

pytest.importorskip("torch")

from dual_ar_graphs import KNOWN, alike, written
from saywell.models.dual_ar.graphs import build


def test_graphs_change_only_with_their_version() -> None:
    known, found = json.loads(KNOWN.read_text(encoding="utf-8")), written()
    rule = (
        "raise VERSION in build.py, so that graphs of models are written again, and FORMAT in convert.py if older "
        "graphs can no longer be run; then run python tests/dual_ar_graphs.py"
    )
    changed = [
        name for name in known["graphs"].keys() | found.keys() if not alike(known["graphs"].get(name), found.get(name))
    ]
    assert not changed, f"graphs differ in {', '.join(sorted(changed))}: {rule}"
    assert known["version"] == build.VERSION, f"the version differs: {rule}"
