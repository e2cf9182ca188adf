"""A family whose voice state is three arrays of its own, from recording to audio, without any support in the core."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from asking import LONG, ask
from babble import babble
from paths import TESTS
from plans import TINY_PLAN
from saywell.commands import voices as command
from saywell.commands.say import read_reference
from saywell.engine.engine import Engine
from saywell.engine.worker.client import EngineClient
from saywell.errors import InvalidRequest, UnknownVoice
from saywell.models import base
from saywell.plan.plan import Plan
from saywell.settings import Settings
from saywell.types import Audio, Reference
from tiny_ar import cloning

SPEC = cloning.spec("tiny", None)


def recording(seed: int = 0) -> Reference:
    return Reference(pcm=babble(1.5, 16_000, seed).tobytes(), sample_rate=16_000, transcript="What is said.")


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    return replace(TINY_PLAN, data_dir=tmp_path)


@pytest.fixture
def engine(plan: Plan) -> Iterator[Engine]:
    engine = Engine(SPEC, plan)
    engine.start()
    yield engine
    engine.close()


def model(engine: Engine) -> cloning.CloningModel:
    found = engine._resident.model
    assert isinstance(found, cloning.CloningModel)
    return found


def same(one: Audio, other: Audio) -> bool:
    return np.array_equal(one.samples, other.samples)


def test_every_sequence_carries_its_prepared_voice(engine: Engine) -> None:
    audio = engine.submit(ask(LONG, reference=recording())).collect()
    _, *states = model(engine).seen  # the first is the warm-up's
    assert len(states) == audio.summary.sequences > 1
    assert len({id(state) for state in states}) == 1
    (state,) = {state for state in states if state is not None}
    assert {name: (array.dtype.str, array.shape) for name, array in state.arrays.items()} == {
        "speaker": ("<f4", (32,)), "prompt": ("<f2", (4, 32)), "loudness": ("<f8", ()),
    }  # fmt: skip
    assert state.meta["transcript"] == "What is said."
    assert state.meta["thread"] not in ("MainThread", "saywell-engine")


def test_the_voice_sounds_the_same_in_a_worker_and_by_its_name(
    engine: Engine, plan: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain, other, here = (
        engine.submit(ask(LONG, reference=each)).collect() for each in (None, recording(1), recording())
    )
    assert not same(plain, here)
    assert not same(other, here)
    store = base.open_voices(SPEC, plan)
    store.save("anna", store.encode(recording()))
    monkeypatch.setenv("PYTHONPATH", str(TESTS), prepend=os.pathsep)
    client = EngineClient(SPEC, plan)
    try:
        client.start()
        assert client.voices()[-1].id == "anna"
        for fields in ({"reference": recording()}, {"voice": "anna"}):
            assert same(client.submit(ask(LONG, **fields)).collect(), here)
        assert same(client.submit(ask(LONG)).collect(), plain)
    finally:
        client.close()


def test_the_command_saves_voices_of_any_family_that_declares_its_store(
    engine: Engine, plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(base.built_in(), "cloning", "tiny_ar.cloning")
    settings = Settings(model="cloning", data_dir=tmp_path)
    file = engine.submit(ask(LONG)).collect().save(tmp_path / "anna.wav")
    command.save(settings, "anna", file, "What is said.")
    wanted = cloning.encode(read_reference(file, "What is said."))
    found = base.open_voices(SPEC, plan).load("anna")
    assert found.arrays.keys() == wanted.arrays.keys()
    assert all(np.array_equal(found.arrays[name], array) for name, array in wanted.arrays.items())
    command.delete(settings, "anna")
    with pytest.raises(UnknownVoice):
        base.open_voices(SPEC, plan).load("anna")
    with pytest.raises(InvalidRequest, match="cannot speak like a recording"):
        command.save(Settings(model="espeak", data_dir=tmp_path), "anna", file, "")
