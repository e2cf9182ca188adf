"""Builds the two graphs of the tiny family from seeded random weights."""

from __future__ import annotations

import numpy as np
from onnx import TensorProto, checker, helper, numpy_helper

HIDDEN = 32
TOKENS = 64
BYTES = 256
SAMPLES = 640
"""Samples of one frame."""


def build(seed: int = 7) -> tuple[bytes, bytes]:
    """Step: hidden [slots, HIDDEN], token [slots] → hidden, logits [slots, TOKENS].
    Decoder: token [1], before [1, HIDDEN] → samples [SAMPLES], before."""
    draw = np.random.default_rng(seed)

    def weight(name: str, *shape: int, gain: float = 1.0) -> object:
        array = draw.standard_normal(shape).astype(np.float32) * gain / np.sqrt(shape[0])
        return numpy_helper.from_array(array.astype(np.float32), name)

    embed = weight("embed", TOKENS + BYTES, HIDDEN, gain=18.0)
    step = _model(
        [
            helper.make_node("Gather", ["embed", "token"], ["given"]),
            helper.make_node("MatMul", ["hidden", "recur"], ["kept"]),
            helper.make_node("Add", ["given", "kept"], ["sum"]),
            helper.make_node("Tanh", ["sum"], ["hidden_out"]),
            helper.make_node("MatMul", ["hidden_out", "head"], ["logits"]),
        ],
        [_tensor("hidden", "slots", HIDDEN), _ints("token", "slots")],
        [_tensor("hidden_out", "slots", HIDDEN), _tensor("logits", "slots", TOKENS)],
        [embed, weight("recur", HIDDEN, HIDDEN, gain=1.4), weight("head", HIDDEN, TOKENS, gain=4.0)],
    )
    decode = _model(
        [
            helper.make_node("Gather", ["embed", "token"], ["now"]),
            helper.make_node("Concat", ["before", "now"], ["both"], axis=1),
            helper.make_node("MatMul", ["both", "out"], ["wave"]),
            helper.make_node("Tanh", ["wave"], ["loud"]),
            helper.make_node("Mul", ["loud", "gain"], ["row"]),
            helper.make_node("Reshape", ["row", "flat"], ["samples"]),
            helper.make_node("Identity", ["now"], ["before_out"]),
        ],
        [_ints("token", 1), _tensor("before", 1, HIDDEN)],
        [_tensor("samples", SAMPLES), _tensor("before_out", 1, HIDDEN)],
        [
            embed,
            weight("out", 2 * HIDDEN, SAMPLES, gain=0.5),
            numpy_helper.from_array(np.float32(0.4), "gain"),
            numpy_helper.from_array(np.array([-1]), "flat"),
        ],
    )
    return step, decode


def _tensor(name: str, *shape: int | str) -> object:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)


def _ints(name: str, *shape: int | str) -> object:
    return helper.make_tensor_value_info(name, TensorProto.INT64, shape)


def _model(nodes: list, inputs: list, outputs: list, weights: list) -> bytes:
    graph = helper.make_graph(nodes, "tiny", inputs, outputs, initializer=weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    checker.check_model(model)
    return model.SerializeToString()
