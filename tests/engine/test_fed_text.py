"""Text fed piece by piece into a running request: the same audio as of the whole text, as early as possible."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from asking import LONG, ask, until
from encoding import RECORDING, SPEC, Encoder, model
from plans import TINY, TINY_PLAN
from saywell.engine import request_state
from saywell.engine.engine import Engine
from saywell.engine.launch import TTS, Decision
from saywell.engine.stream import Stream
from saywell.errors import (
    Cancelled,
    DeadlineExceeded,
    EngineClosed,
    InvalidRequest,
    InvalidText,
    ModelFailure,
    SaywellError,
    TooLarge,
    TooManyRequests,
)
from saywell.machine import detect
from saywell.settings import Settings
from saywell.types import Request, Sequence
from tiny_ar import family as tiny_ar

Start = Callable[..., Engine]
WORDS = st.sampled_from(
    [
        *"aZ9.,;!?… \n\u0301\u200d🎉好。กิ-",
        "Dr. Smith ",
        "It costs $1,250.50 today. ",
        "The U.S. Army, ",
        "cafe\u0301 ",
        "👩\u200d👧 ",
        "\r\n\r\n",
        "Then comes another sentence, which is longer than the first one! ",
        "- - -\n",
    ]
)


def heard(speak: Callable[[], Stream]) -> tuple[bytes, str, int] | type[SaywellError]:
    """The result of a request: its samples, their text and the number of sequences; or its error."""
    try:
        stream = speak()
        chunks = list(stream)
    except SaywellError as error:
        return type(error)
    assert stream.summary is not None
    samples = np.concatenate([chunk.samples for chunk in chunks])
    return samples.tobytes(), "".join(chunk.text for chunk in chunks), stream.summary.sequences


def give(stream: Stream, *pieces: str) -> Stream:
    for piece in pieces:
        stream.feed(piece)
    stream.end_text()
    return stream


def fed(engine: Engine, *pieces: str, **fields: object) -> Stream:
    return give(engine.submit(ask("", **fields), more=True), *pieces)


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    engine = Engine(TINY, TINY_PLAN, lambda now: tiny_ar.TinyModel(TINY, now))
    engine.start()
    yield engine
    engine.close()


# The sound


def test_what_is_hidden_is_silent_also_across_chunks_and_pieces(engine: Engine) -> None:
    hidden = "A hidden sentence that is quite long, and another one. " * 4
    text = f"Hello there, everybody. <!-- {hidden}--> And <b>this</b> is heard.\n<style>{hidden}</style> So is this."
    whole = engine.submit(ask(text))
    spoken = "".join(chunk.text for chunk in whole)
    assert "hidden" not in spoken
    assert " ".join(spoken.split()) == "Hello there, everybody. And <b>this</b> is heard. So is this."
    assert heard(lambda: fed(engine, *(text[at : at + 7] for at in range(0, len(text), 7)))) == heard(
        lambda: engine.submit(ask(text))
    )
    everything = "".join(chunk.text for chunk in engine.submit(ask(text, markup="plain")))
    assert everything == text


@settings(max_examples=80, deadline=None)
@given(st.lists(WORDS, max_size=24).map("".join), st.lists(st.integers(0, 10_000), max_size=12), st.booleans())
@example("One, two; 1,000.50 dollars. " * 9, list(range(260)), False)
@example("A man ate e\u0301clairs \U0001f389 and left. Why?", list(range(40)), True)
def test_fed_text_sounds_like_the_whole_text_wherever_it_is_cut(
    engine: Engine, text: str, places: list[int], raw: bool
) -> None:
    edges = [0, *sorted(place % (len(text) + 1) for place in places), len(text)]
    pieces = [text[a:b] for a, b in pairwise(edges)]
    whole = heard(lambda: engine.submit(ask(text, raw=raw)))
    assert heard(lambda: fed(engine, *pieces, raw=raw)) == whole


def test_nothing_is_lost_behind_a_tag_that_is_only_spoken_of(engine: Engine) -> None:
    prose = "Much more is said after it, and every word of it is heard. " * 20
    text = f"The <script> tag and the <head> hold what is not shown. {prose}"
    assert "".join(chunk.text for chunk in engine.submit(ask(text))) == text


def test_a_comment_that_is_never_closed_hides_no_more_than_a_limit(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(request_state, "_MOST_HIDDEN", 1000)
    text = "Hello there. <!-- " + "It goes on and on. " * 200
    heard_chars = sum(len(chunk.text) for chunk in engine.submit(ask(text)))
    assert len(text) - 1500 < heard_chars < len(text) - 800


def test_a_cut_inside_a_surrogate_pair_is_mended(engine: Engine) -> None:
    whole = heard(lambda: engine.submit(ask("A party \U0001f389 \U00020000 for all.")))
    assert heard(lambda: fed(engine, "A party \ud83c", "", "\udf89 \ud840", "\udc00 for all.")) == whole
    for pieces in (["Half \ud83c", "a pair."], ["Half a pair \ud83c"], ["Half a\ud83c\ud83c", "\udf89"], ["\udf89"]):
        with pytest.raises(InvalidText, match="surrogate"):
            fed(engine, *pieces)


def test_slow_pieces_sound_the_same_and_audio_starts_before_the_last_piece(tiny_engine: Start) -> None:
    engine = tiny_engine()
    golden = engine.submit(ask(LONG)).collect()
    stream = engine.submit(ask(""), more=True)
    heard = []
    for at in range(0, len(LONG), 60):
        stream.feed(LONG[at : at + 60])
        if at == 120:
            heard.append(next(stream))
        until(lambda: stream.window.starved)
    stream.end_text()
    heard += list(stream)
    np.testing.assert_array_equal(np.concatenate([chunk.samples for chunk in heard]), golden.samples)
    assert "".join(chunk.text for chunk in heard) == LONG


@pytest.mark.anyio
async def test_async_reading_waits_for_text(engine: Engine) -> None:
    stream = engine.submit(ask("", timeout_s=0.4), more=True)
    threading.Timer(0.3, stream.feed, ("Good morning to ",)).start()
    threading.Timer(0.6, give, (stream, "you all.")).start()
    assert np.array_equal((await stream.acollect()).samples, engine.submit(ask()).collect().samples)


def test_text_may_come_while_a_reference_is_encoded(tiny_engine: Start) -> None:
    engine = tiny_engine(Encoder, SPEC)
    stream = engine.submit(ask("", reference=RECORDING), more=True)
    assert model(engine).begun.acquire(timeout=5.0)
    give(stream, "Good mor", "ning to you all.")
    model(engine).may_end.set()
    assert stream.collect().samples.tobytes() == engine.submit(ask()).collect().samples.tobytes()


# Slots, places and time


def test_a_request_waiting_for_text_holds_no_slot_and_no_place(tiny_engine: Start) -> None:
    engine = tiny_engine(max_batch_size=1, max_parallel_chunks=1, max_queue=1, buffer_s=0.1)
    open_ended = [engine.submit(ask("", seed=n), more=True) for n in range(8)]
    for stream in open_ended[:4]:
        stream.feed("This can be said. That can")
        assert next(stream).text == "This can be said. "
    until(lambda: all(stream.window.starved for stream in open_ended))
    health = engine.health()
    assert (health.running, health.waiting, health.starved) == (0, 0, 8)
    assert engine.submit(ask()).collect().duration_s > 0.3
    held = [engine.submit(ask(LONG)) for _ in range(2)]
    with pytest.raises(TooManyRequests):
        engine.submit(ask(""), more=True)
    for stream in held:
        stream.close()
    for stream in open_ended[:4]:
        assert give(stream, " not.").collect().summary.sequences == 2
    for stream in open_ended:
        stream.close()
    until(lambda: not engine._loop.in_flight and not engine._loop.scheduler.requests())


def test_waiting_for_text_counts_neither_for_the_deadline_nor_in_the_summary(tiny_engine: Start) -> None:
    engine = tiny_engine()
    stream = engine.submit(ask("", timeout_s=0.5), more=True)
    begun = time.monotonic()

    def slowly() -> None:
        for piece in ("Good morn", "ing to you all. ", "How are you?"):
            time.sleep(0.3)
            stream.feed(piece)
        time.sleep(0.3)
        stream.end_text()

    threading.Thread(target=slowly).start()
    summary = stream.collect().summary
    assert time.monotonic() - begun > 1.1
    assert 0 <= summary.queued_s <= summary.first_audio_s <= summary.total_s < 0.4


def test_due_audio_keeps_its_deadline(tiny_engine: Start) -> None:
    class Slow(tiny_ar.TinyModel):
        def prefill(self, started: list[Sequence]) -> None:
            time.sleep(0.6 if "slow" in started[0].text else 0.0)
            super().prefill(started)

    stream = fed(tiny_engine(Slow), "This one is slow.", timeout_s=0.2)
    with pytest.raises(DeadlineExceeded, match="before the speech was finished"):
        stream.collect()


@pytest.mark.parametrize("pieces", [[], ["Something was said. And then"]], ids=["no text", "half a text"])
def test_a_request_without_more_text_times_out(tiny_engine: Start, pieces: list[str]) -> None:
    engine = tiny_engine()
    stream = engine.submit(ask("", timeout_s=0.3), more=True)
    for piece in pieces:
        stream.feed(piece)
    until(lambda: not engine._loop.in_flight)  # without a reader, too
    with pytest.raises(DeadlineExceeded, match=r"no text came for 0\.3 s"):
        stream.feed("Too late.")
    texts = []
    with pytest.raises(DeadlineExceeded, match="no text came"):
        texts.extend(chunk.text for chunk in stream)
    assert "".join(texts) == "".join(pieces).partition("And")[0], "what could be said was said"


# What is refused


def test_a_text_that_grows_too_large_is_refused_and_earlier_audio_is_kept(tiny_engine: Start) -> None:
    engine = tiny_engine(max_text_chars=100)
    stream = engine.submit(ask(""), more=True)
    stream.feed("The first sentence is short enough to be spoken. And so")
    first = next(stream)
    until(lambda: stream.window.starved)
    with pytest.raises(TooLarge, match="text has 115 characters, the limit is 100"):
        stream.feed("x" * 60)
    until(lambda: not engine._loop.in_flight)
    rest = []
    with pytest.raises(TooLarge):
        rest.extend(stream)
    whole = engine.submit(ask("The first sentence is short enough to be spoken. ")).collect()
    assert np.array_equal(np.concatenate([chunk.samples for chunk in [first, *rest]]), whole.samples)
    with pytest.raises(TooLarge):
        stream.end_text()


@pytest.mark.parametrize("pieces", [[], [""], [" \n", "... ", "--"]], ids=repr)
def test_an_empty_text_is_refused_at_its_end(engine: Engine, pieces: list[str]) -> None:
    stream = engine.submit(ask(""), more=True)
    with pytest.raises(InvalidText, match="nothing to speak"):
        give(stream, *pieces)
    with pytest.raises(InvalidText, match="nothing to speak"):
        stream.collect()
    until(lambda: not engine._loop.in_flight)


def test_a_piece_is_checked_as_the_whole_text_is(engine: Engine) -> None:
    with pytest.raises(InvalidText, match=r"U\+0007 at position 9"):
        fed(engine, "Hello, ", "my\x07 dear.")
    with pytest.raises(InvalidText, match="must be a string, not int"):
        fed(engine, 7)  # type: ignore[arg-type]
    with pytest.raises(InvalidRequest, match="pass it to feed"):
        engine.submit(ask("Hello."), more=True)


def test_a_complete_text_takes_no_more_pieces(engine: Engine) -> None:
    whole, complete, closed = engine.submit(ask()), fed(engine, "Hello."), engine.submit(ask(""), more=True)
    closed.close()
    for stream, error in ((whole, InvalidRequest), (complete, InvalidRequest), (closed, Cancelled)):
        for more in (lambda stream=stream: stream.feed("More."), stream.end_text):
            with pytest.raises(error):
                more()
    assert whole.collect().summary.sequences == complete.collect().summary.sequences == 1


def test_feeding_a_failed_request_raises_its_error(engine: Engine) -> None:
    stream = engine.submit(ask(""), more=True)
    stream.feed(f"A {tiny_ar.UNSPEAKABLE} here, my friends, which nobody can say. And then")
    with pytest.raises(InvalidText, match="cannot say"):
        list(stream)
    with pytest.raises(InvalidText, match="cannot say"):
        stream.feed(" more.")


def test_a_text_that_cannot_be_prepared_ends_its_own_request(
    tiny_engine: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = tiny_engine()
    stream = engine.submit(ask(""), more=True)
    with monkeypatch.context() as patch:
        patch.setattr("saywell.text.split.Splitter.take", lambda _: 1 / 0)
        stream.feed("Unforeseen.")
        with pytest.raises(ModelFailure, match="ZeroDivisionError"):
            stream.collect()
    assert fed(engine, "Hello ", "there.").collect().duration_s > 0.3


def test_closing_the_engine_fails_requests_that_wait_for_text(tiny_engine: Start) -> None:
    engine = tiny_engine()
    stream = engine.submit(ask(""), more=True)
    stream.feed("Hello the")
    engine.close()
    for call in (stream.collect, stream.end_text):
        with pytest.raises(EngineClosed):
            call()


def test_a_reused_id_is_not_cancelled_with_its_earlier_request(tiny_engine: Start) -> None:
    engine = tiny_engine()
    before = engine.submit(Request(text="", id="same"), more=True)
    with pytest.raises(InvalidText):
        before.end_text()
    after = engine.submit(Request(text="Hello there.", id="same"))
    with pytest.raises(InvalidText):
        before.collect()
    assert after.collect().duration_s > 0.3


# An iterable of strings


@pytest.fixture
def tts(engine: Engine) -> TTS:
    return TTS(Decision(settings=Settings(), hardware=detect(), spec=TINY, plan=TINY_PLAN), engine)


def test_an_iterable_is_spoken_as_it_comes(tts: TTS) -> None:
    first = threading.Event()

    def words() -> Iterator[str]:
        yield "The first sentence is spoken early. "
        yield "The second "
        assert first.wait(10.0), "the first sound came only after the last word"
        yield "is not."

    stream = tts.stream(words(), seed=1)
    chunks = [next(stream)]
    first.set()
    chunks += list(stream)
    whole = tts.say("The first sentence is spoken early. The second is not.", seed=1)
    assert np.array_equal(np.concatenate([chunk.samples for chunk in chunks]), whole.samples)
    assert np.array_equal(tts.say(["The first sentence is ", "spoken early. The second is not."], seed=1).samples,
                          whole.samples)  # fmt: skip


@pytest.mark.parametrize("error", [ValueError("the model went away"), TooLarge("enough")], ids=repr)
def test_an_iterable_that_fails_ends_the_request(tts: TTS, error: Exception) -> None:
    def words() -> Iterator[str]:
        yield "The first sentence is spoken. Then "
        raise error

    texts = []
    expected = TooLarge if isinstance(error, TooLarge) else InvalidText
    with pytest.raises(expected, match=str(error)):
        texts.extend(chunk.text for chunk in tts.stream(words()))
    with pytest.raises(InvalidText, match="nothing to speak"):
        tts.say([])
    with pytest.raises(InvalidText, match="must be a string"):
        tts.stream(None)  # type: ignore[arg-type]


def test_closing_the_stream_stops_the_iterable(tts: TTS) -> None:
    over = threading.Event()

    def words() -> Iterator[str]:
        try:
            while True:
                yield "And so it goes on and on. "
                time.sleep(0.005)
        finally:
            over.set()

    with tts.stream(words()) as stream:
        next(stream)
    assert over.wait(5.0)
