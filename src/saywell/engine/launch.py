"""From overrides to a running engine: settings → hardware → spec → plan → engine."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from saywell.engine import SpeechEngine
from saywell.engine.engine import Engine
from saywell.engine.stream import Stream
from saywell.engine.worker.client import EngineClient
from saywell.errors import InvalidText, SaywellError
from saywell.machine import Hardware, detect
from saywell.machine.monitor import OWN_MEMORY
from saywell.models.base import FAMILY_OF, find_spec
from saywell.models.installed import installed
from saywell.plan.memory import beside
from saywell.plan.plan import Plan, make_plan
from saywell.plan.tuning_store import Record, Store
from saywell.settings import Settings, default_data_dir, load_settings
from saywell.types import Audio, ModelSpec, Request, SamplingParams, Voice

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """What was found and what was decided, before anything is loaded."""

    settings: Settings
    hardware: Hardware
    spec: ModelSpec
    plan: Plan
    record: Record | None = None
    """What this machine was measured to do with this model."""


def decide(settings: Settings, hardware: Hardware | None = None) -> Decision:
    """Make the plan for these overrides on this machine (or on `hardware`), from what it was measured to do best.

    Loads no weights.
    """
    found = hardware or detect()
    model = facts(settings)
    store = measured(settings, found, model)
    spec, record = store.corrected(model), store.load()
    plan = make_plan(settings, found, spec, store.measurements())
    if record is not None and record.device != str(plan.device):  # a setting, or a GPU that could not be used then
        plan, record = make_plan(settings, found, spec), None
    return Decision(settings=settings, hardware=found, spec=spec, plan=plan, record=record)


def facts(settings: Settings) -> ModelSpec:
    """The spec of the model named: a built-in one, an installed one, or a directory. Raises what `find_spec` raises."""
    name, path = settings.model, settings.model_path
    if name is not None and path is None and name not in FAMILY_OF and not Path(name).is_dir():
        there = installed(settings.data_dir or default_data_dir()).get(name)
        path = there.path if there is not None else None
    return find_spec(name, path, settings.voice)


def measured(settings: Settings, hardware: Hardware, spec: ModelSpec) -> Store:
    """Where the measurements of this machine with this model are kept."""
    return Store(settings.data_dir or default_data_dir(), hardware, spec, settings.worker_python)


def build(decision: Decision, *, worker: bool) -> SpeechEngine:
    """The engine for a decision, not yet started: in a worker process, or in this one."""
    if worker:
        return EngineClient(decision.spec, decision.plan, python=decision.settings.worker_python)
    return Engine(decision.spec, decision.plan)


def learn(decision: Decision, engine: SpeechEngine) -> None:
    """Keep, for later plans, what an engine's worker held beside weights and slots: more than was thought, or less."""
    held = engine.held if isinstance(engine, EngineClient) else None
    if held is None or decision.plan.device.kind in OWN_MEMORY:  # what it holds there is not seen from outside
        return
    spec, plan = decision.spec, decision.plan
    # Idle it has one slot's room at most; what it held at work counts if the slots do not explain it.
    overhead = max(beside(plan, spec, held.idle, 0), beside(plan, spec, held.most, max(1, held.running)))
    try:
        measured(decision.settings, decision.hardware, spec).learn(plan, overhead, spec.overhead_bytes)
    except OSError as error:
        _log.warning("what the engine held in memory could not be kept for later: %s", error.strerror)


def start(decision: Decision, *, worker: bool = False) -> TTS:
    """Load what was decided. If that fails, everything it had begun is given back before the error is raised."""
    engine = build(decision, worker=worker)
    try:
        engine.start()
    except BaseException:  # an interrupt, too: a thread that goes on while the program ends breaks in the middle
        engine.close()
        raise
    return TTS(decision, engine)


class TTS:
    """A running engine for Python programs.

    >>> with saywell.open() as tts:
    ...     tts.say("Hello there.").save("hello.wav")
    """

    def __init__(self, decision: Decision, engine: SpeechEngine) -> None:
        self._decision = decision
        self.settings = decision.settings
        self.hardware = decision.hardware
        self.spec = decision.spec
        self.plan = decision.plan
        self.engine = engine

    def voices(self) -> tuple[Voice, ...]:
        """All voices, the default first."""
        return self.engine.voices()

    def stream(self, text: str | Request | Iterable[str], **fields: Any) -> Stream:
        """Speak as it is synthesised: iterate over AudioChunks. `fields`: those of Request and SamplingParams.

        The pieces of an iterable are spoken as they come, and sound as if they had been given joined. They are taken
        in a thread of their own.
        """
        if isinstance(text, Iterable) and not isinstance(text, str):
            return feed(self.engine, make_request("", self.settings, **fields), text)
        request = text if isinstance(text, Request) else make_request(text, self.settings, **fields)
        return self.engine.submit(request)

    def say(self, text: str | Request | Iterable[str], **fields: Any) -> Audio:
        """Speak, and wait for all of it."""
        return self.stream(text, **fields).collect()

    def close(self, drain_s: float = 0.0) -> None:
        self.engine.close(drain_s)
        learn(self._decision, self.engine)

    def __enter__(self) -> TTS:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def feed(engine: SpeechEngine, request: Request, pieces: Iterable[str]) -> Stream:
    """Speak the pieces of a text as they come. `request` has none. An iterable that fails ends the request."""
    stream = engine.submit(request, more=True)

    def give() -> None:
        try:
            for piece in pieces:
                stream.feed(piece)
            stream.end_text()
        except SaywellError as error:
            stream.reject(error)
        except Exception as error:  # noqa: BLE001 - on a thread of its own: whoever reads the stream is told
            why = InvalidText(f"the text broke off: {type(error).__name__}: {error}", param="text")
            why.__cause__ = error
            stream.reject(why)

    # A daemon: nobody can make an iterable give its next piece, and the program may end without it.
    threading.Thread(target=give, name="saywell-text", daemon=True).start()
    return stream


_SAMPLING = frozenset(SamplingParams.__dataclass_fields__)


def make_request(text: str, settings: Settings, **fields: Any) -> Request:
    """A Request from flat fields; those of SamplingParams, and options of the model, are put where they belong."""
    sampling = SamplingParams(**{name: fields.pop(name) for name in list(fields) if name in _SAMPLING})
    options = {name: fields.pop(name) for name in list(fields) if name not in Request.__dataclass_fields__}
    fields["options"] = {**options, **fields.get("options", {})}
    fields.setdefault("voice", settings.voice)
    return Request(text=text, sampling=sampling, **fields)


def open(model: str | None = None, *, worker: bool = False, settings: Settings | None = None, **overrides: Any) -> TTS:
    """Find out what the machine is, decide, load, and return what speaks. `overrides`: fields of Settings.

    `worker`: run the model in its own process. Raises PlanError for an impossible setting, and what loading raises.
    """
    return start(decide(settings or load_settings({"model": model, **overrides})), worker=worker)
