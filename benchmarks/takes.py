"""Recordings of sentences by one engine in a child process, with recognition and quality scores."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np

from benchmarks import mos
from benchmarks.hearing import Clip, hear_all
from benchmarks.speakers import Job
from benchmarks.spectra import Print, spectrum, voice_print
from benchmarks.weights import ROOT
from benchmarks.word_errors import Score, score
from saywell.errors import EngineFailure
from saywell.machine.process_memory import Peak

_ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
_ERROR_CHARS = 2000
"""How much of a failed child's standard error is shown."""


@dataclass(eq=False, kw_only=True)
class Take:
    """Recordings of texts by one engine, in order. A text that failed has a clip without samples."""

    texts: Sequence[str]
    clips: Sequence[Clip]
    total_s: Sequence[float]
    """From the request to the last sample, for each text."""
    first_audible_s: Sequence[float | None]
    """From the request to the first audible sample, see `speakers.first_audible`."""
    errors: Sequence[str]
    """Why each text failed; empty for success."""
    memory_bytes: int
    """Peak of the process and its children, see `saywell.machine.process_memory`."""
    packages: Mapping[str, str]
    """Name → version of the engine and its runtime."""
    hearing_threads: int = 1

    @cached_property
    def score(self) -> Score:
        return listen(self.texts, self.clips, self.hearing_threads)

    @cached_property
    def opinions(self) -> mos.Opinions:
        return mos.judge_all(self.clips)

    @cached_property
    def prints(self) -> list[Print]:
        """Voice prints of the recordings that have samples."""
        return [voice_print([spectrum(*clip)]) for clip in self.clips if len(clip[0])]

    @cached_property
    def voice(self) -> Print:
        """One voice print of all recordings."""
        return voice_print([spectrum(*clip) for clip in self.clips if len(clip[0])])


def listen(texts: Sequence[str], clips: Sequence[Clip], threads: int = 1) -> Score:
    """Word errors of recordings of these texts, by Whisper."""
    return score(texts, hear_all(clips, threads))


def take(engine: str, job: Job, python: str, *, own_packages: bool) -> Take:
    """Speak a job with `engine` (see `speakers.ENGINES`); `job.out` is set here.

    `own_packages`: `python` belongs to another environment, so PYTHONPATH is not passed on. Raises EngineFailure.
    """
    environ = {**os.environ, **_ONE_THREAD}
    if own_packages:
        environ.pop("PYTHONPATH", None)
    with tempfile.TemporaryDirectory(prefix="saywell-meter-") as folder, tempfile.TemporaryFile() as errors:
        process = subprocess.Popen(
            [python, "-m", "benchmarks.speakers", engine],
            stdin=subprocess.PIPE, stdout=errors, stderr=errors, cwd=ROOT, env=environ,
        )  # fmt: skip
        with Peak(process.pid) as peak:
            process.communicate(json.dumps(asdict(replace(job, out=folder))).encode())
        if process.returncode:
            errors.seek(0)
            message = errors.read().decode(errors="replace")[-_ERROR_CHARS:]
            raise EngineFailure(f"{engine} failed with exit code {process.returncode}: {message.strip()}")
        return _read(Path(folder), job.texts, peak.bytes)


def _read(folder: Path, texts: Sequence[str], memory_bytes: int) -> Take:
    result = json.loads((folder / "spoken.json").read_text(encoding="utf-8"))
    spoken = result["spoken"]
    return Take(
        texts=texts,
        clips=[(np.load(folder / f"{number:04}.npy"), one["rate"]) for number, one in enumerate(spoken)],
        total_s=[one["total_s"] for one in spoken],
        first_audible_s=[one["first_audible_s"] for one in spoken],
        errors=[one["error"] for one in spoken],
        memory_bytes=memory_bytes,
        packages=result["packages"],
    )
