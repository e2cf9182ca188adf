"""The spec of a converted checkpoint for planning, from its configuration and manifest, without reading weights."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from saywell.errors import BadCheckpoint
from saywell.manifest import Manifest
from saywell.models.chatterbox.config import DEFAULT, FRAME_RATE, RATE, Config
from saywell.models.chatterbox.s3gen import files as s3gen
from saywell.models.chatterbox.t3 import files as t3
from saywell.models.chatterbox.t3.config import T3Config
from saywell.models.chatterbox.t3.cost import bytes_read, position_bytes
from saywell.models.chatterbox.voice.files import GRAPHS
from saywell.models.conversion import read_manifest
from saywell.models.verified import check_sizes
from saywell.plan.plan import Plan
from saywell.types import SAMPLING, ModelSpec, Option, Variant

FORMAT = 1
PRECISIONS = t3.PRECISIONS
_LIBRARIES = 110 << 20
"""Python, NumPy, ONNX Runtime and the tokeniser in one process."""
_DECODING = 400 << 20
"""Activations of the flow and the vocoder for a prompt of ten seconds and a window of four."""
_SLOT = 4 << 20
_TILE = 4
_FIRST_INT8_CACHE = "onnxruntime>=1.25"
"""First release whose attention on a CPU reads an int8 cache."""
GUIDANCE = {
    "cfg_weight": Option(low=0.0, high=2.0, about="how closely the text is followed; lower is slower and calmer"),
    "exaggeration": Option(low=0.0, high=2.0, about="how much emotion; 0.5 is neutral"),
    "min_p": Option(low=0.0, high=1.0, about="tokens less likely than this share of the likeliest are left out"),
}
TOP_K = {"top_k": Option(low=0, high=6562, about="how many of the most likely tokens to sample from; 0: all")}


def facts(name: str, path: Path) -> ModelSpec:
    """Raises BadCheckpoint naming the file."""
    config, sizes, manifest = Config.read(path), t3.read_config(path), read_manifest(path)
    if manifest.format != FORMAT:
        raise BadCheckpoint(
            f"{path} was converted by another version of Saywell (format {manifest.format}, here {FORMAT}); "
            "run `saywell convert` on the published checkpoint again"
        )
    check_sizes(path, manifest)
    runnable = tuple(_variants(sizes, manifest))
    if not runnable:
        raise BadCheckpoint(f"{path} holds no graphs; run `saywell convert` on the published checkpoint again")
    return ModelSpec(
        name=name,
        family="chatterbox",
        kind="autoregressive",
        sample_rate=RATE,
        frame_rate=FRAME_RATE,
        variants=runnable,
        overhead_bytes=_LIBRARIES + _DECODING,
        slot_bytes=_SLOT,
        max_context=sizes.max_seq_len,
        decode_tile=_TILE,
        options={**SAMPLING, **(GUIDANCE if config.guided else TOP_K)},
        # Threads synchronise at every product: next to another busy program one thread is faster than two.
        sheds=("threads",),
        clones=True,
        default_voice=DEFAULT,
        path=path,
    )


def _variants(sizes: T3Config, manifest: Manifest) -> Iterator[Variant]:
    files = {name: entry.bytes for name, entry in manifest.files.items()}
    rows = 2 if sizes.guided else 1
    for precision in PRECISIONS:
        flow: s3gen.Precision = "fp32" if precision == "fp32" else "int8"
        data = (t3.data_file(precision), s3gen.data_file(flow), f"{s3gen.VOCODER}.data")
        weights = sum(files.get(name, 0) for name in data)
        for requires, bits in ((("exact-int8",), 8), ((), 7)) if precision != "fp32" else (((), 8),):
            for cache, releases in (("int8", (_FIRST_INT8_CACHE,)), ("fp32", ())):
                graph = t3.graph_file(precision, cache, bits)
                needed = {graph, s3gen.estimator_file(flow, bits)}
                if needed <= files.keys():
                    yield Variant(
                        executor="onnx",
                        package="onnxruntime",
                        precision=precision,
                        requires=(*requires, *releases),
                        weight_bytes=weights,
                        read_bytes_per_frame=bytes_read(sizes, precision),
                        kv_bytes_per_frame=rows * position_bytes(sizes, cache),
                        options={"kv_cache": cache, "flow": flow, "activation_bits": str(bits)},
                        about="ONNX Runtime: fast on every CPU, and small",
                        why=_why(precision, bits),
                    )


def _why(precision: str, bits: int) -> str:
    if precision == "fp32":
        return "every product in fp32"
    if bits == 8:
        return "this processor adds four 8-bit products at a time, exactly"
    return "7-bit activations, because without VNNI the sum of two 8-bit products overflows 16 bits"


def run_from(directory: Path, plan: Plan) -> list[str]:
    """Files that a model of this plan loads at start: not those of other precisions, nor the encoders of recordings."""
    flow = plan.options["flow"]
    others = {
        *(t3.data_file(each) for each in PRECISIONS if each != plan.precision),
        *(s3gen.data_file(each) for each in s3gen.PRECISIONS if each != flow),
        *encoder_files(),
    }
    return [name for name in read_manifest(directory).files if name not in others]


def encoder_files() -> list[str]:
    return [name for graph in GRAPHS for name in (graph, f"{graph}.data")]
