"""A tiny autoregressive family with random weights, to test batching, order, cancelling and streaming.

A recurrent step over byte tokens samples one token per frame for every slot; a causal decoder with one frame of
look-behind turns tokens into 40 ms of sound, which depends on every byte of the text and on the seed.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

from saywell.errors import InvalidText
from saywell.models.base import DecodeJob, SequenceError
from saywell.plan.plan import Plan
from saywell.types import Frame, ModelSpec, Request, Samples, Sequence, Variant, Voice
from tiny_ar.graphs import BYTES, HIDDEN, SAMPLES, TOKENS, build

RATE = 16_000
FRAME_RATE = RATE / SAMPLES
VOICES = tuple(Voice(id=f"tiny-{n}", name=f"Tiny {n}", language="en", sample_rate=RATE) for n in range(4))
UNSPEAKABLE = "zyzzyva"
"""A word that this model rejects, to test that one bad sequence does not affect the others."""


def spec(name: str, path: Path | None) -> ModelSpec:
    return ModelSpec(
        name=name,
        family="tiny_ar.family",
        kind="autoregressive",
        sample_rate=RATE,
        frame_rate=FRAME_RATE,
        variants=(Variant(executor="onnx", package="onnxruntime", precision="fp32", weight_bytes=100_000),),
        overhead_bytes=30_000_000,
        slot_bytes=4 * HIDDEN,
        max_context=10_000,
        default_voice=VOICES[0].id,
        path=path,
    )


def load(spec: ModelSpec, plan: Plan) -> TinyModel:
    return TinyModel(spec, plan)


def missing() -> str:
    return ""


@dataclass(slots=True, eq=False)
class _State:
    """State of one sequence."""

    draws: np.random.Generator
    token: int
    left: int
    """Frames until the end."""
    before: np.ndarray
    """The decoder's look-behind: the embedding of the last token, [1, HIDDEN]."""


class TinyModel:
    live = frozenset({"threads", "cache_entries", "cache_bytes"})

    def __init__(self, spec: ModelSpec, plan: Plan) -> None:
        self.spec = spec
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        step, decode = build()
        self._step = onnxruntime.InferenceSession(step, options, providers=["CPUExecutionProvider"])
        self._decode = onnxruntime.InferenceSession(decode, options, providers=["CPUExecutionProvider"])
        # Every step computes all slots, so that the arithmetic of a row never depends on the others.
        self._hidden = np.zeros((plan.max_batch_size, HIDDEN), np.float32)
        self._open = 0
        self.closed = False

    def voices(self) -> tuple[Voice, ...]:
        return VOICES

    def prepare(self, request: Request) -> None:
        """Nothing: these voices take no reference."""

    def prefill(self, started: list[Sequence]) -> None:
        for sequence in started:
            if UNSPEAKABLE in sequence.text:
                raise SequenceError(sequence, InvalidText("this model cannot say zyzzyva", param="text"))
            self._open += 1
            self._hidden[sequence.slot] = self._read(sequence)
            sequence.state = _State(
                draws=np.random.Generator(np.random.Philox(sequence.seed)),
                token=TOKENS - 1,
                left=max(2, round(len(sequence.text) * 0.06 * FRAME_RATE / sequence.request.speed)),
                before=np.zeros((1, HIDDEN), np.float32),
            )

    def _read(self, sequence: Sequence) -> np.ndarray:
        """Run the prompt through the step, byte by byte."""
        hidden = np.zeros_like(self._hidden)
        hidden[:] = VOICES.index(sequence.voice) * 0.1
        for byte in sequence.text.encode():
            hidden = self._run(hidden, np.full(len(hidden), TOKENS + byte % BYTES))[0]
        return hidden[sequence.slot]

    def _run(self, hidden: np.ndarray, tokens: np.ndarray) -> Any:
        return self._step.run(None, {"hidden": hidden, "token": tokens.astype(np.int64)})

    def step(self, batch: list[Sequence]) -> list[Frame]:
        tokens = np.zeros(len(self._hidden), np.int64)
        for sequence in batch:
            tokens[sequence.slot] = sequence.state.token
        hidden, logits = self._run(self._hidden, tokens)
        frames = []
        for sequence in batch:
            self._hidden[sequence.slot] = hidden[sequence.slot]
            frames.append(self._draw(sequence, logits[sequence.slot]))
        return frames

    def _draw(self, sequence: Sequence, logits: np.ndarray) -> Frame:
        state: _State = sequence.state
        temperature = sequence.request.sampling.temperature
        if temperature == 0.0:
            state.token = int(logits.argmax())
        else:
            gumbel = -np.log(-np.log(state.draws.random(len(logits))))
            state.token = int((logits / (temperature or 1.0) + gumbel).argmax())
        state.left -= 1
        data = np.array([state.token])
        return Frame(sequence, data, finish="stop" if state.left <= 0 else None)

    def decode(self, jobs: list[DecodeJob]) -> list[Samples]:
        return [self._sound(job) for job in jobs]

    def _sound(self, job: DecodeJob) -> Samples:
        state: _State = job.sequence.state
        pieces = [np.zeros(0, np.float32)]
        for frame in job.frames:
            samples, state.before = self._decode.run(None, {"token": frame.data, "before": state.before})
            pieces.append(samples)
        return np.concatenate(pieces)

    def clear_caches(self) -> None:
        """Nothing: there are none."""

    def adapt(self, plan: Plan) -> None:
        """Nothing: the slots are fixed, and there is no cache."""

    def release(self, sequence: Sequence) -> None:
        if sequence.state is not None:
            self._open -= 1

    @property
    def open(self) -> int:
        """Sequences prefilled and not yet released."""
        return self._open

    def close(self) -> None:
        self.closed = True
