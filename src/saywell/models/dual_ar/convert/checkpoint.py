"""Published state dicts → checked tensors: no prefixes or tables, q|k|v packed, weight norm folded. Needs torch."""

from __future__ import annotations

import pickle
import re
from collections.abc import Callable, Iterable
from pathlib import Path

import torch
from safetensors.torch import save_file

from saywell.errors import BadCheckpoint
from saywell.graphs.numerics import Shapes
from saywell.models.dual_ar.config import CodecConfig, Config
from saywell.models.dual_ar.convert.child import REFUSED
from saywell.models.dual_ar.layout import codec_tensors, model_tensors

State = dict[str, torch.Tensor]
_STORED = (torch.float32, torch.float16, torch.bfloat16)
_OLDEST = (2, 10)
"""Earlier releases of torch can be made to run code even when they load tensors only."""
_NAMED = 8
"""Most tensors that a message lists by name."""


def write(kind: str, source: Path, out: Path, say: Callable[..., None]) -> int:
    """Write the "model" or "codec" of `source` as safetensors to `out`; the exit status."""
    if tuple(int(part) for part in torch.__version__.split(".")[:2]) < _OLDEST:
        say(missing=f"torch>={_OLDEST[0]}.{_OLDEST[1]}")
        return REFUSED
    config = Config.read(source.parent)
    try:
        state = read_model(source, config) if kind == "model" else read_codec(source, config.codec)
    except BadCheckpoint as error:
        say(refused=error.message)
        return REFUSED
    tensors = {name: tensor if tensor.dtype in _STORED else tensor.float() for name, tensor in state.items()}
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, out)
    return 0


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


def load(path: Path) -> object:
    """The content, memory-mapped, tensors only. Raises BadCheckpoint for anything that torch refuses."""
    try:
        return torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except FileNotFoundError:
        raise BadCheckpoint(f"{path.name} is missing") from None
    except pickle.UnpicklingError as error:
        raise BadCheckpoint(f"{path.name} holds something other than tensors and is refused: {_first(error)}") from None
    except (RuntimeError, OSError, EOFError, ValueError, KeyError, IndexError, AttributeError, TypeError) as error:
        # What torch raises on a damaged archive depends on which byte is damaged.
        raise BadCheckpoint(f"{path.name} is damaged or not a PyTorch file: {_first(error)}") from None


def _first(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:200]


def unwrap(raw: object, file: str) -> State:
    """The state dict itself. Raises BadCheckpoint unless it maps names to tensors."""
    if isinstance(raw, dict) and isinstance(raw.get("state_dict"), dict):
        raw = raw["state_dict"]
    if not isinstance(raw, dict) or not raw:
        raise BadCheckpoint(f"{file} does not hold a state dict")
    for name, tensor in raw.items():
        if not isinstance(name, str) or not isinstance(tensor, torch.Tensor):
            raise BadCheckpoint(f"{file} does not hold a state dict: entry {str(name)[:60]!r} is not a named tensor")
    return raw


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
