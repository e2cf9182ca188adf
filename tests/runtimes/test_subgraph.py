"""Graphs are cut without the onnx package, which here verifies the parts."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from saywell.runtimes.base import Threading
from saywell.runtimes.onnx import Graph
from saywell.runtimes.subgraph import Model

LONG = "a_tensor_whose_name_is_no_longer_than_a_byte_can_tell" * 2


def whole() -> bytes:
    """y = (x + 1) × 2, z = x − 1."""
    value = helper.make_tensor_value_info
    nodes = [
        helper.make_node("Add", ["x", "one"], [LONG], name="front/Add"),
        helper.make_node("Mul", [LONG, "two"], ["y"], name="back/Mul"),
        helper.make_node("Sub", ["x", "one"], ["z"], name="other/Sub"),
    ]
    tensors = [numpy_helper.from_array(np.array([n], np.float32), name) for n, name in ((1, "one"), (2, "two"))]
    graph = helper.make_graph(
        nodes,
        "whole",
        [value("x", TensorProto.FLOAT, ["n"])],
        [value("y", TensorProto.FLOAT, ["n"]), value("z", TensorProto.FLOAT, ["n"])],
        tensors,
        value_info=[value(LONG, TensorProto.FLOAT, ["n"])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return model.SerializeToString()


def run(model: bytes, **feeds: np.ndarray) -> list[np.ndarray]:
    onnx.checker.check_model(onnx.load_from_string(model), full_check=True)
    return Graph(model, Threading(spin=False)).run(feeds)


def test_parts_compute_the_same_as_the_whole() -> None:
    model, x = Model(whole()), np.arange(4, dtype=np.float32)
    (inner,) = run(model.cut(("x",), (LONG,)), x=x)
    (y,) = run(model.cut((LONG,), ("y",)), **{LONG: inner})
    np.testing.assert_array_equal(y, run(whole(), x=x)[0])


def test_part_contains_only_what_it_needs() -> None:
    part = onnx.load_from_string(Model(whole()).cut((LONG,), ("y",)))
    assert [node.op_type for node in part.graph.node] == ["Mul"]
    assert [tensor.name for tensor in part.graph.initializer] == ["two"]
    assert part.opset_import[0].version == 17


def test_nodes_are_found_by_inputs_and_outputs() -> None:
    model = Model(whole())
    assert model.producer("y").name == "back/Mul"
    assert model.consumer("x", "Sub").outputs == ("z",)
    with pytest.raises(ValueError, match="0 nodes"):
        model.consumer("x", "Div")


def test_cut_with_missing_inputs_is_rejected() -> None:
    with pytest.raises(ValueError, match="neither computed by this graph nor one"):
        Model(whole()).cut((LONG,), ("z",))
    with pytest.raises(ValueError, match="declare the type"):
        Model(whole()).cut(("x", "one"), ("z",))


@pytest.mark.parametrize("data", [b"", b"\x00\x01\x02", b"no model at all", whole()[:-9]])
def test_bytes_that_are_not_a_model_are_rejected(data: bytes) -> None:
    with pytest.raises(ValueError, match=r"file|field"):
        Model(data)


def test_parts_of_the_default_voice_equal_the_whole() -> None:
    """F0 may be rounded differently because other operators are fused."""
    from saywell.models.hibari import package

    data = package.read("assets/hibari.onnx")
    model = Model(data)
    inner = next(node.inputs[0] for node in model.nodes if node.name == "/dec_in/Conv")
    feeds = {"ids": np.array([[0, 50, 83, 54, 156, 31, 4, 0]]), "speed": np.ones(1, np.float32)}
    one = Threading(spin=False)
    cut, f0 = Graph(model.cut(feeds, (inner, "f0")), one, optimise=False).run(feeds)
    spectra = ("lh", "theta", "ln", "lr", "phi")
    parts = Graph(model.cut((inner,), spectra), one, optimise=False).run({inner: cut})
    whole_ = Graph(data, one, optimise=False).run(feeds)
    for part, same in zip(parts, whole_[:-1], strict=True):
        np.testing.assert_array_equal(part, same)
    np.testing.assert_allclose(f0, whole_[-1], rtol=1e-5, atol=1e-3)
