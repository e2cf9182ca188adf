"""What a measurement cost beside time: memory by kind, and how much of the machine others took meanwhile."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from types import TracebackType

import psutil

_STATUS, _ROLLUP = Path("/proc/self/status"), Path("/proc/self/smaps_rollup")
_EVERY_S = 0.05


def memory() -> dict[str, int]:
    """Megabytes (10⁶ bytes) of this process that are resident now: `rss` and, on Linux, its parts.

    `anonymous`: its own; `file`: pages of mapped files, which the system can drop and read again.
    """
    kinds = {"VmRSS": "rss", "RssAnon": "anonymous", "RssFile": "file", "RssShmem": "shared"}
    if not _STATUS.exists():
        return {"rss": round(psutil.Process().memory_info().rss / 1e6)}
    return {kinds[name]: size for name, size in _sizes(_STATUS) if name in kinds}


def proportional() -> int | None:
    """Megabytes of this process, a page that n processes share counted as 1/n of one. None: not told here. Slow."""
    return dict(_sizes(_ROLLUP)).get("Pss") if _ROLLUP.exists() else None


def _sizes(path: Path) -> list[tuple[str, int]]:
    """Lines like `VmRSS:   1234 kB`, in megabytes."""
    lines = (line.split() for line in path.read_text(encoding="ascii", errors="replace").splitlines())
    return [(line[0].rstrip(":"), round(int(line[1]) * 1024 / 1e6)) for line in lines if line[2:] == ["kB"]]


class Watch:
    """While it is entered: seconds, the most memory, and the share of all CPUs that other processes took."""

    def __enter__(self) -> Watch:
        self.peak = memory()
        self._over = threading.Event()
        self._sampler = threading.Thread(target=self._sample, daemon=True)
        self._sampler.start()
        self._busy, self._own, self._began = *_cpu_s(), time.perf_counter()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.seconds = time.perf_counter() - self._began
        busy, own = _cpu_s()
        others = busy - self._busy - (own - self._own)
        self.others = round(max(0.0, others / self.seconds / (psutil.cpu_count() or 1)), 3)
        self._over.set()
        self._sampler.join()

    def _sample(self) -> None:
        while not self._over.wait(_EVERY_S):
            now = memory()
            if now["rss"] > self.peak["rss"]:
                self.peak = now


def _cpu_s() -> tuple[float, float]:
    """CPU seconds all processes have taken, and this one."""
    whole, own = psutil.cpu_times(), psutil.Process().cpu_times()
    return sum(whole) - whole.idle - getattr(whole, "iowait", 0.0) - getattr(whole, "guest", 0.0), own.user + own.system
