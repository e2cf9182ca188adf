"""What changes the running engine. For its owner only: a key if there are any, else a loopback bind."""

from __future__ import annotations

from typing import Any

import anyio.to_thread
from fastapi import APIRouter

from saywell.engine import Tidied
from saywell.plan.degradation import PressureReport, relieved
from saywell.plan.memory import MIB
from saywell.server.describe import configuration
from saywell.server.routes.common import ERRORS, ServiceOf, Trusted
from saywell.server.schemas import ClearedAnswer, OptimisedAnswer
from saywell.server.service import Service

router = APIRouter(dependencies=[Trusted], responses={status: ERRORS[status] for status in (401, 403, 503)})


@router.post("/cache/clear", response_model=ClearedAnswer)
async def clear_cache(service: ServiceOf) -> dict[str, Any]:
    """Empty the engine's caches and give memory back to the system. Running requests are not touched."""
    done = await _tidy(service, adapt=False)
    return {"status": "cleared", "freed_mb": round(done.freed / MIB, 1)}


@router.post("/optimize-for-hardware", response_model=OptimisedAnswer, response_model_exclude_unset=True)
async def optimise(service: ServiceOf) -> dict[str, Any]:
    """Empty the caches, look at the machine, and give up or take up again at once what the engine's ladder would."""
    done = await _tidy(service, adapt=True)
    if done.before.steps == done.after.steps:
        return {"status": "optimal", "message": "No adjustments needed"}
    return {
        "status": "adjusted",
        "message": done.after.reason,
        "previous_config": _config(service, done.before),
        "new_config": _config(service, done.after),
    }


async def _tidy(service: Service, *, adapt: bool) -> Tidied:
    return await anyio.to_thread.run_sync(lambda: service.engine.tidy(adapt=adapt))


def _config(service: Service, at: PressureReport) -> dict[str, Any]:
    """The configuration at that level of the ladder."""
    return configuration(service.decision, relieved(service.engine.plan, at.steps))
