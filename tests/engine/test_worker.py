"""The engine in a worker process: the same audio, and an answer to every request whatever happens to the worker."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import msgspec
import numpy as np
import psutil
import pytest

from asking import LONG, ask, until
from paths import TESTS
from plans import TINY_PLAN
from saywell.engine import launch
from saywell.engine.engine import Engine
from saywell.engine.launch import Decision
from saywell.engine.worker import client as client_module
from saywell.engine.worker import messages
from saywell.engine.worker.client import EngineClient, _Active
from saywell.engine.worker.process import Worker
from saywell.errors import (
    Cancelled,
    DeadlineExceeded,
    EngineClosed,
    InvalidRequest,
    InvalidText,
    MissingDependency,
    ModelFailure,
    SaywellError,
    TooLarge,
    TooManyRequests,
    Unavailable,
    UnknownVoice,
    WorkerDied,
    by_code,
)
from saywell.machine import detect
from saywell.settings import Settings
from saywell.types import Audio, AudioChunk, Request, SamplingParams
from tiny_ar import family as tiny_ar


def test_same_sound_as_in_process(start: Callable[..., EngineClient], tiny_engine: Callable[..., object]) -> None:
    here = tiny_engine().submit(ask(LONG)).collect()
    there = start().submit(ask(LONG)).collect()
    np.testing.assert_array_equal(here.samples, there.samples)
    assert there.summary.seed == here.summary.seed


def test_errors_keep_their_type_across_processes(start: Callable[..., EngineClient]) -> None:
    client = start(max_batch_size=1, max_queue=1)
    with pytest.raises(UnknownVoice):
        client.submit(ask(voice="nobody"))
    with pytest.raises(InvalidText, match="zyzzyva") as caught:
        client.submit(ask(f"A {tiny_ar.UNSPEAKABLE} here.")).collect()
    assert caught.value.param == "text"
    held = [client.submit(ask(LONG * 6)) for _ in range(2)]  # more than a second of work
    with pytest.raises(TooManyRequests):
        client.submit(ask())
    for stream in held:
        stream.close()
    until(lambda: client.health().waiting == 0)
    assert client.submit(ask()).collect().duration_s > 0.3


@pytest.mark.parametrize("fields", [{"id": "\ud800"}, {"keep_frames": np.bool_(True)}], ids=str)
def test_unserialisable_request_is_rejected(start: Callable[..., EngineClient], fields: dict) -> None:
    client = start()
    with pytest.raises(InvalidRequest, match="cannot be sent"):
        client.submit(ask(**fields))
    assert client.submit(ask(timeout_s=5.0)).collect().duration_s > 0.3
    assert client.health().waiting == 0


def test_an_id_in_flight_is_refused(start: Callable[..., EngineClient]) -> None:
    client, request = start(), ask(LONG)
    first = client.submit(request)
    with pytest.raises(InvalidRequest, match="not over yet"):
        client.submit(request)
    assert first.collect().samples.size == client.submit(request).collect().samples.size


def test_numpy_numbers_are_serialised(start: Callable[..., EngineClient]) -> None:
    client = start()
    sampling = SamplingParams(seed=np.int64(1), temperature=np.float32(0.5), top_p=np.float64(0.5))
    heard = client.submit(Request(text="Hello.", sampling=sampling, max_frames=np.int32(50), speed=np.float32(1)))
    assert heard.collect().summary.seed == 1


def test_backpressure_crosses_the_process_border(start: Callable[..., EngineClient]) -> None:
    client = start(buffer_s=0.5)
    slow = client.submit(ask(LONG))
    next(slow)
    time.sleep(0.3)
    held = sum(len(c.samples) for queue in slow._ready.values() for c in queue) / tiny_ar.RATE
    assert held <= 3 * 0.5 + 8.0
    assert slow.collect().summary.finish_reason == "stop"


def test_closing_a_stream_stops_the_work_in_the_worker(start: Callable[..., EngineClient]) -> None:
    client = start()
    stream = client.submit(ask(LONG * 5))
    next(stream)
    stream.close()
    until(lambda: client.health().running == 0, 2.0)
    with pytest.raises(Cancelled):
        next(stream)


def test_a_killed_worker_is_replaced(start: Callable[..., EngineClient]) -> None:
    client = start()
    golden = client.submit(ask()).collect().samples
    killed = time.monotonic()
    os.kill(client.pid, signal.SIGKILL)
    until(lambda: client.health().restarts == 1, 5.0)
    np.testing.assert_array_equal(client.submit(ask()).collect().samples, golden)
    assert time.monotonic() - killed < 5.0
    assert client.health().state == "ready"


def killed_and_replaced(client: EngineClient) -> None:
    restarts = client.health().restarts
    os.kill(client.pid, signal.SIGKILL)
    until(lambda: client.health().restarts > restarts and client.health().state == "ready", 20.0)


@pytest.mark.parametrize("read", [0, 1, 5, 20])
def test_a_request_resumes_where_it_was_when_its_worker_dies(start: Callable[..., EngineClient], read: int) -> None:
    """Bit-identical, with its text and timestamps, and with later sentences that were complete before."""
    client = start(max_batch_size=4, max_parallel_chunks=4, buffer_s=2.0)
    request = Request(text=LONG * 2)  # without a seed: the next worker must use the same one
    stream = client.submit(request)
    heard = [next(stream) for _ in range(read)]
    killed_and_replaced(client)
    heard += [next(stream) for _ in range(5)]
    killed_and_replaced(client)
    heard += list(stream)
    assert stream.summary is not None
    golden = client.submit(ask(LONG * 2, seed=stream.summary.seed))
    whole = list(golden)
    np.testing.assert_array_equal(
        np.concatenate([chunk.samples for chunk in heard]), np.concatenate([chunk.samples for chunk in whole])
    )
    assert "".join(chunk.text for chunk in heard) == LONG * 2
    assert golden.summary is not None
    assert stream.summary.audio_s == pytest.approx(golden.summary.audio_s)
    assert stream.summary.sequences == golden.summary.sequences
    assert stream.summary.first_audio_s < stream.summary.total_s


def test_a_request_resumes_after_its_last_audio(start: Callable[..., EngineClient]) -> None:
    client = start()
    stream = client.submit(ask())
    until(lambda: 0 in stream._over)
    with client._lock:  # as if the worker had died between the last audio and the message that it was the last
        client._active[stream.request.id] = _Active(stream, time.monotonic())
        stream._finished = None
    killed_and_replaced(client)
    assert stream.collect().summary.sequences == 1


def test_if_the_next_worker_sounds_different_only_unread_requests_restart(
    start: Callable[..., EngineClient], monkeypatch: pytest.MonkeyPatch
) -> None:
    client = start(max_batch_size=1, max_parallel_chunks=1, buffer_s=0.2)
    golden = [client.submit(ask(LONG if seed else "One. " + LONG, seed=seed)).collect().samples for seed in range(3)]
    streaming, whole, waiting = (client.submit(ask(LONG if seed else "One. " + LONG, seed=seed)) for seed in range(3))
    done: list[Audio] = []
    reader = threading.Thread(target=lambda: done.append(whole.collect()))
    next(streaming)
    reader.start()
    until(lambda: len(whole._collected) > 1, 20.0)
    monkeypatch.setattr(client, "_memory_ran_out", lambda: True)
    os.kill(client.pid, signal.SIGKILL)
    with pytest.raises(WorkerDied):
        list(streaming)
    reader.join(30.0)
    np.testing.assert_array_equal(done[0].samples, golden[1])
    np.testing.assert_array_equal(waiting.collect().samples, golden[2])


# Text that is fed


def test_fed_text_sounds_like_the_whole_text_in_a_worker(start: Callable[..., EngineClient]) -> None:
    client = start(max_batch_size=1, max_queue=1)
    golden = client.submit(ask(LONG)).collect().samples
    streams = [client.submit(ask(""), more=True) for _ in range(4)]
    for stream in streams:
        stream.feed("The first ")
    until(lambda: all(stream.window.starved for stream in streams))
    until(lambda: (client.health().running, client.health().waiting) == (0, 0))
    assert client.health().starved == 4
    assert client.submit(ask()).collect().duration_s > 0.3, "they take no place"
    for at in range(10, len(LONG), 7):
        streams[0].feed(LONG[at : at + 7])
    streams[0].end_text()
    np.testing.assert_array_equal(streams[0].collect().samples, golden)
    with pytest.raises(TooLarge):
        streams[1].feed("x" * 5_000)
    with pytest.raises(TooLarge):
        streams[1].collect()
    for stream in streams[2:]:
        stream.close()
    until(lambda: client.health().waiting == 0 and not client._active)


def test_fed_text_resumes_where_it_was_when_its_worker_dies(start: Callable[..., EngineClient]) -> None:
    """The worker dies during synthesis, while waiting for text, and before text arrives."""
    client = start(max_batch_size=2, max_parallel_chunks=2, buffer_s=2.0)
    stream = client.submit(Request(text=""), more=True)  # without a seed: the next worker must use the same one
    stream.feed(LONG[:150])
    heard = [next(stream)]
    killed_and_replaced(client)
    heard += [next(stream) for _ in range(3)]
    until(lambda: stream.window.starved)
    killed_and_replaced(client)
    stream.feed(LONG[150:200])
    os.kill(client.pid, signal.SIGKILL)
    stream.feed(LONG[200:330])
    until(lambda: client.health().state == "loading")
    stream.feed(LONG[330:340])
    until(lambda: client.health().state == "ready", 20.0)
    heard += [next(stream) for _ in range(3)]
    stream.feed(LONG[340:])
    os.kill(client.pid, signal.SIGKILL)
    stream.end_text()
    heard += list(stream)
    assert stream.summary is not None
    golden = client.submit(ask(LONG, seed=stream.summary.seed)).collect()
    np.testing.assert_array_equal(np.concatenate([chunk.samples for chunk in heard]), golden.samples)
    assert "".join(chunk.text for chunk in heard) == LONG
    assert stream.summary.sequences == golden.summary.sequences
    assert 0 < stream.summary.first_audio_s <= stream.summary.total_s


def test_a_request_waiting_for_text_survives_any_number_of_workers(
    start: Callable[..., EngineClient], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client_module, "_MOST_DEATHS", 0)
    client = start()
    stream = client.submit(ask(""), more=True)
    stream.feed("The first sentence is spoken. Then ")
    texts = [next(stream).text]
    until(lambda: stream.window.starved)
    killed_and_replaced(client)
    monkeypatch.setattr(client, "_memory_ran_out", lambda: True)
    other = client.submit(ask("", seed=3), more=True)  # unread: it may start again with lighter weights
    other.feed("Good morning ")
    until(lambda: other.window.starved)
    other.feed("to ")
    until(lambda: other.window.starved)
    os.kill(client.pid, signal.SIGKILL)
    with pytest.raises(WorkerDied):
        texts.extend(chunk.text for chunk in stream)
    with pytest.raises(WorkerDied):
        stream.feed("more.")
    other.feed("you all.")
    other.end_text()
    golden = client.submit(ask(seed=3)).collect().samples
    np.testing.assert_array_equal(other.collect().samples, golden)


def test_a_request_without_more_text_times_out(start: Callable[..., EngineClient]) -> None:
    client = start()
    stream = client.submit(ask("", timeout_s=0.3), more=True)
    stream.feed("Something was said. And then")
    until(lambda: not client._active)
    with pytest.raises(DeadlineExceeded, match="no text came"):
        list(stream)


def test_the_worker_ignores_signals_to_the_process_group(start: Callable[..., EngineClient]) -> None:
    client = start()
    stream = client.submit(ask(LONG))
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
        os.kill(client.pid, number)
    assert stream.collect().duration_s > 0.3
    assert client.health().restarts == 0


def test_a_silent_worker_is_reported_as_hung_before_it_is_replaced(
    start: Callable[..., EngineClient], monkeypatch: pytest.MonkeyPatch
) -> None:
    client = start()
    os.kill(client.pid, signal.SIGSTOP)
    stopped = time.monotonic()
    until(lambda: client.health().state == "hung", 5.0)
    assert 2.0 < time.monotonic() - stopped < 4.5
    os.kill(client.pid, signal.SIGCONT)
    until(lambda: client.health().state == "ready", 5.0)
    assert client.health().restarts == 0


def test_a_request_that_kills_every_worker_fails(
    start: Callable[..., EngineClient], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client_module, "_BACKOFF_S", (0.0,))
    client = start(family="tiny_ar.deadly")
    with pytest.raises(WorkerDied):
        client.submit(ask("Please die.")).collect()
    assert client.health().restarts == client_module._MOST_DEATHS + 1
    assert client.submit(ask()).collect().duration_s > 0.3


def test_a_ready_message_sets_the_model_as_loaded(
    start: Callable[..., EngineClient], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last pulse before `Ready` is that of an engine still loading."""
    monkeypatch.setattr(EngineClient, "_pulse", lambda self, pulse: None)
    client = start()
    client._health = replace(client._health, loaded=False) if client._health else None
    os.kill(client.pid, signal.SIGKILL)
    until(lambda: client.health().restarts == 1 and client.health().state == "ready", 20.0)
    assert client._health is not None
    assert client._health.loaded


