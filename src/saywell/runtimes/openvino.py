"""OpenVINO (optional extra): graphs in bf16 where the processor multiplies it natively, or in fp32."""

from __future__ import annotations

import ctypes
import logging
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from queue import SimpleQueue
from threading import Lock
from typing import Any

import numpy as np
import numpy.typing as npt

from saywell.errors import MissingDependency
from saywell.runtimes.base import RuntimeSpec, Threading, installed_version, once
from saywell.runtimes.onnx import GraphError

_log = logging.getLogger(__name__)
_TELEMETRY = "openvino_telemetry"


def detect() -> tuple[str, tuple[str, ...]] | None:
    version = installed_version("openvino")
    return None if version is None else (version, ("cpu",))


RUNTIME = RuntimeSpec(
    package="openvino",
    title="OpenVINO",
    purpose="DualAR models decode faster here with it",
    install="pip install 'saywell[openvino]'",
    detect=detect,
    useful=lambda traits: "exact-int8" not in traits or "fast-bf16" in traits,
)


@contextmanager
def _without_telemetry() -> Iterator[None]:
    """Hide OpenVINO's telemetry package while OpenVINO is imported: it would report each process to its maker and
    write files. Without the package OpenVINO uses a stub that does nothing."""
    if _TELEMETRY in sys.modules:
        _log.warning(
            "OpenVINO was imported before Saywell, so its telemetry had started; it is now off. Import saywell first"
        )
        sys.modules[_TELEMETRY].Telemetry().consent = False
        yield
        return
    sys.modules[_TELEMETRY] = None  # type: ignore[assignment]  # makes an import raise ModuleNotFoundError
    try:
        yield
    finally:
        del sys.modules[_TELEMETRY]


@once
def package() -> Any:
    """The package, with its telemetry off. Raises MissingDependency."""
    try:
        with _without_telemetry():
            return import_module("openvino")
    except ImportError as error:
        raise MissingDependency(
            f"the executor openvino needs {error.name}, which is not installed: pip install 'saywell[openvino]'"
        ) from error


Array = npt.NDArray[Any]
_MADV_PAGEOUT = 21


class Graph:
    """A loaded graph, with the attributes of `runtimes.onnx.Graph`."""

    def __init__(
        self, path: Path, threading: Threading, *, bf16: bool, streams: int = 1, cache: Path | None = None
    ) -> None:
        """`streams`: runs at the same time, which divide the threads. `cache`: a folder that keeps what compiling made;
        such a graph gives its working memory back when no run is left.

        Raises GraphError naming the file, MissingDependency.
        """
        overrides = {
            "INFERENCE_PRECISION_HINT": "bf16" if bf16 else "f32",
            "INFERENCE_NUM_THREADS": threading.threads,
            "NUM_STREAMS": streams,
            "ENABLE_CPU_PINNING": False,
            **({} if cache is None else {"CACHE_DIR": str(cache)}),
        }
        ov = package()
        try:
            core = ov.Core()
            if cache is None:
                model = core.read_model(path)
                # Compiling rearranges operators and adds names: read those of the file first.
                names = [[port.get_any_name() for port in ports] for ports in (model.inputs, model.outputs)]
                compiled = core.compile_model(model, "CPU", overrides)
            else:  # without reading what the cache holds
                compiled = core.compile_model(path, "CPU", overrides)
                names = [[port.get_any_name() for port in ports] for ports in (compiled.inputs, compiled.outputs)]
        except RuntimeError as error:
            raise GraphError(f"{path}: OpenVINO {ov.__version__} cannot load this graph: {error}") from error
        self.path = path
        _page_out(path)
        self._compiled = compiled if cache is not None else None
        self._running, self._lock = 0, Lock()
        self._requests: SimpleQueue[Any] = SimpleQueue()
        for _ in range(streams):
            self._requests.put(compiled.create_infer_request())
        named_in = dict(zip(names[0], compiled.inputs, strict=True))
        named_out = dict(zip(names[1], compiled.outputs, strict=True))
        self.inputs = {name: np.dtype(port.get_element_type().to_dtype()) for name, port in named_in.items()}
        self.outputs = {name: np.dtype(port.get_element_type().to_dtype()) for name, port in named_out.items()}
        self.shapes = {name: _dimensions(port) for name, port in (*named_in.items(), *named_out.items())}

    def run(self, feeds: Mapping[str, Array]) -> list[Array]:
        """All outputs, in the graph's order, in new arrays. Threads may share it. Raises GraphError."""
        request = self._requests.get()
        with self._lock:
            self._running += 1
        try:
            found = request.infer(dict(feeds), share_inputs=True)
            return [np.array(each) for each in found.to_tuple()]
        except RuntimeError as error:
            raise GraphError(f"{self.path.name}: {error}") from error
        finally:
            self._requests.put(request)
            self._finished()

    def _finished(self) -> None:
        with self._lock:  # OpenVINO releases nothing while a run is left
            self._running -= 1
            if self._compiled is not None and not self._running:
                self._compiled.release_memory()


def _dimensions(port: Any) -> tuple[int, ...]:
    """-1: any."""
    return tuple(each.get_length() if each.is_static else -1 for each in port.get_partial_shape())


def _page_out(path: Path) -> None:
    """Release the pages of the weight file: the runtime keeps it mapped but works on a copy."""
    maps = Path("/proc/self/maps")
    if not maps.exists():
        return
    advise = ctypes.CDLL(None, use_errno=True).madvise
    for line in maps.read_text(encoding="utf-8").splitlines():
        fields = line.split(maxsplit=5)
        if len(fields) == 6 and fields[5] == f"{path.resolve()}.data":
            first, last = (int(each, 16) for each in fields[0].split("-"))
            # A hint: a kernel that does not support it leaves the pages in memory.
            advise(ctypes.c_void_p(first), ctypes.c_size_t(last - first), _MADV_PAGEOUT)
