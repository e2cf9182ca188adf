"""ONNX Runtime: ONNX graphs on the CPU, with buffers that the caller owns."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from contextlib import nullcontext
from importlib import import_module, util
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from saywell import RUNTIME_CAME_FIRST
from saywell.errors import MissingDependency, SaywellError
from saywell.runtimes.base import RuntimeSpec, Threading, installed_version, once
from saywell.runtimes.pages import huge_pages, keep_no_large_blocks

if TYPE_CHECKING:
    import onnxruntime

Array = npt.NDArray[Any]

_PROVIDERS = {
    "CPUExecutionProvider": "cpu",
    "CUDAExecutionProvider": "cuda",
    "TensorrtExecutionProvider": "tensorrt",
    "ROCMExecutionProvider": "rocm",
    "MIGraphXExecutionProvider": "rocm",
    "DmlExecutionProvider": "directml",
    "CoreMLExecutionProvider": "coreml",
    "OpenVINOExecutionProvider": "openvino",
    "QNNExecutionProvider": "qnn",
    "XnnpackExecutionProvider": "xnnpack",
}
"""The runtime's name of a provider → kind of device."""


def detect() -> tuple[str, tuple[str, ...]] | None:
    """Import the runtime, which takes about 30 ms: only the build itself knows its providers."""
    if util.find_spec("onnxruntime") is None:
        if installed_version("onnxruntime") is not None:  # pip takes this for installed
            raise ImportError("its files are gone, its metadata is left")
        return None
    ort = import_module("onnxruntime")
    devices = [_PROVIDERS[name] for name in ort.get_available_providers() if name in _PROVIDERS]
    return ort.__version__, tuple(dict.fromkeys(devices))


RUNTIME = RuntimeSpec(
    package="onnxruntime",
    title="ONNX Runtime",
    purpose="every neural voice needs it",
    install="pip install onnxruntime",
    detect=detect,
    out_of_memory=("failed to allocate memory",),
)


@once
def package() -> Any:
    """The package, with its telemetry off. Raises MissingDependency."""
    keep_no_large_blocks()
    try:
        ort = import_module("onnxruntime")
        _ = ort.InferenceSession  # missing from the empty folder that a failed uninstallation leaves
    except (ImportError, AttributeError, OSError) as error:
        raise MissingDependency(
            f"the Python package onnxruntime is missing or damaged ({error}): pip install --force-reinstall onnxruntime"
        ) from error
    if RUNTIME_CAME_FIRST:
        ort.disable_telemetry_events()
        logging.getLogger(__name__).warning(
            "onnxruntime was imported before saywell, so it may have reported this process to its maker already; its "
            "telemetry is now off. Import saywell first, or set ORT_DISABLE_TELEMETRY=1"
        )
    return ort


_DTYPES: dict[str, Any] = {
    "tensor(float)": np.float32,
    "tensor(float16)": np.float16,
    "tensor(double)": np.float64,
    "tensor(int8)": np.int8,
    "tensor(uint8)": np.uint8,
    "tensor(int32)": np.int32,
    "tensor(int64)": np.int64,
    "tensor(bool)": np.bool_,
}


class GraphError(SaywellError):
    """A graph cannot be loaded or run."""

    status, code = 500, "graph_error"


