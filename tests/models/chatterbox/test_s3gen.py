"""S3Gen's decoder against chatterbox-tts 0.1.7 (recorded by `reference/chatterbox_s3gen.py`); streaming."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

pytest.importorskip("onnx")

from benchmarks import random_s3gen
from benchmarks.random_tensors import tensor
from saywell.errors import BadCheckpoint
from saywell.graphs.linears import with_activation_bits
from saywell.graphs.numerics import Floats
from saywell.graphs.writer import CODEC, GraphWriter
from saywell.models.chatterbox.s3gen.config import MEANFLOW, STANDARD, S3GenConfig
from saywell.models.chatterbox.s3gen.files import FUNDAMENTAL, SOURCE, VOCODER, encoder_file, estimator_file
from saywell.models.chatterbox.s3gen.graphs.build import build
from saywell.models.chatterbox.s3gen.graphs.waves import Waves
from saywell.models.chatterbox.s3gen.layout import Folded, recognised, tensors
from saywell.models.chatterbox.s3gen.noise import Noise
from saywell.models.chatterbox.s3gen.runtime import Decoder, DecoderState, Voice, Windows, read_config
from saywell.runtimes.base import Threading
from saywell.runtimes.onnx import Graph

SEED, PROMPT, TOKENS = 7, 7, 9
"""As in the recording."""
KINDS = {"standard": random_s3gen.TINY, "meanflow": random_s3gen.TINY_MEANFLOW}
ONE = Threading(threads=1)
SMALL = Windows(sizes=(8, 12, 20), context=6)
SPEECH = random_s3gen.speech(random_s3gen.TINY, 70)


class Rig:
    """The graphs of a stand-in, and what the real modules make of it."""

    def __init__(self, kind: str, directory: Path) -> None:
        self.config, self.directory = KINDS[kind], directory
        build(random_s3gen.weights(self.config), self.config, directory)
        with np.load(Path(__file__).with_name("recorded_s3gen.npz")) as file:
            self.expected = {name.split(".")[1]: file[name] for name in file.files if name.startswith(kind)}
        self.voice = Voice(*random_s3gen.voice(self.config, PROMPT))

    def decoder(self, windows: Windows = SMALL, precision: str = "fp32") -> Decoder:
        return Decoder(self.directory, precision, ONE, windows=windows)  # type: ignore[arg-type]

    def graph(self, name: str) -> Graph:
        return Graph(self.directory / name, ONE)


@pytest.fixture(scope="module", params=KINDS)
def rig(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Rig:
    return Rig(request.param, tmp_path_factory.mktemp("s3gen"))


@pytest.fixture(scope="module")
def meanflow(tmp_path_factory: pytest.TempPathFactory) -> Rig:
    return Rig("meanflow", tmp_path_factory.mktemp("meanflow"))


def decoded(decoder: Decoder, voice: Voice, parts: list[np.ndarray], seed: int = SEED) -> Floats:
    state = decoder.start(voice, seed)
    return np.concatenate([decoder.decode(state, part, last=part is parts[-1]) for part in parts])


def distance(a: Floats, b: Floats) -> float:
    assert a.shape == b.shape
    return float(np.abs(a - b).max())


def decibels(exact: Floats, other: Floats) -> float:
    return float(10 * np.log10(np.mean(exact**2) / np.mean((exact - other) ** 2)))


# -- The published layout
@pytest.mark.parametrize("config", [STANDARD, MEANFLOW])
def test_the_published_sizes_are_recognised(config: S3GenConfig) -> None:
    shapes = tensors(config) | {"tokenizer.encoder.conv1.weight": (1,), "speaker_encoder.head.conv1.weight": (1,)}
    assert recognised(shapes) == config
    assert len(tensors(config)) == 1449 + config.meanflow


def test_other_sizes_are_refused_by_name() -> None:
    with pytest.raises(BadCheckpoint, match=r"flow.encoder_proj.bias"):
        recognised(tensors(STANDARD) | {"flow.encoder_proj.bias": (81,)})
    with pytest.raises(BadCheckpoint, match=r"mel2wav.more"):
        recognised(tensors(MEANFLOW) | {"mel2wav.more": (1,)})
    with pytest.raises(BadCheckpoint, match="time mixer"):
        recognised(tensors(MEANFLOW), (STANDARD,))


def test_weight_norm_is_folded() -> None:
    length, direction = tensor("g", (3, 1, 1)), tensor("v", (3, 4, 5))
    at = "mel2wav.conv_pre.parametrizations.weight.original"
    weight = Folded({f"{at}0": length, f"{at}1": direction, "b": length})["mel2wav.conv_pre.weight"]
    assert np.allclose(np.linalg.norm(weight.reshape(3, -1), axis=1), np.abs(length[:, 0, 0]), rtol=1e-6)
    assert np.allclose(weight / weight[:, :1, :1], direction / direction[:, :1, :1], rtol=1e-5)


def test_the_configuration_is_kept(meanflow: Rig, tmp_path: Path) -> None:
    assert read_config(meanflow.directory) == meanflow.config
    with pytest.raises(BadCheckpoint, match=r"s3gen\.json"):
        read_config(tmp_path)


# -- Against the real modules
def test_encoder(rig: Rig) -> None:
    tokens = np.concatenate([rig.voice.tokens, random_s3gen.speech(rig.config, TOKENS)])
    mu, _ = rig.graph(encoder_file("fp32")).run({"tokens": tokens[None], "xvector": rig.voice.xvector[None]})
    assert distance(mu, rig.expected["mu"]) < 1e-5


def step(rig: Rig) -> dict[str, np.ndarray]:
    """Inputs of two steps at once."""
    frames = rig.config.frames * (PROMPT + TOKENS)
    rows = {name: tensor(name, (2, rig.config.mel, frames), SEED) for name in ("x", "mu", "cond")}
    feeds = {name: np.ascontiguousarray(each.transpose(0, 2, 1)) for name, each in rows.items()}
    times = {"t": np.float32([0.3]), "r": np.float32([0.7])}
    kept = {name: times[name] for name in ("t", "r")[: 1 + rig.config.meanflow]}
    return feeds | {"speaker": tensor("speaker", (2, rig.config.mel), SEED)} | kept


def test_estimator(rig: Rig) -> None:
    (slope,) = rig.graph(estimator_file("fp32")).run(step(rig))
    assert distance(slope.transpose(0, 2, 1), rig.expected["dxdt"]) < 1e-4


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_entries_of_a_batch_are_independent(rig: Rig, precision: str) -> None:
    graph, feeds = rig.graph(estimator_file(precision)), step(rig)  # type: ignore[arg-type]
    (both,) = graph.run(feeds)
    (alone,) = graph.run({name: each[1:] if len(each) == 2 else each for name, each in feeds.items()})
    assert np.array_equal(both[1:], alone)


def test_vocoder(rig: Rig) -> None:
    mel = np.ascontiguousarray(rig.expected["mel"][0].T)
    (f0,) = rig.graph(FUNDAMENTAL).run({"mel": mel})
    assert distance(f0, rig.expected["f0"][0]) < 1e-3
    noise = Noise(rig.config, SEED)
    start = np.zeros(rig.config.vocoder.harmonics + 1)
    feeds = {"f0": f0, "start": start, "phases": noise.phases(), "noise": noise.source(0, len(mel))}
    source, _ = rig.graph(SOURCE).run(feeds)
    assert distance(source, rig.expected["source"].reshape(-1)) < 1e-4
    samples = rig.graph(VOCODER).run({"mel": mel, "source": rig.expected["source"].reshape(-1)})[0]
    assert distance(samples, rig.expected["samples"][0]) < 3e-4


def test_a_whole_sequence_in_one_window(rig: Rig) -> None:
    decoder = rig.decoder(Windows(sizes=()))
    state = decoder.start(rig.voice, SEED)
    tokens = random_s3gen.speech(rig.config, TOKENS)
    assert not len(decoder.decode(state, tokens[:5], last=False))
    samples = decoder.decode(state, tokens[5:], last=True)
    assert distance(state.mel.T, rig.expected["mel"][0]) < 1e-4
    expected, half = rig.expected["samples"][0].copy(), rig.config.sample_rate // 50
    assert not samples[:half].any()  # upstream fades after its vocoder
    assert distance(samples[2 * half :], expected[2 * half :]) < 2e-3
    fade = (1 - np.cos(np.linspace(0, np.pi, half))) / 2
    assert distance(samples[half : 2 * half], np.float32(expected[half : 2 * half] * fade)) < 2e-3


@pytest.mark.parametrize("bits", [8, 7])
def test_int8(rig: Rig, bits: int) -> None:
    feeds = step(rig)
    (exact,) = rig.graph(estimator_file("fp32")).run(feeds)
    (quantised,) = rig.graph(estimator_file("int8", bits)).run(feeds)
    assert decibels(exact, quantised) > (28 if bits == 8 else 24)


# -- Streaming
@settings(max_examples=5, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sets(st.integers(1, 69), max_size=8))
def test_any_split_gives_the_same_bits(meanflow: Rig, cuts: set[int]) -> None:
    decoder = meanflow.decoder()
    whole = decoded(decoder, meanflow.voice, [SPEECH])
    assert len(whole) == len(SPEECH) * meanflow.config.frame * meanflow.config.frames
    parts = [SPEECH[a:b] for a, b in pairwise([0, *sorted(cuts), len(SPEECH)])]
    assert np.array_equal(decoded(decoder, meanflow.voice, parts), whole)


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_token_by_token_with_another_sequence_in_between(rig: Rig, precision: str) -> None:
    decoder = rig.decoder(precision=precision)
    states = [decoder.start(rig.voice, seed) for seed in (SEED, SEED + 1)]
    pieces: list[list[Floats]] = [[], []]
    for token in range(40):
        for state, found in zip(states, pieces, strict=True):
            found.append(decoder.decode(state, SPEECH[token : token + 1], last=token == 39))
    first, second = (np.concatenate(found) for found in pieces)
    assert np.array_equal(first, decoded(decoder, rig.voice, [SPEECH[:40]]))
    assert not np.array_equal(first, second)


def test_flushed_without_new_tokens(meanflow: Rig) -> None:
    decoder = meanflow.decoder()
    whole = decoded(decoder, meanflow.voice, [SPEECH[:31]])
    assert np.array_equal(decoded(decoder, meanflow.voice, [SPEECH[:31], SPEECH[:0]]), whole)
    assert not len(decoded(decoder, meanflow.voice, [SPEECH[:0]]))


def test_a_window_waits_for_the_tokens_ahead(meanflow: Rig) -> None:
    decoder = meanflow.decoder(Windows(sizes=(20,)))
    state = decoder.start(meanflow.voice, SEED)
    decoder.decode(state, SPEECH[:22], last=False)
    assert not len(state.mel)
    first = decoder.decode(state, SPEECH[22:23], last=False)
    c = meanflow.config
    assert len(first) == (len(state.mel) - c.vocoder.reach - c.vocoder.f0_layers) * c.frame


def test_seams_of_the_vocoder_are_those_of_the_whole_spectrogram(rig: Rig) -> None:
    decoder = rig.decoder()
    state = decoder.start(rig.voice, SEED)
    windowed = decoder.decode(state, SPEECH, last=True)
    whole: DecoderState = decoder.start(rig.voice, SEED)
    whole.mel = state.mel
    assert distance(decoder._speak(whole, True), windowed) < 5e-4
    assert state.windows == 5


def test_options_of_windows_have_effects(meanflow: Rig) -> None:
    plain = decoded(meanflow.decoder(), meanflow.voice, [SPEECH])
    for changed in ({"prompt": 3}, {"steps": 4}, {"context": 0}, {"sizes": (30,)}):
        other = decoded(meanflow.decoder(replace(SMALL, **changed)), meanflow.voice, [SPEECH])  # type: ignore[arg-type]
        assert len(other) == len(plain)
        assert not np.array_equal(other, plain)
    long = decoded(meanflow.decoder(replace(SMALL, prompt=99)), meanflow.voice, [SPEECH])
    assert np.array_equal(long, plain)


def test_bad_values_are_refused(meanflow: Rig) -> None:
    decoder = meanflow.decoder()
    with pytest.raises(ValueError, match="speech tokens"):
        decoder.decode(decoder.start(meanflow.voice, 0), np.array([3, meanflow.config.vocab]), last=False)
    with pytest.raises(ValueError, match="mel frames"):
        decoder.start(Voice(meanflow.voice.tokens[1:], meanflow.voice.mel, meanflow.voice.xvector), 0)
    for changed in ({"sizes": (0,)}, {"context": -1}):
        with pytest.raises(ValueError, match="at least one token"):
            Windows(**changed)  # type: ignore[arg-type]


# -- Noise
def test_noise_is_counted_by_position() -> None:
    noise = Noise(random_s3gen.TINY, -3)
    assert np.array_equal(noise.frames(0, 50)[13:41], noise.frames(13, 41))
    assert np.array_equal(noise.source(0, 20)[480 * 9 :], noise.source(9, 20))
    assert not np.array_equal(noise.frames(0, 5), noise.prompt(0, 5))
    assert not np.array_equal(noise.frames(0, 5), Noise(random_s3gen.TINY, -4).frames(0, 5))
    assert noise.frames(5, 5).shape == (0, 80)
    assert abs(float(noise.frames(0, 400).std()) - 1) < 0.02


# -- Convolutions
@pytest.mark.parametrize(("taps", "dilation"), [(3, 1), (3, 5), (7, 3), (11, 1), (11, 5), (5, 2)])
@pytest.mark.parametrize("rows", [1, 7, 61])
def test_convolutions_of_any_length(taps: int, dilation: int, rows: int) -> None:
    weight, bias = tensor("w", (6, 4, taps)), tensor("b", (6,))
    x = tensor("x", (rows, 4))
    g = GraphWriter("convolution", replace(CODEC, opset=21, ir=10))
    waves = Waves(g, g.op("Shape", g.input("x", ("rows", 4)), start=0, end=1), fewer=True)
    g.output("y", waves.conv("x", weight, bias, dilation), ("rows", 6))
    (y,) = Graph(with_activation_bits(g.model(), 8).SerializeToString(), ONE).run({"x": x})
    reach = (taps - 1) * dilation // 2
    padded = np.pad(x.astype(np.float64), ((reach, reach), (0, 0)))
    parts = (padded[tap * dilation : tap * dilation + rows] @ weight[:, :, tap].T for tap in range(taps))
    assert distance(y, np.float32(sum(parts) + bias)) < 3e-4
