"""Running out of memory in the middle of work: how it is recognised, whoever says it."""

from __future__ import annotations

from collections.abc import Iterator

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
    return any(_says_so(each) for each in _chain(error))


def _says_so(error: BaseException) -> bool:
    kind = type(error)
    if isinstance(error, MemoryError) or kind.__name__ in NAMES:
        return True
    speaks = isinstance(error, RuntimeError | OSError) or kind.__module__.partition(".")[0] in RUNTIMES
    return speaks and any(word in str(error).lower() for word in WORDS)


def _chain(error: BaseException) -> Iterator[BaseException]:
    """An error, what it was raised from, and so on."""
    seen: set[int] = set()
    each: BaseException | None = error
    while each is not None and id(each) not in seen:
        seen.add(id(each))
        yield each
        each = each.__cause__ or each.__context__
