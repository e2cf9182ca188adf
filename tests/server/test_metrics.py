"""Every figure: names, bounded labels, a registry of our own, rolling aggregates."""

from __future__ import annotations

import threading

import pytest
from prometheus_client import REGISTRY
from prometheus_client.parser import text_string_to_metric_families

from saywell.server.metrics import MAX_LABELS, WINDOW, Metrics
from saywell.types import Summary


def summary(audio_s: float = 2.0, first_s: float = 0.1, total_s: float = 0.5) -> Summary:
    return Summary(
        finish_reason="stop", sequences=1, frames=1, audio_s=audio_s, queued_s=0.0, first_audio_s=first_s,
        total_s=total_s, seed=1,
    )  # fmt: skip


def samples(metrics: Metrics) -> dict[str, float]:
    """`name{labels}` → value, as a scraper reads it."""
    found = {}
    for family in text_string_to_metric_families(metrics.render().decode()):
        for sample in family.samples:
            labels = ",".join(f"{key}={value}" for key, value in sorted(sample.labels.items()))
            found[f"{sample.name}{{{labels}}}" if labels else sample.name] = sample.value
    return found


def test_requests_and_speech_are_counted() -> None:
    metrics = Metrics()
    metrics.answered("/v1/audio/speech", "espeak", 200, 0.3)
    metrics.answered("/v1/audio/speech", "espeak", 422, 0.001)
    metrics.spoke("espeak", summary())
    found = samples(metrics)
    assert found["saywell_requests_total{code=200,model=espeak,route=/v1/audio/speech}"] == 1
    assert found["saywell_requests_total{code=422,model=espeak,route=/v1/audio/speech}"] == 1
    assert found["saywell_request_duration_seconds_count{route=/v1/audio/speech}"] == 2
    assert found["saywell_audio_seconds_total{model=espeak}"] == 2.0
    assert found["saywell_ttfa_seconds_sum{model=espeak}"] == 0.1
    assert found["saywell_rtf_sum{model=espeak}"] == 0.25
    assert found["saywell_process_memory_bytes"] > 1 << 20


def test_every_metric_has_a_help_text() -> None:
    families = list(text_string_to_metric_families(Metrics().render().decode()))
    assert len(families) >= 16
    assert all(len(family.documentation) > 10 for family in families)
    assert all(family.name.startswith("saywell_") for family in families)


def test_totals_are_read_at_the_scrape() -> None:
    metrics, total = Metrics(), [3.0]
    assert samples(metrics)["saywell_worker_restarts_total"] == 0
    metrics.restarts.set_function(lambda: total[0])
    total[0] = 7.0
    assert samples(metrics)["saywell_worker_restarts_total"] == 7


def test_labels_are_bounded() -> None:
    metrics = Metrics()
    for number in range(10_000):
        metrics.answered(f"/{number}", f"model-{number}", 200, 0.1)
    found = [name for name in samples(metrics) if name.startswith("saywell_requests_total")]
    assert len(found) == MAX_LABELS + 1
    assert "saywell_requests_total{code=200,model=other,route=other}" in found


def test_registries_do_not_mix() -> None:
    before = set(REGISTRY._names_to_collectors)
    one, two = Metrics(), Metrics()
    one.answered("/a", "m", 200, 0.1)
    assert not any("route=/a" in name for name in samples(two))
    assert set(REGISTRY._names_to_collectors) == before


def test_aggregates_start_empty() -> None:
    found = Metrics().aggregates()
    assert found["requests"] == 0
    assert found["success_rate"] is found["latency_s"] is found["rtf"] is None


def test_aggregates_roll() -> None:
    metrics = Metrics()
    metrics.answered("/a", "m", 500, 99.0)
    for number in range(WINDOW):
        metrics.answered("/a", "m", 200, number / WINDOW)
        metrics.spoke("m", summary(first_s=0.2))
    found = metrics.aggregates()
    assert (found["requests"], found["success_rate"], found["audio_s"]) == (WINDOW, 1.0, 2.0 * WINDOW)
    latency = found["latency_s"]
    assert latency["p50"] < latency["p95"] < latency["max"] < 1.0
    assert found["ttfa_s"]["mean"] == pytest.approx(0.2)


def test_counting_from_many_threads_loses_nothing() -> None:
    metrics = Metrics()

    def work() -> None:
        for _ in range(500):
            metrics.answered("/a", "m", 200, 0.1)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert samples(metrics)["saywell_requests_total{code=200,model=m,route=/a}"] == 4000
