"""Options of some models only: declared by the family, checked by the core, sent by any client."""

from __future__ import annotations

from dataclasses import replace

import httpx
import pytest

from fake_engine import PLAN, SPEC, FakeEngine, decision
from saywell.engine.admission import check_request
from saywell.engine.launch import make_request
from saywell.errors import InvalidRequest
from saywell.server.app import create_app
from saywell.settings import Settings
from saywell.types import SAMPLING, Option, Request

STYLED = replace(
    SPEC,
    name="styled",
    options={**SAMPLING, "exaggeration": Option(low=0.0, high=2.0), "style": Option(choices=("calm", "loud"))},
)


@pytest.mark.parametrize("options", [{}, {"exaggeration": 0}, {"exaggeration": 2.0, "style": "loud"}])
def test_declared_options_are_accepted(options: dict[str, float | str]) -> None:
    check_request(Request(text="Hi.", options=options), STYLED, PLAN)


@pytest.mark.parametrize(
    ("options", "way_out"),
    [
        ({"exaggeration": 2.1}, "exaggeration of styled is a number between 0 and 2"),
        ({"exaggeration": float("nan")}, "between 0 and 2"),
        ({"exaggeration": True}, "between 0 and 2"),
        ({"exaggeration": "1"}, "between 0 and 2"),
        ({"style": "angry"}, "style of styled is one of calm, loud"),
        ({"cfg_weight": 1.0}, "has no option 'cfg_weight'; it has temperature, .*, exaggeration, style"),
    ],
)
def test_other_options_are_refused_with_those_available(options: dict[str, float | str], way_out: str) -> None:
    with pytest.raises(InvalidRequest, match=way_out):
        check_request(Request(text="Hi.", options=options), STYLED, PLAN)


def test_speed_is_refused_by_a_model_without_it() -> None:
    check_request(Request(text="Hi.", speed=1.0), STYLED, PLAN)
    with pytest.raises(InvalidRequest, match="own speed only"):
        check_request(Request(text="Hi.", speed=1.1), STYLED, PLAN)
    check_request(Request(text="Hi.", speed=1.1), SPEC, PLAN)


def test_python_programs_pass_options_as_fields() -> None:
    request = make_request("Hi.", Settings(), seed=3, exaggeration=0.5, speed=1.2)
    assert (request.sampling.seed, request.speed, request.options) == (3, 1.2, {"exaggeration": 0.5})


@pytest.mark.anyio
@pytest.mark.parametrize("route", ["/v1/audio/speech", "/v1/tts"])
async def test_clients_send_options_as_fields(route: str) -> None:
    engine = FakeEngine(spec=STYLED)
    text = "input" if route.endswith("speech") else "text"
    transport = httpx.ASGITransport(create_app(engine, decision(engine)))
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
        answer = await client.post(route, json={text: "Hi.", "exaggeration": 0.7, "style": "calm", "other": 1})
        assert answer.status_code == 200
        assert engine.requests[-1].options == {"exaggeration": 0.7, "style": "calm"}
        assert answer.headers["x-saywell-ignored"] == "other"
