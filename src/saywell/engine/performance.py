"""The performance report that is logged, shown and sent after each synthesis."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from saywell.machine.monitor import Resources
    from saywell.types import Summary


@dataclass(frozen=True, slots=True, kw_only=True)
class Performance:
    """Seconds, bytes, percent."""

    latency_s: float
    """Submission to the last audio."""
    first_audio_s: float
    queued_s: float
    audio_s: float
    rtf: float
    """Seconds of synthesis per second of audio; lower is better."""
    memory_bytes: int
    """Resident memory of the process that holds the model, afterwards."""
    memory_delta_bytes: int
    """Its growth during the synthesis; negative if it shrank."""
    gpu_util: float | None
    """Percent of time the busiest GPU was in use; None if no GPU reports it."""

    def json(self) -> dict[str, Any]:
        return {name: round(value, 6) if isinstance(value, float) else value for name, value in asdict(self).items()}

    def timing(self) -> str:
        """As an HTTP header Server-Timing; milliseconds."""
        spans = {"queue": self.queued_s, "first-audio": self.first_audio_s, "total": self.latency_s}
        return ", ".join(f"{name};dur={1000 * seconds:.2f}" for name, seconds in spans.items())

    def line(self) -> str:
        """For logs."""
        gpu = "none" if self.gpu_util is None else f"{self.gpu_util:.0f} %"
        return (
            f"{self.audio_s:.2f} s of speech in {1000 * self.latency_s:.0f} ms, the first after "
            f"{1000 * self.first_audio_s:.0f} ms; RTF {self.rtf:.3f}; memory {self.memory_delta_bytes / 1e6:+.1f} MB "
            f"to {self.memory_bytes / 1e6:.0f} MB; GPU {gpu}"
        )


def performance(summary: Summary, before: int, after: int, now: Resources) -> Performance:
    """`before`, `after`: resident bytes of the process that holds the model. `now`: the state of the machine."""
    return Performance(
        latency_s=summary.total_s,
        first_audio_s=summary.first_audio_s,
        queued_s=summary.queued_s,
        audio_s=summary.audio_s,
        rtf=summary.rtf,
        memory_bytes=after,
        memory_delta_bytes=after - before,
        gpu_util=max((gpu.utilisation for gpu in now.gpus), default=None),
    )
