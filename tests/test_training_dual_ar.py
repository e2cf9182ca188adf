"""The recipe of the DualAR voice, small: books, sequences, all trainings, export, conversion, speech."""

from __future__ import annotations

import itertools
import json
import warnings
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest

from conversion import convert_here
from saywell.models.dual_ar import prompt
from saywell.models.dual_ar.config import Config
from saywell.models.dual_ar.tokenizer import Tokenizer
from saywell.models.wren.phones import SPEAKERS, SYMBOLS

torch = pytest.importorskip("torch")

TEXTS = [
    "The lamp beside the window was lit every evening, by whom nobody knew.",
    "Her mother sold the boat and bought a small garden near the station.",
    "A quiet dog slept in the sun.",
    "We counted seven yellow birds.",
]


@pytest.fixture(scope="module")
def stages() -> SimpleNamespace:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pyworld imports pkg_resources
        from training.dual_ar import (
            blocks,
            books,
            common,
            decoder,
            encoder,
            evaluate,
            export,
            heard,
            loop,
            nets,
            plots,
            sequences,
            train,
        )
        from training.wren import synthesise
    modules: tuple[ModuleType, ...] = (
        *(blocks, books, common, decoder, encoder, evaluate, export, heard, loop),
        *(nets, plots, sequences, train, synthesise),
    )
    return SimpleNamespace(**{module.__name__.rpartition(".")[2]: module for module in modules})


