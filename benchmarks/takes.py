"""The same sentences spoken by one engine in a child process, and what a listener says about them."""

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
_TOLD = 2000
"""Characters of a failed child's errors that are shown."""


@dataclass(eq=False, kw_only=True)
class Take:
    """Recordings of the same texts by one engine, in order. A text that failed has a clip without samples."""

    texts: Sequence[str]
    clips: Sequence[Clip]
    total_s: Sequence[float]
    """Request to last sample, for each text."""
    first_audible_s: Sequence[float | None]
    """Request to the first audible sample, see `speakers.first_audible`."""
    errors: Sequence[str]
    """Why each text failed; empty if it did not."""
    memory_bytes: int
    """Most held by the process and its children, see `saywell.machine.process_memory`."""
    packages: Mapping[str, str]
    """Name → version of the engine's and of what computes for it."""
    hearing_threads: int = 1

    @cached_property
    def score(self) -> Score:
        return listen(self.texts, self.clips, self.hearing_threads)

    @cached_property
    def opinions(self) -> mos.Opinions:
        return mos.judge_all(self.clips)

    @cached_property
    def prints(self) -> list[Print]:
        """Of each recording that has samples."""
        return [voice_print([spectrum(*clip)]) for clip in self.clips if len(clip[0])]

    @cached_property
    def voice(self) -> Print:
        """Of all of them together."""
        return voice_print([spectrum(*clip) for clip in self.clips if len(clip[0])])


def listen(texts: Sequence[str], clips: Sequence[Clip], threads: int = 1) -> Score:
    """Word errors of recordings that should say these texts, as Whisper hears them."""
    return score(texts, hear_all(clips, threads))


def take(engine: str, job: Job, python: str, *, own_packages: bool) -> Take:
    """Let `engine` (see `speakers.ENGINES`) speak a job, whose `out` is chosen here.

    `own_packages`: `python` belongs to another environment, and PYTHONPATH is kept from it. Raises EngineFailure.
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
            told = errors.read().decode(errors="replace")[-_TOLD:]
            raise EngineFailure(f"{engine} failed with exit code {process.returncode}: {told.strip()}")
        return _read(Path(folder), job.texts, peak.bytes)


def _read(folder: Path, texts: Sequence[str], memory_bytes: int) -> Take:
    found = json.loads((folder / "spoken.json").read_text(encoding="utf-8"))
    spoken = found["spoken"]
    return Take(
        texts=texts,
        clips=[(np.load(folder / f"{at:04}.npy"), each["rate"]) for at, each in enumerate(spoken)],
        total_s=[each["total_s"] for each in spoken],
        first_audible_s=[each["first_audible_s"] for each in spoken],
        errors=[each["error"] for each in spoken],
        memory_bytes=memory_bytes,
        packages=found["packages"],
    )
