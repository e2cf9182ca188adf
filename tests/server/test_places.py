"""Who listens slowly costs nothing but a connection, and goes first when places are short."""

from __future__ import annotations

import json
import logging
import select
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import replace

import httpx
import pytest

from asking import until
from fake_engine import PLAN, FakeEngine
from live import SPEECH, Live
from saywell.engine.stream import Stream
from saywell.errors import Cancelled, TooManyRequests
from saywell.server import service
from saywell.server.places import Client, Place, Places
from saywell.types import Request

ME = Client(key=None, address="192.0.2.1")


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


class Listener:
    """Takes what is sent after so long."""

    def __init__(self, places: Places, clock: Clock, client: Client = ME) -> None:
        self.hung_up = False
        self._clock = clock
        self._takes_s = 0.0
        self.place = places.enter(client, self._hang_up)

    def _hang_up(self, _: float) -> None:
        self.hung_up = True

    def take(self, audio_s: float, after_s: float) -> None:
        async def send(_: object) -> None:
            self._clock.now += after_s

        with pytest.raises(StopIteration):
            self.place.put(send, {}, audio_s).send(None)

    def stop(self) -> None:
        """Takes nothing any more."""
        self.place._blocked_since = self._clock()


def test_how_far_a_listener_is_behind() -> None:
    clock = Clock()
    listener = Listener(Places(4, 10.0, clock=clock), clock)
    listener.take(3.0, 0.0)
    assert listener.place.behind_s == -3.0
    clock.now += 50.0  # the engine's time is not his
    assert listener.place.behind_s == -3.0
    for _ in range(20):
        listener.take(1.0, 1.0)
    assert listener.place.behind_s == -3.0
    listener.stop()
    clock.now += 8.0
    assert listener.place.behind_s == 5.0


def test_the_slowest_listener_is_dropped_only_at_the_limit() -> None:
    clock = Clock()
    places = Places(3, 10.0, clock=clock)
    steady, slow, slower = (Listener(places, clock) for _ in range(3))
    for listener, pace in ((steady, 1.0), (slow, 1.5), (slower, 2.0)):
        for _ in range(30):
            listener.take(1.0, pace)
    assert not any(each.hung_up for each in (steady, slow, slower))
    for gone in (slower, slow):
        Listener(places, clock)
        assert gone.hung_up
        assert gone.place.lost
    with pytest.raises(TooManyRequests, match="limit of 3 open responses") as refused:
        Listener(places, clock)  # nobody left is behind
    assert refused.value.retry_after
    assert not steady.hung_up


def stream(unread_s: float) -> Stream:
    made = Stream(Request(text="Hello."), window_s=10.0, timeout_s=5.0, on_close=lambda: None)
    made.window.put(unread_s)
    return made


@pytest.mark.parametrize(
    ("limit", "clients", "said"),
    [
        ({"each_key": 2}, [Client(0, "a"), Client(0, "b"), Client(1, "a")], "per API key"),
        ({"each_address": 2}, [Client(0, "a"), Client(1, "a"), Client(0, "b")], "per address"),
    ],
)
def test_one_client_has_its_share_of_the_work_and_as_many_listeners_as_it_likes(
    limit: dict, clients: list[Client], said: str
) -> None:
    places = Places(100, 10.0, **limit)
    mine, also_mine, other = clients
    for _ in range(5):
        places.enter(mine, lambda _: None).stream = stream(unread_s=60.0)  # made long ago, still listened to
        ended = places.enter(mine, lambda _: None).stream = stream(unread_s=1.0)  # all made, its end not yet heard
        ended.fail(Cancelled("over"))
    for client in (mine, also_mine):
        places.enter(client, lambda _: None).stream = stream(unread_s=0.0)
    with pytest.raises(TooManyRequests, match=said):
        places.enter(mine, lambda _: None)
    places.enter(other, lambda _: None)


# On real sockets


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch) -> Iterator:
    monkeypatch.setattr(service, "LISTENERS", 1)
    made: list[Live] = []

    def start(**overrides) -> Live:
        """Three places in all; who is a second behind may lose his."""
        plan = replace(PLAN, max_batch_size=2, max_queue=1, stall_s=1.0, buffer_s=2.0)
        made.append(Live(FakeEngine(plan, chunks=4_000, chunk_s=0.5), **overrides))
        return made[-1]

    yield start
    for live in made:
        live.close()


