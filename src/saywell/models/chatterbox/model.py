"""The model contract of `models.base` for Chatterbox: a speech token a step, samples from windows of tokens."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from saywell.errors import InvalidRequest, ModelFailure, SaywellError
from saywell.models.base import DecodeJob, SequenceError
from saywell.models.chatterbox import language
from saywell.models.chatterbox.config import Config
from saywell.models.chatterbox.facts import run_from
from saywell.models.chatterbox.s3gen.files import Precision
from saywell.models.chatterbox.s3gen.runtime import Decoder, DecoderState, Work
from saywell.models.chatterbox.speakers import built_in, decoder_voice, t3_voice, voice_store
from saywell.models.chatterbox.t3.files import read_config
from saywell.models.chatterbox.t3.guards import Guard, limit
from saywell.models.chatterbox.t3.runtime import BROKEN, Running, T3Runtime
from saywell.models.chatterbox.t3.sampling import Sampling
from saywell.models.chatterbox.text import check_vocabulary, read
from saywell.models.cloning import Cloning
from saywell.models.verified import check_files
from saywell.plan.plan import Plan
from saywell.runtimes.base import Threading
from saywell.types import Frame, ModelSpec, Request, Samples, Sequence, Voice

_PAUSE = np.full(3, 4299, np.int64)
"""Silence that Turbo and Nano end with."""


@dataclass(slots=True, eq=False)
class _State:
    running: Running
    guard: Guard | None
    decoder: DecoderState
    work: Work | None = None
    """Of the job that is being decoded."""


class ChatterboxModel(Cloning):
    """A loaded model."""

    def __init__(self, spec: ModelSpec, plan: Plan) -> None:
        if spec.path is None:
            raise ModelFailure("this model needs the directory of a converted checkpoint")
        self.spec, path = spec, spec.path
        check_files(path, run_from(path, plan), plan.data_dir / "measured")
        self._config = Config.read(path)
        self._text = read(path, self._config)
        check_vocabulary(self._text, read_config(path).text_vocab)
        threading = Threading(threads=plan.threads, affinity=plan.affinity)
        bits = int(plan.options["activation_bits"])
        self._t3 = T3Runtime(
            path,
            plan.precision,
            threading,
            slots=plan.max_batch_size,
            max_len=plan.kv_length,
            cache=plan.options["kv_cache"],
            activation_bits=bits,
        )
        flow: Precision = "fp32" if plan.options["flow"] == "fp32" else "int8"
        self._decoder = Decoder(path, flow, threading, activation_bits=bits)
        self._own = built_in(path)
        super().__init__(voice_store(spec, plan), plan)

    def voices(self) -> tuple[Voice, ...]:
        return self._known_voices("the voice of the checkpoint", language(self.spec, None))

    def prefill(self, started: list[Sequence]) -> None:
        for sequence in started:
            try:
                sequence.state = self._begin(sequence)
            except SaywellError as error:
                raise SequenceError(sequence, error) from error

    def _begin(self, sequence: Sequence) -> _State:
        request = sequence.request
        voice = sequence.voice_state or self._own
        if voice is None:
            raise InvalidRequest(
                "this checkpoint has no voice of its own (conds.pt); give a recording or a saved voice", param="voice"
            )
        text = np.array(self._text.prompt(sequence.text, request.language), np.int64)
        sampling = self._sampling(request, sequence.seed)
        feeling = sampling.exaggeration
        prefix = self._prefix(f"{voice.key} {feeling:g}", lambda: self._t3.voice(*t3_voice(voice), feeling))
        guard = None if request.raw else Guard(limit(self._t3.config, len(text), sequence.text.count("[")))
        decoder = self._decoder.start(decoder_voice(voice), sequence.seed)
        # Last, because a later failure would leak the rows that `prefill` takes.
        return _State(self._t3.prefill(text, sampling, prefix), guard, decoder)

    def _sampling(self, request: Request, seed: int) -> Sampling:
        """The request's parameters; the model's own replace those that are None."""
        params = {name: getattr(request.sampling, name) for name in ("temperature", "top_p", "repetition_penalty")}
        own = {name: request.options.get(name) for name in ("min_p", "top_k", "exaggeration", "cfg_weight")}
        if own["top_k"] is not None:
            own["top_k"] = int(own["top_k"])  # options are numbers of any kind
        return Sampling.of(self._t3.config, seed, **params, **own)

    def step(self, batch: list[Sequence]) -> list[Frame]:
        tokens = self._t3.step([sequence.state.running for sequence in batch])
        return [self._frame(sequence, token) for sequence, token in zip(batch, tokens.tolist(), strict=True)]

    def _frame(self, sequence: Sequence, token: int) -> Frame:
        if token == BROKEN:
            error = ModelFailure(f"the model computed logits that are not finite in frame {sequence.frames}")
            return Frame(sequence, None, error=error)
        if token == self._t3.config.stop_speech:
            return Frame(sequence, None, finish="stop" if sequence.frames else "empty")
        state: _State = sequence.state
        data = np.array([token], np.int64)
        if self._t3.room(state.running) < 1:
            return Frame(sequence, data, finish="length")
        return Frame(sequence, data, finish=state.guard.add(token) if state.guard is not None else None)

    def decode(self, jobs: list[DecodeJob]) -> list[Samples | None]:
        """Runs one large graph at most, for the sequence that has been heard least."""
        samples = [self._proceed(job) for job in jobs]
        waiting = [index for index, found in enumerate(samples) if found is None]
        if waiting:
            first = min(waiting, key=lambda index: jobs[index].sequence.state.decoder.windows)
            samples[first] = self._proceed(jobs[first], run=True)
        return samples

    def _proceed(self, job: DecodeJob, *, run: bool = False) -> Samples | None:
        """The samples of a job if it is done. Begins its work, up to its first large graph; `run`: also that one."""
        state: _State = job.sequence.state
        if state.work is None:
            state.work = self._decoder.decoding(state.decoder, self._tokens(job), job.last)
        elif not run:
            return None
        try:
            next(state.work)
        except StopIteration as done:
            state.work = None
            samples: Samples = done.value
            return samples
        return None

    def _tokens(self, job: DecodeJob) -> npt.NDArray[np.int64]:
        tokens = [frame.data for frame in job.frames if frame.data is not None]
        if job.last and not self._config.guided:
            tokens.append(_PAUSE)
        return np.concatenate(tokens) if tokens else np.zeros(0, np.int64)

    def release(self, sequence: Sequence) -> None:
        if sequence.state is not None:
            self._t3.release(sequence.state.running)
