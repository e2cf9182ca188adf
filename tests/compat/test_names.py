"""Names that other engines have for settings and plans."""

from __future__ import annotations

from pathlib import Path

import pytest

from machines import AUTOREGRESSIVE, FIRST, machine
from saywell.errors import PlanError
from saywell.plan.plan import make_plan
from saywell.settings import Settings, field_names, load_settings
from saywell_compat.configuration import strategy
from saywell_compat.variables import VARIABLES

YES, NO = ("true", "1", "yes", "on", "Yes", "ON"), ("false", "0", "no", "off", "No")


def load(**environ: str) -> Settings:
    return load_settings(environ={"SAYWELL_CONFIG": ""} | environ, variables=VARIABLES)


def test_old_names_are_read_only_when_asked() -> None:
    environ = {"DEVICE": "cpu", "S1_MINI_REQUEST_TIMEOUT": "60", "SAYWELL_CONFIG": ""}
    assert load_settings(environ=environ) == Settings()
    found = load(DEVICE="cpu", S1_MINI_REQUEST_TIMEOUT="60")
    assert (found.device, found.timeout_s) == ("cpu", 60.0)
    assert found.origin("timeout_s") == "S1_MINI_REQUEST_TIMEOUT"


@pytest.mark.parametrize(
    ("variable", "text", "field", "value"),
    [
        ("S1_MINI_CHECKPOINT_PATH", "checkpoints/x", "model_path", Path("checkpoints/x")),
        ("S1_MINI_DEVICE", "cuda", "device", "cuda"),
        ("S1_MINI_PRECISION", "float16", "precision", "fp16"),
        ("S1_MINI_PRECISION", "bfloat16", "precision", "bf16"),
        ("S1_MINI_COMPILE", "false", "compile", "disabled"),
        ("S1_MINI_COMPILE", "true", "compile", None),
        ("S1_MINI_COMPILE_BACKEND", "eager", "compile", "eager"),
        ("S1_MINI_COMPILE_BACKEND", "auto", "compile", None),
        ("MODEL_DIR", "m", "model_path", Path("m")),
        ("DEVICE", "auto", "device", None),
        ("MIXED_PRECISION", "fp16", "precision", "fp16"),
        ("ENABLE_TORCH_COMPILE", "True", "compile", "inductor"),
        ("USE_ONNX", "true", "executor", "onnx"),
        *(("S1_MINI_COMPILE", yes, "compile", None) for yes in YES),
        *(("S1_MINI_COMPILE", no, "compile", "disabled") for no in NO),
        *(("ENABLE_TORCH_COMPILE", yes, "compile", "inductor") for yes in YES),
        *(("ENABLE_TORCH_COMPILE", no, "compile", "disabled") for no in NO),
        *(("USE_ONNX", yes, "executor", "onnx") for yes in YES),
        *(("USE_ONNX", no, "executor", "torch") for no in NO),
        ("USE_ONNX", "auto", "executor", None),
        ("MIXED_PRECISION", "no", "precision", "fp32"),
        ("MIXED_PRECISION", "yes", "precision", None),
        ("S1_MINI_DEVICE", "cuda:0", "device", "cuda"),
        ("DEVICE", "CUDA:0", "device", "cuda"),
        ("DEVICE", "cuda:1", "device", "cuda:1"),
        ("CACHE_LIMIT", "10", "cache_entries", 10),
        ("MAX_SEQ_LEN", "1024", "max_frames", 1024),
    ],
)
def test_old_names(variable: str, text: str, field: str, value: object) -> None:
    assert getattr(load(**{variable: text}), field) == value


@pytest.mark.parametrize("variable", ["S1_MINI_COMPILE", "ENABLE_TORCH_COMPILE", "USE_ONNX"])
def test_an_invalid_boolean_variable_is_rejected_with_a_message(variable: str) -> None:
    with pytest.raises(PlanError, match=f"{variable} must be true, 1, yes, on or false, 0, no, off, not 'maybe'"):
        load(**{variable: "maybe"})


def test_switching_compilation_off_wins_over_its_backend() -> None:
    assert load(S1_MINI_COMPILE="false", S1_MINI_COMPILE_BACKEND="inductor").compile == "disabled"
    assert load(S1_MINI_COMPILE="true", S1_MINI_COMPILE_BACKEND="eager").compile == "eager"


def test_new_names_win_over_old_ones() -> None:
    assert load(DEVICE="cuda", SAYWELL_DEVICE="cpu").device == "cpu"


def test_variables_map_to_existing_settings() -> None:
    assert {field for field, _ in VARIABLES.values()} <= set(field_names())
    with pytest.raises(PlanError, match="S1_MINI_DEVICE"):
        load(S1_MINI_DEVICE="tpu")


def test_no_text_is_more_than_a_refused_setting() -> None:
    for variable in VARIABLES:
        for word in (
            " ",
            "-1",
            "9" * 5000,
            "1e999",
            "nan",
            "[bold]%s{}$HOME\n",
            "~nobody-of-this-name/x",
            "\udcff.wav",
        ):
            try:
                load(**{variable: word})
            except PlanError as error:
                assert error.param == VARIABLES[variable][0]  # noqa: PT017 - many are good values


# -- strategies

STRATEGIES = {
    "i5-1334u-8gb": "i5_onnx_thermal",
    "i5-1235u-16gb": "i5_onnx_thermal",
    "i3-4005u-4gb": "low_end_conservative",
    "i5-6200u-8gb": "low_end_conservative",
    "i7-8550u-16gb": "high_end_onnx_thermal",
    "i9-14900k-rtx-5070-ti": "gpu_optimized",
    "rtx-3060-without-torch": "high_end_onnx",
    "rtx-4060-ryzen-5-5600": "gpu_optimized",
    "rtx-4090-desktop": "gpu_optimized",
    "gtx-1060-i7-7700": "i5_onnx",
    "t4-g4dn-xlarge": "gpu_optimized",
    "a100-a2-highgpu-1g": "gpu_optimized",
    "h200-container-16cpu-128gb": "gpu_optimized",
    "ryzen-5-5500u-8gb": "ryzen_5_onnx_thermal",
    "ryzen-7-7840u-32gb": "high_end_onnx_thermal",
    "m1-air-8gb": "m1_air_thermal_aware",
    "m1-pro-16gb-torch": "m1_pro_sustained",
    "m3-24gb-torch": "m3_sustained",
    "raspberry-pi-5-8gb": "arm_board_conservative",
    "graviton3-c7g-2xlarge": "arm_server_onnx",
    "snapdragon-x-elite-16gb": "arm_laptop_onnx_thermal",
    "container-2cpu-4gb-on-64-cores": "server_onnx",
}


@pytest.mark.parametrize("name", STRATEGIES)
def test_strategies_are_named_after_the_machine(name: str) -> None:
    hardware = machine(name)
    assert strategy(make_plan(Settings(), hardware, AUTOREGRESSIVE), hardware) == STRATEGIES[name]


def test_the_strategy_names_the_cpu_if_the_model_runs_on_it_despite_a_gpu() -> None:
    hardware = machine("rtx-4090-desktop")
    assert strategy(make_plan(Settings(), hardware, FIRST), hardware) == "high_end_onnx"


@pytest.mark.parametrize("setting", [{"thermal": False}, {"adapt": False}])
def test_a_strategy_is_thermal_only_where_heat_is_answered(setting: dict[str, bool]) -> None:
    hardware = machine("i5-1334u-8gb")
    assert strategy(make_plan(Settings(**setting), hardware, AUTOREGRESSIVE), hardware) == "i5_onnx"
