"""The core types: Request → Sequence → Frame → AudioChunk, and the facts about a model and its voices."""

from __future__ import annotations

import hashlib
import json
import numbers
import uuid
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt

from saywell.errors import InvalidRequest, SaywellError

Samples = npt.NDArray[np.float32]
"""Mono audio, shape [n], nominally within [-1, 1]."""

Markup = Literal["auto", "plain", "markdown", "html"]
"""How markup in a text is read; `auto`: whatever the text has."""
FinishReason = Literal["stop", "length", "loop", "empty"]
"""Why a sequence ended: end of speech; frame limit; a repetition loop; no speech at all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SamplingParams:
    """How tokens are sampled. None: the family's default. Ignored by families without sampling."""

    temperature: float | None = None
    """0 (greedy) to 2."""
    top_p: float | None = None
    """Greater than 0, at most 1."""
    repetition_penalty: float | None = None
    """Greater than 0, at most 2; 1: no penalty."""
    seed: int | None = None
    """0 to 2**63 - 1. None: a random one, for a single-shot model always 0. The same seed gives the same audio, alone
    or in a batch."""

    def __post_init__(self) -> None:
        _within(self, "temperature", 0.0, 2.0)
        _within(self, "top_p", 1e-6, 1.0)
        _within(self, "repetition_penalty", 1e-6, 2.0)
        _within(self, "seed", 0, 2**63 - 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Option:
    """A parameter that a model offers to requests: a number within bounds, or one of several words."""

    low: float = 0.0
    high: float = 0.0
    choices: tuple[str, ...] = ()
    """The words; empty: a number."""
    about: str = ""
    """What it changes, for people."""

    def check(self, name: str, value: object, model: str) -> None:
        """Raises InvalidRequest naming the valid values."""
        if self.choices:
            if value not in self.choices:
                there = ", ".join(self.choices)
                raise InvalidRequest(f"{name} of {model} is one of {there}, not {value!r:.80}", param=name)
        elif isinstance(value, bool) or not isinstance(value, int | float) or not self.low <= value <= self.high:
            bounds = f"between {self.low:g} and {self.high:g}"
            raise InvalidRequest(f"{name} of {model} is a number {bounds}, not {value!r:.80}", param=name)


SPEED = {"speed": Option(low=0.25, high=4.0, about="the pace; 1 is the model's own, pitch is preserved")}
SEED = {"seed": Option(high=2.0**63, about="random seed; the same seed gives the same audio")}
SAMPLING = {
    "temperature": Option(low=0.0, high=2.0, about="randomness of sampling; 0: always the most likely token"),
    "top_p": Option(low=1e-6, high=1.0, about="probability mass of the most likely tokens to sample from"),
    "repetition_penalty": Option(low=1e-6, high=2.0, about="how much less likely a recently sampled token becomes"),
    **SEED,
}
"""Options of models that sample tokens."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reference:
    """A decoded recording of a voice to clone, and its transcript."""

    pcm: bytes
    """float32 mono, native byte order."""
    sample_rate: int
    """Hz."""
    transcript: str = ""

    @property
    def key(self) -> str:
        """SHA-256 of all fields: references with the same key are the same voice."""
        transcript = self.transcript.encode("utf-8", "surrogatepass")
        digest = hashlib.sha256(f"{self.sample_rate} {len(transcript)} ".encode() + transcript)
        digest.update(self.pcm)
        return digest.hexdigest()


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One text to speak. `text` is data: it never becomes a control token, a path or a log line."""

    text: str
    voice: str | None = None
    """A voice id; None: the model's default."""
    language: str | None = None
    """BCP-47 tag; None: the voice's own."""
    speed: float = 1.0
    """0.25 to 4; pitch is preserved."""
    sampling: SamplingParams = field(default_factory=SamplingParams)
    max_frames: int | None = None
    """Upper limit of frames per sequence; None: the plan's. Reaching it is reported as finish reason `length`."""
    timeout_s: float | None = None
    """Total seconds that the reader may wait for audio before DeadlineExceeded; None: the plan's. Playback time does
    not count. If text is fed in pieces, also the limit for each wait for the next piece, which does not count towards
    the total."""
    priority: int = 0
    """-10 to 10; higher is served first."""
    raw: bool = False
    """Speak the text unchanged as one sequence: no normalisation, no stitching, no check of the duration."""
    reference: Reference | None = None
    """Speak like this recording instead of `voice`."""
    markup: Markup = "auto"
    lexicon: dict[str, str] = field(default_factory=dict)
    """Word → how to read it: in other words or, between slashes, in IPA; wins over the plan's (`text.lexicon`)."""
    timestamps: bool = False
    """Return the time of each word and phone, if the model can (`ModelSpec.timestamps`)."""
    options: dict[str, float | str] = field(default_factory=dict)
    """Parameters that only some models offer, by the names of `ModelSpec.options`."""
    keep_frames: bool = False
    """Attach the frames' tokens to the chunks, for a reader in the same process."""
    id: str = field(default_factory=lambda: uuid.uuid4().hex)

    def __post_init__(self) -> None:
        _within(self, "speed", 0.25, 4.0)
        _within(self, "max_frames", 1, 1_000_000)
        _within(self, "timeout_s", 0.001, 86_400.0)
        _within(self, "priority", -10, 10)
        if self.markup not in get_args(Markup):
            known = ", ".join(get_args(Markup))
            raise InvalidRequest(f"markup is one of {known}, not {self.markup!r:.80}", param="markup")


def _within(fields: SamplingParams | Request, name: str, low: float, high: float) -> None:
    """Check a number and convert it to a Python number: NumPy's cannot be sent to a worker. Integer bounds mean the
    field must be an integer."""
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
    """A speaker that a model can reproduce."""

    id: str
    name: str
    language: str
    """BCP-47 tag."""
    sample_rate: int
    """Hz of this voice's audio."""
    description: str = ""


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class VoiceState:
    """What a model needs to speak as one voice, made from a recording. Its content is private to the family."""

    key: str
    """SHA-256 of the other fields: states with the same key are the same voice."""
    arrays: Mapping[str, npt.NDArray[Any]]
    """Read-only, of any shape and dtype."""
    meta: Mapping[str, str]
    """Short texts, such as the transcript of the recording."""

    @classmethod
    def of(cls, arrays: Mapping[str, npt.NDArray[Any]], meta: Mapping[str, str] | None = None) -> VoiceState:
        """A state with copies of the arrays."""
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
    """One way to run a model: executor, devices and precision of the weights."""

    executor: str
    precision: str
    devices: tuple[str, ...] = ("cpu",)
    """Kinds of devices it runs on."""
    package: str = ""
    """The Python package of its runtime (`RuntimeSpec.package`); empty: none."""
    requires: tuple[str, ...] = ()
    """Traits of the machine (`Hardware.traits`) and releases of packages (`NAME>=1.25`) without which it does not run
    or is not worth using."""
    weight_bytes: int = 0
    """Weights in memory."""
    read_bytes_per_frame: int = 0
    """Weights read by one step, whatever its batch size; 0: unknown."""
    kv_bytes_per_frame: int = 0
    """KV cache of one sequence per frame of context."""
    options: dict[str, str] = field(default_factory=dict)
    """Choices that only the family understands, such as kernels; the plan passes them on."""
    about: str = ""
    """The runtime, for people."""
    why: str = ""
    """The reason for these options."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSpec:
    """The facts about a model that planning needs. All sizes in bytes."""

    name: str
    family: str
    """Name of its folder in `saywell/models/`."""
    kind: Literal["single-shot", "autoregressive"]
    sample_rate: int
    """Hz; a voice may have its own."""
    frame_rate: float
    """Frames per second of audio."""
    variants: tuple[Variant, ...]
    """Best first: the plan uses the first that fits the machine for each executor and precision."""
    overhead_bytes: int = 0
    """Runtime, libraries and activations, without weights and KV cache, once per process."""
    slot_bytes: int = 0
    """Working memory of one running sequence, without its KV cache."""
    max_context: int = 0
    """Frames of prompt and speech together; 0: no limit."""
    decode_tile: int = 1
    """Decode calls should be multiples of this many frames; other sizes give identical output but cost more."""
    max_threads: int = 0
    """Threads beyond which the model gets no faster; 0: no limit."""
    sheds: tuple[str, ...] = ()
    """Plan fields (`threads`, `max_batch_size`) that speed the model up when reduced while other programs are busy."""
    options: dict[str, Option] = field(default_factory=lambda: {**SAMPLING, **SPEED})
    """Parameters that change its sound, by name: fields of SamplingParams, `speed`, and those of this family alone."""
    timestamps: bool = False
    """Whether it reports the time of each word."""
    phones: bool = False
    """Whether it takes phones (`Sequence.phones`)."""
    whole: bool = False
    """Whether it makes all audio of a sequence at once: then a shorter first sequence is heard earlier."""
    blends: bool = False
    """Whether it speaks with blends of its voices, such as `a(2)+b(1)`."""
    clones: bool = False
    """Whether it can clone the voice of a reference recording."""
    default_voice: str = ""
    path: Path | None = None
    """Directory of the model's files; None: it has none of its own."""

    @property
    def executors(self) -> tuple[str, ...]:
        """Best first."""
        return tuple(dict.fromkeys(variant.executor for variant in self.variants))

    @property
    def precisions(self) -> tuple[str, ...]:
        """Best first."""
        return tuple(dict.fromkeys(variant.precision for variant in self.variants))


@dataclass(frozen=True, slots=True, kw_only=True)
class Timestamp:
    """Start and end of a word, in seconds from the beginning of its audio."""

    text: str
    """The word in its spoken form: `twenty`, not `20`."""
    start_s: float
    end_s: float
    phones: tuple[tuple[str, float, float], ...] = ()
    """(phone in the model's notation, start, end)."""
    start_char: int = -1
    """First character of what was written for it, in the request's text; -1: not known."""
    end_char: int = -1

    def json(self) -> dict[str, Any]:
        """For clients and files; seconds rounded to 0.1 ms."""
        phones = [{"phone": phone, "start": round(a, 4), "end": round(b, 4)} for phone, a, b in self.phones]
        chars = {"start_char": self.start_char, "end_char": self.end_char} if self.start_char >= 0 else {}
        times = {"start": round(self.start_s, 4), "end": round(self.end_s, 4)}
        return {"word": self.text, **times, **chars, "phones": phones}

    def later(self, seconds: float) -> Timestamp:
        """The same word `seconds` later, clipped at the beginning of the audio."""
        phones = tuple((phone, max(0.0, a + seconds), max(0.0, b + seconds)) for phone, a, b in self.phones)
        start_s, end_s = max(0.0, self.start_s + seconds), max(0.0, self.end_s + seconds)
        return replace(self, start_s=start_s, end_s=end_s, phones=phones)


@dataclass(slots=True, eq=False, kw_only=True)
class Sequence:
    """One chunk of text on its way through a model. The engine owns it; `state` belongs to the family."""

    request: Request
    index: int
    """Position in the text: 0, 1, …"""
    source: str
    """The slice of the request's text."""
    text: str
    """The spoken form: `source`, normalised."""
    start: int = 0
    """Position of `source` in the request's text."""
    locate: Callable[[Iterable[str]], list[tuple[int, int]]] | None = None
    """Words of `text`, in order → their spans in `source`; None for a raw text."""
    phones: tuple[tuple[int, int, str], ...] = ()
    """Start, end in `text` and phones of words that the user gave phones for; only if `ModelSpec.phones`."""
    voice: Voice
    voice_state: VoiceState | None = None
    """The result of `Model.prepare`; None for the default voice."""
    seed: int
    max_frames: int
    state: Any = None
    slot: int = -1
    frames: int = 0
    """Frames produced so far."""
    timestamps: tuple[Timestamp, ...] = ()
    """Set by the family if the request asks for them, before the first frame: seconds from its first sample."""


@dataclass(frozen=True, slots=True, eq=False)
class Frame:
    """The output of one step for one sequence: codebook tokens, a speech token, or samples. `finish`: the last."""

    sequence: Sequence
    data: npt.NDArray[Any] | None
    """None: nothing to decode."""
    finish: FinishReason | None = None
    error: SaywellError | None = None
    """Ends this sequence's request; the other sequences of the step continue."""


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class AudioChunk:
    """A part of the audio, in text order."""

    request_id: str
    index: int
    """Index of its sequence."""
    samples: Samples
    sample_rate: int
    final: bool = False
    """The last chunk of its sequence."""
    text: str = ""
    """On the first chunk of a sequence: its slice of the request's text."""
    timestamps: tuple[Timestamp, ...] = ()
    """On the first chunk of a sequence, if requested: its words, in seconds from the beginning of the audio."""
    frames: tuple[npt.NDArray[Any], ...] = ()
    """The tokens of these samples, with `Request.keep_frames`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """Statistics of a finished request. Seconds on the monotonic clock, without those spent waiting for fed text."""

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
    """The words, if requested."""

    @property
    def duration_s(self) -> float:
        return len(self.samples) / self.sample_rate

    def save(self, path: str | Path, format: str | None = None) -> Path:
        """Write to `path` in the format its extension names (wav, flac, mp3, opus, aac, pcm)."""
        from saywell.audio.encode import save

        return save(path, self.samples, self.sample_rate, format)
