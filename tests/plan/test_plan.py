"""The decision, its reasons, and what is refused."""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest

from machines import AUTOREGRESSIVE, ESPEAK, FIRST, MACHINES, S1_MINI, SPECS, goldens, kept, machine, only
from saywell.errors import PlanError
from saywell.machine import GIB, Device, Limits, Runtime
from saywell.plan.memory import variant_of
from saywell.plan.plan import Measurement, Plan, make_plan, shown
from saywell.plan.rules import PlanContext
from saywell.settings import Settings, load_settings
from saywell.types import ModelSpec

SERVER, LAPTOP, CONTAINER = "xeon-vm-2cpu-24gb", "i5-1334u-8gb", "container-2cpu-4gb-on-64-cores"
HYBRID = "i9-14900k-rtx-5070-ti"
GAMER, MAC, NO_TORCH = "rtx-4090-desktop", "m1-pro-16gb-torch", "rtx-3060-without-torch"


GIANT = replace(
    AUTOREGRESSIVE,
    variants=tuple(
        replace(variant, weight_bytes=8 << 30) if variant.precision == "fp32" else variant
        for variant in AUTOREGRESSIVE.variants
    ),
)


@pytest.mark.parametrize("name", [*(spec.name for spec in SPECS), "reasons"])
def test_plans_of_recorded_machines(name: str) -> None:
    """`python tests/machines.py` writes them again."""
    assert goldens()[name] == kept(name).read_text(encoding="utf-8")


PAIRS = [
    (file, spec)
    for file in MACHINES
    for spec in SPECS
    if spec is not AUTOREGRESSIVE or machine(file.stem).usable_memory > 2 * GIB  # else it has no plan
]


@pytest.mark.parametrize(("file", "spec"), PAIRS, ids=[f"{spec.name}-{file.stem}" for file, spec in PAIRS])
def test_every_field_has_one_reason_with_its_value(file: Path, spec: ModelSpec) -> None:
    plan = make_plan(Settings(), machine(file.stem), spec)
    names = [reason.field for reason in plan.reasons]
    assert sorted(names) == sorted({item.name for item in fields(Plan)} - {"reasons", "levels"})
    for reason in plan.reasons:
        assert reason.why
        assert reason.source == "rule"
        assert reason.value == shown(reason.field, getattr(plan, reason.field))


def test_the_same_facts_give_the_same_plan() -> None:
    assert make_plan(Settings(), machine(LAPTOP), AUTOREGRESSIVE) == make_plan(
        Settings(), machine(LAPTOP), AUTOREGRESSIVE
    )


def test_espeak_uses_one_process_a_cpu_within_bounds() -> None:
    assert [make_plan(Settings(), machine(name), ESPEAK).max_batch_size for name in (SERVER, CONTAINER, GAMER)] == [
        2,
        2,
        8,
    ]
    plan = make_plan(Settings(), machine(GAMER), ESPEAK)
    assert (plan.executor, plan.threads, str(plan.device), plan.max_queue) == ("process", 1, "cpu", 16)


def test_quota_is_rounded_down_to_at_least_one() -> None:
    for quota, threads in ((1.5, 1), (0.3, 1), (3.9, 3)):
        hardware = replace(machine(GAMER), gpus=(), limits=Limits(cgroup="v2", quota=quota))
        assert make_plan(Settings(), hardware, AUTOREGRESSIVE).threads == threads


def test_openvino_only_where_it_has_bf16() -> None:
    spec = S1_MINI
    runtimes = {name: Runtime(version="1", devices=("cpu",)) for name in ("onnxruntime", "openvino")}
    for features, executor in ((("amx_bf16", "avx2"), "openvino"), (("avx2", "avx_vnni"), "onnx")):
        base = machine(CONTAINER)
        hardware = replace(base, runtimes=runtimes, cpu=replace(base.cpu, features=features))
        assert make_plan(Settings(), hardware, spec).executor == executor
    without = replace(hardware, runtimes={"onnxruntime": runtimes["onnxruntime"]})
    assert make_plan(Settings(), without, spec).executor == "onnx"