def ask_slowly(live: Live, path: str = SPEECH, **fields) -> socket.socket:
    sock = live.connect()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    body = json.dumps({"input": "Hello.", "response_format": "pcm", **fields}).encode()
    sock.sendall(
        b"POST %b HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b"
        % (path.encode(), len(body), body)
    )
    return sock


def blocked(live: Live) -> list[Place]:
    return [place for place in live.service.places.open if place.blocked]


def test_a_client_that_does_not_read_is_dropped_only_at_the_limit(serve, caplog) -> None:
    live = serve()
    caplog.set_level(logging.INFO)
    socks = [ask_slowly(live) for _ in range(3)]
    until(lambda: len(blocked(live)) == 3 and min(place.behind_s for place in blocked(live)) > 1.5, 20.0)
    assert live.engine.running == 3
    first = max(blocked(live), key=lambda place: place.behind_s)
    live.engine.knobs.chunks = 3
    assert len(httpx.post(live.url + SPEECH, json={"input": "Hi.", "response_format": "pcm"}).content) > 10_000
    assert first.lost
    until(lambda: live.engine.running == 2)
    said = [record.getMessage() for record in caplog.records]
    assert sum("closing the connection of a listener" in line for line in said) == 1
    until(lambda: any(" 408 " in record.getMessage() for record in caplog.records))
    until(lambda: sum(broken(sock) for sock in socks) == 1)


def broken(sock: socket.socket) -> bool:
    """Whether the other side has reset the connection."""
    poll = select.poll()
    poll.register(sock, 0)
    return any(event & (select.POLLERR | select.POLLHUP) for _, event in poll.poll(0))


def test_a_complete_answer_that_is_not_fetched_gives_way_too(serve) -> None:
    pytest.importorskip("s1_mini")
    live = serve()
    live.engine.knobs.chunks = 400
    for _ in range(3):
        ask_slowly(live, "/v1/tts", input="", text="Hello.", format="pcm")
    until(lambda: len(blocked(live)) == 3 and min(place.behind_s for place in blocked(live)) > 1.5, 30.0)
    assert live.engine.running == 0
    live.engine.knobs.chunks = 3
    assert httpx.post(live.url + SPEECH, json={"input": "Hi."}).status_code == 200
    until(lambda: len(blocked(live)) == 2)


def test_places_come_back(serve) -> None:
    pytest.importorskip("s1_mini")
    live = serve()
    live.engine.knobs.chunks = 2

    def ask() -> int:
        return httpx.post(live.url + "/v1/tts", json={"text": "Hi."}, timeout=20).status_code

    for _ in range(5):
        assert ask() == 200
        assert httpx.post(live.url + SPEECH, json={"input": "Hi."}, timeout=20).status_code == 200
        assert httpx.post(live.url + SPEECH, json={"input": "Hi.", "voice": "nobody"}).status_code == 404
    until(lambda: not live.service.places.open)
    found: list[int] = []
    threads = [threading.Thread(target=lambda: found.append(ask())) for _ in range(3)]
    for thread in threads:
        thread.start()
        time.sleep(0.01)
    for thread in threads:
        thread.join()
    assert found == [200, 200, 200]


def test_the_limit_per_address_applies_only_if_set(serve) -> None:
    live = serve(each_address=1)
    live.engine.knobs.hang_at = 1
    live.ask().recv(1 << 16)
    answer = httpx.post(live.url + SPEECH, json={"input": "Hi."})
    assert answer.status_code == 429
    assert "per address" in answer.json()["error"]["message"]
    assert answer.headers["retry-after"]


def test_shutdown_does_not_wait_for_clients_that_do_not_read(serve, caplog) -> None:
    live = serve()
    ask_slowly(live)
    until(lambda: len(blocked(live)) == 1, 20.0)
    live.close()
    assert not [record for record in caplog.records if record.exc_info]
    assert live.engine.running == 0
