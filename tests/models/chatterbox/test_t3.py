"""T3 against recorded arrays of the real modules (`tests/reference/chatterbox_t3.py`), and its runtime."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from benchmarks import random_t3
from benchmarks.random_t3 import CASES, FULL, TINY, Case, StandIn
from paths import TESTS
from saywell.errors import BadCheckpoint, TooLarge, Unavailable
from saywell.graphs.linears import Judge
from saywell.models.chatterbox.t3 import activations, calibrate, graph, layout
from saywell.models.chatterbox.t3.config import ENGLISH, T3Config
from saywell.models.chatterbox.t3.files import CONFIG_FILE, PRECISIONS, TABLES_FILE
from saywell.models.chatterbox.t3.runtime import BROKEN, Running, T3Runtime
from saywell.models.chatterbox.t3.sampling import Sampling
from saywell.runtimes.base import Threading
from saywell.runtimes.kv_cache import Prefix

RECORDED = np.load(TESTS / "models" / "chatterbox" / "recorded_t3.npz")
SHOWN = 8
"""Every eighth column of logits and rows is recorded."""
VARIANTS = [("fp32", "fp32"), ("int8", "fp32"), ("int8", "int8"), ("int4", "int8")]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Model → its folder of graphs."""
    return {name: build(name, config, tmp_path_factory.mktemp(name)) for name, config in TINY.items()}


def build(name: str, config: T3Config, out: Path) -> Path:
    weights = StandIn(config)
    graph.build_tables(config, weights, out)
    for precision in ("fp32",) if name == "multilingual" else PRECISIONS:
        graph.build(config, weights, out, precision, Judge({}))
        if precision != "fp32":
            spoken = [
                calibrate.Prompt(*random_t3.voice(config, 30, seed), 0.5, random_t3.text(config, 20, seed))
                for seed in range(50, 54)
            ]
            calibrate.write_scales(out, out, precision, spoken, threads=1)
    return out


def runtime(
    path: Path, precision: str = "fp32", cache: str = "fp32", *, slots: int = 4, max_len: int = 160, bits: int = 8
) -> T3Runtime:
    return T3Runtime(path, precision, Threading(), slots=slots, max_len=max_len, cache=cache, activation_bits=bits)


def voice(loaded: T3Runtime, case: Case) -> Prefix:
    speaker, prompt = random_t3.voice(loaded.config, case.prompt, case.seed)
    return loaded.voice(speaker, prompt, case.sampling.exaggeration)


def start(loaded: T3Runtime, case: Case) -> Running:
    text = random_t3.text(loaded.config, case.text, case.seed)
    return loaded.prefill(text, case.sampling, voice(loaded, case))


def speak(loaded: T3Runtime, case: Case, count: int) -> list[int]:
    running = start(loaded, case)
    tokens: list[int] = []
    while len(tokens) < count and loaded.config.stop_speech not in tokens:
        tokens += loaded.step([running]).tolist()
    loaded.release(running)
    return tokens


# Against the real modules ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", CASES)
def test_tokens_and_logits_equal_the_real_modules(name: str, built: dict[str, Path]) -> None:
    case = CASES[name]
    loaded = runtime(built[case.model])
    speaker, prompt = random_t3.voice(loaded.config, case.prompt, case.seed)
    rows = loaded.tables.voice(speaker, prompt, case.sampling.exaggeration)
    if loaded.config.kind == "gpt2":
        rows = rows - loaded.tables._at[: len(rows)]
    np.testing.assert_allclose(rows[:, ::SHOWN], RECORDED[f"{name}/rows"], atol=2e-5)
    running = start(loaded, case)
    wanted = RECORDED[f"{name}/logits"][0]
    assert running.ready is not None
    np.testing.assert_allclose(running.ready[:, ::SHOWN], wanted[: len(running.rows)], atol=1e-3)
    loaded.release(running)
    tokens = speak(loaded, case, case.tokens)
    assert tokens == RECORDED[f"{name}/tokens"].tolist()
    assert len(tokens) == 40


