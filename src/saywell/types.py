"""The nouns of the program: Request → Sequence → Frame → AudioChunk, and the facts about a model and its voices."""

from __future__ import annotations

import hashlib
import json
import numbers
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from saywell.errors import InvalidRequest, SaywellError

Samples = npt.NDArray[np.float32]
"""Mono audio, shape [n], nominally within [-1, 1]."""

FinishReason = Literal["stop", "length", "loop", "empty"]
"""Why a sequence ended: by itself; at the frame limit; repeating itself; before it said anything."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SamplingParams:
    """How tokens are drawn. None means the family's own default. Families without sampling ignore it."""

    temperature: float | None = None
    """0 (greedy) to 2."""
    top_p: float | None = None
    """Above 0, to 1."""
    repetition_penalty: float | None = None
    """Above 0, to 2; 1 is none."""
    seed: int | None = None
    """0 to 2**63 - 1. None: a new one each time, for a single-shot model always 0. The same seed gives the same audio,
    alone or in a batch."""

    def __post_init__(self) -> None:
        _within(self, "temperature", 0.0, 2.0)
        _within(self, "top_p", 1e-6, 1.0)
        _within(self, "repetition_penalty", 1e-6, 2.0)
        _within(self, "seed", 0, 2**63 - 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Option:
    """What a model lets a request choose: a number within bounds, or one of some words."""

    low: float = 0.0
    high: float = 0.0
    choices: tuple[str, ...] = ()
    """The words; empty: it is a number."""
    about: str = ""
    """For people: what it changes."""

    def check(self, name: str, value: object, model: str) -> None:
        """Raise InvalidRequest, naming what there is, for a value it does not take."""
        if self.choices:
            if value not in self.choices:
                there = ", ".join(self.choices)
                raise InvalidRequest(f"{name} of {model} is one of {there}, not {value!r:.80}", param=name)
        elif isinstance(value, bool) or not isinstance(value, int | float) or not self.low <= value <= self.high:
            bounds = f"between {self.low:g} and {self.high:g}"
            raise InvalidRequest(f"{name} of {model} is a number {bounds}, not {value!r:.80}", param=name)


SPEED = {"speed": Option(low=0.25, high=4.0, about="the pace; 1 is the model's own, the pitch is kept")}
SEED = {"seed": Option(high=2.0**63, about="which draw; the same seed gives the same sound")}
SAMPLING = {
    "temperature": Option(low=0.0, high=2.0, about="how far from the likeliest token it may draw; 0: not at all"),
    "top_p": Option(low=1e-6, high=1.0, about="the share of the likeliest tokens it draws from"),
    "repetition_penalty": Option(low=1e-6, high=2.0, about="how much less likely a token is that was just drawn"),
    **SEED,
}
"""Of models that draw tokens."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reference:
    """A recording of a voice to speak with, decoded, and what is said in it."""

    pcm: bytes
    """float32 mono, native byte order."""
    sample_rate: int
    """Hz."""
    transcript: str = ""

    @property
    def key(self) -> str:
        """SHA-256 of all of it: two references with one key are the same voice."""
        said = self.transcript.encode("utf-8", "surrogatepass")
        digest = hashlib.sha256(f"{self.sample_rate} {len(said)} ".encode() + said)
        digest.update(self.pcm)
        return digest.hexdigest()


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One text to be spoken. `text` is data: it never becomes a control token, a path or a log line."""

    text: str
    voice: str | None = None
    """A voice id; None: the model's default."""
    language: str | None = None
    """BCP-47 tag; None: the voice's own."""
    speed: float = 1.0
    """0.25 to 4; pitch is kept."""
    sampling: SamplingParams = field(default_factory=SamplingParams)
    max_frames: int | None = None
    """Upper limit of frames for each sequence; None: by the plan. Reaching it is reported as finish reason `length`."""
    timeout_s: float | None = None
    """Seconds its reader waits for sound, all waits together, until the work stops with DeadlineExceeded; None: by the
    plan. How long it takes to listen does not count. Where text is fed, also how long the next piece may take to come,
    each time; meanwhile no sound is waited for."""
    priority: int = 0
    """-10 to 10; higher goes first."""
    raw: bool = False
    """The text as it is, one sequence, no normalisation, no stitching, no opinion on its length."""
    reference: Reference | None = None
    """Speak like this recording instead of `voice`."""
    timestamps: bool = False
    """Say when each word and phone is heard; only models that know it, see ModelSpec.timestamps."""
    options: dict[str, float | str] = field(default_factory=dict)
    """What only some models let choose, by the names of ModelSpec.options."""
    keep_frames: bool = False
    """Put the frames' tokens on the chunks, for a reader in the same process."""
    id: str = field(default_factory=lambda: uuid.uuid4().hex)

    def __post_init__(self) -> None:
        _within(self, "speed", 0.25, 4.0)
        _within(self, "max_frames", 1, 1_000_000)
        _within(self, "timeout_s", 0.001, 86_400.0)
        _within(self, "priority", -10, 10)


def _within(fields: SamplingParams | Request, name: str, low: float, high: float) -> None:
    """Check a number and make it Python's own: NumPy's do not travel to a worker. It is whole where its bounds are."""
    value = getattr(fields, name)
    if value is None:
        return
    whole = isinstance(low, int)
    is_number = isinstance(value, numbers.Integral if whole else numbers.Real)
    if not is_number:
        raise InvalidRequest(f"{name} must be a {'whole ' if whole else ''}number, not {value!r}", param=name)
    if not low <= value <= high:  # also refuses NaN
        raise InvalidRequest(f"{name} must be between {low} and {high}, not {value!r}", param=name)
    object.__setattr__(fields, name, int(value) if whole else float(value))


@dataclass(frozen=True, slots=True, kw_only=True)
class Voice:
    """Somebody a model can speak as."""

    id: str
    name: str
    language: str
    """BCP-47 tag."""
    sample_rate: int
    """Hz of the audio this voice yields."""
    description: str = ""


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class VoiceState:
    """What a model needs to speak as one voice, made of a recording. What is in it only its family knows."""

    key: str
    """SHA-256 of all that follows: states with one key are the same voice."""
    arrays: Mapping[str, npt.NDArray[Any]]
    """Read-only, of any shape and dtype."""
    meta: Mapping[str, str]
    """Short texts, such as what is said in the recording."""

    @classmethod
    def of(cls, arrays: Mapping[str, npt.NDArray[Any]], meta: Mapping[str, str] | None = None) -> VoiceState:
        """The state made of copies of these."""
        kept = {
            name: np.array(array, array.dtype.newbyteorder("<"), order="C") for name, array in sorted(arrays.items())
        }
        known = dict(meta or {})
        digest = hashlib.sha256(json.dumps([list(kept), sorted(known.items())]).encode())
        for array in kept.values():
            array.flags.writeable = False
            digest.update(json.dumps([array.dtype.str, array.shape]).encode())
            digest.update(array.tobytes())
        return cls(key=digest.hexdigest(), arrays=kept, meta=known)

    @property
    def nbytes(self) -> int:
        return sum(array.nbytes for array in self.arrays.values())


@dataclass(frozen=True, slots=True, kw_only=True)
class Variant:
    """One way to run a model: by what, on which devices, with which weights."""

    executor: str
    precision: str
    devices: tuple[str, ...] = ("cpu",)
    """Kinds of devices it runs on."""
    package: str = ""
    """The Python package that runs it; empty: it needs none."""
    requires: tuple[str, ...] = ()
    """Traits of the machine (`Hardware.traits`) and releases of packages (`onnxruntime>=1.25`) it needs, or is only
    worth taking with."""
    weight_bytes: int = 0
    """ModelHolder weights."""
    read_bytes_per_frame: int = 0
    """Weights that a step must read for a frame, however many sequences share it; 0: not counted."""
    kv_bytes_per_frame: int = 0
    """KV cache of one sequence for each frame of context."""
    options: dict[str, str] = field(default_factory=dict)
    """Choices that only the family understands, such as kernels; the plan hands them on."""
    about: str = ""
    """What runs it, for people."""
    why: str = ""
    """What speaks for these options."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSpec:
    """The facts about a model that planning needs; no weights. All sizes in bytes."""

    name: str
    family: str
    """File name under `saywell/models/`."""
    kind: Literal["single-shot", "autoregressive"]
    sample_rate: int
    """Hz; a voice may have its own."""
    frame_rate: float
    """Frames per second of audio."""
    variants: tuple[Variant, ...]
    """The ways to run it, best first: of each executor and precision the first that fits the machine is taken."""
    overhead_bytes: int = 0
    """Runtime, libraries and activations beside weights and KV cache, once per process."""
    slot_bytes: int = 0
    """Working memory of one running sequence beside its KV cache."""
    max_context: int = 0
    """Frames of prompt and speech together; 0: no limit."""
    decode_tile: int = 1
    """Frames a decode call should be a multiple of; any other number sounds the same and costs more."""
    max_threads: int = 0
    """Threads beyond which the model gets no faster; 0: no limit."""
    sheds: tuple[str, ...] = ()
    """Plan fields (`threads`, `max_batch_size`) that make the model faster when reduced beside other busy programs."""
    options: dict[str, Option] = field(default_factory=lambda: {**SAMPLING, **SPEED})
    """What changes its sound, by name: fields of SamplingParams, `speed`, and what only this family understands."""
    timestamps: bool = False
    """Whether it can say when each word is heard."""
    clones: bool = False
    """Whether it can speak like a reference recording."""
    default_voice: str = ""
    path: Path | None = None
    """Directory of the model's files, if it has any."""

    @property
    def executors(self) -> tuple[str, ...]:
        """What can run it, best first."""
        return tuple(dict.fromkeys(variant.executor for variant in self.variants))

    @property
    def precisions(self) -> tuple[str, ...]:
        """Those there are, best first."""
        return tuple(dict.fromkeys(variant.precision for variant in self.variants))


@dataclass(frozen=True, slots=True, kw_only=True)
class Timestamp:
    """When a word is heard. Seconds from the beginning of the audio it belongs to."""

    text: str
    """The word in its spoken form: `twenty`, not `20`."""
    start_s: float
    end_s: float
    phones: tuple[tuple[str, float, float], ...] = ()
    """Each of its phones in the model's own notation, with its start and end."""

    def json(self) -> dict[str, Any]:
        """For clients and files; seconds to the tenth of a millisecond."""
        phones = [{"phone": phone, "start": round(a, 4), "end": round(b, 4)} for phone, a, b in self.phones]
        return {"word": self.text, "start": round(self.start_s, 4), "end": round(self.end_s, 4), "phones": phones}

    def later(self, seconds: float) -> Timestamp:
        """The same word, heard `seconds` later, but not before the audio begins."""
        phones = tuple((phone, max(0.0, a + seconds), max(0.0, b + seconds)) for phone, a, b in self.phones)
        start_s, end_s = max(0.0, self.start_s + seconds), max(0.0, self.end_s + seconds)
        return Timestamp(text=self.text, start_s=start_s, end_s=end_s, phones=phones)


@dataclass(slots=True, eq=False, kw_only=True)
class Sequence:
    """One chunk of text on its way through a model. The engine owns it; `prompt` and `state` belong to the family."""

    request: Request
    index: int
    """Position in the text: 0, 1, …"""
    source: str
    """The slice of the request's text."""
    text: str
    """What is spoken: `source`, normalised."""
    voice: Voice
    voice_state: VoiceState | None = None
    """What `prepare` made for the request; None for the default voice."""
    seed: int
    max_frames: int
    prompt: Any = None
    state: Any = None
    slot: int = -1
    frames: int = 0
    """Frames produced so far."""
    timestamps: tuple[Timestamp, ...] = ()
    """Set by the family in `prefill` if the request asks for them: seconds from the first sample it makes."""


@dataclass(frozen=True, slots=True, eq=False)
class Frame:
    """What one step gave one sequence: codebook tokens, a speech token, or samples. `finish` is set on the last one."""

    sequence: Sequence
    data: npt.NDArray[Any] | None
    """None when the end carries nothing to decode."""
    finish: FinishReason | None = None
    error: SaywellError | None = None
    """What ended this sequence's request; the other sequences of the step go on."""


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class AudioChunk:
    """A piece of the answer, in text order."""

    request_id: str
    index: int
    """Which sequence it belongs to."""
    samples: Samples
    sample_rate: int
    final: bool = False
    """The last chunk of its sequence."""
    text: str = ""
    """On the first chunk of a sequence: the slice of the request's text it speaks."""
    timestamps: tuple[Timestamp, ...] = ()
    """On the first chunk of a sequence, if asked for: its words, seconds from the beginning of the answer."""
    frames: tuple[npt.NDArray[Any], ...] = ()
    """What was decoded into these samples, if the request keeps frames."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """What a finished request cost and gave. Seconds on the monotonic clock, less those spent waiting for fed text."""

    finish_reason: FinishReason
    sequences: int
    frames: int
    audio_s: float
    queued_s: float
    """Submission to the first slot."""
    first_audio_s: float
    """Submission to the first audio (TTFA)."""
    total_s: float
    """Submission to the last audio."""
    seed: int

    @property
    def rtf(self) -> float:
        """Real-time factor: seconds from submission to the end per second of audio; lower is better."""
        return self.total_s / self.audio_s if self.audio_s else float("inf")


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Audio:
    """A collected stream."""

    samples: Samples
    sample_rate: int
    summary: Summary
    timestamps: tuple[Timestamp, ...] = ()
    """When each word is heard, if the request asked for it."""

    @property
    def duration_s(self) -> float:
        return len(self.samples) / self.sample_rate

    def save(self, path: str | Path, format: str | None = None) -> Path:
        """Write to `path` in the format its extension names (wav, flac, mp3, opus, aac, pcm)."""
        from saywell.audio.encode import save

        return save(path, self.samples, self.sample_rate, format)
