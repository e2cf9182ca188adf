"""Sensors of three systems from recorded readings, and GPUs from a fake driver."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import psutil
import pytest

from saywell.machine.sensors import Heat, Sensors
from saywell.machine.sensors.linux import PI_THROTTLED, LinuxSensors
from saywell.machine.sensors.macos import MacSensors, speed_limit
from saywell.machine.sensors.nvidia import NvidiaSensors
from saywell.machine.sensors.windows import NOTE, WindowsSensors, from_web, from_wmi, merged
from trees import tree

RECORDED = Path(__file__).parent / "sensors"

# Linux


class Reading(NamedTuple):
    """As psutil returns."""

    label: str
    current: float
    high: float | None
    critical: float | None


def readings(*sensors: tuple[str, float, float | None, float | None]) -> dict[str, list[Reading]]:
    """By chip, from (chip, °C, high, critical)."""
    chips: dict[str, list[Reading]] = {}
    for chip, current, high, critical in sensors:
        chips.setdefault(chip, []).append(Reading("", current, high, critical))
    return chips


@pytest.mark.parametrize(
    ("sensors", "hottest", "margin"),
    [
        ([("coretemp", 51.0, 90.0, 100.0), ("coretemp", 97.5, 90.0, 100.0), ("nvme", 40.85, 70.0, 81.85)],
         {"coretemp": 97.5, "nvme": 40.85}, 2.5),
        ([("cpu-thermal", 71.58, 110.0, 110.0)], {"cpu-thermal": 71.58}, 38.42),
        ([("k10temp", 61.25, 65261.85, 65261.85), ("acpitz", -274.0, None, None)], {"k10temp": 61.25}, None),
        ([("coretemp", 61.0, 85.0, 3.0)], {"coretemp": 61.0}, 24.0),
        ([("nvme", 80.0, 81.85, 84.85)], {"nvme": 80.0}, None),
    ],
    ids=["hottest core", "ARM board", "implausible values", "high without critical", "not on the processor"],
)  # fmt: skip
def test_temperatures_and_margin_of_the_processor(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, sensors: list[Any], hottest: dict[str, float], margin: float | None
) -> None:
    monkeypatch.setattr(psutil, "sensors_temperatures", lambda: readings(*sensors), raising=False)
    heat = LinuxSensors(tmp_path).read()
    assert heat.temperatures == hottest
    assert heat.margin == (None if margin is None else pytest.approx(margin))
    assert (heat.throttled, heat.note) == ((), "")


def test_throttle_counter_reports_events_since_the_last_reading(tmp_path: Path) -> None:
    counter = "sys/devices/system/cpu/cpu0/thermal_throttle/core_throttle_count"
    sensors = LinuxSensors(tree(tmp_path, {counter: "7"}))
    assert sensors.read().throttled == ()
    (tmp_path / counter).write_text("9")
    assert sensors.read().throttled == ("the processor has throttled itself against heat",)
    assert sensors.read().throttled == ()


@pytest.mark.parametrize(("bits", "reasons"), [("0x50000", 0), ("0x4", 1), ("0xd", 3), ("0x0", 0)])
def test_raspberry_pi_history_bits_are_ignored(tmp_path: Path, bits: str, reasons: int) -> None:
    assert len(LinuxSensors(tree(tmp_path, {PI_THROTTLED: bits})).read().throttled) == reasons


@pytest.mark.parametrize(
    ("kind", "state", "slow"), [("Processor", "3", True), ("Processor", "0", False), ("Fan", "3", False),
                                ("cpufreq-cpu0", "1", True), ("intel_powerclamp", "-1", False)]
)  # fmt: skip
def test_only_cooling_that_slows_the_processor_counts(tmp_path: Path, kind: str, state: str, slow: bool) -> None:
    device = "sys/class/thermal/cooling_device0"
    throttled = LinuxSensors(tree(tmp_path, {f"{device}/type": kind, f"{device}/cur_state": state})).read().throttled
    assert bool(throttled) == slow


# macOS


def read_until(sensors: Sensors, seen: Callable[[Heat], object]) -> Heat:
    until = time.monotonic() + 5
    while not seen(heat := sensors.read()) and time.monotonic() < until:
        time.sleep(0.01)
    return heat


def test_macos_pressure_levels_from_heavy_on_are_throttling() -> None:
    throttled = []
    for level in (None, 0, 1, 2, 3, 4):
        with closing(MacSensors(lambda level=level: level, lambda: "")) as sensors:
            throttled.append(sensors.read().throttled)
    assert [len(reasons) for reasons in throttled] == [0, 0, 0, 1, 1, 1]
    assert throttled[3] == ("macOS reports heavy thermal pressure",)


def test_pmset_of_an_intel_mac_and_of_apple_silicon() -> None:
    intel, apple = ((RECORDED / name).read_text() for name in ("pmset-intel.txt", "pmset-m2.txt"))
    assert (speed_limit(intel), speed_limit(apple), speed_limit("")) == (73, None, None)
    with closing(MacSensors(lambda: 0, lambda: intel)) as sensors:
        heat = read_until(sensors, lambda heat: heat.throttled)
    assert heat.throttled == ("macOS limits the processor to 73 % of its speed",)
    assert "no temperatures" in heat.note


def test_slow_pmset_does_not_block_reading() -> None:
    answered, asked = threading.Event(), []

    def slow() -> str:
        asked.append(threading.current_thread())
        answered.wait(10)
        return "CPU_Speed_Limit = 50"

    with closing(MacSensors(lambda: 0, slow, every_s=0.01)) as sensors:
        began = time.monotonic()
        assert sensors.read().throttled == ()
        assert time.monotonic() - began < 5
        answered.set()
        assert read_until(sensors, lambda heat: heat.throttled).throttled
        read_until(sensors, lambda _: len(asked) > 2)
    assert len(asked) > 2, "pmset is run repeatedly"
    assert threading.current_thread() not in asked
    assert not asked[0].is_alive()


# Windows


def test_libre_hardware_monitor_web_server() -> None:
    heat = from_web((RECORDED / "lhm-data.json").read_bytes())
    assert heat.temperatures == {"AMD Ryzen 7 5800X": 71.9, "NVIDIA GeForce RTX 3060": 44.0}


def test_wmi_sensors_of_libre_hardware_monitor_replace_firmware_zones() -> None:
    heat = from_wmi((RECORDED / "wmi-lhm.json").read_bytes())
    assert heat.temperatures == {"intelcpu": 88.0, "nvme": 41.0}
    assert heat.throttled == ()


def test_windows_thermal_zones_without_libre_hardware_monitor() -> None:
    heat = from_wmi((RECORDED / "wmi-zones.json").read_bytes())
    assert heat.temperatures == {"TZ.TZ00": 55.9}
    assert heat.throttled == ("Windows limits the processor to 60 % against heat",)


@pytest.mark.parametrize(
    "junk", [b"", b"<html>", b"[]", b'{"sensors": 5}', b'{"Children": [{"Value": "x \xc2\xb0C"}]}']
)
def test_malformed_answers_give_no_reading(junk: bytes) -> None:
    assert from_web(junk) == Heat()
    assert from_wmi(junk).temperatures == {}
    assert merged(from_web(junk), from_wmi(junk)).note == NOTE


def test_windows_sources_are_polled_on_a_thread() -> None:
    answers = (RECORDED / "lhm-data.json").read_bytes(), (RECORDED / "wmi-zones.json").read_bytes()
    sensors = WindowsSensors(lambda: answers[0], lambda: answers[1])
    read_until(sensors, lambda heat: heat.temperatures)
    assert sensors.read().temperatures["AMD Ryzen 7 5800X"] == 71.9
    assert sensors.read().throttled
    sensors.close()


# NVIDIA


class NvmlError(Exception):
    pass


def driver(**wrong: object) -> SimpleNamespace:
    calls = {
        "NVMLError": NvmlError,
        "NVML_TEMPERATURE_GPU": 0,
        "nvmlInit": lambda: None,
        "nvmlShutdown": lambda: None,
        "nvmlDeviceGetCount": lambda: 2,
        "nvmlDeviceGetHandleByIndex": lambda index: index,
        "nvmlDeviceGetName": lambda device: [b"NVIDIA T4", "NVIDIA L4"][device],
        "nvmlDeviceGetMemoryInfo": lambda _: SimpleNamespace(used=3 << 30, total=15 << 30),
        "nvmlDeviceGetUtilizationRates": lambda device: SimpleNamespace(gpu=[97, 0][device]),
        "nvmlDeviceGetTemperature": lambda device, _: [88, 40][device],
        "nvmlDeviceGetCurrentClocksThrottleReasons": lambda device: [0x24, 0x1][device],
    }
    return SimpleNamespace(**{**calls, **wrong})


def test_gpu_load_by_nvml(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", driver())
    monkeypatch.setattr("importlib.util.find_spec", lambda _: True)
    hot, idle = NvidiaSensors().read()
    assert (hot.name, hot.utilisation, hot.temperature, hot.memory_used) == ("NVIDIA T4", 97.0, 88.0, 3 << 30)
    assert hot.throttled == ("the GPU is slowed down by heat (software)",), "a power cap is a setting, not throttling"
    assert (idle.name, idle.throttled) == ("NVIDIA L4", ())


def test_failing_driver_gives_no_gpu_load(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise NvmlError

    monkeypatch.setattr("importlib.util.find_spec", lambda _: True)
    monkeypatch.setitem(sys.modules, "pynvml", driver(nvmlInit=fail))
    assert NvidiaSensors().read() == ()
    monkeypatch.setitem(sys.modules, "pynvml", driver(nvmlDeviceGetMemoryInfo=fail))
    sensors = NvidiaSensors()
    assert sensors.read() == ()
    sensors.close()
    assert sensors.read() == ()


def test_lost_gpu_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    def handle(index: int) -> int:
        if index == 0:
            raise NvmlError
        return index

    def fail(*_: object) -> None:
        raise NvmlError

    monkeypatch.setattr("importlib.util.find_spec", lambda _: True)
    monkeypatch.setitem(sys.modules, "pynvml", driver(nvmlDeviceGetHandleByIndex=handle, nvmlShutdown=fail))
    sensors = NvidiaSensors()
    assert [load.name for load in sensors.read()] == ["NVIDIA L4"]
    sensors.close()
    monkeypatch.setitem(sys.modules, "pynvml", driver(nvmlDeviceGetCount=fail))
    assert NvidiaSensors().read() == ()
