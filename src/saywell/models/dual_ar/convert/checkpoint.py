"""Published state dicts → checked tensors: no prefixes or tables, q|k|v packed, weight norm folded. Needs torch."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from pathlib import Path

import torch

from saywell.errors import BadCheckpoint
from saywell.graphs.numerics import Shapes
from saywell.models.dual_ar.config import CodecConfig, Config
from saywell.models.dual_ar.layout import FILES, codec_tensors, model_tensors
from saywell.models.torch_tensors import State, load, unwrap

_NAMED = 8
"""Most tensors that a message lists by name."""


def read(path: Path) -> State:
    """`model.pth` or `codec.pth`, by name, beside its configuration. Raises BadCheckpoint, BadConfig."""
    config = Config.read(path.parent)
    return read_model(path, config) if path.name == FILES["model"] else read_codec(path, config.codec)


def read_model(path: Path, config: Config) -> State:
    """`model.pth` → tensors of `layout.model_tensors`, in the stored precision. Raises BadCheckpoint."""
    state = unwrap(load(path), path.name)
    return checked(pack_qkv(rename_model(state)), model_tensors(config), path.name)


def read_codec(path: Path, codec: CodecConfig) -> State:
    """`codec.pth` → tensors of `layout.codec_tensors`, fp32. Raises BadCheckpoint."""
    state = unwrap(load(path), path.name)
    prefix = "generator."
    prefixed = {name.removeprefix(prefix): tensor for name, tensor in state.items() if name.startswith(prefix)}
    folded = fold_weight_norm(prefixed or state)
    return checked(folded, codec_tensors(codec), path.name)


def rename_model(state: State) -> State:
    """Remove prefixes, flatten the nested names of S2, drop tensors of audio input."""
    renamed: State = {}
    for name, tensor in state.items():
        short = name.removeprefix("text_model.").removeprefix("model.")
        if short.startswith("audio_decoder."):
            short = short.removeprefix("audio_decoder.")
            short = short if short.startswith("codebook_embeddings") else f"fast_{short}"
        if "audio_" not in short:
            renamed[short] = tensor
    return renamed


def pack_qkv(state: State) -> State:
    """Pack the separate `wq`, `wk`, `wv` of older files as q | k | v."""
    packed = dict(state)
    for name in state:
        match = re.fullmatch(r"(.+\.attention\.)wq\.(weight|bias)", name)
        if match:
            at, kind = match.groups()
            parts = [f"{at}{each}.{kind}" for each in ("wq", "wk", "wv")]
            if all(part in packed for part in parts):
                packed[f"{at}wqkv.{kind}"] = torch.cat([packed.pop(part) for part in parts])
    return packed


def fold_weight_norm(state: State) -> State:
    """weight = g · v / ‖v‖ over all but dim 0, for both naming schemes of weight norm."""
    folded: State = {}
    for name, tensor in state.items():
        match = re.fullmatch(r"(.+\.)(?:parametrizations\.weight\.original0|weight_g)", name)
        if match is None:
            if not re.search(r"\.(parametrizations\.weight\.original1|weight_v)$", name):
                folded[name] = tensor
            continue
        v = state.get(name[:-1] + ("1" if name.endswith("0") else "v"))
        if v is not None and v.shape[:1] == tensor.shape[:1] and v.is_floating_point():
            folded[f"{match[1]}weight"] = _fold(tensor.float(), v.float())
    return folded


def _fold(g: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    ones = (1,) * (v.dim() - 1)
    norm = torch.linalg.vector_norm(v.flatten(1), dim=1)
    scale: torch.Tensor = g.flatten() / norm
    return v * scale.view(-1, *ones)


def checked(state: State, shapes: Shapes, file: str) -> State:
    """Exactly the tensors of `shapes`, in that order. Raises BadCheckpoint naming those that are missing or wrong."""
    _refuse(file, "lacks", [name for name in shapes if name not in state])
    wrong = [name for name, shape in shapes.items() if tuple(state[name].shape) != shape]
    _refuse(file, "has a wrong shape for", wrong, lambda n: f"{n} {tuple(state[n].shape)}, expected {shapes[n]}")
    _refuse(file, "holds no floating-point numbers in", [n for n in shapes if not state[n].is_floating_point()])
    _refuse(file, "holds NaN or infinite numbers in", [n for n in shapes if not _finite(state[n])])
    return {name: state[name] for name in shapes}


def _finite(tensor: torch.Tensor) -> bool:
    return all(bool(torch.isfinite(part).all()) for part in torch.split(tensor, 8192))


def _refuse(file: str, what: str, names: Iterable[str], show: Callable[[str], str] = str) -> None:
    wrong = list(names)
    if wrong:
        more = f" and {len(wrong) - _NAMED} more" if len(wrong) > _NAMED else ""
        raise BadCheckpoint(f"{file} {what} {', '.join(show(name) for name in wrong[:_NAMED])}{more}")
