"""Windows: LibreHardwareMonitor, by its web server or (up to 0.9.4) by WMI, else the thermal zones Windows counts.

All of it may be absent or slow, so a thread asks every few seconds and `read` gives the newest answer.
"""

from __future__ import annotations

import http.client
import subprocess
import threading
from collections.abc import Callable, Iterator
from typing import Any

import msgspec

from saywell.machine.sensors import Heat

NOTE = (
    "no temperatures: start LibreHardwareMonitor as administrator and switch on its web server "
    "(Options, Remote Web Server, Run)"
)
PORT = 8085
KELVIN = 273.15
WMI_TEMPERATURE = "Temperature"
_EVERY_S, _TIMEOUT_S = 5.0, 1.0
_WMI_EVERY = 6
"""Every so many rounds the costlier question is put: it starts a process."""
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
        self._heat = Heat(note=NOTE)
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="saywell-heat", daemon=True)
        self._thread.start()

    def read(self) -> Heat:
        return self._heat

    def close(self) -> None:
        self._over.set()
        self._thread.join()

    def _watch(self) -> None:
        zones, turn = Heat(), 0
        while True:
            if turn % _WMI_EVERY == 0:
                zones = from_wmi(self._wmi())
            self._heat = merged(from_web(self._web()), zones)
            turn += 1
            if self._over.wait(_EVERY_S):
                return


def merged(web: Heat, wmi: Heat) -> Heat:
    """The web server's temperatures where there are any; throttling is only known to WMI."""
    best = web if web.temperatures else wmi
    note = "" if best.temperatures else NOTE
    return Heat(temperatures=best.temperatures, throttled=wmi.throttled, note=note)


def from_web(text: bytes) -> Heat:
    """LibreHardwareMonitor's `data.json`: a tree whose leaves are sensors with texts such as `54,0 °C`."""
    try:
        tree = msgspec.json.decode(text) if text else {}
    except msgspec.DecodeError:
        return Heat()  # another program on that port
    found: dict[str, float] = {}
    for path, value in _leaves(tree, ()):
        found[path] = max(value, found.get(path, value))
    return Heat(temperatures=found)


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
    """What the PowerShell line printed."""
    try:
        answer = msgspec.json.decode(text, type=_Answer) if text else _Answer()
    except (msgspec.DecodeError, msgspec.ValidationError):
        return Heat()
    found: dict[str, float] = {}
    throttled = []
    for zone in answer.zones:
        if zone is not None and zone.Temperature > KELVIN:  # 0 K is a zone without a sensor
            found[zone.Name.strip("\\_")] = round(zone.Temperature - KELVIN, 1)
        if zone is not None and (zone.ThrottleReasons or 0 < zone.PercentPassiveLimit < 100):
            throttled.append(f"Windows limits the processor to {zone.PercentPassiveLimit} % against heat")
    sensors = [sensor for sensor in answer.sensors if sensor is not None and sensor.SensorType == WMI_TEMPERATURE]
    if sensors:  # better than the zones of the firmware, which often stand still
        found = {}
        for sensor in sensors:
            chip = sensor.Identifier.strip("/").partition("/")[0] or sensor.Name
            found[chip] = max(sensor.Value, found.get(chip, sensor.Value))
    return Heat(temperatures=found, throttled=tuple(throttled[:1]))


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
    """`data.json` of a LibreHardwareMonitor on this machine; empty if none answers."""
    connection = http.client.HTTPConnection("127.0.0.1", PORT, timeout=_TIMEOUT_S)
    try:
        connection.request("GET", "/data.json")
        answer = connection.getresponse()
        return answer.read(1 << 20) if answer.status == 200 else b""
    except (OSError, http.client.HTTPException):
        return b""
    finally:
        connection.close()


def ask_wmi() -> bytes:
    """What WMI knows; empty without PowerShell."""
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
