"""The environment variables of other engines, for `load_settings(variables=…)`."""

from __future__ import annotations

from saywell.errors import PlanError
from saywell.settings import Variable

_YES, _NO = ("true", "1", "yes", "on", "y", "t"), ("false", "0", "no", "off", "n", "f")
_PRECISIONS = {"float32": "fp32", "float16": "fp16", "bfloat16": "bf16", "half": "fp16"}


def precision(text: str, _: str = "") -> str | None:
    """float32, float16, bfloat16 and half by their short names; auto is None."""
    word = text.lower()
    return None if word == "auto" else _PRECISIONS.get(word, text)


def device(text: str, _: str = "") -> str | None:
    """`CUDA:0` → `cuda`, because other engines number even a single GPU; auto is None."""
    word = text.lower()
    return None if word == "auto" else word.removesuffix(":0")


def _switch(field: str, yes: str | None, no: str | None) -> Variable:
    """A boolean variable; accepts exactly the spellings that the other engines accepted."""

    def meaning(text: str, origin: str) -> str | None:
        word = text.lower()
        if word not in (*_YES, *_NO, "auto"):
            message = f"{origin} must be {', '.join(_YES[:4])} or {', '.join(_NO[:4])}, not {text!r}"
            raise PlanError(message, param=field)
        return yes if word in _YES else no if word in _NO else None

    return field, meaning


def _mixed(text: str, origin: str) -> str | None:
    word = text.lower()
    return None if word in _YES else "fp32" if word in _NO else precision(text, origin)


def _plain(text: str, _: str) -> str | None:
    return None if text.lower() == "auto" else text


VARIABLES: dict[str, Variable] = {
    "S1_MINI_CHECKPOINT_PATH": ("model_path", _plain),
    "S1_MINI_DEVICE": ("device", device),
    "S1_MINI_PRECISION": ("precision", precision),
    "S1_MINI_COMPILE_BACKEND": ("compile", _plain),
    "S1_MINI_COMPILE": _switch("compile", None, "disabled"),
    "S1_MINI_REQUEST_TIMEOUT": ("timeout_s", _plain),
    "MODEL_DIR": ("model_path", _plain),
    "DEVICE": ("device", device),
    "MIXED_PRECISION": ("precision", _mixed),
    "ENABLE_TORCH_COMPILE": _switch("compile", "inductor", "disabled"),
    "USE_ONNX": _switch("executor", "onnx", "torch"),
    "CACHE_LIMIT": ("cache_entries", _plain),
    "MAX_SEQ_LEN": ("max_frames", _plain),
}
"""Variable → (field, conversion of its text; None: automatic). Later entries override earlier ones."""
