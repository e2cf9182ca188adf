"""The codec's graphs against the reference; streaming."""

from __future__ import annotations

import json
from dataclasses import asdict
from importlib import util
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from benchmarks import dual_ar_codec, random_checkpoint
from reference import networks
from saywell.errors import MissingDependency
from saywell.machine import detect
from saywell.models.dual_ar.config import CODEC_CONFIG_FILE, CodecConfig
from saywell.models.dual_ar.convert.checkpoint import fold_weight_norm, read_codec
from saywell.models.dual_ar.graphs import codec
from saywell.models.dual_ar.graphs.layers import sine_squared
from saywell.models.dual_ar.onnx import runtime_codec
from saywell.models.dual_ar.onnx.runtime_codec import CodecDecoder, CodecEncoder, load_decoder, load_encoder
from saywell.runtimes.base import Threading
from saywell.runtimes.onnx import Graph, GraphError

Floats = npt.NDArray[np.float32]
THREADING = Threading(threads=2)
VARIANTS = ("fp32 onnx", "int8 onnx", "winograd onnx", "fp32 openvino", "winograd openvino", "bf16 openvino")
needs_openvino = pytest.mark.skipif(util.find_spec("openvino") is None, reason="needs the openvino extra")
needs_exact_int8 = pytest.mark.skipif(
    "exact-int8" not in detect().traits,
    reason="without VNNI int8 products overflow; the plan takes winograd there",
)
variants = pytest.mark.parametrize(
    "variant", [pytest.param(each, marks=needs_openvino if "openvino" in each else ()) for each in VARIANTS]
)


class Rig:
    """A codec as reference, and its graphs in a directory."""

    def __init__(self, weights: dict[str, torch.Tensor], sizes: CodecConfig, directory: Path) -> None:
        self.sizes, self.directory = sizes, directory
        self.state = networks.doubles(weights)
        arrays = {name: each.numpy() for name, each in weights.items()}
        codec.write_decoder(arrays, sizes, directory)
        codec.write_encoder(arrays, sizes, directory)
        self._decoders: dict[str, CodecDecoder] = {}

    def decoder(self, variant: str) -> CodecDecoder:
        if variant not in self._decoders:
            conv_impl, executor = variant.split()
            quantizer = "fp32" if conv_impl == "fp32" else "int8"
            self._decoders[variant] = load_decoder(
                self.directory, self.sizes, THREADING, quantizer=quantizer, conv_impl=conv_impl, executor=executor
            )
        return self._decoders[variant]

    def encoder(self) -> CodecEncoder:
        return load_encoder(self.directory, self.sizes, THREADING)

    def codes(self, frames: int, seed: int = 0) -> npt.NDArray[np.int64]:
        random, books = np.random.default_rng(seed), range(self.sizes.num_codebooks)
        return np.stack([random.integers(0, self.sizes.book_size(book), frames) for book in books])

    def reference(self, codes: npt.NDArray[np.int64]) -> Floats:
        return networks.decode(self.state, self.sizes, codes).astype(np.float32)


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory) -> Rig:
    path = random_checkpoint.write(tmp_path_factory.mktemp("checkpoint"))
    sizes = CodecConfig.read(path)
    return Rig(read_codec(path / "codec.pth", sizes), sizes, tmp_path_factory.mktemp("graphs"))


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> Rig:
    sizes = CodecConfig()
    random = torch.Generator().manual_seed(1)
    published = {
        name: random_checkpoint.codec_tensor(name, shape, random, sizes)
        for name, shape in random_checkpoint.published_codec_tensors(sizes).items()
    }
    return Rig(fold_weight_norm(published), sizes, tmp_path_factory.mktemp("full"))


def in_pieces(decoder: CodecDecoder, codes: npt.NDArray[np.int64], sizes: list[int]) -> Floats:
    """Decoded in calls of `sizes` frames."""
    state, cuts = decoder.start(), np.cumsum(sizes)[:-1]
    return np.concatenate([decoder.decode(state, part) for part in np.split(codes, cuts, axis=1)])


def snr(wanted: Floats, found: Floats) -> float:
    """Signal over error, dB."""
    return 10 * float(np.log10(np.square(wanted).mean() / np.square(wanted - found).mean()))


