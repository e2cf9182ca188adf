"""The recipe of the wren voice, small: texts, the teacher, training with a break, export, and speech from it."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest

from saywell.bench.held_out import part, sentences
from saywell.models.wren.phones import IDS, SPEAKERS, SYMBOLS, WORD, check, encode
from saywell.models.wren.reader import read
from saywell.models.wren.synth import Synthesiser
from saywell.models.wren.synth import places as runtime_places

PROSE = "The lamp beside the window was lit every evening. Nobody knew who lit it, or why it burned so long."


@pytest.fixture(scope="module")
def stages() -> SimpleNamespace:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pyworld imports pkg_resources
        from training.wren import data, evaluate, export, features, nets, plots, synthesise, teacher, texts, train
    modules: tuple[ModuleType, ...] = (data, evaluate, export, features, nets, plots, synthesise, teacher, texts, train)
    return SimpleNamespace(**{module.__name__.rpartition(".")[2]: module for module in modules})


@pytest.fixture(scope="module")
def corpus(stages: SimpleNamespace, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A corpus of four texts a voice."""
    data = tmp_path_factory.mktemp("data")
    documents = data / "documents"
    documents.mkdir()
    held = sentences()[0]
    (documents / "page.md").write_text(f"# A page\n\n{PROSE} {held}\n", encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stages.texts, "dictionary", lambda: ["kettle", "Norway", "sandpaper", "engine's"])
        patch.setattr(stages.synthesise, "UTTERANCES", 4)
        assert stages.texts.write(data / "texts.txt", [documents], 10, 60, seed=3) > 16
        done = list(stages.synthesise.synthesise(data, shards=1))
    assert done[-1] == (4, 4)
    return data


@pytest.fixture(scope="module")
def trained(stages: SimpleNamespace, corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two calls; the second goes on where the first ended."""
    run = tmp_path_factory.mktemp("run")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stages.train, "LOG_S", 0.5)
        patch.setattr(stages.train, "BATCH_FRAMES", 1600)
        patch.setattr(stages.data, "EACH", 1)
        state = stages.train.train(corpus, run, minutes=0.03, cool=0.5)
        steps = stages.train.torch.load(state, weights_only=True)["step"]
        stages.train.train(corpus, run, minutes=0.06, cool=0.5)
    assert stages.train.torch.load(state, weights_only=True)["step"] > steps > 0
    return run


def test_no_held_out_sentence_becomes_a_text(corpus: Path) -> None:
    texts = (corpus / "texts.txt").read_text(encoding="ascii").splitlines()
    assert {part(text) for text in texts} == {"train"}
    assert any("lamp beside the window" in text for text in texts)


@pytest.mark.parametrize("voice", SPEAKERS)
def test_a_shard_is_what_the_teacher_said(stages: SimpleNamespace, corpus: Path, voice: str) -> None:
    shard = np.load(corpus / "corpus" / voice / "0000.npz")
    text = json.loads(bytes(shard["texts"]))[0]
    said = stages.teacher.Teacher(voice).speak(text)
    symbols = [SYMBOLS[number] for number in shard["symbols"][: shard["symbol_starts"][1]]]
    check(symbols)
    assert symbols == said.symbols
    samples = shard["samples"][: shard["sample_starts"][1]]
    assert samples.shape == said.samples.shape
    # Its noise is drawn with the process's rand(), from which a thread of ONNX Runtime draws now and then, too.
    assert np.corrcoef(samples, said.samples)[0, 1] > 0.9
    frames, ends = shard["frames"][: shard["frame_starts"][1]], shard["ends"][: shard["symbol_starts"][1]]
    assert frames.shape == (ends[-1], 31)
    if said.parameters is not None:
        np.testing.assert_array_equal(frames, said.parameters.astype(frames.dtype))
    assert abs(len(frames) * stages.teacher.HOP - len(said.samples)) <= stages.teacher.HOP
    vowels = np.concatenate(
        [frames[start:end, 0] for symbol, start, end in zip(symbols, [0, *ends], ends, strict=False) if symbol == "ae1"]
        or [frames[frames[:, 0] > 0, 0]]
    )
    assert 50 < np.median(vowels) < 300


def test_a_mark_between_words_lasts_no_frame(stages: SimpleNamespace) -> None:
    said = stages.teacher.Teacher("rms").speak("A quiet evening, John's lamp.")
    lengths = np.diff(said.ends, prepend=0)
    assert all((length == 0) == (symbol == WORD) for symbol, length in zip(said.symbols, lengths, strict=True))
    assert said.symbols == list(read("A quiet evening, John's lamp.").symbols)


def test_frames_and_network_see_the_same_places(stages: SimpleNamespace) -> None:
    elapsed, frames = np.array([0.5, 3.5, 19.5]), np.array([1.0, 7.0, 20.0])
    ours = stages.nets.places(stages.train.torch.tensor(elapsed), stages.train.torch.tensor(frames)).numpy()
    np.testing.assert_allclose(ours, runtime_places(elapsed, frames), atol=1e-6)


def test_loss_falls_and_is_drawn(stages: SimpleNamespace, trained: Path, tmp_path: Path) -> None:
    entries = [json.loads(line) for line in (trained / "log.jsonl").read_text(encoding="utf-8").splitlines()]
    assert entries[-1]["train"]["spectrum"] < entries[0]["train"]["spectrum"]
    stages.plots.draw(trained / "log.jsonl", tmp_path / "curves.png")
    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")


def test_what_is_exported_speaks_as_the_network_does(
    stages: SimpleNamespace, corpus: Path, trained: Path, tmp_path: Path
) -> None:
    torch = stages.train.torch
    stages.export.export(corpus, trained, tmp_path)
    voice = Synthesiser(tmp_path)
    one = stages.data.Corpus(corpus)
    one.refresh()
    model = stages.nets.Acoustic()
    model.load_state_dict(torch.load(trained / "state.pt", weights_only=True)["average"])
    symbols = encode(read("The lamp was lit.").symbols)
    prosody = voice.prosody(symbols, speaker=2)
    with torch.no_grad():
        codes, lengths = model.encoder(torch.tensor([symbols]), torch.tensor([2]))
    bias = float(stages.export.length_bias(model, one)[2])
    lasting = np.array([symbol != IDS[WORD] for symbol in symbols])
    np.testing.assert_allclose(prosody.codes, codes[0].T.numpy(), atol=0.01)
    np.testing.assert_allclose(prosody.natural, np.exp(lengths[0].numpy() + bias) * lasting, rtol=0.02)
    samples = voice.whole(prosody)
    assert len(samples) == prosody.samples
    assert np.isfinite(samples).all()
    assert 0 < np.abs(samples).max() <= 1


def test_distance_counts_words_changed_put_in_and_left_out(stages: SimpleNamespace) -> None:
    said = ["a", "lamp", "was", "lit"]
    assert stages.evaluate.distance(said, said) == 0
    assert stages.evaluate.distance(said, ["a", "lamb", "was", "lit", "up"]) == 2
    assert stages.evaluate.distance(said, ["lit"]) == 3


def test_a_recogniser_hears_the_teacher(stages: SimpleNamespace) -> None:
    text = "The baker opened his shop before the sun had reached the square."
    row = stages.evaluate.evaluate(Synthesiser(), SPEAKERS.index("rms"), [text], stages.evaluate.Ear())
    assert row["teacher"] <= 0.3
    assert row["reader"] <= 0.3
    assert 0.9 < row["length"] < 1.1
    assert row["clipped"] == 0
