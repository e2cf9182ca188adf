"""Speaks sentences with one engine: `python -m benchmarks.speakers NAME < job.json`.

Runs in the environment of the engine it measures, so it imports the standard library, NumPy and that engine only. Each
engine is called as its documentation says, with one request at a time.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

AUDIBLE = 10 ** (-50 / 20)
"""A block is audible if its peak is above this share of full scale."""
BLOCK_S = 0.005
TIMEOUT_S = 3600.0
_WARM_UP = "Ready."

Samples = npt.NDArray[np.float32]
Speak = Callable[[str, int], Iterable[tuple[Samples, int]]]
"""Text and seed → pieces of audio with their rate in Hz, as they become ready."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    texts: Sequence[str]
    out: str
    """Directory for the recordings: `0000.npy`, … and `spoken.json`."""
    weights: str = ""
    """Directory of `scripts/meter`'s downloads."""
    threads: int = 1
    """0: as the engine chooses."""
    settings: dict[str, Any] = field(default_factory=dict)
    """Settings of Saywell."""
    voice: str = ""
    """Voice of Saywell; empty if it clones a reference."""
    reference: str = ""
    """Audio file for Saywell to clone, with a `transcript.txt` in the same directory."""


@dataclass(frozen=True, slots=True)
class Engine:
    """An engine that is ready to speak."""

    package: str
    speak: Speak
    failures: tuple[type[Exception], ...] = ()
    """Exceptions that `speak` raises for a sentence it cannot speak."""
    close: Callable[[], None] = lambda: None


def main(name: str, job: Job) -> None:
    """Speak each text once, after a warm-up."""
    engine = ENGINES[name](job)
    list(engine.speak(_WARM_UP, 0))
    spoken = [_record(engine, text, seed, Path(job.out)) for seed, text in enumerate(job.texts)]
    engine.close()
    packages = {name: version(name) for name in (engine.package, "onnxruntime", "numpy")}
    result = {"packages": packages, "spoken": spoken}
    Path(job.out, "spoken.json").write_text(json.dumps(result), encoding="utf-8")


def _record(engine: Engine, text: str, seed: int, folder: Path) -> dict[str, Any]:
    """Speak one text, save its samples and return the times in seconds."""
    pieces: list[tuple[float, Samples, int]] = []
    error, began = "", time.perf_counter()
    try:
        for samples, rate in engine.speak(text, seed):
            pieces.append((time.perf_counter() - began, samples, rate))
    except engine.failures as failure:
        pieces, error = [], str(failure)
    total_s = time.perf_counter() - began
    samples = np.concatenate([samples for _, samples, _ in pieces] or [np.zeros(0, np.float32)])
    np.save(folder / f"{seed:04}.npy", samples)
    return {
        "rate": pieces[0][2] if pieces else 16000,
        "total_s": total_s,
        "first_audible_s": first_audible(pieces),
        "error": error,
    }


def first_audible(pieces: Sequence[tuple[float, Samples, int]]) -> float | None:
    """Seconds until the first audible sample can be heard; None if there is none.

    `pieces`: arrival time, samples and rate of each. Counts the arrival of the sample plus the silence before it in the
    stream, because a player starts with the first sample and skips nothing.
    """
    silence_s = 0.0
    for arrived_s, samples, rate in pieces:
        size = max(1, round(BLOCK_S * rate))
        padded = np.pad(samples, (0, -len(samples) % size)).reshape(-1, size)
        audible = np.flatnonzero(np.abs(padded).max(axis=1) > AUDIBLE)
        if len(audible):
            return arrived_s + silence_s + float(audible[0]) * size / rate
        silence_s += len(samples) / rate
    return None


def _saywell(job: Job) -> Engine:
    from saywell.engine import launch
    from saywell.errors import SaywellError

    tts = launch.open(**job.settings)
    fields: dict[str, Any] = {"voice": job.voice} if job.voice else {"reference": reference(job.reference)}

    def speak(text: str, seed: int) -> Iterable[tuple[Samples, int]]:
        for chunk in tts.stream(text, seed=seed, timeout_s=TIMEOUT_S, **fields):
            yield chunk.samples, chunk.sample_rate

    return Engine("saywell", speak, (SaywellError,), tts.close)


def reference(path: str) -> Any:
    """A Reference from an audio file and the `transcript.txt` in its directory."""
    import soundfile

    from saywell.types import Reference

    samples, rate = soundfile.read(path, dtype="float32")
    transcript = Path(path).with_name("transcript.txt").read_text(encoding="utf-8").strip()
    return Reference(pcm=samples.tobytes(), sample_rate=rate, transcript=transcript)


def _hibari(job: Job) -> Engine:
    from hibari import Hibari

    tts = Hibari(threads=job.threads)
    return Engine("hibari-tts", lambda text, seed: ((piece, tts.sample_rate) for piece in tts.stream(text, seed=seed)))


_ESPEAK = {"a": "en-us", "b": "en-gb", "e": "es", "f": "fr-fr", "h": "hi", "i": "it", "p": "pt-br"}
"""First letter of a voice's name → the language that kokoro-onnx asks eSpeak NG for."""


def _kokoro(job: Job) -> Engine:
    from kokoro_onnx import Kokoro

    folder = Path(job.weights, "kokoro")
    voices = str(folder / "voices.npz")
    if job.threads:
        tts = Kokoro.from_session(_session(folder / "kokoro-int8.onnx", job.threads), voices)
    else:  # as its documentation says
        tts = Kokoro(str(folder / "kokoro-int8.onnx"), voices)
    voice = job.voice or "af_heart"
    language = _ESPEAK[voice[0]]
    return Engine("kokoro-onnx", lambda text, _seed: [tts.create(text, voice=voice, lang=language)])


def _piper(job: Job) -> Engine:
    from piper import PiperVoice
    from piper.config import PiperConfig

    model = Path(job.weights, "joe", "en_US-joe-medium.onnx")
    config = json.loads(Path(f"{model}.json").read_text(encoding="utf-8"))
    voice = PiperVoice(session=_session(model, job.threads), config=PiperConfig.from_dict(config))

    def speak(text: str, _seed: int) -> Iterable[tuple[Samples, int]]:
        for chunk in voice.synthesize(text):
            yield chunk.audio_float_array, chunk.sample_rate

    return Engine("piper-tts", speak)


def _session(model: Path, threads: int) -> Any:
    """The session that these packages create themselves, but with a limited number of threads."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    return onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])


ENGINES: dict[str, Callable[[Job], Engine]] = {
    "saywell": _saywell,
    "hibari-tts": _hibari,
    "kokoro": _kokoro,
    "piper": _piper,
}


if __name__ == "__main__":
    main(sys.argv[1], Job(**json.load(sys.stdin)))