def log_spectral_distance(wanted: Floats, found: Floats) -> float:
    """RMS difference of log power spectra in dB; 60 dB below the loudest bin counts as silence."""

    def spectrum(samples: Floats) -> Floats:
        frames = np.lib.stride_tricks.sliding_window_view(samples, 1024)[::256] * np.hanning(1024)
        return np.square(np.abs(np.fft.rfft(frames)))

    a, b = spectrum(wanted), spectrum(found)
    floor = a.max() * 1e-6
    apart = 10 * np.log10((a + floor) / (b + floor))
    return float(np.sqrt(np.square(apart).mean(axis=1)).mean())


@pytest.mark.parametrize("variant", ["fp32 onnx", pytest.param("fp32 openvino", marks=needs_openvino)])
def test_fp32_decodes_what_the_reference_decodes(rig: Rig, variant: str) -> None:
    codes = rig.codes(19)  # more than the attention window, and no multiple of any tile
    decoder = rig.decoder(variant)
    np.testing.assert_allclose(decoder.decode(decoder.start(), codes), rig.reference(codes), atol=1e-4)


@variants
@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(cut=st.lists(st.integers(0, 9), min_size=1, max_size=8))
def test_samples_are_bit_identical_however_frames_are_split(rig: Rig, variant: str, cut: list[int]) -> None:
    codes = rig.codes(sum(cut))
    decoder = rig.decoder(variant)
    whole = decoder.decode(decoder.start(), codes)
    np.testing.assert_array_equal(in_pieces(decoder, codes, cut), whole)
    assert whole.shape == (sum(cut) * rig.sizes.frame,)


@variants
def test_interleaved_sequences_are_independent(rig: Rig, variant: str) -> None:
    decoder, one, other = rig.decoder(variant), rig.codes(6, seed=1), rig.codes(6, seed=2)
    alone = decoder.decode(decoder.start(), one)
    first, second = decoder.start(), decoder.start()
    mixed = []
    for frame in range(6):
        mixed.append(decoder.decode(first, one[:, frame : frame + 1]))
        decoder.decode(second, other[:, frame : frame + 1])
    np.testing.assert_array_equal(np.concatenate(mixed), alone)


@pytest.mark.parametrize("variant", ["winograd onnx", pytest.param("winograd openvino", marks=needs_openvino)])
def test_winograd_is_as_accurate_as_plain_convolution(rig: Rig, variant: str) -> None:
    """With the same latents, so that only the convolutions differ."""
    _, executor = variant.split()
    threading, codes = Threading(threads=1), rig.codes(19)
    sound = [
        decoder.decode(decoder.start(), codes)
        for decoder in (
            load_decoder(rig.directory, rig.sizes, threading, quantizer="fp32", conv_impl=conv_impl, executor=executor)
            for conv_impl in ("fp32", "winograd")
        )
    ]
    assert snr(*sound) > 65


@pytest.mark.parametrize(
    ("variant", "least", "most"),
    [pytest.param("int8 onnx", 14.0, 6.0, marks=needs_exact_int8), ("winograd onnx", 20.0, 4.0)],
)
def test_int8_is_close_to_fp32(rig: Rig, variant: str, least: float, most: float) -> None:
    codes = rig.codes(32)
    decoder, wanted = rig.decoder(variant), rig.reference(codes)
    found = decoder.decode(decoder.start(), codes)
    assert snr(wanted, found) > least
    assert log_spectral_distance(wanted, found) < most


def test_codes_outside_a_codebook_are_clamped(rig: Rig) -> None:
    codes = rig.codes(4)
    codes[1, 2], codes[0, 1] = 10**6, -5
    decoder = rig.decoder("fp32 onnx")
    np.testing.assert_allclose(decoder.decode(decoder.start(), codes), rig.reference(codes), atol=1e-4)


@pytest.mark.parametrize("samples", [1, 2048, 8 * 2048, 21 * 2048 - 300])
def test_encodes_what_the_reference_encodes(rig: Rig, samples: int) -> None:
    audio = np.random.default_rng(3).normal(0, 0.2, samples).astype(np.float32)
    found = rig.encoder().encode(audio)
    np.testing.assert_array_equal(found, networks.encode(rig.state, rig.sizes, audio))


def test_empty_audio_has_no_codes(rig: Rig) -> None:
    assert rig.encoder().encode(np.zeros(0, np.float32)).shape == (rig.sizes.num_codebooks, 0)


def test_positions_beyond_the_published_tables_work(rig: Rig) -> None:
    """The decoder has no maximum length."""
    decoder, codes = rig.decoder("fp32 onnx"), rig.codes(16)
    state = decoder.start()
    for name in state.quantizer.past:
        if name.endswith("position"):
            state.quantizer.past[name][:] = 100_000
    assert np.isfinite(decoder.decode(state, codes)).all()