def test_a_gpu_is_used_where_torch_can_drive_it() -> None:
    plan = make_plan(Settings(), machine(GAMER), AUTOREGRESSIVE)
    assert (str(plan.device), plan.executor, plan.precision, plan.chunk_chars) == ("cuda", "torch", "bf16", 300)
    assert plan.memory_budget < machine(GAMER).gpus[0].memory
    mac = make_plan(Settings(), machine(MAC), AUTOREGRESSIVE)
    assert (str(mac.device), mac.precision) == ("mps", "fp16")


@pytest.mark.parametrize(
    ("capability", "memory", "device", "precision"),
    [
        ((12, 0), 16, "cuda", "bf16"),
        ((7, 5), 16, "cuda", "fp16"),
        ((6, 1), 16, "cpu", "int8"),
        ((8, 9), 1, "cpu", "int8"),
    ],
)
def test_gpus_are_judged_by_capability_and_memory(
    capability: tuple[int, int], memory: int, device: str, precision: str
) -> None:
    hardware = machine(GAMER)
    gpu = replace(hardware.gpus[0], capability=capability, memory=memory * GIB, name="whatever")
    plan = make_plan(Settings(), replace(hardware, gpus=(gpu,)), AUTOREGRESSIVE)
    assert (str(plan.device), plan.precision) == (device, precision)


def why(plan: Plan, field: str) -> str:
    return next(reason.why for reason in plan.reasons if reason.field == field)


def test_an_unused_gpu_is_explained() -> None:
    plan = make_plan(Settings(), machine(NO_TORCH), AUTOREGRESSIVE)
    assert str(plan.device) == "cpu"
    assert "RTX 3060" in why(plan, "device")
    assert "pip install 'saywell[torch]'" in why(plan, "device")


def test_a_worker_in_another_environment_may_have_torch() -> None:
    settings = Settings(worker_python=Path("/opt/other/bin/python"))
    assert make_plan(settings, machine(NO_TORCH), AUTOREGRESSIVE).device == Device("cuda")


def test_small_memory_uses_lower_precision() -> None:
    assert make_plan(Settings(), machine(CONTAINER), AUTOREGRESSIVE).precision == "int4"
    no_int4 = only(AUTOREGRESSIVE, "fp32", "int8")
    assert make_plan(Settings(), machine(CONTAINER), no_int4).precision == "int8"
    tight = only(AUTOREGRESSIVE, "fp32")
    assert "estimated" in why(make_plan(Settings(), machine(CONTAINER), tight), "precision")
    with pytest.raises(PlanError, match=r"needs more than .* smaller model") as error:
        make_plan(Settings(), machine(CONTAINER), only(GIANT, "fp32"))
    assert error.value.param == "model"


def test_only_certain_sizes_are_rejected() -> None:
    """What is beside the weights may be less than the family says; the same model with the same weights is planned."""
    doubtful = replace(AUTOREGRESSIVE, overhead_bytes=16 << 30)
    plan = make_plan(Settings(), machine(CONTAINER), doubtful)
    assert (plan.precision, plan.max_batch_size) == ("int4", 1)


def test_slots_fit_into_the_budget() -> None:
    settings = Settings(memory_budget_mb=2000)
    plan = make_plan(settings, machine(GAMER), only(AUTOREGRESSIVE, "onnx"))
    assert plan.max_batch_size < 4
    assert plan.precision == "int8"
    assert "memory budget" in why(plan, "max_batch_size")


# -- overrides


