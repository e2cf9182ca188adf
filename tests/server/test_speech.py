from __future__ import annotations

import base64
import io
import json

import av
import httpx
import numpy as np
import pytest

from fake_engine import FakeEngine, decision, tagged
from saywell.audio.encode import to_int16
from saywell.audio.formats import FORMATS
from saywell.errors import DeadlineExceeded, ModelFailure, OutOfMemory, TooManyRequests
from saywell.server.app import create_app
from saywell.server.errors import BrokenResponse

pytestmark = pytest.mark.anyio

SPEECH = "/v1/audio/speech"


@pytest.fixture
def engine() -> FakeEngine:
    return FakeEngine()


@pytest.fixture
async def client(engine):
    transport = httpx.ASGITransport(create_app(engine, decision(engine)), raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
        yield client


def body(**fields):
    return {"model": "tts-1", "input": "Hello there.", "voice": "alloy", **fields}


def whole(engine) -> np.ndarray:
    request, knobs = engine.requests[-1], engine.knobs
    return np.concatenate([tagged(request, index, knobs.chunk_s) for index in range(knobs.chunks)])


@pytest.mark.parametrize("format", FORMATS)
async def test_every_format_contains_all_audio(client, engine, format):
    answer = await client.post(SPEECH, json=body(response_format=format))
    assert answer.status_code == 200
    assert answer.headers["content-type"] == FORMATS[format].content_type
    if format == "pcm":
        assert answer.content == to_int16(whole(engine)).tobytes()
        return
    # PyAV, because libsndfile does not read a FLAC that cannot tell its length.
    with av.open(io.BytesIO(answer.content)) as file:
        sound = np.concatenate([frame.to_ndarray() for frame in file.decode(audio=0)], axis=1)[0]
        rate = file.streams.audio[0].rate
    assert len(sound) / rate == pytest.approx(0.5, abs=0.15)
    if format in ("wav", "flac"):
        np.testing.assert_array_equal(to_int16(whole(engine)), sound)


async def test_mp3_is_the_default_and_the_engine_gets_the_request_fields(client, engine):
    own = {"nginx": "engine x"}
    fields = {"speed": 1.5, "seed": 7, "language": "en-GB", "timeout": 5, "voice": "onyx", "lexicon": own}
    answer = await client.post(SPEECH, json=body(**fields))
    assert answer.headers["content-type"] == "audio/mpeg"
    request = engine.requests[-1]
    assert (request.text, request.voice, request.speed) == ("Hello there.", "fenrir", 1.5)
    assert (request.sampling.seed, request.language, request.timeout_s, request.lexicon) == (7, "en-GB", 5, own)


async def test_streamed_wav_has_open_sizes_and_nothing_behind_the_data(client, engine):
    answer = await client.post(SPEECH, json=body(response_format="wav"))
    assert answer.content[4:8] == b"\xff" * 4
    assert answer.content[36:44] == b"data" + b"\xff" * 4
    assert answer.content[44:] == to_int16(whole(engine)).tobytes()


async def test_only_input_is_needed(client, engine):
    answer = await client.post(SPEECH, json={"input": "Hello.", "voice": None, "speed": None})
    assert answer.status_code == 200
    assert engine.requests[-1].voice is None
    assert answer.headers["x-saywell-voice"] == "heart"


@pytest.mark.parametrize(
    ("voice", "spoken"),
    [("alloy", "heart"), ("Onyx", "fenrir"), ("fable", "fable"), ("FABLE", "fable"), ({"id": "kore"}, "kore")],
)
async def test_voices_are_accepted_by_own_and_openai_names(client, engine, voice, spoken):
    answer = await client.post(SPEECH, json=body(voice=voice))
    assert answer.headers["x-saywell-voice"] == spoken
    assert engine.requests[-1].voice == spoken


async def test_fields_without_effect_are_named(client):
    answer = await client.post(
        SPEECH, json=body(instructions="Whisper.", temperature=0.5, foo=1, **{"b\r\nar": 2, "x-y": [1]})
    )
    assert answer.status_code == 200
    assert answer.headers["x-saywell-ignored"] == "instructions, foo, x-y, temperature"
    assert "x-saywell-ignored" not in (await client.post(SPEECH, json=body())).headers


@pytest.mark.parametrize(
    ("text", "fields", "markup"),
    [
        ("Hello <b>there</b>.", {}, "html"),
        ("Hello **there**.", {}, "markdown"),
        ("Hello **there**.", {"markup": "plain"}, "plain"),
        ("Hello there.", {}, None),
        ("Wir sagen **nicht** die Zeit.", {"language": "und"}, "markdown"),
    ],
)
async def test_a_header_says_which_markup_was_read(
    client: httpx.AsyncClient, text: str, fields: dict[str, str], markup: str | None
) -> None:
    answer = await client.post(SPEECH, json=body(input=text, **fields))
    assert answer.status_code == 200
    assert answer.headers.get("x-saywell-markup") == markup


async def test_server_sent_events(client, engine):
    answer = await client.post(SPEECH, json=body(stream_format="sse", response_format="pcm"))
    assert answer.headers["content-type"].startswith("text/event-stream")
    events = [json.loads(line.removeprefix("data: ")) for line in answer.text.split("\n\n") if line]
    assert [event["type"] for event in events] == ["speech.audio.delta"] * 5 + ["speech.audio.done"]
    sound = b"".join(base64.b64decode(event["audio"]) for event in events[:-1])
    assert sound == to_int16(whole(engine)).tobytes()
    assert events[-1]["usage"] == {"input_tokens": 12, "output_tokens": 5, "total_tokens": 17}


async def test_events_end_with_the_error_and_no_done(client, engine):
    engine.knobs.fail_at = 3
    answer = await client.post(SPEECH, json=body(stream_format="sse", response_format="pcm"))
    events = [json.loads(line.removeprefix("data: ")) for line in answer.text.split("\n\n") if line]
    assert [event["type"] for event in events] == ["speech.audio.delta"] * 3 + ["error"]
    assert events[-1]["error"]["code"] == "model_failure"


@pytest.mark.parametrize(
    ("error", "status", "kind"),
    [
        (TooManyRequests("full", retry_after=2.2), 429, "rate_limit_error"),
        (OutOfMemory("would not fit"), 507, "server_error"),
        (ModelFailure("broke"), 500, "server_error"),
    ],
)
async def test_a_refusal_is_a_status(client, engine, error, status, kind):
    engine.knobs.refuse = error
    answer = await client.post(SPEECH, json=body())
    assert answer.status_code == status
    assert answer.json()["error"] == {"message": error.message, "type": kind, "param": None, "code": error.code}
    assert answer.headers.get("retry-after") == ("3" if status == 429 else None)


async def test_a_failure_before_the_first_byte_is_a_status(client, engine):
    engine.knobs.fail_at = 0
    engine.knobs.error = DeadlineExceeded("too late", param="timeout_s")
    answer = await client.post(SPEECH, json=body())
    assert answer.status_code == 504
    assert answer.json()["error"]["param"] == "timeout"
    assert engine.running == 0


async def test_a_deadline_stops_the_work(client, engine):
    engine.knobs.hang_at = 0
    answer = await client.post(SPEECH, json=body(timeout=0.2))
    assert answer.status_code == 504
    assert engine.running == 0


async def test_a_failure_after_the_first_byte_is_raised_to_the_asgi_server(engine):
    engine.knobs.fail_at = 3
    transport = httpx.ASGITransport(create_app(engine, decision(engine)))
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
        with pytest.raises(BrokenResponse):
            await client.post(SPEECH, json=body(response_format="pcm"))


async def test_catalogue(client):
    models = (await client.get("/v1/models")).json()
    assert models["object"] == "list"
    assert models["data"][0]["id"] == "fake"
    assert (await client.get("/v1/models/tts-1")).json()["id"] == "tts-1"
    assert (await client.get("/v1/models/nope")).status_code == 404
    assert {"id": "tts-1-hd"} in (await client.get("/v1/audio/models")).json()["models"]
    for route in ("/v1/audio/voices", "/v1/audio/voices?model=fake", "/v1/voices?model=tts-1"):
        voices = (await client.get(route)).json()["voices"]
        assert [voice["id"] for voice in voices] == ["heart", "fenrir", "fable", "kore"]
        assert voices[0]["name"] == "HEART"
    assert (await client.get("/v1/audio/voices?model=nope")).status_code == 404
