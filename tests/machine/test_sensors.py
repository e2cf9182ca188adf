"""Heat of three systems from recorded readings, and GPUs from a driver that is made up."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace

import pytest

from saywell.machine.sensors import Heat, Sensors
from saywell.machine.sensors.linux import PI_THROTTLED, LinuxSensors
from saywell.machine.sensors.macos import MacSensors, speed_limit
from saywell.machine.sensors.nvidia import NvidiaSensors
from saywell.machine.sensors.windows import NOTE, WindowsSensors, from_web, from_wmi, merged
from trees import tree

RECORDED = Path(__file__).parent / "sensors"

# Linux


def test_zones_of_an_arm_board(tmp_path: Path) -> None:
    files = {
        "sys/class/thermal/thermal_zone0/type": "cpu-thermal",
        "sys/class/thermal/thermal_zone0/temp": "71580",
        "sys/class/thermal/thermal_zone0/trip_point_0_type": "active",
        "sys/class/thermal/thermal_zone0/trip_point_0_temp": "50000",
        "sys/class/thermal/thermal_zone0/trip_point_1_type": "critical",
        "sys/class/thermal/thermal_zone0/trip_point_1_temp": "110000",
    }
    heat = LinuxSensors(tree(tmp_path, files)).read()
    assert heat.temperatures == {"cpu-thermal": 71.58}
    assert heat.margin == pytest.approx(38.42)
    assert (heat.throttled, heat.note) == ((), "")


def test_throttling_is_an_event_since_the_last_reading(tmp_path: Path) -> None:
    counter = "sys/devices/system/cpu/cpu0/thermal_throttle/core_throttle_count"
    sensors = LinuxSensors(tree(tmp_path, {counter: "7"}))
    assert sensors.read().throttled == ()
    (tmp_path / counter).write_text("9")
    assert sensors.read().throttled == ("the processor has throttled itself against heat",)
    assert sensors.read().throttled == ()


@pytest.mark.parametrize(("bits", "said"), [("0x50000", 0), ("0x4", 1), ("0xd", 3), ("0x0", 0)])
def test_the_pi_tells_now_from_the_past(tmp_path: Path, bits: str, said: int) -> None:
    assert len(LinuxSensors(tree(tmp_path, {PI_THROTTLED: bits})).read().throttled) == said


@pytest.mark.parametrize(
    ("kind", "state", "slow"), [("Processor", "3", True), ("Processor", "0", False), ("Fan", "3", False),
                                ("cpufreq-cpu0", "1", True), ("intel_powerclamp", "-1", False)]
)  # fmt: skip
def test_cooling_that_costs_speed(tmp_path: Path, kind: str, state: str, slow: bool) -> None:
    place = "sys/class/thermal/cooling_device0"
    found = LinuxSensors(tree(tmp_path, {f"{place}/type": kind, f"{place}/cur_state": state})).read().throttled
    assert bool(found) == slow


def test_nonsense_of_the_firmware_is_no_reading(tmp_path: Path) -> None:
    files = {
        "sys/class/hwmon/hwmon0/name": "k10temp",
        "sys/class/hwmon/hwmon0/temp1_input": "61250",
        "sys/class/hwmon/hwmon0/temp1_crit": "65261850",
        "sys/class/hwmon/hwmon1/name": "iwlwifi_1",
        "sys/class/hwmon/hwmon1/temp1_input": "",
        "sys/class/hwmon/hwmon2/name": "acpitz",
        "sys/class/hwmon/hwmon2/temp1_input": "-274000",
    }
    heat = LinuxSensors(tree(tmp_path, files)).read()
    assert (heat.temperatures, heat.margin) == ({"k10temp": 61.25}, None)


# macOS


def read_until(sensors: Sensors, seen: Callable[[Heat], object]) -> Heat:
    until = time.monotonic() + 5
    while not seen(heat := sensors.read()) and time.monotonic() < until:
        time.sleep(0.01)
    return heat


def test_macos_levels_that_cost_speed() -> None:
    said = []
    for level in (None, 0, 1, 2, 3, 4):
        with closing(MacSensors(lambda level=level: level, lambda: "")) as sensors:
            said.append(sensors.read().throttled)
    assert [len(each) for each in said] == [0, 0, 0, 1, 1, 1]
    assert said[3] == ("macOS reports heavy thermal pressure",)


def test_pmset_of_an_intel_mac_and_of_apple_silicon() -> None:
    intel, apple = ((RECORDED / name).read_text() for name in ("pmset-intel.txt", "pmset-m2.txt"))
    assert (speed_limit(intel), speed_limit(apple), speed_limit("")) == (73, None, None)
    with closing(MacSensors(lambda: 0, lambda: intel)) as sensors:
        heat = read_until(sensors, lambda heat: heat.throttled)
    assert heat.throttled == ("macOS limits the processor to 73 % of its speed",)
    assert "tells no temperatures" in heat.note


def test_pmset_keeps_nobody_waiting() -> None:
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
    assert len(asked) > 2, "again and again"
    assert threading.current_thread() not in asked
    assert not asked[0].is_alive()


# Windows


def test_libre_hardware_monitor_by_its_web_server() -> None:
    heat = from_web((RECORDED / "lhm-data.json").read_bytes())
    assert heat.temperatures == {"AMD Ryzen 7 5800X": 71.9, "NVIDIA GeForce RTX 3060": 44.0}


def test_wmi_of_an_old_libre_hardware_monitor_wins_over_the_firmware() -> None:
    heat = from_wmi((RECORDED / "wmi-lhm.json").read_bytes())
    assert heat.temperatures == {"intelcpu": 88.0, "nvme": 41.0}
    assert heat.throttled == ()


def test_windows_alone_knows_its_thermal_zones() -> None:
    heat = from_wmi((RECORDED / "wmi-zones.json").read_bytes())
    assert heat.temperatures == {"TZ.TZ00": 55.9}
    assert heat.throttled == ("Windows limits the processor to 60 % against heat",)


@pytest.mark.parametrize(
    "junk", [b"", b"<html>", b"[]", b'{"sensors": 5}', b'{"Children": [{"Value": "x \xc2\xb0C"}]}']
)
def test_junk_is_no_reading(junk: bytes) -> None:
    assert from_web(junk) == Heat()
    assert from_wmi(junk).temperatures == {}
    assert merged(from_web(junk), from_wmi(junk)).note == NOTE


def test_windows_asks_on_a_thread_of_its_own() -> None:
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


def test_gpus_by_nvml(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", driver())
    monkeypatch.setattr("importlib.util.find_spec", lambda _: True)
    hot, idle = NvidiaSensors().read()
    assert (hot.name, hot.utilisation, hot.temperature, hot.memory_used) == ("NVIDIA T4", 97.0, 88.0, 3 << 30)
    assert hot.throttled == ("the GPU is slowed down by heat (software)",), "a power cap is somebody's setting"
    assert (idle.name, idle.throttled) == ("NVIDIA L4", ())


def test_a_driver_that_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
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


def test_a_gpu_that_has_fallen_off_the_bus(monkeypatch: pytest.MonkeyPatch) -> None:
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
