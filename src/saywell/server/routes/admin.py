"""Routes that change the running engine; trusted clients only."""

from __future__ import annotations

from typing import Any

import anyio.to_thread
from fastapi import APIRouter

from saywell.plan.memory import MIB
from saywell.server.routes.common import ERRORS, ServiceOf, Trusted
from saywell.server.schemas import ClearedAnswer

router = APIRouter(dependencies=[Trusted], responses={status: ERRORS[status] for status in (401, 403, 503)})


@router.post("/cache/clear", response_model=ClearedAnswer)
async def clear_cache(service: ServiceOf) -> dict[str, Any]:
    """Clear the engine's caches and return free memory to the system. Running requests are not affected."""
    cleared = await anyio.to_thread.run_sync(service.engine.clear_caches)
    return {"status": "cleared", "freed_mb": round(cleared.freed / MIB, 1)}
