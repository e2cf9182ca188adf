"""Mixed requests as a service gets them: lengths, formats, streams, readers that leave, and what must be refused."""

from __future__ import annotations

import http.client
import json
import random
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from benchmarks.random_voice import TRIES
from saywell.bench.service import SPEECH, text_of

FORMATS = ("wav", "mp3", "flac", "opus", "pcm")
SHORTEST, LONGEST = 10, 2_000
"""Characters of a text that is spoken."""
LEAVING, REFUSED = 0.08, 0.06
"""Shares of readers that leave, and of requests nobody should speak."""
_LEAVE_BYTES = 2_000
_TIMEOUT_S = 300.0
FAILED, REFUSED_FOR_NOW = "failed", "refused for now"


@dataclass(frozen=True, slots=True, kw_only=True)
class Mixture:
    """What is asked for."""

    requests: int
    clients: int
    frames: int | None = None
    """Of each sentence, for random weights that never end by themselves."""
    seed: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """One request."""

    body: dict[str, Any]
    leaves: bool = False
    """Its reader goes away after the first sound."""
    refused: bool = False
    """No server should speak it."""


def asks(mixture: Mixture) -> Iterator[Ask]:
    """The same for every server."""
    draw = random.Random(mixture.seed)
    for index in range(mixture.requests):
        kind = draw.random()
        if kind < REFUSED:
            yield Ask(body=draw.choice(({"input": ""}, {"input": "Hello.", "voice": "nobody of this name"},
                                        {"input": "Hello.", "speed": 9.0})), refused=True)  # fmt: skip
            continue
        chars = round(SHORTEST * (LONGEST / SHORTEST) ** draw.random())
        body = {"input": text_of(chars), "response_format": draw.choice(FORMATS), "seed": index}
        if draw.random() < 0.3:
            body |= {"stream_format": "sse", "response_format": "pcm"}
        if mixture.frames:
            body |= {"max_frames": mixture.frames}
        yield Ask(body=body, leaves=kind > 1 - LEAVING)


def ask_all(port: int, mixture: Mixture) -> list[str]:
    """What became of each: ok, left, refused, refused for now (503 or 507), failed."""
    with ThreadPoolExecutor(mixture.clients) as pool:
        return list(pool.map(lambda ask: _ask(port, ask, TRIES if mixture.frames else 1), asks(mixture)))


def _ask(port: int, ask: Ask, tries: int) -> str:
    outcome = FAILED
    for draw in range(tries):
        outcome = _once(port, Ask(body=_redrawn(ask.body, draw), leaves=ask.leaves, refused=ask.refused))
        if outcome != FAILED:  # random weights end when they like; another draw is another request
            break
    return outcome


def _redrawn(body: dict[str, Any], draw: int) -> dict[str, Any]:
    return {**body, "seed": body["seed"] + 10_000 * draw} if draw else body


def _once(port: int, ask: Ask) -> str:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=_TIMEOUT_S)
    try:
        connection.request("POST", SPEECH, json.dumps(ask.body), {"Content-Type": "application/json"})
        answer = connection.getresponse()
        if ask.leaves:
            answer.read(_LEAVE_BYTES)
            return "left" if answer.status == 200 else FAILED
        sound = answer.read()
    except (OSError, http.client.HTTPException):
        return FAILED
    finally:
        connection.close()
    return _judged(ask, answer.status, sound)


def _judged(ask: Ask, status: int, sound: bytes) -> str:
    if ask.refused:
        return "refused" if 400 <= status < 500 else FAILED
    if status in (503, 507):
        return REFUSED_FOR_NOW
    whole = ask.body.get("stream_format") != "sse" or b"speech.audio.done" in sound
    return "ok" if status == 200 and sound and whole else FAILED
