"""Windows: LibreHardwareMonitor through its web server or (up to 0.9.4) WMI, else the thermal zones of Windows.

Each source may be absent or slow, so a thread polls them every few seconds and `read` returns the newest result.
"""

from __future__ import annotations

import http.client
import subprocess
from collections.abc import Callable, Iterator
from typing import Any

import msgspec

from saywell.machine.sensors import Heat, Polled

NOTE = (
    "no temperatures: start LibreHardwareMonitor as administrator and turn on its web server "
    "(Options, Remote Web Server, Run)"
)
PORT = 8085
KELVIN = 273.15
WMI_TEMPERATURE = "Temperature"
_EVERY_S, _TIMEOUT_S = 5.0, 1.0
_WMI_EVERY = 6
"""WMI is queried in one of this many rounds: it starts a process."""
_WMI = (
    "$ErrorActionPreference='SilentlyContinue';"
    "$s=Get-CimInstance -Namespace root/LibreHardwareMonitor -ClassName Sensor -Filter \"SensorType='Temperature'\""
    "|Select-Object Identifier,Name,SensorType,Value;"
    "$z=Get-CimInstance -ClassName Win32_PerfFormattedData_Counters_ThermalZoneInformation"
    "|Select-Object Name,Temperature,PercentPassiveLimit,ThrottleReasons;"
    "ConvertTo-Json -Compress -Depth 3 @{sensors=@($s);zones=@($z)}"
)
"""Both sources in one PowerShell: {"sensors": […], "zones": […]}."""


class WindowsSensors:
    """Implements Sensors."""

    def __init__(self, web: Callable[[], bytes] | None = None, wmi: Callable[[], bytes] | None = None) -> None:
        self._web, self._wmi = web or ask_web, wmi or ask_wmi
        self._turn, self._from_wmi = 0, Heat()
        self._heat = Polled(self._ask, _EVERY_S, Heat(note=NOTE))

    def read(self) -> Heat:
        return self._heat.latest

    def close(self) -> None:
        self._heat.close()

    def _ask(self) -> Heat:
        if self._turn % _WMI_EVERY == 0:
            self._from_wmi = from_wmi(self._wmi())
        self._turn += 1
        return merged(from_web(self._web()), self._from_wmi)


def merged(web: Heat, wmi: Heat) -> Heat:
    """The web server's temperatures if it has any, else those of WMI; throttling is known to WMI alone."""
    best = web if web.temperatures else wmi
    note = "" if best.temperatures else NOTE
    return Heat(temperatures=best.temperatures, throttled=wmi.throttled, note=note)


def from_web(text: bytes) -> Heat:
    """LibreHardwareMonitor's `data.json`: a tree whose leaves are sensors with texts such as `54,0 °C`."""
    try:
        tree = msgspec.json.decode(text) if text else {}
    except msgspec.DecodeError:
        return Heat()  # another program listens on that port
    hottest: dict[str, float] = {}
    for chip, value in _leaves(tree, ()):
        hottest[chip] = max(value, hottest.get(chip, value))
    return Heat(temperatures=hottest)


def _leaves(node: Any, above: tuple[str, ...]) -> Iterator[tuple[str, float]]:
    """(chip, °C) of every temperature below a node. The tree is computer, chip, kind, sensor."""
    if not isinstance(node, dict):
        return
    here = (*above, str(node.get("Text", "")))
    value = str(node.get("Value", ""))
    if value.endswith("°C"):
        number = value.removesuffix("°C").strip().replace(",", ".")
        degrees = _number(number)
        if degrees is not None and len(here) > 2:
            yield here[-3], degrees
    children = node.get("Children")
    for child in children if isinstance(children, list) else []:
        yield from _leaves(child, here)


def from_wmi(text: bytes) -> Heat:
    """The output of the PowerShell command `_WMI`."""
    try:
        answer = msgspec.json.decode(text, type=_Answer) if text else _Answer()
    except (msgspec.DecodeError, msgspec.ValidationError):
        return Heat()
    hottest: dict[str, float] = {}
    throttled = []
    for zone in answer.zones:
        if zone is not None and zone.Temperature > KELVIN:  # 0 K is a zone without a sensor
            hottest[zone.Name.strip("\\_")] = round(zone.Temperature - KELVIN, 1)
        if zone is not None and (zone.ThrottleReasons or 0 < zone.PercentPassiveLimit < 100):
            throttled.append(f"Windows limits the processor to {zone.PercentPassiveLimit} % against heat")
    sensors = [sensor for sensor in answer.sensors if sensor is not None and sensor.SensorType == WMI_TEMPERATURE]
    if sensors:  # better than the firmware's zones, which are often constant
        hottest = {}
        for sensor in sensors:
            chip = sensor.Identifier.strip("/").partition("/")[0] or sensor.Name
            hottest[chip] = max(sensor.Value, hottest.get(chip, sensor.Value))
    return Heat(temperatures=hottest, throttled=tuple(throttled[:1]))


class _Sensor(msgspec.Struct):
    Identifier: str = ""
    Name: str = ""
    SensorType: str = ""
    Value: float = 0.0


class _Zone(msgspec.Struct):
    Name: str = ""
    Temperature: float = 0.0
    """K."""
    PercentPassiveLimit: int = 100
    ThrottleReasons: int = 0


class _Answer(msgspec.Struct):
    sensors: list[_Sensor | None] = []
    zones: list[_Zone | None] = []


def ask_web() -> bytes:
    """`data.json` of LibreHardwareMonitor on this machine; empty if it does not answer."""
    connection = http.client.HTTPConnection("127.0.0.1", PORT, timeout=_TIMEOUT_S)
    try:
        connection.request("GET", "/data.json")
        response = connection.getresponse()
        return response.read(1 << 20) if response.status == 200 else b""
    except (OSError, http.client.HTTPException):
        return b""
    finally:
        connection.close()


def ask_wmi() -> bytes:
    """Output of the WMI queries; empty without PowerShell."""
    command = ["powershell.exe", "-NoProfile", "-NonInteractive", "-Command", _WMI]
    try:
        return subprocess.run(command, capture_output=True, timeout=20.0, check=False).stdout
    except (OSError, subprocess.TimeoutExpired):
        return b""


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None
