"""`saywell plan`: the plan with its reasons, for this machine or a recorded one."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec

from saywell.commands import show
from saywell.engine.launch import decide
from saywell.errors import InvalidRequest
from saywell.files import open_file
from saywell.machine import Hardware, detect
from saywell.plan.plan import Plan, changed
from saywell.settings import Settings

_MAX_BYTES = 1 << 20
"""Limit for the file of a recorded machine."""


def run(settings: Settings, machine: Path | None, *, as_json: bool) -> None:
    """Print the plan. Raises PlanError for an impossible setting."""
    decision = decide(settings, read_machine(machine) if machine else detect())
    hardware, plan = decision.hardware, decision.plan
    if as_json:
        document = {
            "fingerprint": hardware.fingerprint(),
            "cpu_tier": hardware.cpu_tier,
            "hardware": hardware,
            "plan": _as_builtins(plan),
        }
        print(show.as_json(document))  # noqa: T201
        return
    console = show.console()
    console.print(show.hardware_panel(hardware))
    console.print(show.plan_panel(plan, full=True))


def _as_builtins(plan: Plan) -> dict[str, Any]:
    """Every field of the plan; of each degradation level only the fields that it changes."""
    fields: dict[str, Any] = msgspec.to_builtins(replace(plan, levels=()), enc_hook=str)
    levels = [
        {"name": level.name, "against": level.against, "frees": level.frees, "audible": level.audible,
         "changes": changed(plan, level.plan)}
        for level in plan.levels
    ]  # fmt: skip
    return {**fields, "device": str(plan.device), "levels": levels}


def read_machine(file: Path) -> Hardware:
    """A recorded machine (JSON). Raises InvalidRequest."""
    with open_file(file, devices=True) as opened:
        data = opened.read(_MAX_BYTES + 1)
    try:
        if len(data) > _MAX_BYTES:
            raise msgspec.ValidationError(f"it has more than {_MAX_BYTES} bytes")
        return Hardware.from_json(data)
    except (msgspec.ValidationError, msgspec.DecodeError) as error:
        raise InvalidRequest(
            f'{file} does not describe a machine: {error}; `saywell plan --json` shows the form under "hardware"',
            param="machine",
        ) from error
