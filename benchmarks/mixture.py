"""A realistic mixture of requests: lengths, formats, streams, clients that disconnect, and invalid requests."""

from __future__ import annotations

import http.client
import json
import random
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

from benchmarks.random_voice import TRIES
from saywell.bench.service import SPEECH, text_of

FORMATS = ("wav", "mp3", "flac", "opus", "pcm")
SHORTEST, LONGEST = 10, 2_000
"""Length of valid texts, in characters."""
LEAVING, REFUSED = 0.08, 0.06
"""Shares of clients that disconnect, and of invalid requests."""
_LEAVE_BYTES = 2_000
_TIMEOUT_S = 300.0
FAILED, REFUSED_FOR_NOW = "failed", "refused for now"


@dataclass(frozen=True, slots=True, kw_only=True)
class Mixture:
    requests: int
    clients: int
    frames: int | None = None
    """Per sentence, for random weights, which never stop."""
    seed: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """One request."""

    body: dict[str, Any]
    leaves: bool = False
    """The client disconnects after the first audio."""
    refused: bool = False
    """The request is invalid."""


def asks(mixture: Mixture) -> Iterator[Ask]:
    """The requests of a mixture; always the same ones."""
    generator = random.Random(mixture.seed)
    for index in range(mixture.requests):
        kind = generator.random()
        if kind < REFUSED:
            yield Ask(body=generator.choice(({"input": ""}, {"input": "Hello.", "voice": "nobody of this name"},
                                        {"input": "Hello.", "speed": 9.0})), refused=True)  # fmt: skip
            continue
        chars = round(SHORTEST * (LONGEST / SHORTEST) ** generator.random())
        body = {"input": text_of(chars), "response_format": generator.choice(FORMATS), "seed": index}
        if generator.random() < 0.3:
            body |= {"stream_format": "sse", "response_format": "pcm"}
        if mixture.frames:
            body |= {"max_frames": mixture.frames}
        yield Ask(body=body, leaves=kind > 1 - LEAVING)


def ask_all(port: int, mixture: Mixture) -> list[str]:
    """The outcome of each request: ok, left, refused, refused for now (503 or 507), failed."""
    with ThreadPoolExecutor(mixture.clients) as pool:
        return list(pool.map(lambda ask: _ask(port, ask, TRIES if mixture.frames else 1), asks(mixture)))


def _ask(port: int, ask: Ask, tries: int) -> str:
    outcome = FAILED
    for number in range(tries):  # random weights can end too early; another seed may not
        body = {**ask.body, "seed": ask.body["seed"] + 10_000 * number} if number else ask.body
        outcome = _once(port, replace(ask, body=body))
        if outcome != FAILED:
            break
    return outcome


def _once(port: int, ask: Ask) -> str:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=_TIMEOUT_S)
    try:
        connection.request("POST", SPEECH, json.dumps(ask.body), {"Content-Type": "application/json"})
        response = connection.getresponse()
        if ask.leaves:
            response.read(_LEAVE_BYTES)
            return "left" if response.status == 200 else FAILED
        data = response.read()
    except (OSError, http.client.HTTPException):
        return FAILED
    finally:
        connection.close()
    return _outcome(ask, response.status, data)


def _outcome(ask: Ask, status: int, data: bytes) -> str:
    if ask.refused:
        return "refused" if 400 <= status < 500 else FAILED
    if status in (503, 507):
        return REFUSED_FOR_NOW
    complete = ask.body.get("stream_format") != "sse" or b"speech.audio.done" in data
    return "ok" if status == 200 and data and complete else FAILED
