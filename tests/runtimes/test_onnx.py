"""ONNX graphs with buffers that the caller owns."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from saywell.runtimes.base import Threading
from saywell.runtimes.onnx import Graph, GraphError
from saywell.runtimes.pages import new_ranges


@pytest.fixture
def scaled_sum(tmp_path: Path) -> Path:
    """total' = total + 3·x; the factor is in an external file."""
    nodes = [helper.make_node("Mul", ["x", "factor"], ["y"]), helper.make_node("Add", ["total", "y"], ["new_total"])]
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n"]) for name in ("x", "total", "new_total")]
    graph = helper.make_graph(nodes, "g", values[:2], values[2:], [numpy_helper.from_array(np.float32([3]), "factor")])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    path = tmp_path / "g.onnx"
    onnx.save_model(model, str(path), save_as_external_data=True, location="g.data", size_threshold=0)
    return path


def test_run_returns_new_arrays(scaled_sum: Path) -> None:
    graph = Graph(scaled_sum, Threading(threads=2))
    x, total = np.float32([1, 2]), np.float32([10, 10])
    np.testing.assert_array_equal(graph.run({"x": x, "total": total})[0], [13, 16])
    np.testing.assert_array_equal(total, [10, 10])
    assert graph.inputs == {"x": np.float32, "total": np.float32}
    assert list(graph.outputs) == ["new_total"]


def test_giving_memory_back_after_each_run_does_not_change_results(scaled_sum: Path) -> None:
    x, total = np.ones(1 << 20, np.float32), np.ones(1 << 20, np.float32)
    graph = Graph(scaled_sum, Threading(), shrink=True)
    found = [graph.run({"x": x, "total": total})[0] for _ in range(3)]
    assert all((each == 4).all() for each in found)


def test_bound_buffers_are_read_and_written_in_place(scaled_sum: Path) -> None:
    x, total = np.ones(4, np.float32), np.zeros((2, 4), np.float32)
    binding = Graph(scaled_sum, Threading()).bind({"x": x, "total": total[1]}, {"new_total": total[1]})
    for _ in range(2):
        binding.run()
    x[:] = 2
    binding.run()
    np.testing.assert_array_equal(total, [[0] * 4, [12] * 4])


@pytest.mark.parametrize("wrong", [np.zeros(4, np.float64), np.zeros((4, 2), np.float32)[:, 0]])
def test_unsuitable_buffer_is_rejected(scaled_sum: Path, wrong: np.ndarray) -> None:
    with pytest.raises(ValueError, match="x must be a C-contiguous array of float32"):
        Graph(scaled_sum, Threading()).bind({"x": wrong, "total": np.zeros(4, np.float32)}, {})


def test_threading_does_not_change_results(scaled_sum: Path) -> None:
    x = np.arange(5, dtype=np.float32)
    for threading in (Threading(), Threading(threads=3, spin=False), Threading(threads=2, affinity=(0,))):
        np.testing.assert_array_equal(Graph(scaled_sum, threading).run({"x": x, "total": x})[0], 4 * x)


def test_zero_threads_are_rejected() -> None:
    with pytest.raises(ValueError, match="threads must be at least 1"):
        Threading(threads=0)


def test_damaged_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "bad.onnx").write_bytes(b"no graph")
    with pytest.raises(GraphError, match=r"bad\.onnx: ONNX Runtime .* cannot load this graph"):
        Graph(tmp_path / "bad.onnx", Threading())


def test_missing_weight_file_is_an_error(scaled_sum: Path) -> None:
    scaled_sum.with_name("g.data").unlink()
    with pytest.raises(GraphError, match=r"g\.onnx"):
        Graph(scaled_sum, Threading())


def test_run_error_names_the_graph(scaled_sum: Path) -> None:
    graph = Graph(scaled_sum, Threading())
    with pytest.raises(GraphError, match=r"g\.onnx"):
        graph.run({"x": np.zeros(3, np.float32), "total": np.zeros(4, np.float32)})
    binding = graph.bind({"x": np.zeros(3, np.float32)}, {"new_total": np.zeros(3, np.float32)})
    with pytest.raises(GraphError, match=r"g\.onnx"):
        binding.run()


def test_new_ranges_exclude_earlier_memory() -> None:
    before = [(10, 20), (30, 40)]
    assert new_ranges(before, before) == []
    assert new_ranges(before, [(5, 25), (30, 50), (60, 70)]) == [(5, 10), (20, 25), (40, 50), (60, 70)]
    assert new_ranges(before, [(0, 100)]) == [(0, 10), (20, 30), (40, 100)]
    assert new_ranges([], [(1, 2)]) == [(1, 2)]
