"""The whole program: `saywell serve` with eSpeak NG in its worker process."""

from __future__ import annotations

import io
import signal
import sys
import threading
import time

import av
import httpx
import numpy as np
import psutil
import pytest

from program import SENTENCE, Program
from saywell.audio.formats import FORMATS
from saywell.models.espeak import binding

pytestmark = pytest.mark.skipif(
    not binding.installed() or sys.platform == "win32", reason="needs eSpeak NG and the signals of POSIX"
)


@pytest.fixture(scope="module")
def program():
    program = Program()
    yield program
    code, log = program.end()
    assert code == 0
    assert "Traceback" not in log
    assert "quick brown" not in log


def test_six_formats_hold_the_same_speech(program):
    seconds = {}
    for format in FORMATS:
        answer = program.client.request(**program.ask(response_format=format))
        assert answer.status_code == 200, answer.text
        if format == "pcm":
            seconds[format] = len(answer.content) / 2 / 24_000
            continue
        with av.open(io.BytesIO(answer.content)) as file:
            samples = sum(frame.samples for frame in file.decode(audio=0))
            seconds[format] = samples / file.streams.audio[0].rate
    assert seconds["wav"] > 2
    assert max(seconds.values()) - min(seconds.values()) < 0.3, seconds
    assert abs(seconds["pcm"] - seconds["wav"]) < 0.001
    assert seconds["flac"] == seconds["wav"]


def test_a_long_text_is_heard_before_a_tenth_of_it_is_spoken(program):
    text = (SENTENCE + " ") * 32
    assert len(text) > 2_000
    began = time.monotonic()
    with program.client.stream(**program.ask(text, response_format="pcm")) as answer:
        pieces = answer.iter_raw()
        next(pieces)
        first = time.monotonic() - began
        for _ in pieces:
            pass
    assert first < 0.1 * (time.monotonic() - began)


def test_the_same_request_gives_the_same_bytes(program):
    answers = [program.client.request(**program.ask(response_format="wav")).content for _ in range(2)]
    assert answers[0] == answers[1]


def test_a_stream_goes_on_where_it_was_when_its_worker_dies(program):
    long = (SENTENCE + " ") * 70
    golden = program.client.request(**program.ask(long, response_format="pcm")).content
    worker = next(
        child
        for child in psutil.Process(program.process.pid).children()
        if "saywell.engine.worker.process" in child.cmdline()
    )
    with program.client.stream(**program.ask(long, response_format="pcm")) as answer:
        pieces = answer.iter_raw()
        heard = next(pieces)
        worker.send_signal(signal.SIGKILL)
        heard += b"".join(pieces)
    assert heard == golden
    assert program.client.get("/health").json()["engine"]["worker_restarts"] == 1


def test_health_answers_while_the_engine_is_saturated(program):
    stop = threading.Event()

    def load() -> None:
        with httpx.Client(base_url=program.url, timeout=30) as client:
            while not stop.is_set():
                client.request(**program.ask((SENTENCE + " ") * 10, response_format="pcm"))

    threads = [threading.Thread(target=load) for _ in range(4)]
    for thread in threads:
        thread.start()
    time.sleep(0.3)
    times = []
    for _ in range(100):
        began = time.perf_counter()
        assert program.client.get("/health").status_code == 200
        times.append(time.perf_counter() - began)
    stop.set()
    for thread in threads:
        thread.join()
    # The median, because the clients of this test take their share of the same CPUs; `benchmarks.serve` has p99.
    assert np.median(times) < 0.2


def test_cancelled_streams_leave_nothing_behind(program):
    process = psutil.Process(program.process.pid)
    program.client.request(**program.ask())

    def state() -> tuple[int, int, int]:
        return process.num_fds(), process.num_threads(), len(process.children(recursive=True))

    before = state()
    for _ in range(100):
        with program.client.stream(**program.ask((SENTENCE + " ") * 20)) as answer:
            next(answer.iter_raw())
    until = time.monotonic() + 5
    while (health := program.client.get("/health").json()["engine"])["running"] and time.monotonic() < until:
        time.sleep(0.05)
    assert (health["running"], health["waiting"]) == (0, 0)
    after = state()
    assert all(new <= old + 4 for new, old in zip(after, before, strict=True)), (before, after)