class Graph:
    """A loaded graph. External weight files are in the same directory and are memory-mapped.

    `inputs` and `outputs`: name → element type, in the graph's order. `shapes`: name → dimensions.
    """

    def __init__(
        self,
        model: Path | bytes,
        threading: Threading,
        *,
        name: str = "",
        optimise: bool = True,
        arena: bool = True,
        shrink: bool = False,
    ) -> None:
        """`name`: in messages; by default that of the file. `optimise`: let the runtime rewrite the graph, which takes
        time at load. `arena`: keep the peak memory of runs allocated for later runs; `shrink`: give it back after each
        run, which costs less memory than no arena. Raises GraphError, MissingDependency.
        """
        self.name = name or (model.name if isinstance(model, Path) else "graph")
        ort = package()
        try:
            # A graph given as bytes is small, and other graphs may load at the same time.
            with huge_pages() if isinstance(model, Path) else nullcontext():
                options = _options(threading)
                options.enable_cpu_mem_arena = options.enable_mem_pattern = arena
                if not optimise:
                    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
                given = str(model) if isinstance(model, Path) else model
                self._session = ort.InferenceSession(given, options, ["CPUExecutionProvider"])
        except Exception as error:  # the runtime's exceptions share no other base
            raise GraphError(f"{self.name}: ONNX Runtime {ort.__version__} cannot load this graph: {error}") from error
        self._how = None
        if shrink:
            self._how = ort.RunOptions()
            self._how.add_run_config_entry("memory.enable_memory_arena_shrinkage", "cpu:0")
        self.inputs = {each.name: np.dtype(_DTYPES[each.type]) for each in self._session.get_inputs()}
        self.outputs = {each.name: np.dtype(_DTYPES[each.type]) for each in self._session.get_outputs()}
        ports = (*self._session.get_inputs(), *self._session.get_outputs())
        self.shapes: dict[str, tuple[int | str, ...]] = {each.name: tuple(each.shape) for each in ports}

    def run(self, feeds: Mapping[str, Array]) -> list[Array]:
        """All outputs, in the graph's order, in new arrays. Raises GraphError."""
        try:
            return list(self._session.run(None, dict(feeds), self._how))
        except Exception as error:  # as above
            raise GraphError(f"{self.name}: {error}") from error

    def bind(self, inputs: Mapping[str, Array], outputs: Mapping[str, Array]) -> Binding:
        """Bind names to C-contiguous arrays of the exact type, which every `run` then reads and writes in place.

        One array may be both input and output (a KV cache). Raises ValueError for an unsuitable array.
        """
        return Binding(self, inputs, outputs)


class Binding:
    """A graph with its buffers, which it keeps alive."""

    def __init__(self, graph: Graph, inputs: Mapping[str, Array], outputs: Mapping[str, Array]) -> None:
        self._graph = graph
        self._kept = (dict(inputs), dict(outputs))
        self._binding = graph._session.io_binding()
        for name, array in inputs.items():
            _check(name, array, graph.inputs[name])
            self._binding.bind_input(name, "cpu", 0, array.dtype.type, array.shape, array.ctypes.data)
        for name, array in outputs.items():
            _check(name, array, graph.outputs[name])
            self._binding.bind_output(name, "cpu", 0, array.dtype.type, array.shape, array.ctypes.data)

    def run(self) -> None:
        """Read the inputs, write the outputs. Raises GraphError."""
        try:
            self._graph._session.run_with_iobinding(self._binding)
        except Exception as error:  # as above
            raise GraphError(f"{self._graph.name}: {error}") from error


def _check(name: str, array: Array, dtype: np.dtype[Any]) -> None:
    if array.dtype != dtype or not array.flags.c_contiguous:
        raise ValueError(f"{name} must be a C-contiguous array of {dtype}, not of {array.dtype}")


def _options(threading: Threading) -> onnxruntime.SessionOptions:
    options = package().SessionOptions()
    options.intra_op_num_threads = threading.threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    options.add_session_config_entry("session.intra_op.allow_spinning", "1" if threading.spin else "0")
    # An engine has several graphs with separate thread pools: one must not spin while another runs.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    if threading.affinity and threading.threads > 1:
        options.add_session_config_entry("session.intra_op_thread_affinities", _affinities(threading))
    return options


def _affinities(threading: Threading) -> str:
    """CPUs (counted from 1) of all threads except the calling one, which the engine pins."""
    cpus = threading.affinity
    return ";".join(str(cpus[index % len(cpus)] + 1) for index in range(1, threading.threads))
