"""The DualAR benchmark: goals, joined pieces and plots from made-up results; one real run, tiny."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from conversion import convert_here
from saywell.bench import dual_ar, dual_ar_ceiling, dual_ar_goals
from saywell.bench import dual_ar_plots as plots
from saywell.bench import dual_ar_report as report
from saywell.errors import InvalidRequest
from saywell.models.dual_ar.config import CodecConfig, Config
from saywell.models.dual_ar.convert import fixture


def row(**key: int) -> dict[str, object]:
    return {**key, "prefill": 0.02, "ar": 0.9, "codec": 0.2, "rest": 0.01, "first_s": 0.3, "peak_mb": {"rss": 1200}}


TOP = {"slow_ms": 10.0, "fast_ms": 9.0, "one": 0.5, "streams": 0.1, "convolutions": "int8", "executor": "onnx"}


def found(precision: str, **more: Any) -> dict[str, Any]:
    row = {"precision": precision, "ceiling": TOP, **more}
    return {"machine": {"cpus": 2}, "rates": {"gb_per_s": 20.0}, "precisions": [row]}


def test_a_picture_for_each_part(tmp_path: Path) -> None:
    steps = {"slow_ms": 12.0, "frame_ms": 24.0}
    transformers = {
        "context": [{"context": n, **steps} for n in (128, 512)],
        "batch": [{"batch": n, **steps} for n in (1, 2)],
    }
    parts = {"batch": [row(streams=n) for n in (1, 2)], "text": [row(chars=n) for n in (100, 300)]}
    drawn = plots.draw(found("int8", transformers=transformers, **parts), tmp_path)
    assert [path.name for path in drawn] == ["dual-ar-steps.png", "dual-ar-int8-batch.png", "dual-ar-int8-text.png"]
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in drawn)


def test_one_precision_in_real_time_is_enough_and_the_roofline_wants_both() -> None:
    pieces = [
        found("int8", one={"rtf": 1.2}, streams={"rtf": 0.3}, transformers={"roofline": {"slow_ms": 0.75}}),
        found("int4", one={"rtf": 0.9}, streams={"rtf": 0.3}, transformers={"roofline": {"slow_ms": 0.5}}),
    ]
    goals = {}
    for each in dual_ar_goals.reached(report.join(pieces)):
        goals[each["name"]] = each
    assert goals.keys() == {"roofline", "one", "streams"}
    assert goals["one"]["met"]
    assert goals["one"]["measured"] == {"int8": 1.2, "int4": 0.9}
    assert goals["one"]["ceiling"] == {"int8": 0.5, "int4": 0.5}
    assert not goals["roofline"]["met"]
    assert goals["roofline"]["goal"] == {"int8": 0.7, "int4": 0.6}
    assert goals["streams"]["met"]
    assert goals["streams"]["measured"]["int8"] == 4.0


def test_the_codec_is_judged_by_the_way_the_plan_convolves() -> None:
    took = {"executor": "onnx", "snr_db": 19.0}
    decoder = [
        {**took, "convolutions": "fp32", "s_per_audio_s": {"whole": 1.0, "16": 1.0}},
        {**took, "convolutions": "int8", "s_per_audio_s": {"whole": 0.4, "16": 0.46}},
    ]
    goals = dual_ar_goals.reached({**found("int8"), "codec": decoder})
    assert [(goal["name"], goal["met"]) for goal in goals] == [("chunks", False), ("snr_db", True)]
    assert goals[0]["measured"] == {"int8": 1.15}


def test_ceilings_are_of_the_piece_that_found_the_most() -> None:
    slow = {**found("int8", ceiling={**TOP, "slow_ms": 30.0}), "rates": {"gb_per_s": 7.0}}
    joined = report.join([found("int8", one={"rtf": 1.2}), slow])
    assert joined["precisions"][0]["ceiling"]["slow_ms"] == 10.0
    assert joined["rates"]["gb_per_s"] == 20.0


def test_pieces_of_different_machines_are_not_joined() -> None:
    with pytest.raises(InvalidRequest, match="same machine"):
        report.join([found("int8"), {**found("int4"), "machine": {"cpus": 4}}])


def test_arithmetic_is_counted() -> None:
    """138 GFLOP of convolutions and about 8 of transformer and upsampling for a second of S1-mini; 440 million products
    in a slow step and 50 in each of ten fast ones."""
    assert 144 < dual_ar_ceiling.arithmetic(CodecConfig()) < 148
    assert 60 < dual_ar_ceiling.arithmetic(CodecConfig(), fewer=True) < 75
    assert 930e6 < dual_ar_ceiling.multiplications(Config.parse(fixture.FULL)) < 970e6


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    published = fixture.write(tmp_path_factory.mktemp("published"), config={"max_seq_len": 8192})
    return convert_here(published, tmp_path_factory.mktemp("model"))


@pytest.mark.timeout(300)
def test_a_run_in_pieces(
    tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dual_ar_ceiling, "rates", lambda threads, kinds: RATES)
    lines = []
    for section in ("transformers", "distance"):
        dual_ar.main([str(tiny), "--precision", "int8", "--threads", "1", "--section", section, "--quick"])
        shown = capsys.readouterr().out
        assert "GB/s" in shown.splitlines()[0]
        lines.append(shown.splitlines()[-1])
    files = [tmp_path / str(index) for index in range(2)]
    for file, line in zip(files, lines, strict=True):
        file.write_text(f"tables\n{line}\n", encoding="utf-8")
    dual_ar.main(["--join", *map(str, files), "--plots", str(tmp_path / "plots")])
    joined = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert {goal["name"] for goal in joined["goals"]} == {"roofline", "logits"}
    assert 0 < joined["precisions"][0]["distance"]["logits"] < 0.2
    assert [each["context"] for each in joined["precisions"][0]["transformers"]["context"]][-1] == 4096
    assert (tmp_path / "plots" / "dual-ar-steps.png").exists()


RATES = dual_ar_ceiling.Rates(1, 20.0, {"fp32": 80.0, "int8": 160.0, "bf16": 160.0})
