"""A real server on a real socket: disconnects, broken streams, slow clients, signals, and the OpenAI client."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import numpy as np
import openai
import pytest

from asking import until
from fake_engine import PLAN, FakeEngine, tagged
from live import SPEECH, Live
from paths import TESTS
from saywell.audio.encode import to_int16
from saywell.errors import DeadlineExceeded, TooManyRequests
from saywell.server import middleware, protocol
from saywell.server.process import CUT_OFF
from saywell.server.service import listen


def read_all(sock: socket.socket) -> bytes:
    parts = []
    with contextlib.suppress(ConnectionResetError):
        while part := sock.recv(1 << 16):
            parts.append(part)
    return b"".join(parts)


@pytest.fixture
def serve():
    servers = []

    def start(plan=PLAN, *, overrides=None, **knobs) -> Live:
        servers.append(Live(FakeEngine(plan, **knobs), **(overrides or {})))
        return servers[-1]

    yield start
    for server in servers:
        server.close()


# The first byte, the last byte, and what lies between


def test_the_first_byte_leaves_with_the_first_sound(serve):
    live = serve(first_delay_s=0.2, delay_s=0.2, chunks=6)
    began = time.monotonic()
    with httpx.stream("POST", live.url + SPEECH, json={"input": "Hi.", "response_format": "pcm"}) as answer:
        pieces = answer.iter_raw()
        next(pieces)
        first = time.monotonic() - began
        assert len(list(pieces)) >= 4
    assert first < 0.8
    assert time.monotonic() - began > 1.1


def test_keep_alive(serve):
    live = serve(chunks=1)
    with httpx.Client(base_url=live.url) as client:
        for _ in range(3):
            assert client.post(SPEECH, json={"input": "Hi.", "response_format": "pcm"}).status_code == 200
        assert client.post(SPEECH, json={"input": ""}).status_code == 422
        assert client.get("/ready").status_code == 200
    assert len(live.server.server_state.connections) <= 1


@pytest.mark.parametrize("format", ["pcm", "mp3"])
def test_a_failure_after_the_first_byte_breaks_the_connection(serve, format, caplog):
    live = serve(fail_at=3, chunk_s=0.5)
    answer = read_all(live.ask(response_format=format))
    head, _, rest = answer.partition(b"\r\n\r\n")
    assert b"200 OK" in head
    assert b"chunked" in head
    assert len(rest) > 1000
    assert not answer.endswith(b"0\r\n\r\n")
    with pytest.raises(httpx.RemoteProtocolError):
        httpx.post(live.url + SPEECH, json={"input": "Hi.", "response_format": format})
    assert not [record for record in caplog.records if record.exc_info]
    live.engine.knobs.fail_at = None
    assert read_all_closing(live).endswith(b"0\r\n\r\n")  # the same server ends a whole answer properly


def test_a_failed_stream_resets_an_http_1_0_connection(serve):
    """Without chunks the end of the connection is the end of the answer; a part must not be taken for the whole."""
    live = serve(fail_at=3, chunk_s=0.5)
    sock = live.connect()
    body = b'{"input": "Hello.", "response_format": "pcm"}'
    head = f"POST {SPEECH} HTTP/1.0\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {len(body)}"
    sock.sendall(head.encode() + b"\r\n\r\n" + body)

    def read() -> None:
        while sock.recv(1 << 16):
            pass

    with pytest.raises(ConnectionResetError):
        read()


def read_all_closing(live: Live) -> bytes:
    sock = live.ask()
    answer = b""
    while not answer.endswith(b"0\r\n\r\n"):
        part = sock.recv(1 << 16)
        assert part
        answer += part
    return answer


# Clients that go away, and clients that do not hurry


@pytest.mark.parametrize("path", [SPEECH, "/v1/tts"])
@pytest.mark.parametrize("stage", ["waiting", "streaming", "flooding"])
def test_work_stops_when_the_client_goes(serve, path, stage):
    """Flooding: the engine is so much faster than the encoder that the next chunk is always there already."""
    if path != SPEECH:
        pytest.importorskip("s1_mini")
    knobs = {"waiting": {"hang_at": 0}, "streaming": {"hang_at": 2}, "flooding": {"chunks": 100_000}}[stage]
    live = serve(**knobs)
    sock = live.ask(path, text="Hello there.", response_format="mp3")
    if stage != "waiting" and path == SPEECH:
        sock.recv(1 << 16)
    until(lambda: live.engine.running == 1)
    time.sleep(0.05)
    sock.close()
    assert until(lambda: live.engine.running == 0) < 0.1
    until(lambda: live.service.active == 0)


def test_many_disconnects_leave_nothing_behind(serve):
    live = serve(delay_s=0.01, chunks=50)
    process_fds = Path("/proc/self/fd")
    read_all_closing(live)

    def fds() -> int:
        return len(list(process_fds.iterdir())) if process_fds.exists() else 0

    before, threads = fds(), threading.active_count()
    for i in range(300):
        sock = live.ask()
        if i % 3 == 0:
            sock.recv(64)
        elif i % 3 == 1:
            time.sleep(0.001)
        sock.close()
        until(lambda: live.engine.running < 16)
    until(lambda: live.engine.running == 0 and live.service.active == 0)
    until(lambda: len(live.server.server_state.tasks) == 0)
    until(lambda: fds() <= before + 5)
    until(lambda: threading.active_count() <= threads + 2)


def test_slow_heads_and_bodies_are_hung_up_on(serve, monkeypatch):
    monkeypatch.setattr(protocol, "HEAD_S", 0.3)
    monkeypatch.setattr(middleware, "BODY_S", 0.3)
    live = serve(chunks=1)
    silent, head, body, pipeline = (live.connect() for _ in range(4))
    head.sendall(b"GET /livez HTTP/1.1\r\nHost: local")
    body.sendall(b"POST /v1/audio/speech HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n")
    body.sendall(b"Content-Length: 20\r\n\r\n{")
    pipeline.sendall(b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n")
    answer = b""
    while b"alive" not in answer:
        answer += pipeline.recv(4096)
    pipeline.sendall(b"\r\n")  # not the beginning of anything, but it stops the keep-alive clock
    began = time.monotonic()
    assert read_all(silent) == b""
    assert read_all(head) == b""
    assert read_all(pipeline) == b""
    assert b"408 Request Timeout" in read_all(body)
    assert time.monotonic() - began < 2.0
    until(lambda: not live.server.server_state.connections)


def test_an_endless_head_is_cut_off(serve):
    live = serve()
    sock = live.connect()
    sent = 0
    with contextlib.suppress(OSError):
        sock.sendall(b"GET / HTTP/1.1\r\nX: ")
        while sent < 4 << 20:
            sent += sock.send(b"x" * (1 << 14))
    assert sent < 4 << 20
    until(lambda: not live.server.server_state.connections)


def test_two_requests_in_one_packet(serve):
    live = serve()
    sock = live.connect()
    sock.sendall(b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n" * 2)
    answer = b""
    while answer.count(b"alive") < 2:
        answer += sock.recv(4096)
    sock.close()


def test_probes_answer_at_once_while_everything_is_busy(serve):
    live = serve(hang_at=1)
    socks = [live.ask() for _ in range(16)]
    until(lambda: live.engine.running == 16)
    with httpx.Client(base_url=live.url) as client:
        client.get("/health")
        times = []
        for _ in range(50):
            began = time.perf_counter()
            assert client.get("/health").json()["engine"]["running"] == 16
            times.append(time.perf_counter() - began)
    assert sorted(times)[25] < 0.2
    for sock in socks:
        sock.close()


def test_a_fast_engine_does_not_starve_the_event_loop(serve):
    live = serve(chunks=100_000)
    stop = threading.Event()

    def listen_along() -> None:
        with httpx.stream("POST", live.url + SPEECH, json={"input": "Hi."}) as answer:
            for _ in answer.iter_raw():
                if stop.is_set():
                    break

    reader = threading.Thread(target=listen_along)
    reader.start()
    until(lambda: live.engine.running == 1)
    with httpx.Client(base_url=live.url) as client:
        times = []
        for _ in range(50):
            began = time.perf_counter()
            client.get("/livez")
            times.append(time.perf_counter() - began)
    stop.set()
    reader.join()
    assert sorted(times)[25] < 0.2


# The OpenAI client


@pytest.fixture
def client_of():
    clients = []

    def make(live, **options) -> openai.OpenAI:
        options = {"api_key": "none", "max_retries": 0, **options}
        clients.append(openai.OpenAI(base_url=live.url + "/v1", **options))
        return clients[-1]

    yield make
    for client in clients:
        client.close()


def test_openai_client_speaks(serve, client_of, tmp_path):
    live = serve()
    client = client_of(live)
    answer = client.audio.speech.create(model="tts-1", voice="nova", input="Hello there.", response_format="pcm")
    sound = np.concatenate([tagged(live.engine.requests[0], index, 0.1) for index in range(5)])
    assert answer.content == to_int16(sound).tobytes()
    with client.audio.speech.with_streaming_response.create(
        model="gpt-4o-mini-tts",
        voice={"id": "fable"},
        input="Hello.",
        speed=1.5,
        instructions="Cheerfully.",
        extra_body={"seed": 3},
    ) as streamed:
        streamed.stream_to_file(tmp_path / "hello.mp3")
    assert (tmp_path / "hello.mp3").stat().st_size > 1000
    assert live.engine.requests[1].sampling.seed == 3
    assert streamed.headers["x-saywell-ignored"] == "instructions, seed"
    assert next(model.id for model in client.models.list()) == "fake"
    assert client.models.retrieve("tts-1").id == "tts-1"


def test_openai_client_reads_events(serve, client_of):
    live = serve()
    with client_of(live).audio.speech.with_streaming_response.create(
        model="gpt-4o-mini-tts", voice="coral", input="Hello.", stream_format="sse"
    ) as answer:
        events = [json.loads(line[6:]) for line in answer.iter_lines() if line.startswith("data: ")]
    assert events[-1]["type"] == "speech.audio.done"
    assert set(events[-1]["usage"]) == {"input_tokens", "output_tokens", "total_tokens"}


def test_openai_client_raises_the_right_errors(serve, client_of):
    live = serve(overrides={"api_keys": ("the-right-key",)})
    client = client_of(live, api_key="the-right-key")

    def speak(who=client, **fields):
        return who.audio.speech.create(**{"model": "tts-1", "voice": "alloy", "input": "Hello.", **fields})

    with pytest.raises(openai.AuthenticationError):
        speak(client_of(live, api_key="wrong"))
    with pytest.raises(openai.UnprocessableEntityError) as caught:
        speak(input=" ")
    assert caught.value.body["param"] == "input"
    with pytest.raises(openai.NotFoundError) as caught:
        speak(voice="nobody")
    assert caught.value.code == "voice_not_found"
    with pytest.raises(openai.BadRequestError):
        speak(extra_body={"max_frames": 5000})
    live.engine.knobs.refuse = TooManyRequests("full", retry_after=1.0)
    with pytest.raises(openai.RateLimitError) as caught:
        speak()
    assert caught.value.response.headers["retry-after"] == "1"
    live.engine.knobs.refuse = DeadlineExceeded("late")
    with pytest.raises(openai.InternalServerError) as caught:
        speak()
    assert caught.value.request_id
    live.engine.knobs.refuse = None
    live.engine.knobs.fail_at = 2
    with pytest.raises(openai.APIConnectionError):
        speak()


def test_openai_client_retries_a_rejected_request(serve, client_of):
    live = serve(refuse=TooManyRequests("full", retry_after=1.0))
    threading.Timer(0.5, lambda: setattr(live.engine.knobs, "refuse", None)).start()
    answer = client_of(live, max_retries=2).audio.speech.create(model="tts-1", voice="alloy", input="Hello.")
    assert answer.content


# The process


class Process:
    """`tests/fake_engine.py` as a process of its own."""

    def __init__(self, **values) -> None:
        pairs = [f"{name}={json.dumps(value)}" for name, value in values.items()]
        self.process = subprocess.Popen(
            [sys.executable, str(TESTS / "fake_engine.py"), "0", *pairs],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ, "COLUMNS": "300"},
        )  # fmt: skip
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        found = re.search(r"http://[\d.:]+", line)
        assert found, line + self.process.stderr.read()
        self.url = found[0]

    def ready(self) -> bool:
        return self.status("/ready") == 200

    def status(self, path: str) -> int:
        try:
            return httpx.get(self.url + path, timeout=5).status_code
        except httpx.TransportError:
            return 0

    def speak(self, **fields) -> httpx.Response:
        body = {"input": "Hello there.", "response_format": "pcm", **fields}
        return httpx.post(self.url + SPEECH, json=body, timeout=20)

    def end(self) -> tuple[int, str, str]:
        out, err = self.process.communicate(timeout=10)
        return self.process.returncode, out, err


@pytest.fixture
def spawn():
    made = []

    def start(**values) -> Process:
        made.append(Process(**values))
        return made[-1]

    yield start
    for one in made:
        if one.process.poll() is None:
            one.process.kill()
        one.process.communicate()


posix = pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")


@posix
def test_running_requests_finish_during_shutdown(spawn):
    server = spawn(chunks=20, delay_s=0.1)
    until(server.ready)
    with ThreadPoolExecutor(20) as pool:
        running = [pool.submit(server.speak) for _ in range(16)]
        time.sleep(0.7)
        server.process.terminate()
        told = time.monotonic()
        until(lambda: server.status("/ready") == 503, 1.0)
        assert server.status("/livez") == 200
        late = server.speak()
        assert (late.status_code, late.headers["connection"]) == (503, "close")
        assert late.headers["retry-after"]
        answers = [future.result() for future in running]
    assert {answer.status_code for answer in answers} == {200}
    assert len({answer.content for answer in answers}) == 1
    assert len(answers[0].content) == 20 * 2400 * 2
    code, _, err = server.end()
    assert code == 0
    assert time.monotonic() - told < 8.0
    assert "Traceback" not in err


@posix
def test_streams_that_outlast_the_drain_are_cut_off_not_ended(spawn):
    server = spawn(chunks=1000, delay_s=0.1, drain_s=0.3)
    until(server.ready)
    with ThreadPoolExecutor(4) as pool:
        running = [pool.submit(server.speak) for _ in range(4)]
        time.sleep(0.5)
        server.process.terminate()
        told = time.monotonic()
        errors = [future.exception() for future in running]
    assert all(isinstance(error, httpx.RemoteProtocolError) for error in errors)
    code, _, err = server.end()
    assert code == CUT_OFF
    assert re.findall(r"ERROR (\d+) answers are cut off", err) == ["4"]
    assert time.monotonic() - told < 0.3 + 4.0
    assert "Traceback" not in err


@posix
@pytest.mark.parametrize("format", ["pcm", "sse"])
def test_a_response_cut_off_by_shutdown_is_reported(spawn, format):
    server = spawn(chunks=10, delay_s=0.1, fail_at=8)
    until(server.ready)
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(server.speak, **({"stream_format": "sse"} if format == "sse" else {}))
        time.sleep(0.4)
        server.process.terminate()
        assert running.exception() is not None or "error" in running.result().text
    code, _, err = server.end()
    assert code == CUT_OFF
    assert re.findall(r"ERROR (\d+) answers are cut off", err) == ["1"]


@posix
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_second_signal_ends_it_at_once(spawn, number):
    server = spawn(chunks=1000, delay_s=0.1)
    until(server.ready)
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(server.speak)
        time.sleep(0.3)
        server.process.send_signal(number)
        time.sleep(0.2)
        assert server.process.poll() is None
        server.process.send_signal(number)
        told = time.monotonic()
        code, _, err = server.end()
        assert time.monotonic() - told < 5.0
        assert running.exception() is not None
    assert code == 128 + number
    assert re.findall(r"ERROR (\d+) answers are cut off", err) == ["1"]


@posix
def test_loading_is_alive_but_not_ready_and_can_be_stopped(spawn):
    server = spawn(load_s=60)
    assert server.status("/livez") == 200
    assert server.status("/ready") == 503
    assert server.speak().status_code == 503
    server.process.terminate()
    told = time.monotonic()
    assert server.end()[0] == 0
    assert time.monotonic() - told < 5.0


def test_a_model_that_cannot_be_loaded_ends_the_server_with_its_reason(spawn):
    server = spawn(load_error="the weights are not there; run saywell pull")
    code, _, err = server.end()
    assert code == 1
    assert "run saywell pull" in err
    assert "Traceback" not in err


def test_the_ready_message_has_url_and_example(spawn):
    server = spawn()
    message = server.process.stdout.readline() + server.process.stdout.readline()  # printed just after it is ready
    server.process.terminate()
    _, _, err = server.end()
    assert "Ready: fake on cpu" in message
    assert f"curl {server.url}/v1/audio/speech" in message
    assert "heart" in message
    assert "Traceback" not in err


def test_a_port_in_use_is_reported():
    from saywell.errors import PlanError

    sock = listen("127.0.0.1", 0)
    sock.listen()
    with pytest.raises(PlanError, match="another port"):
        listen("127.0.0.1", sock.getsockname()[1])
    sock.close()
    with pytest.raises(PlanError, match="cannot listen on the address"):
        listen("no.such.host.invalid", 0)


@pytest.mark.parametrize("length", ["announced", "chunked"])
def test_ten_megabytes_get_an_answer_though_they_are_sent_first(serve, length):
    connection = http.client.HTTPConnection("127.0.0.1", serve().port, timeout=10)
    body = json.dumps({"input": "x" * 10_000_000}).encode()
    headers = {"Content-Type": "application/json"}
    began = time.perf_counter()
    if length == "announced":
        connection.request("POST", SPEECH, body, headers)
    else:
        pieces = (body[at : at + 65_536] for at in range(0, len(body), 65_536))
        connection.request("POST", SPEECH, pieces, headers, encode_chunked=True)
    answer = connection.getresponse()
    found = json.loads(answer.read())["error"]
    assert time.perf_counter() - began < 1.0
    assert (answer.status, found["code"]) == (413, "too_large")
    assert answer.getheader("connection") == "close"
    connection.close()


def test_an_announced_body_over_the_limit_is_rejected_and_the_connection_closed(serve, monkeypatch):
    monkeypatch.setattr(middleware, "DRAIN_S", 1.0)
    sock = serve().connect()
    sock.sendall(b"POST %b HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10000000\r\n\r\n" % SPEECH.encode())
    began = time.perf_counter()
    assert b"413" in sock.recv(4096)
    assert time.perf_counter() - began < 0.8
    while sock.recv(4096):
        pass
    assert time.perf_counter() - began < 4.0