def test_a_failed_load_is_retried_until_it_succeeds(
    start: Callable[..., EngineClient], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The next worker fails to load the model, and the one after it succeeds."""
    monkeypatch.setattr(client_module, "_BACKOFF_S", (0.0, 0.2))
    gone = tmp_path / "gone"
    monkeypatch.setenv("TINY_AR_GONE", str(gone))
    client = start(family="tiny_ar.deadly")
    gone.touch()
    os.kill(client.pid, signal.SIGKILL)
    until(lambda: client.health().state == "failed", 10.0)
    with pytest.raises(SaywellError, match="not there at the moment"):
        client.submit(ask())
    gone.unlink()
    until(lambda: client.health().state == "ready", 20.0)
    assert client.health().error == ""
    assert client.submit(ask()).collect().duration_s > 0.3


def test_an_unexpected_error_at_the_start_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    """The thread that starts the engine fails; the client gets the error."""
    told: list[messages.Message] = []
    monkeypatch.setattr(Engine, "start", lambda _: 1 / 0)
    line = SimpleNamespace(send=told.append)
    Worker(line, messages.Load(spec=tiny_ar.spec("tiny", None), plan=TINY_PLAN))  # type: ignore[arg-type]
    until(lambda: any(isinstance(message, messages.LoadFailed) for message in told))
    broken = next(message for message in told if isinstance(message, messages.LoadFailed))
    assert broken.error.message == "the model could not be loaded: ZeroDivisionError"


def test_a_hung_worker_is_replaced(start: Callable[..., EngineClient], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_module, "_SILENT_S", 1.0)
    client = start()
    os.kill(client.pid, signal.SIGSTOP)
    stream = client.submit(ask())
    assert stream.collect().duration_s > 0.3
    assert client.health().restarts == 1


def test_a_worker_with_an_endless_step_is_killed(start: Callable[..., EngineClient]) -> None:
    client = start(family="tiny_ar.deadly", hang_s=0.6)
    with pytest.raises((WorkerDied, DeadlineExceeded)):
        client.submit(ask("Please hang.", timeout_s=8.0)).collect()
    until(lambda: client.health().restarts >= 1, 5.0)
    until(lambda: client.health().state == "ready", 10.0)


def test_a_broken_device_ends_the_worker_and_no_request(
    start: Callable[..., EngineClient], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    poison = tmp_path / "poison"
    monkeypatch.setenv("TINY_AR_POISON", str(poison))
    client = start(family="tiny_ar.deadly")
    golden = client.submit(ask(LONG)).collect().samples
    stream = client.submit(ask(LONG))
    heard = [next(stream)]
    poison.touch()
    heard += list(stream)
    np.testing.assert_array_equal(np.concatenate([chunk.samples for chunk in heard]), golden)
    until(lambda: client.health().restarts == 1, 5.0)
    assert client.health().state == "ready"


def test_a_broken_device_fails_an_engine_in_this_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    poison = tmp_path / "poison"
    monkeypatch.setenv("TINY_AR_POISON", str(poison))
    engine = Engine(replace(tiny_ar.spec("tiny", None), family="tiny_ar.deadly"), TINY_PLAN)
    engine.start()
    poison.touch()
    with pytest.raises(ModelFailure, match="the engine stopped"):
        engine.submit(ask()).collect()
    assert engine.health().state == "failed"
    engine.close()


def test_the_deadline_holds_while_the_worker_is_stopped(start: Callable[..., EngineClient]) -> None:
    client = start()
    os.kill(client.pid, signal.SIGSTOP)
    begun = time.monotonic()
    with pytest.raises(DeadlineExceeded):
        client.submit(ask(timeout_s=0.3)).collect()
    assert time.monotonic() - begun < 2.0
    os.kill(client.pid, signal.SIGCONT)


def test_sending_to_a_worker_that_does_not_read_never_blocks(start: Callable[..., EngineClient]) -> None:
    client = start(max_queue=200)
    os.kill(client.pid, signal.SIGSTOP)
    long = "Grüße, wir sprechen. " * 230
    begun = time.monotonic()
    streams = [client.submit(ask(long, timeout_s=60.0)) for _ in range(200)]  # a megabyte: more than a pipe buffers
    assert time.monotonic() - begun < 2.0
    client.close()
    assert time.monotonic() - begun < 6.0
    for stream in streams:
        with pytest.raises(EngineClosed):
            stream.collect()


def test_a_worker_whose_engine_has_stopped_is_replaced(start: Callable[..., EngineClient]) -> None:
    client = start(family="tiny_ar.deadly")
    stream = client.submit(ask("Please break this. " * 100))
    next(stream)
    stream.close()
    until(lambda: client.health().restarts == 1, 5.0)
    assert client.submit(ask()).collect().duration_s > 0.3


def test_a_worker_that_sends_invalid_messages_is_replaced(
    start: Callable[..., EngineClient], monkeypatch: pytest.MonkeyPatch
) -> None:
    client = start()
    understand = client_module.unpack_from_worker

    def once(data: bytes) -> messages.FromWorker:
        monkeypatch.setattr(client_module, "unpack_from_worker", understand)
        return understand(b"\x81\xa4type\xa3Foo")

    monkeypatch.setattr(client_module, "unpack_from_worker", once)
    until(lambda: client.health().restarts == 1, 5.0)
    assert client.submit(ask()).collect().duration_s > 0.3


def test_a_worker_that_dies_while_draining_is_not_replaced(start: Callable[..., EngineClient]) -> None:
    client = start(buffer_s=0.2)
    streaming, behind = client.submit(ask(LONG * 5)), client.submit(ask(LONG))
    next(streaming)
    worker = client.pid
    closing = threading.Thread(target=client.close, args=(20.0,))
    closing.start()
    until(lambda: client.health().state == "draining")
    os.kill(worker, signal.SIGKILL)
    closing.join(5.0)
    assert not closing.is_alive()
    for stream in (streaming, behind):
        with pytest.raises(WorkerDied):
            list(stream)
    assert client.health().restarts == 0


def test_close_releases_threads_and_descriptors(start: Callable[..., EngineClient]) -> None:
    start().close()
    process = psutil.Process()
    threads, descriptors = threading.active_count(), process.num_fds()
    for _ in range(3):
        client = start()
        client.submit(ask()).collect()
        client.close()
    until(lambda: threading.active_count() <= threads, 2.0)  # the watch thread wakes up four times a second
    assert process.num_fds() <= descriptors


def test_a_start_that_fails_leaves_no_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(TESTS), prepend=os.pathsep)
    spec = replace(tiny_ar.spec("tiny", None), family="tiny_ar.incomplete")
    decision = Decision(settings=Settings(), hardware=detect(), spec=spec, plan=TINY_PLAN)
    before = len(psutil.Process().children())
    with pytest.raises(MissingDependency):
        launch.start(decision, worker=True)
    assert len(psutil.Process().children()) == before


def test_a_failed_engine_does_not_accumulate_tracebacks(start: Callable[..., EngineClient]) -> None:
    client = start()
    client._load_failed(Unavailable("out of order"))

    def depth() -> int:
        with pytest.raises(Unavailable) as caught:
            client.submit(ask())
        return len(caught.traceback)

    assert depth() == depth() == depth()


def test_a_failed_first_load_is_reported_at_once(start: Callable[..., EngineClient]) -> None:
    with pytest.raises(MissingDependency, match="no_such_package_anywhere"):
        start(family="tiny_ar.incomplete")


def test_the_start_fails_if_every_worker_dies(start: Callable[..., EngineClient]) -> None:
    with pytest.raises(WorkerDied, match="3 times while loading"):
        start(family="tiny_ar.stillborn")


def test_a_missing_interpreter_is_reported(start: Callable[..., EngineClient]) -> None:
    with pytest.raises(Unavailable, match="no/such/python"):
        start(python=Path("no/such/python"))


def test_the_worker_may_run_in_another_environment(start: Callable[..., EngineClient], tmp_path: Path) -> None:
    other = tmp_path / "other"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", "--system-site-packages", str(other)], check=True)
    python = other / "bin" / "python"
    site = subprocess.check_output([str(python), "-c", "import site; print(site.getsitepackages()[0])"], text=True)
    (Path(site.strip()) / "borrowed.pth").write_text("\n".join(p for p in sys.path if p.startswith("/")))
    client = start(python=python)
    running = Path(f"/proc/{client.pid}/cmdline").read_text().split("\0")[0]
    assert running == str(python)
    assert client.submit(ask()).collect().duration_s > 0.3


def test_close_fails_all_requests_and_leaves_no_process(start: Callable[..., EngineClient]) -> None:
    client = start(buffer_s=0.1)
    worker = psutil.Process(client.pid)
    streams = [client.submit(ask(LONG)) for _ in range(6)]
    client.close()
    for stream in streams:
        with pytest.raises(EngineClosed):
            list(stream)
    assert not worker.is_running()
    with pytest.raises(EngineClosed):
        client.submit(ask())


def test_the_worker_dies_with_its_parent(tmp_path: Path) -> None:
    script = (
        "import sys, time; from conftest import TINY_PLAN; from tiny_ar import family;"
        "from saywell.engine.worker.client import EngineClient;"
        "c = EngineClient(family.spec('tiny', None), TINY_PLAN); c.start();"
        "print(c.pid, flush=True); time.sleep(60)"
    )
    environment = {**os.environ, "PYTHONPATH": str(TESTS)}
    parent = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True, env=environment)
    assert parent.stdout is not None
    worker = psutil.Process(int(parent.stdout.readline()))
    parent.kill()
    parent.wait()
    parent.stdout.close()
    assert worker.wait(5.0) in (0, None)


def test_many_readers_many_threads_no_cross_talk(start: Callable[..., EngineClient]) -> None:
    client = start(max_queue=100)
    expected = {seed: client.submit(ask(seed=seed)).collect().samples.tobytes() for seed in range(8)}
    wrong: list[int] = []

    def read(seed: int) -> None:
        for _ in range(10):
            if client.submit(ask(seed=seed)).collect().samples.tobytes() != expected[seed]:
                wrong.append(seed)

    threads = [threading.Thread(target=read, args=(seed,)) for seed in expected]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


# Messages


def test_messages_survive_serialisation() -> None:
    spec = replace(tiny_ar.spec("tiny", None), path=Path("/some/where"))
    chunk = AudioChunk(
        request_id="r", index=3, samples=np.arange(5, dtype=np.float32), sample_rate=16_000, final=True,
        text="Hé\x85", frames=(np.arange(6, dtype=np.int16).reshape(2, 3),),
    )  # fmt: skip
    load = messages.unpack_to_worker(messages.pack(messages.Load(spec=spec, plan=TINY_PLAN)))
    assert load == messages.Load(spec=spec, plan=TINY_PLAN)
    submit = messages.Submit(request=Request(text="Ünïcode 🙂", speed=1.5))
    assert messages.unpack_to_worker(messages.pack(submit)) == submit
    received = messages.unpack_from_worker(messages.pack(messages.AudioMessage(chunk=chunk)))
    assert isinstance(received, messages.AudioMessage)
    back = received.chunk
    np.testing.assert_array_equal(back.samples, chunk.samples)
    np.testing.assert_array_equal(back.frames[0], chunk.frames[0])
    assert (back.text, back.final, back.index) == (chunk.text, True, 3)


@pytest.mark.parametrize("code", sorted(by_code()))
def test_every_error_keeps_its_type_when_serialised(code: str) -> None:
    error = by_code()[code]("what to do", param="field", retry_after=2.0)
    back = messages.Fault.of(error).error()
    assert type(back) is type(error)
    assert (back.message, back.param, back.retry_after, back.status) == ("what to do", "field", 2.0, error.status)


@pytest.mark.parametrize(
    "junk", [b"", b"\x80", b"\xc1", json.dumps({"type": "Submit"}).encode(), b"\x81\xa4type\xa3Foo"]
)
def test_invalid_messages_are_refused(junk: bytes) -> None:
    with pytest.raises(msgspec.MsgspecError):
        messages.unpack_to_worker(junk)


def test_error_codes_are_unique() -> None:
    def walk(kind: type[SaywellError]) -> list[type[SaywellError]]:
        return [kind, *(found for child in kind.__subclasses__() for found in walk(child))]

    here = [kind for kind in walk(SaywellError) if kind.__module__ == SaywellError.__module__]
    assert sorted(kind.code for kind in here) == sorted(by_code())


def test_a_familys_own_error_arrives_as_its_public_type() -> None:
    class OutOfCheese(UnknownVoice):
        status, code = 404, "out_of_cheese"

    back = messages.Fault.of(OutOfCheese("no cheese")).error()
    assert (type(back), back.message) == (UnknownVoice, "no cheese")
