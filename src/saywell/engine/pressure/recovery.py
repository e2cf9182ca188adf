"""Running out of memory in the middle of work: how it is recognised, whoever says it."""

from __future__ import annotations

NAMES = ("OutOfMemoryError", "OutOfMemory")
"""Exception classes by name, so that no runtime has to be imported to know its own (torch, CuPy)."""
WORDS = (
    "out of memory",
    "failed to allocate memory",
    "can't allocate memory",
    "cannot allocate memory",
    "not enough memory",
    "bad_alloc",
    "bad allocation",
)
"""How runtimes say it: ONNX Runtime's arena, torch's CPU allocator, OpenVINO, the C++ library."""
RUNTIMES = ("onnxruntime", "torch", "openvino")


def ran_out(error: BaseException) -> bool:
    """Whether an error, or one that led to it, is a lack of memory."""
    seen: set[int] = set()
    each: BaseException | None = error
    while each is not None and id(each) not in seen:
        if _says_so(each):
            return True
        seen.add(id(each))
        each = each.__cause__ or each.__context__
    return False


def _says_so(error: BaseException) -> bool:
    kind = type(error)
    if isinstance(error, MemoryError) or kind.__name__ in NAMES:
        return True
    speaks = isinstance(error, RuntimeError | OSError) or kind.__module__.partition(".")[0] in RUNTIMES
    return speaks and any(word in str(error).lower() for word in WORDS)
