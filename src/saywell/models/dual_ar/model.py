"""The model contract of `models.base` for DualAR: a frame a step, samples from a streaming codec."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import numpy as np

from saywell.errors import MissingDependency, ModelFailure, SaywellError, TooLarge
from saywell.models.base import DecodeJob, SequenceError
from saywell.models.cloning import Cloning
from saywell.models.dual_ar import prompt
from saywell.models.dual_ar.config import DEFAULT, Config
from saywell.models.dual_ar.facts import run_from
from saywell.models.dual_ar.guards import Guard
from saywell.models.dual_ar.onnx.ar_files import too_old
from saywell.models.dual_ar.onnx.codec_files import ConvImpl
from saywell.models.dual_ar.onnx.runtime_ar import BROKEN, ArRuntime, Running
from saywell.models.dual_ar.onnx.runtime_codec import CodecDecoder, DecoderState, load_decoder
from saywell.models.dual_ar.sampling import Sampling
from saywell.models.dual_ar.speakers import spoken_in, voice_store
from saywell.models.dual_ar.tokenizer import Tokenizer
from saywell.models.verified import check_files
from saywell.plan.memory import context
from saywell.plan.plan import Plan
from saywell.runtimes.base import Threading
from saywell.runtimes.kv_cache import Prefix
from saywell.types import Frame, ModelSpec, Samples, Sequence, Voice, VoiceState

LANGUAGE = "und"
"""Of every voice: the model speaks all its languages with any voice."""


@dataclass(slots=True, eq=False)
class _State:
    running: Running
    guard: Guard | None
    decoder: DecoderState


class DualArModel(Cloning):
    """A loaded model."""

    def __init__(self, spec: ModelSpec, plan: Plan) -> None:
        if spec.path is None:
            raise ModelFailure("this model needs the directory of a converted checkpoint")
        self.spec = spec
        check_files(spec.path, run_from(spec.path, plan.precision), plan.data_dir / "measured")
        self.config = Config.read(spec.path)
        if old := too_old(self.config.attention_qk_norm):
            raise MissingDependency(old)
        self.tokenizer = Tokenizer.read(spec.path, self.config)
        self._path = spec.path
        self._ar = ArRuntime(
            spec.path,
            plan.precision,
            _threading(plan),
            slots=plan.max_batch_size,
            max_len=plan.kv_length,
            cache=plan.options["kv_cache"],
            activation_bits=int(plan.options.get("activation_bits", 8)),
        )
        self._codec = self._decoder(plan)
        super().__init__(voice_store(spec, plan), plan)

    def _decoder(self, plan: Plan) -> CodecDecoder:
        return load_decoder(
            self._path,
            self.config.codec,
            _threading(plan),
            quantizer="fp32" if plan.precision == "fp32" else "int8",
            conv_impl=cast(ConvImpl, plan.options["convolutions"]),
            executor="openvino" if plan.executor == "openvino" else "onnx",
        )

    def voices(self) -> tuple[Voice, ...]:
        return self._known_voices("as the model speaks without a reference", LANGUAGE)

    def prefill(self, started: list[Sequence]) -> None:
        for sequence in started:
            try:
                sequence.state = self._begin(sequence)
            except SaywellError as error:
                raise SequenceError(sequence, error) from error

    def _begin(self, sequence: Sequence) -> _State:
        request = sequence.request
        text = prompt.text_part(self.tokenizer, self.config, sequence.text)
        sampling = Sampling.of(request.sampling, sequence.seed)
        voice = sequence.voice_state
        prefix = self._prefix(DEFAULT if voice is None else voice.key, lambda: self._read(voice))
        guard = None if request.raw else Guard(sequence.text, self.spec.frame_rate)
        decoder = self._codec.start()
        # Last, because a later failure would leak the row that `prefill` takes.
        return _State(self._ar.prefill(text, sampling, prefix), guard, decoder)

    def _read(self, voice: VoiceState | None) -> Prefix:
        """Keys and values of the prompt before the text."""
        references = () if voice is None else (spoken_in(voice),)
        return self._ar.prefix(prompt.voice_part(self.tokenizer, self.config, references))

    def step(self, batch: list[Sequence]) -> list[Frame]:
        codes = self._ar.step([sequence.state.running for sequence in batch])
        return [self._frame(sequence, row) for sequence, row in zip(batch, codes, strict=True)]

    def _frame(self, sequence: Sequence, row: np.ndarray) -> Frame:
        """`row`: [1 + num_codebooks], the token, then the codes."""
        if row[0] == BROKEN:
            error = ModelFailure(f"the model computed logits that are not finite in frame {sequence.frames}")
            return Frame(sequence, None, error=error)
        if row[0] == self._ar.im_end:
            return Frame(sequence, None, finish="stop" if sequence.frames else "empty")
        state: _State = sequence.state
        if self._ar.room(state.running) >= 1:
            return Frame(sequence, row, finish=state.guard.add(row[1:]) if state.guard is not None else None)
        prompt_length = state.running.length - sequence.frames
        if prompt_length <= context(self.spec, 0):
            return Frame(sequence, row, finish="length")
        return Frame(sequence, None, error=self._no_room(sequence, prompt_length))

    def _no_room(self, sequence: Sequence, prompt_length: int) -> TooLarge:
        """For a sequence whose prompt, not its speech, exceeds the planned length."""
        return TooLarge(
            f"the reference, its transcript and the text take {prompt_length} of {self._ar.max_len} positions, which "
            "leaves too few to speak; give a shorter reference (30 s at most) or a shorter text",
            param="text" if sequence.request.reference is None else "reference",
        )

    def decode(self, jobs: list[DecodeJob]) -> list[Samples]:
        return [self._samples(job) for job in jobs]

    def _samples(self, job: DecodeJob) -> Samples:
        codes = [frame.data[1:] for frame in job.frames if frame.data is not None]
        if not codes:
            return np.zeros(0, np.float32)
        state: _State = job.sequence.state
        return self._codec.decode(state.decoder, np.stack(codes, axis=1))

    def release(self, sequence: Sequence) -> None:
        if sequence.state is not None:
            self._ar.release(sequence.state.running)


def _threading(plan: Plan) -> Threading:
    return Threading(threads=plan.threads, affinity=plan.affinity)
