"""What planning needs to know of a converted checkpoint: read from its configuration and manifest, no weights."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from saywell.models.dual_ar.config import DEFAULT, Config
from saywell.models.dual_ar.convert.convert import FORMAT, PRECISIONS, read_manifest
from saywell.models.dual_ar.cost import bytes_read
from saywell.models.dual_ar.errors import BadCheckpoint
from saywell.models.dual_ar.onnx.ar_files import (
    CODES_FILE,
    EMBEDDINGS_FILE,
    FIRST_INT8_CACHE,
    data_file,
    slow_file,
)
from saywell.models.dual_ar.onnx.codec_files import LATENTS, STACK, STACK_CHANNELS
from saywell.types import SAMPLING, ModelSpec, Variant

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
    kv_bytes = {cache: _kv(config, cache) for cache, _ in _CACHES}
    ways = tuple(
        variant
        for precision in PRECISIONS
        for variant in variants(
            precision,
            _weights(precision, files),
            kv_bytes,
            lambda wanted: wanted <= files.keys(),
            bytes_read(config, precision),
        )
    )
    width = config.codec.decoder_dim / _FULL_WIDTH
    if not ways:
        raise BadCheckpoint(f"{path} holds no graphs; run `saywell convert` on the published checkpoint again")
    return ModelSpec(
        name=name,
        family="dual_ar",
        kind="autoregressive",
        sample_rate=config.codec.sample_rate,
        frame_rate=config.codec.frame_rate,
        variants=ways,
        overhead_bytes=_LIBRARIES + _TOKENIZER * config.vocab_size // _FULL_VOCABULARY + int(_DECODING * width),
        slot_bytes=int(_SLOT * width),
        max_context=config.max_seq_len,
        decode_tile=_TILE,
        options=SAMPLING,
        # Its threads wait for each other at every product; beside another program one is the faster of two.
        sheds=("threads",),
        clones=True,
        default_voice=DEFAULT,
        path=path,
    )


_TILE = 4
_ABOUT = {
    "openvino": "convolutions by OpenVINO, which passes over memory less often; the rest by ONNX Runtime",
    "onnx": "ONNX Runtime: fast on every CPU, and small",
}
_PACKAGE = {"onnx": "onnxruntime", "openvino": "openvino"}
_FEWER = "convolutions in fp32 with fewer products, half the time of all of them"
_INEXACT = "activations of 7 bits, since without VNNI pairs of products of 8-bit numbers overflow 16 bits"
_WAYS: tuple[tuple[str, tuple[str, ...], str, int, str], ...] = (
    ("openvino", ("fast-bf16",), "bf16", 8, "this processor multiplies bf16, twice as fast as int8"),
    ("onnx", ("exact-int8",), "int8", 8, "this processor adds products of 8-bit numbers exactly, four at a time"),
    ("openvino", ("exact-int8",), "winograd", 8, _FEWER),
    ("openvino", (), "winograd", 7, f"{_FEWER}; {_INEXACT}"),
    ("onnx", (), "winograd", 7, f"{_FEWER}; {_INEXACT}"),
)
"""Best first: executor, what it needs of the machine, how convolutions are computed, bits of the activations that int8
weights are multiplied with, and why."""
_CACHES: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("int8", (f"onnxruntime>={'.'.join(map(str, FIRST_INT8_CACHE))}",)),
    ("fp32", ()),
)
"""Best first: element type of the KV cache, and the release that reads it."""


def variants(
    precision: str,
    weight_bytes: int,
    kv_bytes: Mapping[str, int],
    there: Callable[[set[str]], bool],
    read_bytes: int = 0,
) -> Iterator[Variant]:
    """The ways to run a precision. `kv_bytes`: of a frame, by element type of the cache. `there`: whether the model has
    files of these names."""
    exact = precision == "fp32"
    for executor, requires, convolutions, bits, why in _WAYS:
        way = "fp32" if exact else convolutions
        for cache, releases in _CACHES[-1:] if exact else _CACHES:
            options = {"convolutions": way, "kv_cache": cache}
            if precision == "int8":
                options["activation_bits"] = str(bits)
            if there({data_file(precision), STACK.get(way, STACK_CHANNELS), slow_file(precision, cache, bits)}):
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
