"""The published graph, rewritten once for this program and kept by its digest; needs the package onnx.

Loaded by name: nothing else imports onnx.
"""

from __future__ import annotations

import onnx
from onnx import TensorProto, helper

from saywell.errors import ModelFailure

VERSION = 1
"""Of the rewriting; another one makes the files again."""
DURATIONS = "durations"
"""Output: frames of each token, int64 [1, tokens]."""


def rewrite(model: onnx.ModelProto) -> onnx.ModelProto:
    """The graph with durations as its second output. Raises ModelFailure for another structure."""
    graph = model.graph
    speed = next((each.name for each in graph.input if each.name == "speed"), None)
    if speed is None:
        raise ModelFailure("this graph has no input named speed, so it is no export of Kokoro")
    if len(graph.output) > 1:
        named = graph.output[1].name
    else:
        named = _durations(graph)
        graph.output.append(helper.make_tensor_value_info(named, TensorProto.INT64, None))
    graph.node.append(helper.make_node("Cast", [named], [DURATIONS], to=TensorProto.INT64))
    del graph.output[1:]
    graph.output.append(helper.make_tensor_value_info(DURATIONS, TensorProto.INT64, None))
    return model


def _durations(graph: onnx.GraphProto) -> str:
    """What the rounded quotient by `speed` becomes: Div → Round → Clip → Cast."""
    readers: dict[str, list[onnx.NodeProto]] = {}
    for node in graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node)
    for node in readers.get("speed", []):
        name = node.output[0]
        for op in ("Round", "Clip", "Cast"):
            after = next((each for each in readers.get(name, []) if each.op_type == op), None)
            if after is None:
                break
            name = after.output[0]
        else:
            return str(name)
    raise ModelFailure("this graph does not divide durations by speed as exports of Kokoro do")