@pytest.mark.parametrize(("precision", "cache"), VARIANTS[1:])
@pytest.mark.parametrize("name", ["english", "turbo"])
def test_lower_precisions_are_near(name: str, precision: str, cache: str, built: dict[str, Path]) -> None:
    case = CASES[name]
    exact, near = (
        start(runtime(built[name], *variant), case).ready for variant in (("fp32", "fp32"), (precision, cache))
    )
    assert exact is not None
    assert near is not None
    error = np.linalg.norm(near - exact) / np.linalg.norm(exact)
    assert error < {"int8": 0.05, "int4": 0.35}[precision]


@pytest.mark.parametrize("name", ["english", "turbo"])
def test_calibration_sees_the_inputs_of_each_layer(name: str, built: dict[str, Path], tmp_path: Path) -> None:
    case, weights = CASES[name], StandIn(TINY[name])
    speaker, tokens = random_t3.voice(TINY[name], case.prompt, case.seed)
    text = random_t3.text(TINY[name], case.text, case.seed)
    prompt = calibrate.Prompt(speaker, tokens, case.sampling.exaggeration, text)
    judge = Judge(calibrate.seen(built[name], weights, [prompt, prompt]))
    loaded = runtime(built[name])
    said = calibrate.inputs(loaded.tables, prompt)[: -len(tokens)]
    whole = activations.activations(loaded.config, weights, [said])
    ready = start(loaded, case).ready
    assert ready is not None
    head = weights["speech_head.weight"][TINY[name].emitted]
    bias = weights["speech_head.bias"][TINY[name].emitted] if name == "turbo" else 0
    np.testing.assert_allclose(whole["speech_head"][-1] @ head.T + bias, ready[0], atol=1e-3)
    assert max(len(rows) for rows in judge.seen.values()) <= activations.ROWS
    graph.build(TINY[name], weights, tmp_path, "int4", judge)
    assert judge.errors.keys() == judge.seen.keys()
    assert judge.kept == {}


# The runtime ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("precision", "cache"), VARIANTS)
@pytest.mark.parametrize("model", ["english", "turbo"])
def test_a_sequence_does_not_depend_on_the_batch(
    model: str, precision: str, cache: str, built: dict[str, Path]
) -> None:
    loaded = runtime(built[model], precision, cache)
    base = next(case for case in CASES.values() if case.model == model)
    weights = (0.5, 0.0, 1.0)
    cases = [
        replace(base, seed=seed, text=9 + seed, sampling=replace(base.sampling, seed=seed, cfg_weight=weights[seed]))
        for seed in range(3)
    ]
    alone = [speak(loaded, case, 12) for case in cases]
    running = [start(loaded, case) for case in cases[:2]]
    together: list[list[int]] = [[], [], []]
    for turn in range(15):
        if turn == 3:  # one joins
            running.append(start(loaded, cases[2]))
        going = [index for index in range(len(running)) if len(together[index]) < 12]
        for index, token in zip(going, loaded.step([running[index] for index in going]), strict=True):
            together[index].append(int(token))
        if turn == 11:  # one leaves, and others move into its rows
            loaded.release(running[0])
    assert together == alone
    assert loaded.free == 2


def test_seven_bit_activations_have_graphs(built: dict[str, Path]) -> None:
    case = CASES["english"]
    seven, eight = (start(runtime(built["english"], "int8", "int8", bits=bits), case).ready for bits in (7, 8))
    assert seven is not None
    assert eight is not None
    assert 0 < np.abs(seven - eight).max() < 5


def test_without_guidance_a_sequence_has_one_row(built: dict[str, Path]) -> None:
    loaded = runtime(built["english"])
    plain = replace(CASES["english"], sampling=Sampling(cfg_weight=0.0))
    assert [len(start(loaded, case).rows) for case in (plain, CASES["english"])] == [1, 2]


def test_a_prompt_without_tokens_leaves_out_the_perceiver(built: dict[str, Path]) -> None:
    loaded = runtime(built["english"])
    assert voice(loaded, replace(CASES["english"], prompt=0)).length == 2
    assert voice(loaded, replace(CASES["english"], prompt=500)).length == 34


