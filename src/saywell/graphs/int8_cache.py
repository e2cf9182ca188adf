"""An int8 KV cache for a transformer's graph."""

from __future__ import annotations

import copy

import onnx
from onnx import TensorProto, helper

_SCALES_FROM = 12
"""Number of inputs of GroupQueryAttention before the scales."""


def with_int8_cache(model: onnx.ModelProto) -> onnx.ModelProto:
    """The same graph with an int8 KV cache; its scales [1, kv head, 1, head_dim] are inputs."""
    model = copy.deepcopy(model)
    for value in (*model.graph.input, *model.graph.output):
        if value.name.startswith(("past.", "present.")):
            value.type.tensor_type.elem_type = TensorProto.INT8
    shapes = {value.name: value.type.tensor_type.shape.dim for value in model.graph.input}
    nodes = [node for node in model.graph.node if node.op_type == "GroupQueryAttention"]
    for layer, node in enumerate(nodes):
        kv, size = (dim.dim_value for dim in shapes[f"past.k.{layer}"][1::2])
        for part in "kv":
            shape = [1, kv, 1, size]
            model.graph.input.append(helper.make_tensor_value_info(f"scale.{part}.{layer}", TensorProto.FLOAT, shape))
            node.attribute.append(helper.make_attribute(f"{part}_quant_type", "PER_CHANNEL"))
        node.attribute.append(helper.make_attribute("kv_cache_bit_width", 8))
        node.input.extend([""] * (_SCALES_FROM - len(node.input)) + [f"scale.k.{layer}", f"scale.v.{layer}"])
    return model