def test_settings_win_and_name_their_source() -> None:
    settings = load_settings(
        {"threads": 2, "max_batch_size": 3}, environ={"SAYWELL_CONFIG": "", "SAYWELL_MAX_QUEUE": "5"}
    )
    measured = {"threads": Measurement(value=1, why="1 thread: RTF 0.4")}
    plan = make_plan(settings, machine(GAMER), AUTOREGRESSIVE, measured)
    assert (plan.threads, plan.max_batch_size, plan.max_queue) == (2, 3, 5)
    told = {reason.field: (reason.source, reason.why) for reason in plan.reasons}
    assert told["threads"] == ("setting", "asked for by keyword")
    assert told["max_queue"] == ("setting", "asked for by SAYWELL_MAX_QUEUE")
    assert told["timeout_s"][0] == "rule"


def test_measurements_win_over_rules() -> None:
    measured = {"threads": Measurement(value=1, why="RTF 0.41 with 1, 0.52 with 2")}
    plan = make_plan(Settings(), machine(LAPTOP), AUTOREGRESSIVE, measured)
    assert plan.threads == 1
    reason = next(reason for reason in plan.reasons if reason.field == "threads")
    assert (reason.source, reason.why) == ("measurement", "RTF 0.41 with 1, 0.52 with 2")


def test_more_threads_than_cpus_is_allowed_with_a_warning() -> None:
    plan = make_plan(Settings(threads=8), machine(SERVER), AUTOREGRESSIVE)
    assert plan.threads == 8
    assert "more than the 2 usable CPUs" in why(plan, "threads")
    assert len([reason for reason in plan.reasons if reason.field == "threads"]) == 1


def test_disabling_what_is_disabled_is_allowed() -> None:
    plan = make_plan(Settings(compile="disabled", cache_entries=0, cache_mb=0), machine(SERVER), ESPEAK)
    assert (plan.compile, plan.cache_entries, plan.cache_bytes) == ("disabled", 0, 0)


def test_a_model_without_cloning_has_no_cache_level() -> None:
    plan = make_plan(Settings(), machine(LAPTOP), FIRST)
    assert (plan.cache_entries, plan.cache_bytes) == (0, 0)
    assert "caches" not in [level.name for level in plan.levels]
    assert "caches" in [level.name for level in make_plan(Settings(), machine(LAPTOP), S1_MINI).levels]


