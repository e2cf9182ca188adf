"""What planning needs to know of a converted checkpoint: read from its configuration and manifest, no weights."""

from __future__ import annotations

from pathlib import Path

from saywell.models.dual_ar.config import DEFAULT, Config
from saywell.models.dual_ar.convert.convert import FORMAT, PRECISIONS, read_manifest
from saywell.models.dual_ar.errors import BadCheckpoint
from saywell.models.dual_ar.onnx.ar_files import (
    CODES_FILE,
    EMBEDDINGS_FILE,
    activation_bits,
    cache_type,
    data_file,
    slow_file,
)
from saywell.models.dual_ar.onnx.codec_files import LATENTS, STACK, STACK_CHANNELS
from saywell.types import ModelSpec

_LIBRARIES = 90 << 20
"""Python, NumPy and ONNX Runtime in one process, measured."""
_TOKENIZER = 30 << 20
"""For the vocabulary of S1-mini, measured."""
_DECODING, _SLOT = 90 << 20, 4 << 20
"""Activations of the codec's tiles and of a prompt's chunk, and what a sequence carries: measured at full size, and as
wide as the codec."""
_FULL_VOCABULARY, _FULL_WIDTH = 155_776, 1536
_KV_BYTES = {"fp32": 4, "int8": 1}
"""Bytes of one element of the KV cache."""


def facts(name: str, path: Path) -> ModelSpec:
    """Raises BadConfig and BadCheckpoint naming the file at fault."""
    config = Config.read(path)
    manifest = read_manifest(path)
    if manifest.format != FORMAT:
        raise BadCheckpoint(
            f"{path} was converted by another version of Saywell (format {manifest.format}, here {FORMAT}); "
            "run `saywell convert` on the published checkpoint again"
        )
    files = {file: entry.bytes for file, entry in manifest.files.items()}
    _check_sizes(path, files)
    precisions = tuple(each for each in PRECISIONS if _has(each, files))
    width = config.codec.decoder_dim / _FULL_WIDTH
    ways = tuple(each for each in _CONVOLUTIONS if _stack_file(each) in files)
    if not precisions:
        raise BadCheckpoint(f"{path} holds no graphs; run `saywell convert` on the published checkpoint again")
    return ModelSpec(
        name=name,
        family="dual_ar",
        kind="autoregressive",
        sample_rate=config.codec.sample_rate,
        frame_rate=config.codec.frame_rate,
        executors=("openvino", "onnx"),
        precisions=precisions,
        weight_bytes={each: _weights(each, files) for each in precisions},
        kv_bytes_per_frame={each: _kv(config, cache_type(each)) for each in precisions},
        kv_bytes_elsewhere={each: _kv(config, "fp32") for each in precisions},
        overhead_bytes=_LIBRARIES + _TOKENIZER * config.vocab_size // _FULL_VOCABULARY + int(_DECODING * width),
        slot_bytes=int(_SLOT * width),
        max_context=config.max_seq_len,
        decode_tile=_TILE,
        convolutions=ways,
        activation_bits=(8, 7),
        speeds=(1.0, 1.0),
        clones=True,
        default_voice=DEFAULT,
        path=path,
    )


_TILE = 4
_CONVOLUTIONS = ("bf16", "int8", "winograd", "fp32")


def _stack_file(way: str) -> str:
    return STACK.get(way, STACK_CHANNELS)


def _has(precision: str, files: dict[str, int]) -> bool:
    cache = cache_type(precision)
    wanted = {data_file(precision)} | {slow_file(precision, cache, bits) for bits in activation_bits(precision)}
    return wanted <= files.keys()


def _weights(precision: str, files: dict[str, int]) -> int:
    """Graph data that becomes resident. The embedding tables stay on disk, but for the rows in use."""
    latents, way = ("fp32", "fp32") if precision == "fp32" else ("int8", "winograd")  # the largest that is chosen
    wanted = (data_file(precision), f"{LATENTS[latents]}.data", f"{STACK[way]}.data")
    rows = files.get(EMBEDDINGS_FILE, 0) // 50 + files.get(CODES_FILE, 0)
    return sum(size for file, size in files.items() if file in wanted) + rows


def _kv(config: Config, cache: str) -> int:
    return 2 * config.n_layer * config.n_local_heads * config.head_dim * _KV_BYTES[cache]


def _check_sizes(path: Path, files: dict[str, int]) -> None:
    """A cut-off or replaced file is found before it is mapped; `saywell convert` checks digests as well."""
    for file, size in files.items():
        place = path / file
        if Path(file).name != file or not place.is_file() or place.stat().st_size != size:
            raise BadCheckpoint(f"{place} is missing or not as long as it was when it was written; convert again")