@pytest.fixture(scope="module")
def corpus(stages: SimpleNamespace, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two long and two short texts of each voice, as the teacher says them."""
    data = tmp_path_factory.mktemp("data")
    (data / "texts.txt").write_text("\n".join(TEXTS * len(SPEAKERS)) + "\n", encoding="ascii")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stages.synthesise, "UTTERANCES", len(TEXTS))
        assert list(stages.synthesise.synthesise(data, shards=1))[-1] == (4, 4)
    return data


@pytest.fixture(scope="module")
def books(stages: SimpleNamespace, corpus: Path) -> Any:
    paths = sorted((corpus / "corpus").glob("*/*.npz"))
    found = stages.books.build(one for path in paths for one in stages.blocks.read(path))
    stages.books.write(corpus, found, paths)
    stages.common.write(corpus, found, ["kettle", "sandpaper"], shards=1)
    return found


@pytest.fixture(scope="module")
def trained(stages: SimpleNamespace, corpus: Path, books: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every stage trained for seconds; the transformers in two calls, the second goes on where the first ended."""
    run: Path = tmp_path_factory.mktemp("run")
    books.save(run / "books.npz")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        for module in (stages.train, stages.loop):
            patch.setattr(module, "LOG_S", 0.5)
        patch.setattr(stages.train, "POSITIONS", 400)
        patch.setattr(stages.sequences, "EACH", 4)
        for module in (stages.decoder, stages.encoder):
            patch.setattr(module, "ROWS", 2)
        stages.encoder.train(corpus, run, minutes=0.05, cool=0.5)
        stages.heard.write(corpus, run, shards=1)
        stages.train.train(corpus, run, minutes=0.03, cool=0.5)
        steps = torch.load(run / "ar.pt", weights_only=True)["step"]
        stages.train.train(corpus, run, minutes=0.06, cool=0.5)
        stages.decoder.train(corpus, run, minutes=0.05, cool=0.5)
    torch.set_num_threads(threads)
    assert torch.load(run / "ar.pt", weights_only=True)["step"] > steps > 0
    return run


def test_rounding_is_of_half_a_step_and_is_taken_back(stages: SimpleNamespace, books: Any) -> None:
    model = stages.nets.Training(torch.from_numpy(books.pairs))
    before = {name: weight.detach().clone() for name, weight in model.named_parameters()}
    with stages.train.rounded(model, torch.Generator().manual_seed(1)):
        off = {name for name, weight in model.named_parameters() if not torch.equal(weight, before[name])}
        was = before["net.layers.0.feed_forward.w2.weight"].view(-1, 128)
        moved = model.net.layers[0].feed_forward.w2.weight.detach().view(-1, 128) - was
        assert 0.45 < float((moved.abs() / was.abs().amax(-1, keepdim=True) * 8).max()) <= 0.5 + 1e-3
    assert {each.rpartition(".")[0].rpartition(".")[2] for each in off} == {"wqkv", "wo", "w1", "w2", "w3"}
    assert all(torch.equal(weight, before[name]) for name, weight in model.named_parameters())


def utterances(stages: SimpleNamespace, corpus: Path, voice: str = "rms") -> list[Any]:
    return list(stages.blocks.read(corpus / "corpus" / voice / "0000.npz"))


def test_blocks_name_the_phones_in_order(stages: SimpleNamespace, corpus: Path) -> None:
    for one in utterances(stages, corpus):
        said, wanted = stages.evaluate.phones(one.pairs), stages.evaluate.spelled(one.text)
        missed = stages.evaluate.Levenshtein.distance(wanted, said)
        assert missed <= 0.1 * len(wanted)  # a phone shorter than half a block can fall between two looks


def test_letters_point_into_the_word_that_is_spoken(stages: SimpleNamespace, corpus: Path) -> None:
    one = utterances(stages, corpus)[2]
    letters = one.letters[one.letters >= 0]
    assert (np.diff(letters) >= 0).all()
    assert TEXTS[2][letters[0]] in "A quiet"
    assert TEXTS[2][letters[-1]] in "sun"


def test_a_locked_block_of_sound_depends_on_no_other_block_after_it(stages: SimpleNamespace, corpus: Path) -> None:
    one = utterances(stages, corpus)[0]
    whole = one.sound()
    cut = stages.blocks.spoken(one.cepstrum[:9], one.periods[:9], one.strengths[:9])
    np.testing.assert_allclose(whole[: 9 * 800], cut, atol=1e-6)  # a matrix product rounds by its shape
    assert 0.05 < np.abs(whole).max() < 1.5


def test_codes_say_what_the_blocks_were(stages: SimpleNamespace, corpus: Path, books: Any) -> None:
    one = utterances(stages, corpus, "slt")[0]
    codes = books.encode(one)
    _, periods, _ = books.decode(codes)
    assert (periods == one.periods).mean() > 0.9
    rest = [np.inf]
    for count in range(1, codes.shape[1] + 1):
        said = sum(books.said(book, codes[:, book]) for book in range(count))
        rest.append(float(np.square(books.latents(one) - said).mean()))
    assert all(after <= before + 1e-6 for before, after in itertools.pairwise(rest))


def test_the_encoder_begins_as_the_projection_the_books_were_counted_with(
    stages: SimpleNamespace, corpus: Path, books: Any
) -> None:
    model, one = stages.encoder.Encoder(books), utterances(stages, corpus)[0]
    rows = torch.from_numpy(stages.books.flat(one) - books.mean)
    cepstrum, period, strengths = rows.split([250, 1, 50], 1)
    each = [cepstrum.view(-1, 10, 25), period[:, None].expand(-1, 10, 1), strengths.view(-1, 10, 5)]
    frames = torch.zeros(1, 192, 10 * len(rows))
    frames[0, :31] = torch.cat(each, 2).flatten(0, 1).T
    with torch.inference_mode():
        found = model.pre_module(model.downsample(frames))[0].T
    wanted = rows @ torch.from_numpy(books.basis)
    kept = slice(0, stages.encoder.NAMED.start)
    rest = (found - wanted)[:, kept].square().sum() / wanted[:, kept].square().sum()
    assert rest < 0.05


def test_the_strided_convolutions_carry_the_samples_to_the_bank(stages: SimpleNamespace, books: Any) -> None:
    model, codec = stages.encoder.Encoder(books), stages.encoder.Codec(stages.encoder.CODEC)
    samples = torch.from_numpy(np.random.default_rng(0).normal(0, 0.1, (1, 4000)).astype(np.float32))
    model.tune(samples)
    model.fill(codec.encoder)
    with torch.inference_mode():
        heard = codec.encoder(samples[:, None])[0, :31].T
        torch.testing.assert_close(heard, model(samples)[0][0], atol=0.02, rtol=0.02)


def test_a_reference_stands_as_the_encoder_heard_it(stages: SimpleNamespace, corpus: Path, trained: Path) -> None:
    first, second = list(stages.sequences.load(corpus / "codes" / "rms" / "0000.npz"))[:2]
    row = stages.sequences.sequence([first, second], True)
    begin = 2 + len(first.text)
    np.testing.assert_array_equal(row.codes[begin : begin + len(first.heard)], first.heard)
    batch = stages.sequences.collate([row])
    after = begin + len(first.heard) + 1 + len(second.text)
    assert (batch.semantic[0, :after] == -1).all()  # nothing of it is to be learned
    assert batch.semantic[0, after : after + len(second.codes)].tolist() == second.codes[:, 0].tolist()


def test_a_sequence_is_the_prompt_the_engine_builds(stages: SimpleNamespace, corpus: Path, books: Any) -> None:
    first, second = list(stages.sequences.load(corpus / "codes" / "rms" / "0000.npz"))[:2]
    row = stages.sequences.sequence([first, second])
    tokenizer, config = stages.export.tokenizer(), stages.export.config()
    reference = (first.text.decode(), first.codes.T.astype(np.int64))
    wanted = prompt.build(tokenizer, config, second.text.decode(), [reference])
    assert row.tokens[: wanted.shape[1]].tolist() == wanted[0].tolist()
    assert np.maximum(row.codes[: wanted.shape[1]], 0).T.tolist() == wanted[1:].tolist()
    letters = row.letters[row.letters >= 0]
    assert set(bytes(row.tokens[letters].tolist()).decode()) <= set("".join(TEXTS))


def test_everyday_words_have_phones_without_sound(stages: SimpleNamespace, corpus: Path, books: Any) -> None:
    for one in list(stages.sequences.load(corpus / "codes" / "common" / "0000.npz"))[:5]:
        assert (one.codes[:, 1:] == -1).all()
        said = stages.evaluate.phones(books.pairs[np.minimum(one.codes[:, 0], len(books.pairs) - 1)])
        assert set(said) <= {symbol.rstrip("01") for symbol in SYMBOLS}


def test_losses_fall_and_are_drawn(stages: SimpleNamespace, trained: Path, tmp_path: Path) -> None:
    for name, loss in (("ar", "semantic"), ("decoder", "log"), ("encoder", "semantic")):
        entries = [json.loads(line) for line in (trained / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()]
        assert entries[-1]["train"][loss] < entries[0]["train"][loss], name
    stages.plots.draw(trained, tmp_path / "curves.png")
    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")


def test_what_is_exported_is_what_was_trained(
    stages: SimpleNamespace, corpus: Path, trained: Path, tmp_path: Path
) -> None:
    """Logits of the published modules, step by step, against the trained ones over a whole sequence."""
    books = stages.books.Books.load(trained / "books.npz")
    model = stages.nets.Training(torch.from_numpy(books.pairs))
    model.load_state_dict(torch.load(trained / "ar.pt", weights_only=True)["average"])
    one = next(iter(stages.sequences.load(corpus / "codes" / "awb" / "0000.npz")))
    batch = stages.sequences.collate([stages.sequences.sequence([one])])
    with torch.inference_mode():
        out = model.slow(batch.tokens, batch.codes, batch.letters)
    state = {name: each.float() for name, each in stages.export.transformers(books, trained).items()}
    net = stages.evaluate.DualAR.load(stages.export.config(), stages.export.tokenizer(), state)
    columns = torch.cat([batch.tokens[:, None], batch.codes.clamp(min=0).transpose(1, 2)], 1)[..., :-1]
    with torch.inference_mode():
        logits, hidden = net(columns, torch.tensor([0]), net.new_cache(1, columns.shape[2]))
    torch.testing.assert_close(logits, out.semantic[:, -2], atol=0.1, rtol=0.05)  # stored in bf16
    torch.testing.assert_close(hidden, out.hidden[:, -2], atol=0.1, rtol=0.05)


def test_the_checkpoint_is_converted_as_it_is(stages: SimpleNamespace, trained: Path, tmp_path: Path) -> None:
    source = stages.export.export(trained, tmp_path / "checkpoint")
    converted = convert_here(source, tmp_path / "converted", precisions=("fp32",))
    config = Config.read(converted)
    assert config.codec.frame_rate == 20
    tokenizer = Tokenizer.read(converted, config)
    assert tokenizer.encode("Hé") == list("Hé".encode())
    assert tokenizer.semantic_begin_id == stages.export.tokenizer().semantic_begin_id


def test_a_run_is_judged(stages: SimpleNamespace, trained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stages.evaluate, "LONGEST", 20)
    found = stages.evaluate.evaluate(trained, [TEXTS[2]])
    assert set(found) == {"phones", "codec", "filter"}
    assert all(value >= 0 for value in found.values())