@pytest.mark.parametrize(
    ("name", "overrides", "spec", "param", "way_out"),
    [
        (SERVER, {"device": "cuda"}, AUTOREGRESSIVE, "device", "set device=cpu"),
        (SERVER, {"device": "mps"}, AUTOREGRESSIVE, "device", "no Apple GPU"),
        (GAMER, {"device": "cuda"}, ESPEAK, "device", "has no executor for it"),
        (NO_TORCH, {"device": "cuda"}, AUTOREGRESSIVE, "device", "pip install"),
        (LAPTOP, {"executor": "torch"}, AUTOREGRESSIVE, "executor", "install the Python package torch"),
        (SERVER, {"executor": "warp"}, AUTOREGRESSIVE, "executor", "it has onnx, torch"),
        (GAMER, {"executor": "onnx", "device": "cuda"}, AUTOREGRESSIVE, "executor", "another device"),
        (SERVER, {"precision": "fp8"}, AUTOREGRESSIVE, "precision", "it has fp32, bf16"),
        (SERVER, {"precision": "int8"}, ESPEAK, "precision", "it has fp32"),
        (CONTAINER, {"precision": "fp32"}, GIANT, "precision", "set precision=int4"),
        (CONTAINER, {"memory_budget_mb": 5000}, ESPEAK, "memory_budget_mb", "set at most 4096"),
        (SERVER, {"memory_budget_mb": 500}, AUTOREGRESSIVE, "memory_budget_mb", "remove it"),
        (CONTAINER, {"max_batch_size": 900}, ESPEAK, "max_batch_size", "set at most 443"),
        (SERVER, {"max_batch_size": 2, "max_parallel_chunks": 3}, ESPEAK, "max_parallel_chunks", "set at most 2"),
        (SERVER, {"chunk_chars": 50, "first_chunk_chars": 60}, ESPEAK, "first_chunk_chars", "set at most 50"),
        (SERVER, {"max_frames": 5000}, AUTOREGRESSIVE, "max_frames", "set at most 4096"),
        (SERVER, {"chunk_frames": 4, "first_frames": 5}, AUTOREGRESSIVE, "first_frames", "set at most 4"),
        (SERVER, {"affinity": (0, 7)}, AUTOREGRESSIVE, "affinity", "CPU 7 is not available .*; choose among 0-1"),
        (SERVER, {"affinity": (1, 1)}, AUTOREGRESSIVE, "affinity", "named twice"),
        (MAC, {"affinity": (0,)}, AUTOREGRESSIVE, "affinity", "macOS does not support"),
        (SERVER, {"compile": "inductor"}, ESPEAK, "compile", "executor process has nothing to compile; remove it"),
        (SERVER, {"compile": "eager"}, FIRST, "compile", "executor onnx has nothing to compile"),
        (SERVER, {"cache_entries": 10}, FIRST, "cache_entries", "there is nothing to cache; remove it"),
        (SERVER, {"cache_mb": 10}, ESPEAK, "cache_mb", "there is nothing to cache; remove it"),
        (CONTAINER, {"cache_mb": 4000}, AUTOREGRESSIVE, "cache_mb", "set at most"),
        (CONTAINER, {}, only(GIANT, "fp32"), "model", "choose a smaller model or a machine"),
    ],
)  # fmt: skip
def test_impossible_settings_are_rejected(
    name: str, overrides: dict[str, Any], spec: ModelSpec, param: str, way_out: str
) -> None:
    with pytest.raises(PlanError, match=way_out) as error:
        make_plan(Settings(**overrides), machine(name), spec)
    assert error.value.param == param


@pytest.mark.parametrize(
    ("features", "runtimes", "bits", "way"),
    [
        (("avx2", "fma"), ("onnxruntime",), 7, "onnx winograd"),
        (("avx2", "fma"), ("onnxruntime", "openvino"), 7, "openvino winograd"),
        (("avx2", "avx512f"), ("onnxruntime",), 7, "onnx winograd"),
        (("avx2", "avx_vnni"), ("onnxruntime", "openvino"), 8, "onnx int8"),
        (("amx_bf16", "avx512_vnni"), ("onnxruntime", "openvino"), 8, "openvino bf16"),
        (("amx_bf16", "avx512_vnni"), ("onnxruntime",), 8, "onnx int8"),
    ],
)
def test_int8_products_never_overflow(
    features: tuple[str, ...], runtimes: tuple[str, ...], bits: int, way: str
) -> None:
    there = {name: Runtime(version="1") for name in runtimes}
    server = machine(SERVER)
    hardware = replace(server, cpu=replace(server.cpu, features=features), runtimes=there)
    plan = make_plan(Settings(precision="int8"), hardware, S1_MINI)
    assert (plan.options["activation_bits"], f"{plan.executor} {plan.options['convolutions']}") == (str(bits), way)
    assert ("16 bits" in why(plan, "options")) == (bits == 7)
    assert make_plan(Settings(precision="fp32"), hardware, S1_MINI).options["convolutions"] == "fp32"


def test_arm_int8_products_are_exact() -> None:
    plan = make_plan(Settings(), machine("raspberry-pi-5-8gb"), S1_MINI)
    assert (plan.options["activation_bits"], plan.options["convolutions"]) == ("8", "int8")


def test_an_unsupported_kv_cache_type_is_not_planned() -> None:
    for release, cache in (("1.24.4", "fp32"), ("1.25.0", "int8"), ("2.0", "int8")):
        hardware = replace(machine(SERVER), runtimes={"onnxruntime": Runtime(version=release)})
        assert make_plan(Settings(precision="int8"), hardware, S1_MINI).options["kv_cache"] == cache
    elsewhere = Settings(precision="int8", worker_python=Path("python"))
    assert make_plan(elsewhere, machine(SERVER), S1_MINI).options["kv_cache"] == "fp32"


