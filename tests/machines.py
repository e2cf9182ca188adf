"""Machines and models to plan for. `python tests/machines.py` rewrites their plans: read the difference first."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from paths import TESTS
from saywell.commands.show import hardware_lines
from saywell.errors import PlanError
from saywell.machine import Cpu, Hardware, detect
from saywell.machine import Runtime as Package
from saywell.models.base import find_spec
from saywell.models.dual_ar.facts import variants as dual_ar
from saywell.plan.plan import Plan, make_plan
from saywell.plan.rules import Situation
from saywell.settings import Settings
from saywell.types import ModelSpec, Variant

HERE = TESTS / "hardware"
MACHINES = sorted(HERE.glob("*.json"))
MIB = 1 << 20

_RUNS = {
    "onnx": ("onnxruntime", ("cpu",)), "torch": ("torch", ("cuda", "mps", "cpu")), "openvino": ("openvino", ("cpu",)),
    "plain": ("", ("cpu",)),
}  # fmt: skip


def made_up(
    *, executors: tuple[str, ...] = ("onnx",), kv: Mapping[str, int] | None = None, **weights: int
) -> tuple[Variant, ...]:
    """Variants of a made-up model: every executor at every precision. `weights`, `kv`: bytes by precision."""
    return tuple(
        Variant(
            executor=executor, package=_RUNS[executor][0], devices=_RUNS[executor][1], precision=precision,
            weight_bytes=size, kv_bytes_per_frame=(kv or {}).get(precision, 0), about=f"{executor} runs it",
        )
        for precision, size in weights.items()
        for executor in executors
    )  # fmt: skip


def only(spec: ModelSpec, *names: str) -> ModelSpec:
    """The same model with the variants of these executors or precisions alone."""
    kept = (variant for variant in spec.variants if {variant.executor, variant.precision} & set(names))
    return replace(spec, variants=tuple(kept))


FIRST = find_spec("hibari")
ESPEAK = find_spec("espeak")
S1_MINI = ModelSpec(
    name="s1-mini", family="dual_ar", kind="autoregressive", sample_rate=44100, frame_rate=21.533203125,
    variants=tuple(
        variant
        for precision, size in (("fp32", 2833815107), ("int8", 822759491), ("int4", 591495235))
        for variant in dual_ar(precision, size, {"fp32": 229376, "int8": 57344}, lambda files: True)
    ),
    overhead_bytes=220200960, slot_bytes=4194304, max_context=8192,
    decode_tile=4, speeds=(1.0, 1.0), clones=True,
)  # fmt: skip
"""The family's own facts of a conversion with the published sizes."""
AUTOREGRESSIVE = ModelSpec(
    name="made-up", family="made_up", kind="autoregressive", sample_rate=44100, frame_rate=21.5,
    variants=made_up(
        fp32=3200 * MIB, bf16=1600 * MIB, fp16=1600 * MIB, int8=900 * MIB, int4=520 * MIB, executors=("onnx", "torch"),
        kv={"fp32": 230_000, "bf16": 115_000, "fp16": 115_000, "int8": 230_000, "int4": 230_000},
    ),
    overhead_bytes=420 * MIB, slot_bytes=24 * MIB, max_context=4096, clones=True,
)  # fmt: skip
"""A model of that size which torch can drive on a GPU."""
SPECS = (FIRST, ESPEAK, S1_MINI, AUTOREGRESSIVE)
PLAIN = Hardware(
    os="linux", arch="x86_64", python="3.11", product="", memory=8 << 30,
    cpu=Cpu(model="any", vendor="", sockets=1, physical=4, logical=4, performance=4, efficiency=0),
    runtimes={"onnxruntime": Package(version="1.25")},
)  # fmt: skip
"""Four cores of no name."""
ALIKE = frozenset({"model", "data_dir", "buffer_s", "stall_s", "hang_s"})
"""Fields that say nothing about a machine."""


def fitted(plan: Plan, spec: ModelSpec) -> Plan:
    """A hand-made plan with the options that its executor and precision have on this machine."""
    return replace(plan, options=Situation(detect(), spec).by_precision("cpu", plan.executor)[plan.precision].options)


def machine(name: str) -> Hardware:
    return Hardware.from_json((HERE / f"{name}.json").read_bytes())


def snapshot(hardware: Hardware) -> str:
    """The machine, its plans side by side, and why."""
    plans, refused = [], []
    for spec in SPECS:
        try:
            plans.append(make_plan(Settings(), hardware, spec))
        except PlanError as error:
            refused.append(f"no plan: {error.message}")
    about = [f"{name:<14}{text}" for name, text in hardware_lines(hardware)]
    return "\n".join([*about, "", *_table(plans), "", *refused, *_whys(plans)]) + "\n"


def _table(plans: list[Plan]) -> list[str]:
    rows = [["", *(plan.model for plan in plans)]]
    told = [{reason.field: reason.value for reason in plan.reasons} for plan in plans]
    rows += [[name, *(each[name] for each in told)] for name in told[0] if name not in ALIKE]
    widths = [max(len(row[column]) for row in rows) + 2 for column in range(len(rows[0]))]
    return ["".join(f"{text:<{width}}" for text, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def _whys(plans: list[Plan]) -> list[str]:
    """Every reason of each field once, with the models it holds for unless it holds for all."""
    lines = []
    for field in (reason.field for reason in plans[0].reasons if reason.field not in ALIKE):
        models: dict[str, list[str]] = {}
        for plan in plans:
            why = next(reason.why for reason in plan.reasons if reason.field == field)
            models.setdefault(why, []).append(plan.model)
        for place, (why, names) in enumerate(models.items()):
            for_whom = "" if len(names) == len(plans) else f"{', '.join(names)}: "
            lines.append(f"{'' if place else field:<19}{for_whom}{why}")
    return lines


def kept(file: Path) -> Path:
    """Where the plans for a machine's file are kept."""
    return HERE / "plans" / f"{file.stem}.txt"


if __name__ == "__main__":
    for found in MACHINES:
        kept(found).write_text(snapshot(machine(found.stem)), encoding="utf-8")
