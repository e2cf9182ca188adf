"""The published graph, rewritten once for this program and kept; needs the package onnx.

Loaded by name: nothing else imports onnx.
"""

from __future__ import annotations

import logging
from pathlib import Path

import onnx
from onnx import TensorProto, helper

from saywell.errors import ModelFailure
from saywell.files import replacing
from saywell.models.kokoro.rewriting.decoder import recognise, rewrite_encoder, rewrite_in_channels
from saywell.models.kokoro.rewriting.decoder import rewrite as rewrite_decoder
from saywell.models.kokoro.rewriting.reading import DURATIONS, split

_log = logging.getLogger(__name__)

ENCODER, DECODER, WHOLE = "encoder.onnx", "decoder.onnx", "whole.onnx"
FRONT, MIDDLE, TAIL = "front.onnx", "middle.onnx", "tail.onnx"
"""The decoder for OpenVINO."""


def rewrite(graph: Path, out: Path, executor: str = "onnx") -> None:
    """Write the parts of a published graph, rewritten, or the whole one if its structure is not the known one.

    Raises ModelFailure for a graph of another model, OSError.
    """
    try:
        model = onnx.load(str(graph))
    except Exception as error:  # protobuf's errors share no base
        raise ModelFailure(f"{graph} is not an ONNX graph: {error}") from error
    try:
        if not any(node.op_type == "ConvInteger" for node in model.graph.node):
            raise ValueError("its convolutions are not in 8 bits, and rewriting would round them")
        parts = split(model)
        known, made = recognise(parts.decoder), {ENCODER: rewrite_encoder(parts.encoder)}
        if executor == "openvino":
            made |= zip((FRONT, MIDDLE, TAIL), rewrite_in_channels(known), strict=True)
        else:
            made[DECODER] = rewrite_decoder(known)
    except ValueError as reason:
        made = {WHOLE: with_durations(model)}
        _log.warning("%s runs as it is, slower than the published int8 graph: %s", graph.name, reason)
    for name in {ENCODER, DECODER, WHOLE, FRONT, MIDDLE, TAIL} - made.keys():
        (out / name).unlink(missing_ok=True)  # of an earlier version
    for name, part in made.items():
        with replacing(out / name) as file:
            file.write(part.SerializeToString())


def with_durations(model: onnx.ModelProto) -> onnx.ModelProto:
    """The graph with durations as its second output. Raises ModelFailure for another structure."""
    graph = model.graph
    if "speed" not in {each.name for each in graph.input}:
        raise ModelFailure("this graph has no input named speed, so it is no export of Kokoro")
    named = graph.output[1].name if len(graph.output) > 1 else _durations(graph)
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