def test_a_model_without_installed_runtime_is_rejected() -> None:
    only_torch = only(AUTOREGRESSIVE, "torch")
    with pytest.raises(PlanError, match="install the Python package torch"):
        make_plan(Settings(), machine(LAPTOP), only_torch)


def test_decodes_are_multiples_of_the_tile() -> None:
    plan = make_plan(Settings(), machine(SERVER), replace(AUTOREGRESSIVE, decode_tile=8))
    assert (plan.first_frames, plan.chunk_frames) == (8, 16)
    assert "tile of 8" in why(plan, "chunk_frames")


def test_a_small_chunk_limits_the_first_one() -> None:
    plan = make_plan(Settings(chunk_chars=40), machine(SERVER), ESPEAK)
    assert (plan.chunk_chars, plan.first_chunk_chars) == (40, 40)


# -- pinning


def reason(plan: Plan, field: str) -> tuple[str, str]:
    return next((told.source, told.why) for told in plan.reasons if told.field == field)


def test_threads_that_fit_on_the_performance_cores_are_pinned_to_them() -> None:
    plan = make_plan(Settings(), machine(HYBRID), S1_MINI)
    assert (plan.threads, plan.affinity) == (8, (0, 2, 4, 6, 8, 10, 12, 14))
    assert reason(plan, "affinity")[0] == "rule"
    assert "one performance core per thread" in why(plan, "affinity")
    assert make_plan(Settings(threads=2), machine(LAPTOP), S1_MINI).affinity == (0, 2)
    assert make_plan(Settings(threads=9), machine(HYBRID), S1_MINI).affinity == ()
    assert make_plan(Settings(), machine(HYBRID), ESPEAK).affinity == (), "its processes are not pinned"
    few = {"threads": Measurement(value=1, why="RTF 1.2")}
    assert make_plan(Settings(), machine(LAPTOP), S1_MINI, few).affinity == (0, 2)
    free = {"affinity": Measurement(value=(), why="RTF 1.2 free, 1.3 pinned")}
    assert make_plan(Settings(), machine(HYBRID), S1_MINI, free).affinity == ()


def test_nothing_else_is_pinned_without_measurement() -> None:
    for name in (LAPTOP, SERVER):
        plan = make_plan(Settings(), machine(name), S1_MINI)
        assert plan.affinity == ()
        assert "`saywell tune` measures" in why(plan, "affinity")
    measured = {"affinity": Measurement(value=(0, 2), why="RTF 1.9 pinned, 2.1 free")}
    plan = make_plan(Settings(), machine(LAPTOP), S1_MINI, measured)
    assert (plan.affinity, plan.threads) == ((0, 2), 2)
    assert reason(plan, "affinity") == ("measurement", "RTF 1.9 pinned, 2.1 free")


def test_candidate_pinnings_follow_the_topology() -> None:
    def ways(name: str, threads: int) -> tuple[tuple[int, ...], ...]:
        return PlanContext(machine(name), S1_MINI).affinities(threads)

    assert ways(LAPTOP, 2) == ((0, 2),)
    assert ways(LAPTOP, 10) == ((0, 2, 4, 5, 6, 7, 8, 9, 10, 11),)
    desktop = machine(GAMER)
    assert ways(GAMER, 4) == (desktop.cpu.performance_cpus[:4],)
    assert desktop.cpu.logical == 2 * len(desktop.cpu.performance_cpus)
    assert ways(GAMER, 200) == ()
    assert ways(MAC, 2) == ()
    assert ways(CONTAINER, 2) == ()


