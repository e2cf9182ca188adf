"""`benchmarks.serve`: its requests, its verdict, and one small run in a real limit."""

from __future__ import annotations

import json
from collections import Counter

import pytest

from benchmarks import mixture, serve
from benchmarks.mixture import FORMATS, LONGEST, Mixture, asks


def test_mixture_is_reproducible_and_complete() -> None:
    requests = Mixture(requests=200, clients=8, frames=40)
    sent = list(asks(requests))
    assert sent == list(asks(requests))
    spoken = [ask for ask in sent if not ask.refused]
    assert {ask.body["response_format"] for ask in spoken} == set(FORMATS)
    assert all(ask.body["max_frames"] == 40 for ask in spoken)
    lengths = [len(ask.body["input"]) for ask in spoken]
    assert min(lengths) < 20
    assert LONGEST * 0.8 < max(lengths) <= LONGEST
    kinds = Counter("refused" if ask.refused else "left" if ask.leaves else "whole" for ask in sent)
    assert min(kinds.values()) >= 5
    assert kinds["whole"] > 150
    assert any(ask.body.get("stream_format") == "sse" for ask in spoken)


ROW = {"limit_mb": 1024, "refused": "", "outcomes": {"ok": 9, "left": 1}, "ratio": 1.1, "kills": 0}


@pytest.mark.parametrize(
    ("change", "good"),
    [
        ({}, True),
        ({"ratio": 0.94}, False),
        ({"ratio": 1.26}, False),
        ({"ratio": None}, False),
        ({"kills": 1}, False),
        ({"outcomes": {"ok": 9, "failed": 1}}, False),
        ({"outcomes": {"ok": 9, "refused for now": 1}}, True),
    ],
)
def test_the_verdict(change: dict[str, object], good: bool) -> None:
    assert serve.held_well([{**ROW, "limit_mb": None, "ratio": 0.1}, {**ROW, **change}]) is good


def test_limit_refused_by_the_plan_does_not_count() -> None:
    refused = {"limit_mb": 1024, "refused": "too little", "kills": 0}
    assert serve.held_well([refused, ROW])
    assert not serve.held_well([refused])
    assert not serve.held_well([{**refused, "kills": 1}, ROW])


@pytest.mark.timeout(300)
def test_a_run_under_a_limit(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mixture, "LONGEST", 300)
    serve.main(["overhead", "memory", "--limits", "512", "--requests", "6", "--clients", "2"])
    result = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert {row["format"] for row in result["overhead"]} == {"wav", "mp3", "opus"}
    assert all(0 < row["median_ms"] <= row["p99_ms"] for row in result["overhead"])
    free, limited = result["memory"]
    assert (free["limit_mb"], limited["limit_mb"], limited["kills"]) == (None, 512, 0)
    assert sum(limited["outcomes"].values()) == 6
    assert not limited["outcomes"].get("failed")
    assert 30 < limited["engine_mb"] < limited["service_mb"] < 512
    assert 0.5 < limited["ratio"] < 2
    assert result["met"].keys() == {"overhead", "memory"}
