"""What can be added without touching the core: families of each kind, devices with memory of their own."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from asking import LONG, ask
from machines import machine
from paths import TESTS
from saywell.engine.admission import Admission
from saywell.engine.balanced import BalancedEngine
from saywell.engine.engine import Engine
from saywell.engine.fleet import Fleet
from saywell.engine.launch import decide, plans_by_device, start
from saywell.errors import OutOfMemory, PlanError
from saywell.machine import GIB, Device, Gpu, Hardware, Runtime
from saywell.machine import monitor as monitor_module
from saywell.machine.monitor import Resources
from saywell.machine.sensors.nvidia import GpuLoad
from saywell.models import base
from saywell.models.installed import Installed
from saywell.plan.degradation import classify
from saywell.settings import Settings
from tiny_ar.family import VOICES

SINGLE_SHOT = """
import numpy as np
from saywell.models.single_shot import SingleShot
from saywell.types import SPEED, ModelSpec, Option, Variant, Voice

VOICE = Voice(id="hum", name="Hum", language="en", sample_rate=16_000)

def missing():
    return ""

def spec(name, path):
    return ModelSpec(
        name=name, family="stranger.hum", kind="single-shot", sample_rate=16_000, frame_rate=10,
        variants=(Variant(executor="process", precision="fp32", weight_bytes=1 << 20),),
        options={**SPEED, "pitch": Option(low=50.0, high=400.0, about="Hz")}, default_voice="hum", path=path,
    )

class Hum(SingleShot):
    def __init__(self, spec, plan):
        self.spec = spec
        super().__init__(self.speak, plan)

    def voices(self):
        return (VOICE,)

    def prepare(self, request):
        return None

    def speak(self, sequence):
        for word in sequence.text.split():
            time = np.arange(16_000 * len(word) // 12) / 16_000
            yield (0.1 * np.sin(2 * np.pi * sequence.request.options.get("pitch", 110.0) * time)).astype(np.float32)

def load(spec, plan):
    return Hum(spec, plan)
"""
ON_TORCH = """
from saywell.types import ModelSpec, Variant
from tiny_ar import family as tiny

def missing():
    return ""

def spec(name, path):
    way = dict(kv_bytes_per_frame=4_000)
    return ModelSpec(
        name=name, family="stranger.on_torch", kind="autoregressive", sample_rate=tiny.RATE, frame_rate=tiny.FRAME_RATE,
        variants=(
            Variant(executor="torch", package="torch", devices=("cuda",), precision="bf16", weight_bytes=3 << 30,
                    options={"graphs": "captured"}, about="PyTorch", why="one launch a step", **way),
            Variant(executor="onnx", package="onnxruntime", precision="int8", weight_bytes=1 << 30, **way),
        ),
        max_context=10_000, default_voice="tiny-0", path=path,
    )

class Model(tiny.TinyModel):
    def __init__(self, spec, plan):
        super().__init__(spec, plan)
        self.asked = (plan.executor, str(plan.device), plan.precision, plan.options)

def load(spec, plan):
    return Model(spec, plan)
"""
RUNTIMES = {"onnxruntime": Runtime(version="1.30"), "torch": Runtime(version="2.13", devices=("cpu", "cuda"))}


@pytest.fixture(autouse=True)
def _strangers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    package = tmp_path / "lib" / "stranger"
    package.mkdir(parents=True)
    for name, text in (("__init__", ""), ("hum", SINGLE_SHOT), ("on_torch", ON_TORCH)):
        (package / f"{name}.py").write_text(text)
        monkeypatch.setitem(base.built_in(), name, f"stranger.{name}")
    monkeypatch.syspath_prepend(tmp_path / "lib")
    yield
    for name in [name for name in sys.modules if name.partition(".")[0] == "stranger"]:
        del sys.modules[name]


def gpus(*memory: int) -> Hardware:
    """A machine with GPUs of these sizes, in bytes."""
    cards = tuple(Gpu(name=f"GPU {n}", memory=size, capability=(8, 9), driver="1") for n, size in enumerate(memory))
    return replace(machine("epyc-vm-2cpu-24gb"), gpus=cards, runtimes=RUNTIMES)


def test_a_single_shot_family_is_a_generator_of_samples(tmp_path: Path) -> None:
    decision = decide(Settings(model="hum", data_dir=tmp_path, adapt=False))
    engine = Engine(decision.spec, decision.plan)
    engine.start()
    try:
        whole = engine.submit(ask("Hum a little tune for me.")).collect()
        np.testing.assert_array_equal(engine.submit(ask("Hum a little tune for me.")).collect().samples, whole.samples)
        other = engine.submit(ask("Hum a little tune for me.", options={"pitch": 220.0})).collect()
        assert len(other.samples) == len(whole.samples)
        assert not np.array_equal(other.samples, whole.samples)
    finally:
        engine.close()


def test_a_family_on_torch_brings_its_variant_and_options(tmp_path: Path) -> None:
    settings = Settings(model="on_torch", data_dir=tmp_path, adapt=False, max_batch_size=2)
    decision = decide(settings, gpus(24 * GIB))
    plan = decision.plan
    assert (plan.executor, plan.device, plan.precision) == ("torch", Device("cuda"), "bf16")
    assert plan.options == {"graphs": "captured"}
    assert next(reason.why for reason in plan.reasons if reason.field == "options") == "one launch a step"
    engine = Engine(decision.spec, replace(plan, check_memory=False))
    engine.start()
    try:
        assert engine.submit(ask(voice=VOICES[0].id)).collect().duration_s > 0.3
    finally:
        engine.close()
    without = decide(settings, replace(gpus(24 * GIB), runtimes={"onnxruntime": RUNTIMES["onnxruntime"]})).plan
    assert (without.executor, without.device, without.options) == ("onnx", Device("cpu"), {})


def test_a_second_device_has_memory_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hardware = gpus(24 * GIB, 8 * GIB)
    settings = Settings(model="on_torch", data_dir=tmp_path, device="cuda:1")
    decision = decide(settings, hardware)
    plan, spec = decision.plan, decision.spec
    assert (str(plan.device), plan.memory_budget) == ("cuda:1", 8 * GIB * 9 // 10)
    assert decide(replace(settings, device=None), hardware).plan.device == Device("cuda", 0)
    with pytest.raises(PlanError, match="this machine has cuda, cuda:1"):
        decide(replace(settings, device="cuda:2"), hardware)

    free = {0: 20 * GIB, 1: 1 << 10}
    monkeypatch.setitem(monitor_module.OWN_MEMORY, "cuda", free.get)
    with pytest.raises(OutOfMemory):
        Admission(spec, plan, VOICES).check(ask(), {}, 1.0)
    free[1] = 6 * GIB
    Admission(spec, plan, VOICES).check(ask(), {}, 1.0)

    def look(*used: float) -> Resources:
        loads = (
            GpuLoad(name="any", index=n, utilisation=1.0, memory_used=int(gpu.memory * share), memory_total=gpu.memory)
            for n, (gpu, share) in enumerate(zip(hardware.gpus, used, strict=True))
        )
        return Resources(
            cpu_percent=1.0, memory_limit=8 * GIB, memory_available=7 * GIB, memory_percent=12.5, gpus=tuple(loads)
        )

    assert "memory" not in classify(look(0.97, 0.2), plan).push
    assert "8.0 GB of memory on the" in classify(look(0.2, 0.9), plan).push["memory"]


@pytest.fixture
def in_workers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let workers import the families of this module, and simulate the memory of the GPUs."""
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "lib"), prepend=os.pathsep)
    monkeypatch.setenv("PYTHONPATH", str(TESTS), prepend=os.pathsep)
    monkeypatch.setitem(monitor_module.OWN_MEMORY, "cuda", lambda _: 20 * GIB)


