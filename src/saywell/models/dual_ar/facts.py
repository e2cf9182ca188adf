"""The spec of a converted checkpoint for planning, from its configuration and manifest, without reading weights."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from saywell.errors import BadCheckpoint
from saywell.models.conversion import read_manifest
from saywell.models.dual_ar.config import DEFAULT, Config
from saywell.models.dual_ar.convert.convert import CODEC, FORMAT, MODEL, PRECISIONS
from saywell.models.dual_ar.cost import bytes_read
from saywell.models.dual_ar.onnx.ar_files import (
    CODES_FILE,
    EMBEDDINGS_FILE,
    FIRST_INT8_CACHE,
    data_file,
    slow_file,
)
from saywell.models.dual_ar.onnx.codec_files import DECODER, DECODER_CHANNELS, ENCODER, QUANTIZER
from saywell.models.verified import check_sizes
from saywell.types import SAMPLING, ModelSpec, Variant

# Bytes measured with S1-mini, whose vocabulary and width are these.
_FULL_VOCABULARY, _FULL_WIDTH = 155_776, 1536
_LIBRARIES = 90 << 20
"""Python, NumPy and ONNX Runtime in one process."""
_TOKENIZER = 30 << 20
"""Proportional to the vocabulary."""
_DECODING, _SLOT = 90 << 20, 4 << 20
"""Activations of the codec's tiles and of a prompt's chunk; state of a sequence. Proportional to the codec's width."""
_TILE = 4
_KV_BYTES = {"fp32": 4, "int8": 1}
"""Bytes of one element of the KV cache."""


def facts(name: str, path: Path) -> ModelSpec:
    """Raises BadConfig and BadCheckpoint naming the file."""
    config = Config.read(path)
    manifest = read_manifest(path)
    if manifest.format != FORMAT:
        raise BadCheckpoint(
            f"{path} was converted by another version of Saywell (format {manifest.format}, here {FORMAT}); "
            "run `saywell convert` on the published checkpoint again"
        )
    files = {file: entry.bytes for file, entry in manifest.files.items()}
    check_sizes(path, manifest)
    elements = 2 * config.n_layer * config.n_local_heads * config.head_dim
    kv_bytes = {cache: elements * size for cache, size in _KV_BYTES.items()}
    runnable = tuple(
        variant
        for precision in PRECISIONS
        for variant in variants(
            precision,
            _weights(precision, files),
            kv_bytes,
            lambda names: names <= files.keys(),
            bytes_read(config, precision),
        )
    )
    if not runnable:
        raise BadCheckpoint(f"{path} holds no graphs; run `saywell convert` on the published checkpoint again")
    width = config.codec.decoder_dim / _FULL_WIDTH
    return ModelSpec(
        name=name,
        family="dual_ar",
        kind="autoregressive",
        sample_rate=config.codec.sample_rate,
        frame_rate=config.codec.frame_rate,
        variants=runnable,
        overhead_bytes=_LIBRARIES + _TOKENIZER * config.vocab_size // _FULL_VOCABULARY + int(_DECODING * width),
        slot_bytes=int(_SLOT * width),
        max_context=config.max_seq_len,
        decode_tile=_TILE,
        options=SAMPLING,
        # Threads synchronise at every product: next to another busy program one thread is faster than two.
        sheds=("threads",),
        clones=True,
        default_voice=DEFAULT,
        path=path,
    )


def run_from(directory: Path, precision: str) -> list[str]:
    """Files that a model of this precision loads at start, without the encoder, which is loaded on demand."""
    others = {data_file(each) for each in PRECISIONS if each != precision}
    unused = {MODEL, CODEC, *others, *encoder_files()}
    return [name for name in read_manifest(directory).files if name not in unused]


def encoder_files() -> list[str]:
    return [ENCODER, f"{ENCODER}.data"]


_ABOUT = {
    "openvino": "convolutions by OpenVINO, which makes fewer passes over memory; the rest by ONNX Runtime",
    "onnx": "ONNX Runtime: fast on every CPU, and small",
}
_PACKAGE = {"onnx": "onnxruntime", "openvino": "openvino"}
_FEWER = "Winograd convolutions in fp32, in half the time of plain ones"
_INEXACT = "7-bit activations, because without VNNI the sum of two 8-bit products overflows 16 bits"
_IMPLEMENTATIONS: tuple[tuple[str, tuple[str, ...], str, int, str], ...] = (
    ("openvino", ("fast-bf16",), "bf16", 8, "this processor multiplies bf16, twice as fast as int8"),
    ("onnx", ("exact-int8",), "int8", 8, "this processor adds four 8-bit products at a time, exactly"),
    ("openvino", ("exact-int8",), "winograd", 8, _FEWER),
    ("openvino", (), "winograd", 7, f"{_FEWER}; {_INEXACT}"),
    ("onnx", (), "winograd", 7, f"{_FEWER}; {_INEXACT}"),
)
"""Best first: executor, required traits of the machine, `ConvImpl`, bits of the activations that int8 weights are
multiplied with, reason."""
_CACHES: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("int8", (f"onnxruntime>={'.'.join(map(str, FIRST_INT8_CACHE))}",)),
    ("fp32", ()),
)
"""Best first: element type of the KV cache, and the release that it requires."""


def variants(
    precision: str,
    weight_bytes: int,
    kv_bytes: Mapping[str, int],
    has_files: Callable[[set[str]], bool],
    read_bytes: int = 0,
) -> Iterator[Variant]:
    """The variants of a precision. `kv_bytes`: of a frame, by element type of the cache. `has_files`: whether the model
    has files of these names."""
    exact = precision == "fp32"
    for executor, requires, quantised, bits, why in _IMPLEMENTATIONS:
        conv_impl = "fp32" if exact else quantised
        for cache, releases in _CACHES[-1:] if exact else _CACHES:
            options = {"convolutions": conv_impl, "kv_cache": cache}
            if precision == "int8":
                options["activation_bits"] = str(bits)
            decoder = DECODER.get(conv_impl, DECODER_CHANNELS)
            if has_files({data_file(precision), decoder, slow_file(precision, cache, bits)}):
                yield Variant(
                    executor=executor,
                    package=_PACKAGE[executor],
                    precision=precision,
                    requires=(*requires, *releases),
                    weight_bytes=weight_bytes,
                    read_bytes_per_frame=read_bytes,
                    kv_bytes_per_frame=kv_bytes[cache],
                    options=options,
                    about=_ABOUT[executor],
                    why="every product in fp32" if exact else why,
                )


def _weights(precision: str, files: dict[str, int]) -> int:
    """Resident bytes: graph data, and the rows of the embedding tables in use; the rest of those stays on disk."""
    quantizer, decoder = ("fp32", "fp32") if precision == "fp32" else ("int8", "winograd")  # winograd: the largest
    data = (data_file(precision), f"{QUANTIZER[quantizer]}.data", f"{DECODER[decoder]}.data")
    rows = files.get(EMBEDDINGS_FILE, 0) // 50 + files.get(CODES_FILE, 0)
    return sum(files.get(file, 0) for file in data) + rows
