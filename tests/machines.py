"""Machines and models to plan for. `python tests/machines.py` rewrites their plans: read the difference first."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path

from paths import TESTS
from saywell.errors import PlanError
from saywell.machine import CPU, Cpu, Hardware, detect
from saywell.machine import Runtime as Package
from saywell.models.base import find_spec
from saywell.models.dual_ar.facts import variants as dual_ar
from saywell.plan.plan import Plan, make_plan
from saywell.plan.rules import PlanContext
from saywell.settings import Settings
from saywell.types import SAMPLING, ModelSpec, Variant

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
    decode_tile=4, options=SAMPLING, clones=True,
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


def fitted(plan: Plan, spec: ModelSpec) -> Plan:
    """A hand-made plan with the options that its executor and precision have on this machine."""
    return replace(plan, options=PlanContext(detect(), spec).by_precision(CPU, plan.executor)[plan.precision].options)


def machine(name: str) -> Hardware:
    return Hardware.from_json((HERE / f"{name}.json").read_bytes())


@cache
def goldens() -> dict[str, str]:
    """Name → text of what `tests/hardware/plans` holds: a table of plans for each model, and each reason once."""
    plans = {spec.name: {file.stem: _plan(file.stem, spec) for file in MACHINES} for spec in SPECS}
    return {**{name: _table(found) for name, found in plans.items()}, "reasons": _reasons()}


def _plan(name: str, spec: ModelSpec) -> Plan | None:
    try:
        return make_plan(Settings(), machine(name), spec)
    except PlanError:
        return None


def _table(plans: dict[str, Plan | None]) -> str:
    """Values that are the same on every machine, then a row of the others for each machine."""
    values = {name: {told.field: told.value for told in plan.reasons} for name, plan in plans.items() if plan}
    fields = [field for field in next(iter(values.values())) if field != "data_dir"]
    alike = [field for field in fields if len({each[field] for each in values.values()}) == 1]
    own = [field for field in fields if field not in alike]
    rows = [["", *own]]
    rows += [
        [name, *(values[name][field] for field in own)] if plan else [name, "no plan"] for name, plan in plans.items()
    ]
    widths = [max(len(row[column]) for row in rows if column < len(row)) + 2 for column in range(len(rows[0]))]
    lines = [f"{field:<19}{next(iter(values.values()))[field]}" for field in alike]
    lines += [
        "",
        *("".join(f"{text:<{width}}" for text, width in zip(row, widths, strict=False)).rstrip() for row in rows),
    ]
    return "\n".join(lines) + "\n"


def _reasons() -> str:
    """Every sentence that any of these plans gives for a field, once: what is of one machine or model is left out."""
    found: dict[str, set[str]] = {}
    for file in MACHINES:
        hardware = machine(file.stem)
        own = {hardware.cpu_tier: "CLASS", ", ".join(hardware.thermal): "SENSORS"}
        own |= {gpu.name: "GPU" for gpu in hardware.gpus}
        for spec in SPECS:
            plan = _plan(file.stem, spec)
            for told in plan.reasons if plan else ():
                why = told.why
                for name, kind in ({spec.name: "MODEL"} | own).items():
                    why = why.replace(name, kind) if name else why
                found.setdefault(told.field, set()).add(re.sub(r"\d+(\.\d+)*", "N", why))
    return "".join(
        f"{field}\n{''.join(f'    {why}{chr(10)}' for why in sorted(whys))}" for field, whys in found.items()
    )


def kept(name: str) -> Path:
    return HERE / "plans" / f"{name}.txt"


if __name__ == "__main__":
    for name, text in goldens().items():
        kept(name).write_text(text, encoding="utf-8")
