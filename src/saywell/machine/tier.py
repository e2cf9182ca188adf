"""A processor's class by its name: it picks a machine's starting values (`plan/defaults.py`) and is shown to people.

What is measured wins over every value it picks."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from saywell.machine.facts import Hardware

LOW, I5, INTEL_HIGH = "low_end", "i5_baseline", "intel_high_end"
RYZEN5, RYZEN_HIGH, SERVER = "ryzen_5", "ryzen_high_end", "server"
ARM_SERVER, ARM_BOARD, ARM_LAPTOP, UNKNOWN = "arm_server", "arm_board", "arm_laptop", "unknown"
FANLESS_MACS = {"Mac14,2", "Mac14,15", "Mac15,12", "Mac15,13", "Mac16,12", "Mac16,13"}
"""MacBook Air since the M2: the identifier no longer says so."""


def cpu_tier(hardware: Hardware) -> str:
    """i3 and old i5 → low_end, i5_baseline, intel_high_end, ryzen_5, ryzen_high_end, m1_air, m1_pro, arm_server, …"""
    name = re.sub(r"\((R|TM)\)", "", hardware.cpu.model, flags=re.IGNORECASE)
    for rule in (_apple, _intel, _amd, _arm):
        if label := rule(name, hardware):
            return label
    return UNKNOWN


def fanless(hardware: Hardware) -> bool:
    """True for machines known to have no fan: long work heats them until they slow down."""
    return hardware.product.startswith("MacBookAir") or hardware.product in FANLESS_MACS


def _apple(name: str, hardware: Hardware) -> str:
    found = re.search(r"Apple (M\d+)(?: (Pro|Max|Ultra))?", name)
    if not found:
        return ""
    kind = found[2].lower() if found[2] else ("air" if fanless(hardware) else "")
    return "_".join(part for part in (found[1].lower(), kind) if part)


def _intel(name: str, hardware: Hardware) -> str:
    if "Xeon" in name:
        return SERVER
    if re.search(r"\bi3\b|Celeron|Pentium|Atom|Intel N\d+|Processor N\d+|Core 3\b|Core2|Core 2", name):
        return LOW
    found = re.search(r"\bi([579])(?:-|\s+CPU\s+(?:[A-Z]\s+)?)(\d{3,5})", name)
    if found:
        if _generation(found[2]) < 8 and hardware.cpu.physical <= 4:  # what an i5 of today does with four cores
            return I5 if found[1] in "79" and hardware.cpu.physical == 4 else LOW
        return {"5": I5}.get(found[1], INTEL_HIGH)
    found = re.search(r"Core (?:Ultra )?(?:X)?([579])\b", name)
    if found:
        return I5 if found[1] == "5" else INTEL_HIGH
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
    found = re.search(r"Ryzen (?:AI )?(?:Max\+? |(\d))", name, re.IGNORECASE)
    if not found:
        return LOW if "Athlon" in name or re.search(r"AMD A\d+-", name) else ""
    return {"3": LOW, "5": RYZEN5}.get(found[1] or "", RYZEN_HIGH)


def _arm(name: str, hardware: Hardware) -> str:
    if hardware.arch != "arm64":
        return ""
    if re.search(r"Neoverse|Graviton|Ampere|Grace|Cobalt|Axion|Kunpeng", name):
        return ARM_SERVER
    return ARM_LAPTOP if re.search(r"Snapdragon|Oryon", name) else ARM_BOARD
