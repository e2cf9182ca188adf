"""The engine under pressure, for `saywell bench pressure`: told by lines, tells what happens in lines of JSON.

go      speak the same texts again and again, until it is stopped
watch   what the engine's watch costs, measured over some seconds
stop    end; so does the end of standard input

{"event": "ready", "plan": …, "texts": n}                    loaded, and every text spoken once
{"event": "spoken", "began": …, "at": …, "ok": true, …}      a request has ended
{"event": "level", "at": …, "level": 2, "steps": …, …}       a step down or up was taken
{"event": "look", "at": …, "memory": 61.2}                   four times a second
{"event": "watched", "percent": 0.2}                         of one CPU

Times are of the monotonic clock, which all processes of a machine share.
"""

from __future__ import annotations

import hashlib
import json
import sys
import threading
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from saywell.bench.limits import Cage, enter
from saywell.engine.launch import Speaker, decide, start
from saywell.engine.pressure.watch import Watch
from saywell.engine.worker.client import EngineClient
from saywell.errors import BadAudio, SaywellError
from saywell.machine.monitor import Monitor, memory
from saywell.plan.degradation import Timing
from saywell.settings import load_settings
from saywell.types import Audio

TEXTS = (
    "The lighthouse keeper lit the lamp before the ships came home through the fog.",
    "A small boat crossed the bay. Gulls circled over the empty harbour, and nobody was there to see it!",
    "She wrote down every number twice, because the first list was lost on a train to the north, and nobody who had "
    "been on it that evening, the guard least of all, could tell where a brown leather case had gone.",
    "Nobody expected the old clock to strike again after all of those years; it struck thirteen.",
)
_WATCH_S = 10.0
_NEVER = Timing(confirm=1e9, down=1e9, up=1e9)
_EVERY_S, _LOOK_S = 0.05, 0.25
_DRAWS = 40
"""Seeds tried for a text, where random weights end most of them too early."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Setup:
    """What a child is told."""

    limit: int
    """Bytes."""
    kind: str
    group: str | None
    wishes: dict[str, Any]
    """Settings."""
    frames: int | None
    """Of each sentence, for a model with random weights that never ends by itself."""
    readers: int

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @property
    def cage(self) -> Cage:
        return Cage(kind=self.kind, bytes=self.limit, group=Path(self.group) if self.group else None)


class Speaking:
    """Readers that ask for the same texts in turn and compare what they hear with the first time."""

    def __init__(self, speaker: Speaker, setup: Setup) -> None:
        self._speaker, self._frames = speaker, setup.frames
        self._over = threading.Event()
        self._audible = {step.name for step in speaker.plan.levels if step.audible}
        self._seeds = [self._seed(text) for text in TEXTS]
        self._heard = [_digest(self._say(n)) for n in range(len(TEXTS))]
        self._threads = [threading.Thread(target=self._read, args=(n,)) for n in range(setup.readers)]
        self._threads.append(threading.Thread(target=self._watch))

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        self._over.set()
        for thread in self._threads:
            if thread.ident is not None:
                thread.join()

    def _seed(self, text: str) -> int:
        """One whose speech is whole; the first that is tried, but for random weights."""
        for seed in range(_DRAWS):
            try:
                self._speaker.say(text, seed=seed, max_frames=self._frames)
            except BadAudio:
                continue
            return seed
        raise BadAudio(f"none of {_DRAWS} seeds gave whole speech")

    def _say(self, text: int) -> Audio:
        return self._speaker.say(TEXTS[text], seed=self._seeds[text], max_frames=self._frames)

    def _read(self, first: int) -> None:
        number = first
        while not self._over.is_set():
            _tell("spoken", **self._one(number % len(TEXTS)))
            number += 1

    def _one(self, text: int) -> dict[str, Any]:
        began, steps = time.monotonic(), set(self._steps)
        try:
            audio = self._say(text)
        except SaywellError as error:
            time.sleep(_LOOK_S)  # who was refused comes back, but not at once
            return {"began": began, "at": time.monotonic(), "ok": False, "error": error.message}
        steps |= set(self._steps)
        summary = audio.summary
        return {
            "began": began, "at": time.monotonic(), "ok": True, "same": _digest(audio) == self._heard[text],
            "audible": bool(self._audible & steps), "rtf": summary.total_s / summary.audio_s,
            "first_s": summary.first_audio_s, "frame_s": summary.total_s / max(1, summary.frames),
        }  # fmt: skip

    @property
    def _steps(self) -> tuple[str, ...]:
        return self._speaker.engine.health().pressure.steps

    def _watch(self) -> None:
        """Tell of every move on the ladder, and of the memory."""
        level, looked = 0, 0.0
        while not self._over.wait(_EVERY_S):
            now, health = time.monotonic(), self._speaker.engine.health()
            if health.pressure.level != level:
                level = health.pressure.level
                _tell("level", at=now, level=level, steps=health.pressure.steps, reason=health.pressure.reason)
            if now - looked >= _LOOK_S:
                looked, (limit, free) = now, memory()
                _tell("look", at=now, memory=round(100 * (1 - free / limit), 1))


def _digest(audio: Audio) -> str:
    return hashlib.sha256(audio.samples.tobytes()).hexdigest()


def watched(speaker: Speaker) -> float:
    """Percent of one CPU that an engine's watch takes: one like the worker's, in a thread of its own, by its clock."""
    engine = speaker.engine
    monitor = Monitor(also_own=(engine.pid,) if isinstance(engine, EngineClient) else ())
    watch = Watch(speaker.plan, lambda _: None, look=monitor.look, timing=_NEVER)
    watch.start()
    clock = time.pthread_getcpuclockid(watch.thread_id)
    began, spent = time.monotonic(), time.clock_gettime(clock)
    time.sleep(_WATCH_S)
    percent = 100 * (time.clock_gettime(clock) - spent) / (time.monotonic() - began)
    watch.stop()
    monitor.close()
    return percent


def _tell(event: str, **found: Any) -> None:
    sys.stdout.write(json.dumps({"event": event, **found}) + "\n")
    sys.stdout.flush()


def run(setup: Setup) -> None:
    """Lock in, load, do what is asked until standard input ends."""
    enter(setup.cage)
    decision = decide(load_settings(setup.wishes))
    names = ("model", "executor", "precision", "threads", "slots", "chunk_chars", "chunk_frames", "cache_entries")
    plan = {name: getattr(decision.plan, name) for name in names}
    with start(decision, worker=True) as speaker:
        speaking = Speaking(speaker, setup)
        _tell("ready", plan=plan, texts=len(TEXTS))
        for line in sys.stdin:
            if line == "go\n":
                speaking.start()
            elif line == "watch\n":
                _tell("watched", percent=watched(speaker))
            else:
                break
        speaking.stop()


if __name__ == "__main__":
    run(Setup(**json.loads(sys.argv[1])))