@pytest.mark.parametrize(("degree", "error"), [(3, 2.0e-3), (4, 6.3e-5), (5, 1.4e-6)])
def test_sine_polynomial_has_the_documented_error(degree: int, error: float) -> None:
    r = np.linspace(-0.5, 0.5, 999)
    found = sum(c * r ** (2 * k + 2) for k, c in enumerate(sine_squared(degree).astype(float)))
    assert np.abs(found - np.sin(np.pi * r) ** 2).max() < error


def test_missing_graph_is_named(rig: Rig, tmp_path: Path) -> None:
    with pytest.raises(GraphError, match=r"codec_latents\.int8\.onnx"):
        load_decoder(tmp_path, rig.sizes, THREADING)


def test_missing_runtime_names_the_extra(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(name: str) -> None:
        raise ModuleNotFoundError(name=name)

    monkeypatch.setattr(runtime_codec, "import_module", absent)
    with pytest.raises(MissingDependency, match=r"saywell\[openvino\]"):
        load_decoder(rig.directory, rig.sizes, THREADING, executor="openvino")


@pytest.mark.parametrize(("conv_impl", "executor"), [("bf16", "onnx"), ("int8", "openvino")])
def test_unsupported_conv_impl_is_rejected(rig: Rig, conv_impl: str, executor: str) -> None:
    with pytest.raises(ValueError, match=f"{executor} has no {conv_impl} convolutions"):
        load_decoder(rig.directory, rig.sizes, THREADING, conv_impl=conv_impl, executor=executor)


def test_graph_of_fractional_frames_is_rejected(rig: Rig) -> None:
    graph = Graph(rig.directory / runtime_codec.QUANTIZER["fp32"], THREADING)
    with pytest.raises(ValueError, match="do not make 3 frames"):
        runtime_codec.Stage(graph, 3)


def test_benchmark_measures_a_variant(rig: Rig) -> None:
    codec_json = json.dumps(asdict(rig.sizes))
    (rig.directory / CODEC_CONFIG_FILE).write_text(codec_json, encoding="utf-8")
    row = dual_ar_codec.decoder_row(rig.directory, "int8", "onnx", 1, 16)
    assert all(row[name] > 0 for name in ("whole", "16", "4", "1"))
    assert row["samples"].shape == (16 * rig.sizes.frame,)


@pytest.mark.slow
@pytest.mark.timeout(900)
class TestFullSize:
    """Exact sizes of S1-mini, random weights."""

    @pytest.mark.parametrize("variant", ["fp32 onnx", pytest.param("fp32 openvino", marks=needs_openvino)])
    def test_fp32_parity(self, full: Rig, variant: str) -> None:
        codes = full.codes(12)
        decoder = full.decoder(variant)
        np.testing.assert_allclose(decoder.decode(decoder.start(), codes), full.reference(codes), atol=1e-4)

    @variants
    def test_samples_are_bit_identical_however_frames_are_split(self, full: Rig, variant: str) -> None:
        codes, decoder = full.codes(21), full.decoder(variant)
        whole = decoder.decode(decoder.start(), codes)
        for cut in ([1, 3, 4, 8, 5], [16, 5], [2] * 10 + [1]):
            np.testing.assert_array_equal(in_pieces(decoder, codes, cut), whole)

    @pytest.mark.parametrize(
        ("variant", "least", "most"),
        [pytest.param("int8 onnx", 17.0, 3.0, marks=needs_exact_int8), ("winograd onnx", 25.0, 1.5)],
    )
    def test_quantised_is_close_to_fp32(self, full: Rig, variant: str, least: float, most: float) -> None:
        codes = full.codes(32)
        decoder, wanted = full.decoder(variant), full.reference(codes)
        found = decoder.decode(decoder.start(), codes)
        print(variant, snr(wanted, found), log_spectral_distance(wanted, found))
        assert snr(wanted, found) > least
        assert log_spectral_distance(wanted, found) < most

    def test_encodes_what_the_reference_encodes(self, full: Rig) -> None:
        audio = np.random.default_rng(3).normal(0, 0.2, 3 * 44100).astype(np.float32)
        found, wanted = full.encoder().encode(audio), networks.encode(full.state, full.sizes, audio)
        np.testing.assert_array_equal(found[0], wanted[0])
        assert (found == wanted).mean() > 0.99  # a near tie in one book changes what the later books quantise
