"""The server's metrics: `render()` as Prometheus text, `aggregates()` over the last requests as JSON."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from threading import Lock
from typing import TYPE_CHECKING, Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from saywell.machine.monitor import process_memory

if TYPE_CHECKING:
    from saywell.types import Summary

SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0)
RTF = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 0.75, 1.0, 1.5, 2.0, 5.0, 10.0)
MAX_LABELS = 32
"""Distinct values per label; further values count as `other`, so that clients cannot create unbounded series."""
WINDOW = 256
"""Requests in the rolling aggregates."""


class Metrics:
    """All metrics of one server. Safe to use from any thread."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "saywell_requests", "Requests answered, by HTTP status.", ["route", "model", "code"], registry=self.registry
        )
        self.duration = Histogram(
            "saywell_request_duration_seconds",
            "Arrival to the last byte.",
            ["route"],
            buckets=SECONDS,
            registry=self.registry,
        )
        self.ttfa = Histogram(
            "saywell_ttfa_seconds", "Submission to the first audio.", ["model"], buckets=SECONDS, registry=self.registry
        )
        self.rtf = Histogram(
            "saywell_rtf", "Seconds from submission to end per second of audio; lower is better.", ["model"],
            buckets=RTF, registry=self.registry,
        )  # fmt: skip
        self.audio = Counter("saywell_audio_seconds", "Seconds of audio produced.", ["model"], registry=self.registry)
        self.in_flight = Gauge("saywell_in_flight_requests", "Requests being answered.", registry=self.registry)
        self.queue_depth = Gauge("saywell_queue_depth", "Requests waiting for a slot.", registry=self.registry)
        self.active = Gauge("saywell_active_sequences", "Sequences in a slot.", registry=self.registry)
        self.slots = Gauge("saywell_slots", "Slots of the engine.", registry=self.registry)
        self.ready = Gauge("saywell_ready", "1 while the engine can speak.", registry=self.registry)
        self.restarts = _Total("saywell_worker_restarts", "Worker processes replaced.", self.registry)
        self.loaded = Gauge("saywell_model_loaded", "1 while the model is in memory.", registry=self.registry)
        self.pressure = Gauge(
            "saywell_pressure_level", "Steps of degradation in force under pressure; 0: none.", registry=self.registry
        )
        self.downs = _Total("saywell_pressure_downs", "Degradation steps taken under pressure.", self.registry)
        self.ups = _Total("saywell_pressure_ups", "Degradation steps reverted.", self.registry)
        self.memory = Gauge(
            "saywell_process_memory_bytes", "Resident memory of the HTTP process.", registry=self.registry
        )
        self.memory.set_function(process_memory)
        self._labels: dict[str, set[str]] = {}
        self._lock = Lock()
        self._recent: deque[tuple[bool, float]] = deque(maxlen=WINDOW)
        self._spoken: deque[Summary] = deque(maxlen=WINDOW)

    def answered(self, route: str, model: str, code: int, seconds: float) -> None:
        """Count a finished speech request. `route`: the template, never the path as sent."""
        route = self._bounded("route", route)
        self.requests.labels(route, self._bounded("model", model), self._bounded("code", str(code))).inc()
        self.duration.labels(route).observe(seconds)
        self._recent.append((code < 400, seconds))

    def spoke(self, model: str, summary: Summary) -> None:
        """Count a complete synthesis."""
        model = self._bounded("model", model)
        self.ttfa.labels(model).observe(summary.first_audio_s)
        self.audio.labels(model).inc(summary.audio_s)
        if summary.audio_s:
            self.rtf.labels(model).observe(summary.rtf)
        self._spoken.append(summary)

    def render(self) -> bytes:
        """Prometheus text format."""
        return generate_latest(self.registry)

    def aggregates(self) -> dict[str, Any]:
        """Statistics of the last WINDOW requests; None without data."""
        recent, spoken = list(self._recent), list(self._spoken)
        return {
            "requests": len(recent),
            "success_rate": sum(good for good, _ in recent) / len(recent) if recent else None,
            "latency_s": _spread([seconds for _, seconds in recent]),
            "spoken": len(spoken),
            "queued_s": _spread([summary.queued_s for summary in spoken]),
            "ttfa_s": _spread([summary.first_audio_s for summary in spoken]),
            "rtf": _spread([summary.rtf for summary in spoken if summary.audio_s]),
            "audio_s": sum(summary.audio_s for summary in spoken),
        }

    def _bounded(self, label: str, value: str) -> str:
        with self._lock:
            known = self._labels.setdefault(label, set())
            if value not in known and len(known) >= MAX_LABELS:
                return "other"
            known.add(value)
        return value


class _Total(Collector):
    """A counter whose total is kept elsewhere and read at each scrape."""

    def __init__(self, name: str, text: str, registry: CollectorRegistry) -> None:
        self._name, self._text = name, text
        self._read: Callable[[], float] = lambda: 0.0
        registry.register(self)

    def set_function(self, read: Callable[[], float]) -> None:
        self._read = read

    def collect(self) -> Iterable[Metric]:
        metric = Metric(self._name, self._text, "counter")
        metric.add_sample(f"{self._name}_total", {}, self._read())
        yield metric


def _spread(values: Sequence[float]) -> dict[str, float] | None:
    if not values:
        return None
    ordered = sorted(values)
    last = len(ordered) - 1
    return {
        "mean": sum(ordered) / len(ordered),
        "p50": ordered[round(0.50 * last)],
        "p95": ordered[round(0.95 * last)],
        "max": ordered[-1],
    }
