"""One engine inside a memory limit, for `saywell bench stability`: asked by lines of JSON, answers in lines of JSON.

{"limit": …, "group": …, "about": "…"}     it is locked in; what limits it
{"plan": …}  or  {"refused": "…"}          it is ready, or the plan says it cannot be done
{"chars": 300, "seed": 0, "clients": 1}    → {"answers": [{"ok": true, "latency_s": …}, …], "steps": […]}
"""

from __future__ import annotations

import json
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from saywell.bench.limits import Cage, enter
from saywell.bench.setting import SENTENCES, TRIES


@dataclass(frozen=True, slots=True, kw_only=True)
class Variant:
    """What is switched on."""

    name: str
    budget: bool = False
    """The plan knows the limit, keeps to a budget within it, and the engine gives up work when memory presses."""
    affinity: bool = False
    """Threads are pinned to cores."""
    estimate: bool = False
    """A text whose estimate does not fit is refused before it starts."""


VARIANTS = (
    Variant(name="baseline"),
    Variant(name="+ memory budget", budget=True),
    Variant(name="+ CPU affinity", budget=True, affinity=True),
    Variant(name="+ pre-estimation", budget=True, affinity=True, estimate=True),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Setup:
    """What a child is told."""

    variant: Variant
    limit: int
    """Bytes."""
    kind: str
    group: str | None
    wishes: dict[str, Any]
    """Settings."""
    frames: int | None
    """Of each sentence, for a model with random weights that never ends by itself."""
    timeout_s: float

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @staticmethod
    def from_json(text: str) -> Setup:
        fields = json.loads(text)
        return Setup(**{**fields, "variant": Variant(**fields["variant"])})


def text_of(chars: int) -> str:
    """Ordinary sentences, exactly so many characters."""
    whole = " ".join(SENTENCES * (1 + chars // len(SENTENCES[0])))
    return whole[: chars - 1] + "."


def run(setup: Setup) -> None:
    """Lock in, plan, load, answer until standard input ends."""
    enter(Cage(kind=setup.kind, bytes=setup.limit, group=Path(setup.group) if setup.group else None))
    from saywell.engine import launch
    from saywell.errors import SaywellError

    try:
        decision = decision_for(setup)
        speaker = launch.start(decision, worker=True)
    except SaywellError as error:
        _tell({"refused": error.message})
        return
    names = ("executor", "precision", "threads", "affinity", "slots", "lookahead", "chunk_chars", "chunk_frames",
             "cache_entries", "memory_budget", "adapt", "check_memory")  # fmt: skip
    _tell({"plan": {name: getattr(decision.plan, name) for name in names}})
    with speaker:
        for line in sys.stdin:
            asked = json.loads(line)
            _tell(answer(speaker, setup, asked["chars"], asked["seed"], asked["clients"]))


def decision_for(setup: Setup) -> Any:
    """The plan of a variant: each switch is a field of the settings or of the plan the engine obeys."""
    from saywell.engine import launch
    from saywell.machine import detect
    from saywell.settings import load_settings

    variant, hardware = setup.variant, detect()
    wishes = {**setup.wishes, "adapt": variant.budget, "check_memory": variant.estimate}
    if not variant.budget:
        # What a program plans that reads the machine's memory and not its container's.
        hardware = replace(hardware, limits=replace(hardware.limits, memory=None))
    elif setup.group is None:
        wishes["memory_budget_mb"] = setup.limit >> 20
    decision = launch.decide(load_settings(wishes), hardware)
    pinned = (decision.plan.affinity or pinning(hardware, decision.plan.threads)) if variant.affinity else ()
    return replace(decision, plan=replace(decision.plan, affinity=pinned))


def pinning(hardware: Any, threads: int) -> tuple[int, ...]:
    """One logical CPU a performance core, as many as there are threads; none where the system does not number them."""
    allowed = set(hardware.limits.cpus)
    fast = [cpu for cpu in hardware.cpu.performance_cpus if not allowed or cpu in allowed]
    return tuple(fast[:threads]) if len(fast) >= threads else ()


def answer(speaker: Any, setup: Setup, chars: int, seed: int, clients: int) -> dict[str, Any]:
    """So many clients ask for a text of this length at once."""
    with ThreadPoolExecutor(clients) as pool:
        found = list(pool.map(lambda client: _one(speaker, setup, chars, seed * 100 + client), range(clients)))
    return {"answers": found, "steps": list(speaker.engine.health().pressure.steps)}


def _one(speaker: Any, setup: Setup, chars: int, seed: int) -> dict[str, Any]:
    from saywell.errors import BadAudio, SaywellError

    began = time.perf_counter()
    for draw in range(TRIES):
        try:
            audio = speaker.say(text_of(chars), seed=seed + 10_000 * draw, max_frames=setup.frames,
                                timeout_s=setup.timeout_s)  # fmt: skip
        except BadAudio as error:
            if setup.frames is None or draw + 1 == TRIES:
                return {"ok": False, "error": error.code, "latency_s": time.perf_counter() - began}
            began = time.perf_counter()  # random weights end when they like; another draw is another request
        except SaywellError as error:
            return {"ok": False, "error": error.code, "latency_s": time.perf_counter() - began}
        else:
            summary = audio.summary
            return {"ok": True, "latency_s": summary.total_s, "first_s": summary.first_audio_s,
                    "audio_s": summary.audio_s}  # fmt: skip
    raise AssertionError("the last draw always returns")


def _tell(found: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(found) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    run(Setup.from_json(sys.argv[1]))