def test_full_slots_and_positions_are_reported(built: dict[str, Path]) -> None:
    loaded = runtime(built["english"], slots=2, max_len=64)
    case = replace(CASES["english"], text=5)
    with pytest.raises(TooLarge, match="64 positions"):
        start(loaded, replace(case, text=40))
    with pytest.raises(TooLarge, match="2050"):
        start(loaded, replace(case, text=4000))
    assert loaded.free == 2
    known = voice(loaded, case)
    first, second = (loaded.prefill(random_t3.text(loaded.config, 5, 0), case.sampling, known) for _ in range(2))
    with pytest.raises(Unavailable, match="2 slots"):
        loaded.prefill(random_t3.text(loaded.config, 5, 0), case.sampling, known)
    assert loaded.room(first) == 64 - 34 - 7 - 2
    loaded.step([first, second])
    assert loaded.room(first) == 64 - 34 - 7 - 2 - 1
    loaded.release(first)
    loaded.step([second])
    assert [row.row for row in second.rows] == [1, 0]  # moved into the gap


def test_non_finite_logits_break_only_their_sequence(built: dict[str, Path]) -> None:
    loaded = runtime(built["english"])
    case = CASES["english"]
    alone = speak(loaded, case, 1)
    first, second = start(loaded, case), start(loaded, case)
    assert first.ready is not None
    first.ready[1, 7] = np.nan
    assert loaded.step([first, second]).tolist() == [BROKEN, *alone]


def test_an_empty_batch(built: dict[str, Path]) -> None:
    assert runtime(built["turbo"]).step([]).shape == (0,)


def test_runtime_needs_neither_onnx_nor_torch(built: dict[str, Path]) -> None:
    program = f"""
import sys
sys.modules.update(onnx=None, torch=None)
import numpy as np
from pathlib import Path
from saywell.runtimes.base import Threading
from saywell.models.chatterbox.t3.runtime import T3Runtime
from saywell.models.chatterbox.t3.sampling import Sampling
runtime = T3Runtime(Path({str(built["turbo"])!r}), "int4", Threading(), slots=1, max_len=64)
voice = runtime.voice(np.zeros(256, np.float32), np.arange(3), 0.0)
running = runtime.prefill(np.arange(4), Sampling.of(runtime.config, 0), voice)
print(runtime.step([running]).shape)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "(1,)"


@pytest.mark.parametrize("name", [CONFIG_FILE, TABLES_FILE, "t3-kv-scales-int8.npy"])
def test_damaged_files_are_named(name: str, built: dict[str, Path], tmp_path: Path) -> None:
    for path in built["turbo"].iterdir():
        (tmp_path / path.name).symlink_to(path)
    (tmp_path / name).unlink()
    (tmp_path / name).write_bytes(b"{")
    with pytest.raises(BadCheckpoint, match=name):
        runtime(tmp_path, "int8", "int8")


# The layout -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("model", FULL)
def test_published_files_are_recognised(model: str) -> None:
    config = FULL[model]
    shapes = layout.published(config)
    assert layout.recognised(shapes) == config
    unused = {"text_head.weight", "tfmr.embed_tokens.weight", "tfmr.wte.weight"}
    assert layout.recognised({name: shape for name, shape in shapes.items() if name not in unused}) == config
    assert config.multilingual == (model == "multilingual")


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"tfmr.layers.3.mlp.up_proj.weight": (4096, 512)}, "tfmr.layers.3.mlp.up_proj.weight"),
        ({"tfmr.layers.99999999.mlp.up_proj.weight": (4096, 1024)}, "tfmr.layers"),
        ({"speech_emb.weight": (6000, 1024)}, "speech_emb.weight"),
        ({"cond_enc.clap.weight": (1, 1)}, "cond_enc.clap.weight"),
        ({"text_pos_emb.emb.weight": ()}, "text_pos_emb.emb.weight"),
    ],
)
def test_other_files_are_refused_by_name(change: dict[str, tuple[int, ...]], named: str) -> None:
    with pytest.raises(BadCheckpoint, match=named):
        layout.recognised({**layout.published(ENGLISH), **change}, "t3_cfg.safetensors")
    with pytest.raises(BadCheckpoint, match="speech_emb"):
        layout.recognised({"weight": (3,)})