@pytest.mark.usefixtures("in_workers")
def test_a_model_has_a_worker_on_each_device_that_can_hold_it(tmp_path: Path) -> None:
    settings = Settings(model="on_torch", data_dir=tmp_path, adapt=False, max_batch_size=2)
    with start(decide(settings, gpus(24 * GIB, 24 * GIB, 1 * GIB)), worker=True) as tts:
        assert isinstance(tts.engine, BalancedEngine)
        workers = tts.engine.engines
        assert [str(worker.plan.device) for worker in workers] == ["cuda", "cuda:1"]
        assert tts.engine.health().slots == 4
        alone = tts.engine.submit(ask(LONG)).collect().samples
        streams = [tts.engine.submit(ask(LONG)) for _ in range(4)]
        assert [worker.health().running + worker.health().waiting for worker in workers] == [2, 2]
        for stream in streams:
            np.testing.assert_array_equal(stream.collect().samples, alone)


def test_devices_with_different_audio_or_not_selected_are_unused(tmp_path: Path) -> None:
    hardware = gpus(24 * GIB, 24 * GIB)
    settings = Settings(model="on_torch", data_dir=tmp_path, adapt=False)
    named = decide(replace(settings, device="cuda:1"), hardware)
    assert [str(plan.device) for plan in plans_by_device(named)] == ["cuda:1"]
    kind = decide(replace(settings, device="cuda"), hardware)
    assert [str(plan.device) for plan in plans_by_device(kind)] == ["cuda", "cuda:1"]
    other = replace(kind, plan=replace(kind.plan, precision="int8"))
    assert [str(plan.device) for plan in plans_by_device(other)] == ["cuda"]
    assert len(plans_by_device(decide(replace(settings, device="cpu"), hardware))) == 1


def test_an_added_family_is_served_next_to_others(tmp_path: Path) -> None:
    first = decide(Settings(model="on_torch", data_dir=tmp_path, adapt=False))
    own = Engine(first.spec, first.plan)
    there = {name: Installed(name, f"stranger.{name}") for name in ("on_torch", "hum")}
    fleet = Fleet(first, own, make=lambda found: Engine(found.spec, found.plan), there=lambda: there)
    own.start()
    try:
        fleet.load("hum")
        assert fleet.submit("hum", ask("Hum.")).collect().duration_s > 0.1
    finally:
        fleet.close()
