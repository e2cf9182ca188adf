"""Descriptions of the graphs, to detect changes. `python tests/dual_ar_graphs.py` writes the golden file."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from benchmarks import random_checkpoint
from dual_ar_rig import RELATIVE
from paths import TESTS
from saywell.graphs.linears import Judge
from saywell.graphs.numerics import Shapes
from saywell.models.dual_ar.config import Config
from saywell.models.dual_ar.graphs import ar, build, codec
from saywell.models.dual_ar.layout import codec_tensors, model_tensors

KNOWN = TESTS / "models" / "dual_ar" / "graphs.json"
SIZES: dict[str, dict[str, Any]] = {"s1-mini": {}, "s2-pro": RELATIVE}


def weights(shapes: Shapes) -> dict[str, np.ndarray]:
    """The same on every machine: independent of the rounding of libraries."""
    random = np.random.default_rng(0)
    return {name: random.integers(1, 64, shape).astype(np.float32) / 64 for name, shape in shapes.items()}


def written() -> dict[str, dict[str, Any]]:
    """File → its description: exact structure, and approximate numbers, because libraries round differently."""
    found = {}
    with TemporaryDirectory() as folder:
        for size, differs in SIZES.items():
            out = Path(folder) / size
            out.mkdir()
            config = Config.parse({**random_checkpoint.TINY, **differs}, random_checkpoint.TINY_CODEC)
            model, ids = weights(model_tensors(config)), {"semantic_begin_id": 400, "im_end_id": 399}
            ar.build_tables(model, out, **ids)
            for precision in ar.PRECISIONS:
                ar.build(config, model, out, precision, judge=Judge({}), **ids)
            found.update({f"{size}/{path.name}": described(path) for path in sorted(out.glob("*.[!d]*"))})
        out, tensors = Path(folder), weights(codec_tensors(random_checkpoint.TINY_CODEC))
        codec.write_decoder(tensors, random_checkpoint.TINY_CODEC, out)
        codec.write_encoder(tensors, random_checkpoint.TINY_CODEC, out)
        found.update({path.name: described(path) for path in sorted(out.glob("*.onnx"))})
    return found


def described(path: Path) -> dict[str, Any]:
    if path.suffix != ".onnx":
        content = path.read_bytes()
        return {"structure": hashlib.sha256(content).hexdigest()[:16], "numbers": []}
    model = onnx.load(path)
    structure = [model.ir_version, [(each.domain, each.version) for each in model.opset_import], shape(model.graph)]
    constants = [numpy_helper.to_array(each) for each in model.graph.initializer]
    digest = hashlib.sha256(json.dumps(structure, default=str).encode()).hexdigest()[:16]
    return {"structure": digest, "numbers": [moment(each) for each in constants]}


def shape(graph: onnx.GraphProto) -> list[Any]:
    """Nodes, ports and types of constants, including subgraphs."""
    ports = [
        (
            each.name,
            each.type.tensor_type.elem_type,
            [d.dim_param or d.dim_value for d in each.type.tensor_type.shape.dim],
        )
        for each in (*graph.input, *graph.output)
    ]
    # Names of some constants contain their values, which may differ in the last bit.
    names = {each.name: f"#{number}" for number, each in enumerate(graph.initializer)}
    nodes = []
    for node in graph.node:
        attributes = [(each.name, attribute(each)) for each in sorted(node.attribute, key=lambda each: each.name)]
        inputs = [names.get(each, "" if each.startswith("const.") and "." in each[6:] else each) for each in node.input]
        nodes.append([node.domain, node.op_type, inputs, list(node.output), attributes])
    return [nodes, ports, [(each.data_type, list(each.dims)) for each in graph.initializer]]


def attribute(given: onnx.AttributeProto) -> Any:
    value = helper.get_attribute_value(given)
    return shape(value) if isinstance(value, onnx.GraphProto) else value


def moment(array: np.ndarray) -> float:
    """One number that depends on the values and their order."""
    values = array.astype(np.float64).reshape(-1)
    values = np.clip(values, -1e12, 1e12)  # "to the end" is a very large number
    shifted = np.abs(values + np.abs(values).max(initial=0) / 3)
    return float(f"{np.sum(shifted * (1 + np.arange(len(values)) * 0.6180339887 % 1)) / max(1, len(values)):.6g}")


def alike(known: dict[str, Any] | None, found: dict[str, Any] | None) -> bool:
    if known is None or found is None or known["structure"] != found["structure"]:
        return False
    return len(known["numbers"]) == len(found["numbers"]) and np.allclose(known["numbers"], found["numbers"], rtol=1e-4)


if __name__ == "__main__":
    content = {"version": build.VERSION, "graphs": written()}
    KNOWN.write_text(json.dumps(content) + "\n", encoding="utf-8")