def test_affinity_limits_the_threads() -> None:
    plan = make_plan(Settings(affinity=(0, 2, 4)), machine(LAPTOP), S1_MINI)
    assert (plan.affinity, plan.threads) == ((0, 2, 4), 3)
    assert reason(plan, "affinity")[0] == "setting"
    assert make_plan(Settings(affinity=(0, 2), threads=1), machine(LAPTOP), S1_MINI).threads == 1


# -- caches, quantisation, heat, names


def test_caches_take_part_of_the_budget() -> None:
    plan = make_plan(Settings(), machine(LAPTOP), S1_MINI)
    rules = PlanContext(machine(LAPTOP), S1_MINI)
    assert plan.cache_bytes > 0
    assert (
        rules.need(variant_of(plan, S1_MINI), plan.max_batch_size, plan.max_frames) + plan.cache_bytes
        <= plan.memory_budget
    )
    chosen_setting = make_plan(Settings(cache_mb=100, cache_entries=0), machine(LAPTOP), S1_MINI)
    assert (chosen_setting.cache_bytes, chosen_setting.cache_entries) == (100 << 20, 0)
    assert reason(chosen_setting, "cache_bytes")[0] == reason(chosen_setting, "cache_entries")[0] == "setting"


def test_there_are_many_kinds_of_machines() -> None:
    found = [machine(file.stem) for file in MACHINES]
    assert len(found) >= 20
    assert {each.os for each in found} == {"linux", "windows", "darwin"}
    assert {each.limits.cgroup for each in found} == {"", "v1", "v2", "hybrid"}
    assert len({each.cpu_tier for each in found}) >= 12


def test_torch_compiles_only_where_it_pays() -> None:
    assert make_plan(Settings(), machine(GAMER), AUTOREGRESSIVE).compile == "inductor"
    windows = replace(machine(GAMER), os="windows")
    assert make_plan(Settings(), windows, AUTOREGRESSIVE).compile == "eager"
    assert make_plan(Settings(compile="disabled"), machine(GAMER), AUTOREGRESSIVE).compile == "disabled"
    assert make_plan(Settings(), machine(MAC), AUTOREGRESSIVE).compile == "eager"


def test_the_thermal_reason_names_the_sensor() -> None:
    assert make_plan(Settings(), machine("m1-air-8gb"), S1_MINI).thermal
    assert make_plan(Settings(), machine("raspberry-pi-5-8gb"), S1_MINI).thermal
    plan = make_plan(Settings(), machine(LAPTOP), S1_MINI)
    assert plan.thermal
    assert "no temperature sensor" in why(plan, "thermal")
    assert not make_plan(Settings(thermal=False), machine(LAPTOP), S1_MINI).thermal


def test_a_measurement_that_conflicts_with_settings_is_ignored() -> None:
    measured = {"max_batch_size": Measurement(value=8, why="best"), "executor": Measurement(value="torch", why="best")}
    plan = make_plan(Settings(memory_budget_mb=1500), machine(LAPTOP), S1_MINI, measured)
    assert plan.max_batch_size < 8
    assert reason(plan, "max_batch_size")[0] == reason(plan, "executor")[0] == "rule"
    assert "measured value does not fit" in why(plan, "max_batch_size")


def test_every_tuned_field_accepts_a_measurement() -> None:
    values = {
        "executor": "torch", "precision": "fp32", "threads": 3, "affinity": (0, 1), "max_batch_size": 2,
        "max_parallel_chunks": 1, "first_frames": 3, "chunk_frames": 40, "chunk_chars": 150, "first_chunk_chars": 50,
    }  # fmt: skip
    runtimes = {name: Runtime(version="1") for name in ("onnxruntime", "torch")}
    hardware = replace(machine(SERVER), runtimes=runtimes)
    measured = {name: Measurement(value=value, why="measured") for name, value in values.items()}
    plan = make_plan(Settings(), hardware, AUTOREGRESSIVE, measured)
    assert {name: getattr(plan, name) for name in values} == values
    assert all(reason(plan, name) == ("measurement", "measured") for name in values)
