"""Tensors of PyTorch files: loading without running code, saving as safetensors. Needs torch."""

from __future__ import annotations

import pickle
from pathlib import Path

import torch
from safetensors.torch import save_file

from saywell.errors import BadCheckpoint

State = dict[str, torch.Tensor]
_STORED = (torch.float32, torch.float16, torch.bfloat16, torch.int64)
_OLDEST = (2, 10)
"""Earlier releases of torch can be made to run code even when they load tensors only."""
TOO_OLD = (
    f"torch>={_OLDEST[0]}.{_OLDEST[1]}"
    if tuple(int(part) for part in torch.__version__.split(".")[:2]) < _OLDEST
    else ""
)


def save(state: State, out: Path) -> None:
    tensors = {name: each if each.dtype in _STORED else each.float() for name, each in _own(state).items()}
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, out)


def _own(state: State) -> State:
    """Each tensor in memory of its own, as safetensors demands."""
    seen, own = set[int](), State()
    for name, tensor in state.items():
        where = tensor.untyped_storage().data_ptr()
        own[name] = tensor.clone() if where in seen else tensor
        seen.add(where)
    return own


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
