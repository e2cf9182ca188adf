"""The DualAR benchmark: goals and plots from invented results, and one real run with a tiny model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks import ceiling, dual_ar, random_checkpoint
from conversion import convert_here
from saywell.bench import plot
from saywell.models.dual_ar.config import CodecConfig, Config
from saywell.models.dual_ar.cost import bytes_read, multiplications, weights_read

TOP = {"slow_ms": 10.0, "fast_ms": 9.0, "one": 0.5, "streams": 0.1, "first_s": 0.05}


def grown(**key: int) -> dict[str, Any]:
    return {**key, "rtf": 1.13, "prefill": 0.02, "ar": 0.9, "codec": 0.2, "rest": 0.01}


def frame(share: float, context: int = 128, batch: int = 1) -> dict[str, Any]:
    return {"batch": batch, "context": context, "slow_ms": 12.0, "frame_ms": 24.0, "slow_share": share}


def goals(found: dict[str, Any], **more: Any) -> dict[tuple[str, str], dict[str, Any]]:
    whole = {"precisions": {name: {"ceiling": TOP, **row} for name, row in found.items()}, **more}
    return {(row["goal"], row["precision"]): row for row in dual_ar.goals(whole)}


def test_panel_for_each_growth(tmp_path: Path) -> None:
    row = {
        "ceiling": TOP,
        "transformers": [frame(0.7), frame(0.7, context=512), frame(0.7, batch=2)],
        "streams": [grown(streams=n) for n in (1, 2)],
        "text": [grown(chars=n) for n in (100, 300)],
    }
    drawn = dual_ar.panels({"precisions": {"int8": row}})
    assert [panel.title for panel in drawn] == [
        "int8, one sequence", "int8, a frame of a batch", *["int8: work per second of audio"] * 2,
    ]  # fmt: skip
    assert [each.under for each in drawn[2].series][1] == [0.02, 0.02]
    plot.draw(drawn, tmp_path / "all.png")
    assert (tmp_path / "all.png").read_bytes().startswith(b"\x89PNG")


def test_one_precision_in_real_time_is_enough_and_the_roofline_wants_both() -> None:
    found = goals({
        "int8": {"streams": [grown(streams=1) | {"rtf": 1.2}, grown(streams=8) | {"rtf": 0.3}],
                 "transformers": [frame(0.7), frame(0.75, context=512)]},
        "int4": {"streams": [grown(streams=1) | {"rtf": 0.9}, grown(streams=8) | {"rtf": 0.3}],
                 "transformers": [frame(0.5)]},
    })  # fmt: skip
    roofline = "slow step, share of the memory roofline"
    assert {name for name, _ in found} == {roofline, dual_ar.ONE, dual_ar.EIGHT}
    assert found[dual_ar.ONE, "int8"]["met"], "because int4 does"
    assert found[dual_ar.ONE, "int8"]["measured"] == 1.2
    assert found[dual_ar.ONE, "int8"]["ceiling"] == 0.5
    assert (found[roofline, "int8"]["met"], found[roofline, "int8"]["bound"]) == (True, "≥ 0.7")
    assert not found[roofline, "int4"]["met"]
    assert (found[dual_ar.EIGHT, "int8"]["measured"], found[dual_ar.EIGHT, "int4"]["met"]) == (4.0, True)


def test_the_codec_is_judged_by_the_way_the_plan_convolves() -> None:
    found = goals({}, codec=[{"conv_impl": "int8", "whole": 0.4, "16": 0.46, "snr_db": 19.0}])
    assert [(row["measured"], row["met"]) for row in found.values()] == [(1.15, False), (19.0, True)]


def test_arithmetic_is_counted() -> None:
    """138 GFLOP of convolutions and about 8 of transformer and upsampling for a second of S1-mini; 440 million products
    in a slow step and 50 in each of ten fast ones."""
    assert 144 < ceiling.arithmetic(CodecConfig()) < 148
    assert 60 < ceiling.arithmetic(CodecConfig(), winograd=True) < 75
    full = Config.parse(random_checkpoint.FULL)
    assert 930e6 < multiplications(full) < 970e6
    slow, fast = weights_read(full)
    assert 430e6 < slow < 450e6
    assert 440e6 < fast < 480e6
    assert bytes_read(full, "int8") == slow + fast == 2 * bytes_read(full, "int4") == bytes_read(full, "fp32") // 4


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    published = random_checkpoint.write(tmp_path_factory.mktemp("published"), config={"max_seq_len": 1024})
    return convert_here(published, tmp_path_factory.mktemp("model"))


@pytest.mark.timeout(300)
def test_a_run(tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    rates = ceiling.Rates(1, 20.0, {"fp32": 80.0, "int8": 160.0, "bf16": 160.0})
    monkeypatch.setattr(ceiling, "rates", lambda threads, kinds: rates)
    sections = [word for name in ("transformers", "prompts", "distance") for word in ("--section", name)]
    few = ["--precision", "int8", "--threads", "1", "--quick", "--frames", "8", "--plot", str(tmp_path / "all.png")]
    dual_ar.main([str(tiny), *few, *sections])
    *shown, line = capsys.readouterr().out.splitlines()
    assert any("gb per s" in each for each in shown)
    found = json.loads(line)
    row = found["precisions"]["int8"]
    goals = {goal["goal"] for goal in found["goals"]}
    assert goals == {"slow step, share of the memory roofline", "distance of the logits from fp32"}
    assert 0 < row["distance"][0]["logits"] < 0.2
    assert [each["context"] for each in row["transformers"]][:2] == [128, 512], "as far as the model has positions"
    assert [each["prompt"] for each in row["prompts"]] == [32, 128, 512]
    assert (tmp_path / "all.png").exists()
