"""The plots of the DualAR benchmark, from made-up results."""

from __future__ import annotations

from pathlib import Path

from saywell.bench import dual_ar_plots as plots


def row(**key: int) -> dict[str, object]:
    return {**key, "prefill": 0.02, "ar": 0.9, "codec": 0.2, "rest": 0.01, "first_s": 0.3, "peak_mb": {"rss": 1200}}


def test_a_picture_for_each_part(tmp_path: Path) -> None:
    whole = {"precision": "int8", "batch": [row(streams=n) for n in (1, 2)], "text": [row(chars=n) for n in (100, 300)]}
    drawn = plots.draw({"whole": whole}, tmp_path)
    assert [path.name for path in drawn] == ["dual-ar-int8-batch.png", "dual-ar-int8-text.png"]
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in drawn)
