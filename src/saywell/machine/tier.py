"""The class of a processor by its name. It selects starting values (`plan/defaults.py`), which measurements override,
and is shown to users."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from saywell.machine.facts import Hardware

LOW, I5, INTEL_HIGH = "low_end", "i5_baseline", "intel_high_end"
RYZEN5, RYZEN_HIGH, SERVER = "ryzen_5", "ryzen_high_end", "server"
ARM_SERVER, ARM_BOARD, ARM_LAPTOP, UNKNOWN = "arm_server", "arm_board", "arm_laptop", "unknown"
FANLESS_MACS = {"Mac14,2", "Mac14,15", "Mac15,12", "Mac15,13", "Mac16,12", "Mac16,13"}
"""MacBook Airs since the M2, whose identifiers no longer contain the name."""


def cpu_tier(hardware: Hardware) -> str:
    """i3 and old i5 → low_end, i5_baseline, intel_high_end, ryzen_5, ryzen_high_end, m1_air, m1_pro, arm_server, …"""
    name = re.sub(r"\((R|TM)\)", "", hardware.cpu.model, flags=re.IGNORECASE)
    for rule in (_apple, _intel, _amd, _arm):
        if label := rule(name, hardware):
            return label
    return UNKNOWN


def fanless(hardware: Hardware) -> bool:
    """Whether the machine is known to have no fan: sustained load heats it until it throttles."""
    return hardware.product.startswith("MacBookAir") or hardware.product in FANLESS_MACS


def _apple(name: str, hardware: Hardware) -> str:
    match = re.search(r"Apple (M\d+)(?: (Pro|Max|Ultra))?", name)
    if not match:
        return ""
    kind = match[2].lower() if match[2] else ("air" if fanless(hardware) else "")
    return "_".join(part for part in (match[1].lower(), kind) if part)


def _intel(name: str, hardware: Hardware) -> str:
    if "Xeon" in name:
        return SERVER
    if re.search(r"\bi3\b|Celeron|Pentium|Atom|Intel N\d+|Processor N\d+|Core 3\b|Core2|Core 2", name):
        return LOW
    match = re.search(r"\bi([579])(?:-|\s+CPU\s+(?:[A-Z]\s+)?)(\d{3,5})", name)
    if match:
        if _generation(match[2]) < 8 and hardware.cpu.physical <= 4:  # an old quad-core i7 is like an i5 of today
            return I5 if match[1] in "79" and hardware.cpu.physical == 4 else LOW
        return {"5": I5}.get(match[1], INTEL_HIGH)
    match = re.search(r"Core (?:Ultra )?(?:X)?([579])\b", name)
    if match:
        return I5 if match[1] == "5" else INTEL_HIGH
    return ""


def _generation(digits: str) -> int:
    """750 → 1, 7200 → 7, 1334 (as in i5-1334U) → 13, 10210 → 10."""
    if len(digits) == 3:
        return 1
    return int(digits[:2]) if len(digits) == 5 or digits[0] == "1" else int(digits[0])


def _amd(name: str, _hardware: Hardware) -> str:
    if "EPYC" in name:
        return SERVER
    if "Threadripper" in name:
        return RYZEN_HIGH
    match = re.search(r"Ryzen (?:AI )?(?:Max\+? |(\d))", name, re.IGNORECASE)
    if not match:
        return LOW if "Athlon" in name or re.search(r"AMD A\d+-", name) else ""
    return {"3": LOW, "5": RYZEN5}.get(match[1] or "", RYZEN_HIGH)


def _arm(name: str, hardware: Hardware) -> str:
    if hardware.arch != "arm64":
        return ""
    if re.search(r"Neoverse|Graviton|Ampere|Grace|Cobalt|Axion|Kunpeng", name):
        return ARM_SERVER
    return ARM_LAPTOP if re.search(r"Snapdragon|Oryon", name) else ARM_BOARD
