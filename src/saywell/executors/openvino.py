"""Graphs on OpenVINO (optional extra): bf16 where the processor multiplies it natively, fp32 elsewhere."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import openvino as ov

from saywell.executors.base import Threading
from saywell.executors.onnx import GraphError

Array = npt.NDArray[Any]


def native_bf16() -> bool:
    """Whether this processor has bf16 arithmetic that OpenVINO uses."""
    return "BF16" in ov.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")


class Graph:
    """One loaded graph; as `executors.onnx.Graph`, which says what the names mean."""

    def __init__(self, path: Path, threading: Threading, *, bf16: bool) -> None:
        """Raises GraphError naming the file."""
        wishes = {
            "INFERENCE_PRECISION_HINT": "bf16" if bf16 else "f32",
            "INFERENCE_NUM_THREADS": threading.threads,
            "PERFORMANCE_HINT": "LATENCY",
            "ENABLE_CPU_PINNING": False,
        }
        try:
            core = ov.Core()
            compiled = core.compile_model(core.read_model(path), "CPU", wishes)
        except RuntimeError as error:
            raise GraphError(f"{path}: OpenVINO {ov.__version__} cannot load this graph: {error}") from error
        self.path = path
        self._request = compiled.create_infer_request()
        self.inputs = {each.get_any_name(): np.dtype(each.get_element_type().to_dtype()) for each in compiled.inputs}
        self.outputs = {each.get_any_name(): np.dtype(each.get_element_type().to_dtype()) for each in compiled.outputs}
        self.shapes = {each.get_any_name(): tuple(each.get_shape()) for each in (*compiled.inputs, *compiled.outputs)}

    def run(self, feeds: Mapping[str, Array]) -> list[Array]:
        """Every output, in the graph's order, in new arrays. Raises GraphError."""
        try:
            found = self._request.infer(dict(feeds), share_inputs=True)
        except RuntimeError as error:
            raise GraphError(f"{self.path.name}: {error}") from error
        return [np.array(each) for each in found.to_tuple()]
