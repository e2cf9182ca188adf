"""The proof of the search: measured against all there is, and against a wrong rule, on engines of known pace."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from machines import PLAIN
from paths import TESTS
from plans import TINY
from saywell.bench import tune_check
from saywell.bench.tune_check import Setup
from saywell.tune.search import Judge

TWO_CORES = replace(PLAIN, cpu=replace(PLAIN.cpu, physical=2, logical=2, performance=2))


@pytest.mark.slow  # every combination of choices is timed
@pytest.mark.timeout(300)
def test_the_fastest_of_all_is_found_from_a_right_rule_and_a_wrong_one(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """One thread is eight times as fast as the two of the rules, and of the wrong word about the model."""
    monkeypatch.setenv("PYTHONPATH", str(TESTS), prepend=os.pathsep)
    wishes = {"slots": 2, "chunk_frames": 8}
    setup = Setup(
        wishes, TWO_CORES, replace(TINY, family="tiny_ar.paced"), seconds=10.0, rounds=1, judge=Judge(first_s=5.0)
    )
    result = tune_check.check(setup, tmp_path / "all.png")
    duel = result["duel"]
    assert result["met"]
    assert "threads=2" in duel["the rules' plan"]["plan"]
    assert "threads=2" in duel["a wrong rule's plan"]["plan"]
    for name in ("best of all", "found", "found from it"):
        assert "threads=1" in duel[name]["plan"]
    assert duel["found"]["rtf"] < 0.5 * duel["the rules' plan"]["rtf"]
    assert {row["values"]["threads"] for row in result["every"]} == {1, 2}
    assert (tmp_path / "all.png").read_bytes().startswith(b"\x89PNG")
