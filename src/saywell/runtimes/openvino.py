"""Graphs on OpenVINO (optional extra), in bf16 where the processor multiplies it natively, or in fp32."""

from __future__ import annotations

import ctypes
import logging
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from saywell.runtimes.base import Threading
from saywell.runtimes.onnx import GraphError

_log = logging.getLogger(__name__)
_TELEMETRY = "openvino_telemetry"


@contextmanager
def _untold() -> Iterator[None]:
    """While OpenVINO is imported, its telemetry package cannot be: else it tells its maker of each process, and leaves
    files about it. Without the package OpenVINO takes a stand-in that does nothing."""
    if _TELEMETRY in sys.modules:
        first = sys.modules[_TELEMETRY]
        _log.warning(
            "OpenVINO was imported before Saywell, so its telemetry had begun; it sends no more. Import saywell first"
        )
        first.Telemetry().consent = False
        yield
        return
    sys.modules[_TELEMETRY] = None  # type: ignore[assignment]  # how Python is told that there is no such module
    try:
        yield
    finally:
        del sys.modules[_TELEMETRY]


with _untold():
    import openvino as ov

Array = npt.NDArray[Any]
_MADV_PAGEOUT = 21


class Graph:
    """One loaded graph; as `runtimes.onnx.Graph`, which says what the names mean."""

    def __init__(self, path: Path, threading: Threading, *, bf16: bool) -> None:
        """Raises GraphError naming the file."""
        overrides = {
            "INFERENCE_PRECISION_HINT": "bf16" if bf16 else "f32",
            "INFERENCE_NUM_THREADS": threading.threads,
            "PERFORMANCE_HINT": "LATENCY",
            "ENABLE_CPU_PINNING": False,
        }
        try:
            core = ov.Core()
            model = core.read_model(path)
            # Compiling moves operators about and adds names: the file's own are read before.
            names = [[port.get_any_name() for port in ports] for ports in (model.inputs, model.outputs)]
            compiled = core.compile_model(model, "CPU", overrides)
        except RuntimeError as error:
            raise GraphError(f"{path}: OpenVINO {ov.__version__} cannot load this graph: {error}") from error
        self.path = path
        _page_out(path)
        self._request = compiled.create_infer_request()
        named_in = dict(zip(names[0], compiled.inputs, strict=True))
        named_out = dict(zip(names[1], compiled.outputs, strict=True))
        self.inputs = {name: np.dtype(port.get_element_type().to_dtype()) for name, port in named_in.items()}
        self.outputs = {name: np.dtype(port.get_element_type().to_dtype()) for name, port in named_out.items()}
        self.shapes = {name: tuple(port.get_shape()) for name, port in (*named_in.items(), *named_out.items())}

    def run(self, feeds: Mapping[str, Array]) -> list[Array]:
        """Every output, in the graph's order, in new arrays. Raises GraphError."""
        try:
            found = self._request.infer(dict(feeds), share_inputs=True)
        except RuntimeError as error:
            raise GraphError(f"{self.path.name}: {error}") from error
        return [np.array(each) for each in found.to_tuple()]


def _page_out(path: Path) -> None:
    """Let the pages of the weight file go: the runtime keeps it mapped although it works on a copy of its own."""
    maps = Path("/proc/self/maps")
    if not maps.exists():
        return
    advise = ctypes.CDLL(None, use_errno=True).madvise
    for line in maps.read_text(encoding="utf-8").splitlines():
        fields = line.split(maxsplit=5)
        if len(fields) == 6 and fields[5] == f"{path.resolve()}.data":
            first, last = (int(each, 16) for each in fields[0].split("-"))
            # Only advice: a kernel that does not know it leaves the pages where they are.
            advise(ctypes.c_void_p(first), ctypes.c_size_t(last - first), _MADV_PAGEOUT)
