"""The single-shot adapter: order of pieces, isolation of failures, cleanup."""

from __future__ import annotations

import gc
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np
import pytest

from asking import until
from plans import TINY, TINY_PLAN
from saywell.engine.engine import Engine
from saywell.errors import InvalidText, ModelFailure
from saywell.models.single_shot import SingleShot
from saywell.plan.plan import Plan
from saywell.types import ModelSpec, Request, Samples, Sequence, Voice

RATE = 16_000
SPEC = replace(TINY, kind="single-shot", name="pieces")
PIECES = 6


class Pieces(SingleShot):
    """Speaks noise; a word of the text selects the fault."""

    def __init__(self, spec: ModelSpec, plan: Plan) -> None:
        self.spec = spec
        self.open = 0
        self.gate = threading.Event()
        self.gate.set()
        self.short = True
        super().__init__(self.speak, plan)

    def voices(self) -> tuple[Voice, ...]:
        return (Voice(id="pieces", name="Pieces", language="en", sample_rate=RATE),)

    def prepare(self, request: Request) -> None:
        """Nothing."""

    def speak(self, sequence: Sequence) -> Iterator[Samples]:
        self.open += 1
        try:
            noise = np.random.default_rng(sequence.seed)
            for piece in range(PIECES):
                if "slowly" in sequence.text:
                    self.gate.wait(20)
                if piece == 2 and "refused" in sequence.text:
                    raise InvalidText("this cannot be said", param="text")
                if piece == 2 and "broken" in sequence.text:
                    raise KeyError("secret")
                if piece == 2 and "memory" in sequence.text and self.short:
                    self.short = False
                    raise MemoryError
                yield noise.uniform(-0.3, 0.3, RATE // 4).astype(np.float32)
        finally:
            self.open -= 1


@pytest.fixture
def made() -> Iterator[Callable[..., tuple[Engine, Pieces]]]:
    engines: list[Engine] = []

    def start(**fields: object) -> tuple[Engine, Pieces]:
        held: list[Pieces] = []

        def load(plan: Plan) -> Pieces:
            held.append(Pieces(SPEC, plan))
            return held[-1]

        engine = Engine(SPEC, replace(TINY_PLAN, **fields), load)
        engines.append(engine)
        engine.start()
        return engine, held[0]

    yield start
    for engine in engines:
        engine.close()


def ask(text: str = "Some words to say.") -> Request:
    return Request(text=text)


def test_pieces_arrive_once_and_in_order(made: Callable[..., tuple[Engine, Pieces]]) -> None:
    engine, _ = made(threads=3)
    streams = [engine.submit(ask(f"Number {n} of these words.")) for n in range(4)]
    sounds = [stream.collect().samples for stream in streams]
    expected = np.random.default_rng(0).uniform(-0.3, 0.3, PIECES * RATE // 4).astype(np.float32)
    for samples in sounds:
        assert len(samples) == PIECES * RATE // 4
        np.testing.assert_allclose(samples[200:-200], expected[200:-200])  # faded at both ends


def test_failure_of_one_text_does_not_affect_others(made: Callable[..., tuple[Engine, Pieces]]) -> None:
    engine, _ = made(threads=2)
    good = [engine.submit(ask(f"Number {n} of these words.")) for n in range(3)]
    with pytest.raises(InvalidText, match="cannot be said"):
        engine.submit(ask("This is refused.")).collect()
    with pytest.raises(ModelFailure, match="KeyError") as failure:
        engine.submit(ask("This is broken.")).collect()
    assert "secret" not in failure.value.message
    assert all(len(stream.collect().samples) == PIECES * RATE // 4 for stream in good)


def test_out_of_memory_is_retried(made: Callable[..., tuple[Engine, Pieces]]) -> None:
    engine, model = made(threads=2)
    whole = engine.submit(ask("These words need memory.")).collect()
    assert not model.short
    assert len(whole.samples) == PIECES * RATE // 4


def test_first_sequences_come_before_other_pieces(made: Callable[..., tuple[Engine, Pieces]]) -> None:
    """One thread is blocked while pieces of long texts and of a short one queue: the short one is made first."""
    engine, model = made(threads=1, max_batch_size=8, max_parallel_chunks=2, first_chunk_chars=40, chunk_chars=60)
    order: list[str] = []
    speak = model._speak

    def listening(sequence: Sequence) -> Iterator[Samples]:
        for piece in speak(sequence):
            order.append(f"{sequence.request.text[:5]}{sequence.index}")
            time.sleep(0.005)
            yield piece

    model._speak = listening
    long = [engine.submit(ask(f"Long{n} words are spoken here. " * 40)) for n in range(3)]
    for stream in long:
        next(stream)
    until(lambda: any(name.endswith("2") for name in order))
    before = len(order)
    short = engine.submit(ask("Quick one of them."))
    short.collect()
    mine = [at for at, name in enumerate(order[before:]) if name.startswith("Quick")]
    assert len(mine) == PIECES
    assert mine == list(range(mine[0], mine[0] + PIECES))
    for stream in long:
        stream.close()


def test_slow_piece_does_not_block_other_sequences(made: Callable[..., tuple[Engine, Pieces]]) -> None:
    engine, model = made(threads=2)
    model.gate.clear()
    slow = engine.submit(ask("This comes slowly."))
    assert len(engine.submit(ask()).collect().samples) == PIECES * RATE // 4
    model.gate.set()
    assert len(slow.collect().samples) == PIECES * RATE // 4


def test_cancelled_sequences_are_cleaned_up(made: Callable[..., tuple[Engine, Pieces]]) -> None:
    engine, model = made(threads=2)
    model.gate.clear()
    for n in range(20):
        engine.submit(ask(f"Number {n} comes slowly.")).close()
    model.gate.set()
    engine.submit(ask()).collect()
    until = time.monotonic() + 5
    while model.open and time.monotonic() < until:
        gc.collect()
        time.sleep(0.01)
    assert model.open == 0


def test_changed_thread_count_does_not_affect_running_sequences(made: Callable[..., tuple[Engine, Pieces]]) -> None:
    _, model = made(threads=1)
    plan = replace(TINY_PLAN, threads=1)
    sequence = Sequence(
        request=ask(), index=0, source="", text="words", voice=model.voices()[0], seed=0, max_frames=99
    )  # fmt: skip
    model.prefill([sequence])
    pieces: list[np.ndarray] = []
    for threads in (3, 1, 2, 2, 1, 3, 1, 2):
        model.adapt(replace(plan, threads=threads))
        while not (frames := model.step([sequence])):
            pass
        if frames[0].finish:
            break
        pieces.append(frames[0].data)
    assert len(pieces) == PIECES
    model.release(sequence)
    assert sequence.state is None
