"""Layers whose error on the calibration sentences exceeds the bound stay at a higher precision and are reported."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")

from benchmarks import random_checkpoint
from conversion import convert_here, in_process
from dual_ar_rig import RELATIVE
from reference import networks
from saywell.errors import InvalidRequest
from saywell.graphs import linears
from saywell.graphs.linears import Format, Judge, Linears, error
from saywell.graphs.writer import TRANSFORMER, External, GraphWriter
from saywell.models.conversion import layers_file, read_manifest
from saywell.models.dual_ar.config import Config
from saywell.models.dual_ar.convert.activations import activations
from saywell.models.dual_ar.convert.convert import convert
from saywell.models.dual_ar.onnx.runtime_ar import ArRuntime
from saywell.models.dual_ar.sampling import Sampling
from saywell.models.dual_ar.tokenizer import Tokenizer
from saywell.runtimes.base import Threading
from saywell.runtimes.onnx import Graph
from saywell.settings import Settings

GREEDY = Sampling(temperature=0, repetition_penalty=1.0)


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return random_checkpoint.write(tmp_path_factory.mktemp("published"))


def texts(config: Config, *lengths: int) -> list[np.ndarray]:
    random = np.random.default_rng(1)
    prompts = [np.zeros((1 + config.num_codebooks, length), np.int64) for length in lengths]
    for prompt in prompts:
        prompt[0] = random.integers(0, 300, prompt.shape[1])
    return prompts


@pytest.mark.parametrize("differs", [{}, RELATIVE], ids=["s1-mini", "s2-pro"])
def test_layer_inputs_equal_the_reference(tmp_path: Path, differs: dict[str, object]) -> None:
    path = random_checkpoint.write(tmp_path, config=differs)
    config, weights = Config.read(path), random_checkpoint.weights(path)[0]
    begin = Tokenizer.read(path, config).semantic_begin_id
    prompts = texts(config, 5, 1, 9)
    seen = activations(config, weights, prompts, begin)
    state = {name: each.astype(np.float64) for name, each in weights.items()}
    head = weights["embeddings.weight" if config.tie_word_embeddings else "output.weight"]
    fast_rows = seen["fast_output"].reshape(len(prompts), config.num_codebooks, -1)
    for number, prompt in enumerate(prompts):
        logits, hidden = networks.slow(state, config, prompt, begin)
        np.testing.assert_allclose(head @ seen["output"][number], logits, rtol=1e-3, atol=1e-4)
        codes = [int(logits[begin : begin + config.codebook_size].argmax())]
        while len(codes) < config.num_codebooks:
            wanted = networks.fast(state, config, hidden, codes)
            found = weights["fast_output.weight"][: config.residual_logits] @ fast_rows[number, len(codes)]
            np.testing.assert_allclose(found, wanted, rtol=1e-3, atol=1e-4)
            codes.append(int(wanted.argmax()))


@pytest.mark.parametrize("fmt", ["w8a8", "w8", "w4"])
def test_error_is_that_of_the_graph(tmp_path: Path, fmt: Format) -> None:
    random = np.random.default_rng(0)
    weight, x = (random.standard_normal((n, 256), dtype=np.float32) for n in (128, 40))
    external = External(tmp_path / "w.data")
    g = GraphWriter("product", TRANSFORMER, external)
    given = g.input("x", ["M", 256])
    g.output("y", Linears(g, fmt, given, Judge({}))(given, "w", weight), ["M", 128])
    external.close()
    (tmp_path / "g.onnx").write_bytes(g.model().SerializeToString())
    (found,) = Graph(tmp_path / "g.onnx", Threading(threads=1)).run({"x": x})
    exact = x @ weight.T
    assert error(x, weight, fmt) == pytest.approx(np.linalg.norm(found - exact) / np.linalg.norm(exact), rel=0.1)


def test_outliers_raise_the_format_until_the_error_is_below_the_bound() -> None:
    random = np.random.default_rng(0)
    plain, x = (random.standard_normal((64, 256), dtype=np.float32) for _ in range(2))
    harsh, hopeless = plain.copy(), plain.copy()
    harsh[:, ::128] *= 12
    hopeless[:, ::64] *= 1000
    x[:, ::64] *= 0.001
    judge = Judge({"plain": x, "harsh": x, "hopeless": x})
    assert judge.format("plain", plain, "w4") == "w4"
    assert judge.format("harsh", harsh, "w4") == "w8"
    assert judge.format("hopeless", hopeless, "w4") == "fp32"
    assert judge.format("unseen", hopeless, "w4") == "w4"
    assert judge.kept == {"harsh": "w8", "hopeless": "fp32"}
    assert judge.errors.keys() == {"plain", "harsh", "hopeless"}


def test_keeping_all_layers_equals_full_precision(
    published: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(linears, "BOUND", 0.0)
    path = convert_here(published, tmp_path / "model", ("fp32", "int8", "int4"))
    config = Config.read(path)
    spoken = {}
    for precision in ("fp32", "int8", "int4"):
        runtime = ArRuntime(path, precision, Threading(threads=1), slots=1, max_len=64, cache="fp32")
        running = runtime.prefill(texts(config, 9)[0], GREEDY)
        spoken[precision] = [runtime.step([running])[0].tolist() for _ in range(8)]
    assert spoken["fp32"] == spoken["int8"] == spoken["int4"]
    report = json.loads((path / layers_file("int4")).read_text())
    assert set(report["kept"].values()) == {"fp32"}
    assert report["kept"].keys() == report["errors"].keys()


def test_report_has_every_layer_and_depends_on_the_number_of_sentences(
    published: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    in_process(monkeypatch)
    convert(published, tmp_path, precisions=("int8",))
    report, before = json.loads((tmp_path / layers_file("int8")).read_text()), read_manifest(tmp_path).files
    config = Config.read(tmp_path)
    assert len(report["errors"]) == 4 * (config.n_layer + config.n_fast_layer) + 2
    assert (report["sentences"], report["kept"]) == (4, {})
    assert max(report["errors"].values()) < report["bound"] / 2
    convert(published, tmp_path, precisions=("int8",), sentences=2)
    after = read_manifest(tmp_path).files
    assert json.loads((tmp_path / layers_file("int8")).read_text())["sentences"] == 2
    assert after["kv-scales-int8.npy"] != before["kv-scales-int8.npy"]
    assert after["codec_stack.fp32.onnx"] == before["codec_stack.fp32.onnx"]


def test_command_prints_kept_layers(
    published: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from saywell.commands.models import convert as command

    in_process(monkeypatch)
    with pytest.raises(InvalidRequest, match="--calibration takes 1 to 16 sentences, not 17"):
        command(published, tmp_path, ["int8"], 17, Settings())
    monkeypatch.setattr(linears, "BOUND", 0.015)
    command(published, tmp_path, ["int8"], 1, Settings())
    said = " ".join(capsys.readouterr().err.split())
    kept = json.loads((tmp_path / layers_file("int8")).read_text())["kept"]
    assert f"int8: {len(kept)} of " in said
    assert all(f"{name}: " in said for name in kept)
