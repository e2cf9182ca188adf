"""The routes of the S1-Mini engine's server, `POST /v1/tts` and `/v1/tts/stream`, and its names in `/metrics`."""

from __future__ import annotations

from collections.abc import Iterable

from fastapi import APIRouter, FastAPI
from prometheus_client.metrics_core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector
from starlette.requests import Request as HttpRequest
from starlette.responses import Response

from s1_mini.utils import get_vram_info
from saywell.errors import SaywellError
from saywell.server.errors import with_api_param_names
from saywell.server.framing import RawFraming
from saywell.server.metrics import SECONDS, Metrics
from saywell.server.routes.common import AUDIO, ServiceOf, response_headers
from saywell.server.service import Service
from saywell.server.speech import Asked, stream_speech
from saywell_compat.speech import USUAL_FORMAT, TtsBody, whole

router = APIRouter()
WHOLE, STREAMED = "/v1/tts", "/v1/tts/stream"


def install(app: FastAPI, service: Service) -> None:
    """Add the routes and the metrics."""
    app.include_router(router)
    service.speech_paths |= {WHOLE, STREAMED}
    service.metrics.registry.register(OldNames(service.metrics))


@router.post(WHOLE, response_class=Response, responses=AUDIO)
async def tts(http: HttpRequest, body: TtsBody, service: ServiceOf) -> Response:
    """Synthesise `text` and respond with a complete file (`format`, default WAV)."""
    return await whole(http, body, service)


@router.post(STREAMED, response_class=Response, responses=AUDIO)
async def tts_stream(http: HttpRequest, body: TtsBody, service: ServiceOf) -> Response:
    """Synthesise `text` and stream the file (`format`, default WAV)."""
    engine = await service.load(None)
    wanted = body.request(body.text, service.voice(body.voice, engine), engine.spec)
    format = body.format or USUAL_FORMAT
    headers = response_headers(engine, wanted, body.ignored(engine.spec))
    try:
        return await stream_speech(http, service, Asked(engine, wanted), format, RawFraming(format), headers)
    except SaywellError as error:
        raise with_api_param_names(error, timeout_s="timeout") from error


class OldNames(Collector):
    """The server's metrics under the S1-Mini engine's names: without labels, summed over all routes."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics

    def collect(self) -> Iterable[Metric]:
        good = bad = 0.0
        for name, labels, value in _samples(self._metrics.requests):
            if name.endswith("_total"):
                fine = labels["code"] < "400"
                good, bad = good + value * fine, bad + value * (not fine)
        yield CounterMetricFamily("s1_mini_requests", "Requests answered.", value=good + bad)
        yield CounterMetricFamily("s1_mini_requests_success", "Requests answered successfully.", value=good)
        yield CounterMetricFamily("s1_mini_requests_error", "Requests answered with an error.", value=bad)
        yield self._duration()
        share = get_vram_info()["utilization"]
        yield GaugeMetricFamily("s1_mini_vram_utilization", "Share of GPU memory in use, 0 to 1.", value=share)

    def _duration(self) -> Metric:
        buckets, seconds = {str(bound): 0.0 for bound in (*SECONDS, "+Inf")}, 0.0
        for name, labels, value in _samples(self._metrics.duration):
            if name.endswith("_bucket"):
                buckets[labels["le"]] += value
            elif name.endswith("_sum"):
                seconds += value
        about = "Arrival to the last byte."
        return HistogramMetricFamily(
            "s1_mini_request_duration_seconds", about, buckets=list(buckets.items()), sum_value=seconds
        )


def _samples(metric: Collector) -> Iterable[tuple[str, dict[str, str], float]]:
    return ((sample.name, sample.labels, sample.value) for family in metric.collect() for sample in family.samples)
