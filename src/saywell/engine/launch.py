"""From settings to a running engine: settings → hardware → spec → plan → engine."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Any

from saywell.engine import SpeechEngine
from saywell.engine.balanced import BalancedEngine
from saywell.engine.engine import Engine
from saywell.engine.stream import Stream
from saywell.engine.worker.client import EngineClient
from saywell.errors import InvalidText, PlanError, SaywellError
from saywell.machine import Hardware, detect
from saywell.machine.monitor import OWN_MEMORY
from saywell.models.base import built_in, find_spec
from saywell.models.installed import installed
from saywell.plan.memory import measured_overhead
from saywell.plan.plan import Plan, make_plan
from saywell.plan.tuning_store import Record, Store
from saywell.settings import Settings, default_data_dir, load_settings
from saywell.text.lexicon import Lexicon
from saywell.types import Audio, ModelSpec, Request, SamplingParams, Voice

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """The facts and the plan, before anything is loaded."""

    settings: Settings
    hardware: Hardware
    spec: ModelSpec
    plan: Plan
    record: Record | None = None
    """The measurements of this model on this machine."""


def decide(settings: Settings, hardware: Hardware | None = None) -> Decision:
    """Make the plan for this machine (or `hardware`) from the settings and earlier measurements. Loads no weights."""
    hardware = hardware or detect()
    model = facts(settings)
    store = measured(settings, hardware, model)
    spec, record = store.corrected(model), store.load()
    plan = make_plan(settings, hardware, spec, store.measurements())
    if record is not None and record.device != str(plan.device):  # measured on another device
        plan, record = make_plan(settings, hardware, spec), None
    Lexicon.of(plan.lexicon, spec)  # raises for one that cannot be read, before anything is loaded
    return Decision(settings=settings, hardware=hardware, spec=spec, plan=plan, record=record)


def facts(settings: Settings) -> ModelSpec:
    """The spec of the configured model: built-in, installed, or a directory. Raises what `find_spec` raises."""
    name, path = settings.model, settings.model_path
    if name is not None and path is None and name not in built_in() and not Path(name).is_dir():
        model = installed(settings.data_dir or default_data_dir()).get(name)
        path = model.path if model is not None else None
    return find_spec(name, path, settings.voice)


def measured(settings: Settings, hardware: Hardware, spec: ModelSpec) -> Store:
    """The store of measurements of this model on this machine."""
    return Store(settings.data_dir or default_data_dir(), hardware, spec, settings.worker_python)


def build(decision: Decision, *, worker: bool) -> SpeechEngine:
    """The engine for a decision, not yet started: in this process, or in a worker process for each device."""
    if not worker:
        return Engine(decision.spec, decision.plan)
    python = decision.settings.worker_python
    clients = [EngineClient(decision.spec, plan, python=python) for plan in plans_by_device(decision)]
    return clients[0] if len(clients) == 1 else BalancedEngine(clients)


_SAME_SOUND = ("executor", "precision", "chunk_chars", "first_chunk_chars", "max_frames", "max_text_chars")
"""Plan fields that must be equal on all devices of a model: the audio must not depend on the device."""


def plans_by_device(decision: Decision) -> list[Plan]:
    """The decision's plan, and one for each other device of its kind that can hold the model and gives the same audio.

    Only the decision's own if the settings name a device by its index.
    """
    settings, own = decision.settings, decision.plan
    plans = [own]
    if settings.device is not None and ":" in settings.device:
        return plans
    for device in decision.hardware.devices:
        if device.kind != own.device.kind or device == own.device:
            continue
        try:
            plan = decide(replace(settings, device=str(device)), decision.hardware).plan
        except PlanError as error:
            _log.warning("%s is not used: %s", device, error)
            continue
        if different := [name for name in _SAME_SOUND if getattr(plan, name) != getattr(own, name)]:
            _log.warning("%s is not used: its plan differs from that of %s in %s", device, own.device, different)
        else:
            plans.append(plan)
    return plans


def learn(decision: Decision, engine: SpeechEngine) -> None:
    """Store, for later plans, how much memory an engine's worker held in addition to weights and slots."""
    held = engine.held if isinstance(engine, EngineClient) else None
    if held is None or decision.plan.device.kind in OWN_MEMORY:  # memory on the device cannot be measured from outside
        return
    spec, plan = decision.spec, decision.plan
    # Both when idle, without slots, and at its peak; the larger overhead counts.
    idle, busy = (held.idle, 0), (held.most, max(1, held.running))
    overhead = max(measured_overhead(plan, spec, *each) for each in (idle, busy))
    try:
        measured(decision.settings, decision.hardware, spec).learn(plan, overhead, spec.overhead_bytes)
    except OSError as error:
        _log.warning("the engine's memory use could not be stored: %s", error.strerror)


def start(decision: Decision, *, worker: bool = False) -> TTS:
    """Start the engine of a decision. If that fails, everything is released before the error is raised."""
    engine = build(decision, worker=worker)
    try:
        engine.start()
    except BaseException:  # also an interrupt: no thread may outlive the program
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
        """Synthesise and stream: iterate over AudioChunks. `fields`: those of Request and SamplingParams.

        The pieces of an iterable are spoken as they come, and sound like the joined text. A thread of its own reads
        the iterable.
        """
        if isinstance(text, Iterable) and not isinstance(text, str):
            return feed(self.engine, make_request("", self.settings, **fields), text)
        request = text if isinstance(text, Request) else make_request(text, self.settings, **fields)
        return self.engine.submit(request)

    def say(self, text: str | Request | Iterable[str], **fields: Any) -> Audio:
        """Synthesise the whole text."""
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
    """Speak the pieces of a text as they come. `request.text` is empty. An iterable that raises ends the request."""
    stream = engine.submit(request, more=True)

    def give() -> None:
        try:
            for piece in pieces:
                stream.feed(piece)
            stream.end_text()
        except SaywellError as error:
            stream.reject(error)
        except Exception as error:  # noqa: BLE001 - reported to the reader; this is a thread of its own
            why = InvalidText(f"the source of the text failed: {type(error).__name__}: {error}", param="text")
            why.__cause__ = error
            stream.reject(why)

    # A daemon: the iterable may block forever, and must not keep the program from ending.
    threading.Thread(target=give, name="saywell-text", daemon=True).start()
    return stream


_SAMPLING = frozenset(SamplingParams.__dataclass_fields__)


def make_request(text: str, settings: Settings, **fields: Any) -> Request:
    """A Request from flat fields: those of Request and SamplingParams; all others are options of the model."""
    sampling = SamplingParams(**{name: fields.pop(name) for name in list(fields) if name in _SAMPLING})
    options = {name: fields.pop(name) for name in list(fields) if name not in Request.__dataclass_fields__}
    fields["options"] = {**options, **fields.get("options", {})}
    fields.setdefault("voice", settings.voice)
    return Request(text=text, sampling=sampling, **fields)


def open(model: str | None = None, *, worker: bool = False, settings: Settings | None = None, **overrides: Any) -> TTS:
    """Detect the machine, plan, load the model, and return the running engine. `overrides`: fields of Settings.

    `worker`: run the model in a process of its own, on each device that can hold it. Raises PlanError for an impossible
    setting, and what loading raises.
    """
    return start(decide(settings or load_settings({"model": model, **overrides})), worker=worker)
