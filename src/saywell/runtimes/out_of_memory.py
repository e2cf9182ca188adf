"""How runtimes report that memory ran out."""

from __future__ import annotations

NAMES = ("OutOfMemoryError", "OutOfMemory")
"""Exception classes of torch and CuPy, by name so that neither has to be imported."""
MESSAGES = (
    "out of memory",
    "failed to allocate memory",
    "can't allocate memory",
    "cannot allocate memory",
    "not enough memory",
    "bad_alloc",
    "bad allocation",
)
"""Parts of messages: of ONNX Runtime's arena, torch's CPU allocator, OpenVINO, the C++ library."""
RUNTIMES = ("onnxruntime", "torch", "openvino")


def ran_out(error: BaseException) -> bool:
    """Whether an error, or one that caused it, is a lack of memory."""
    seen: set[int] = set()
    link: BaseException | None = error
    while link is not None and id(link) not in seen:
        if _reports_it(link):
            return True
        seen.add(id(link))
        link = link.__cause__ or link.__context__
    return False


def _reports_it(error: BaseException) -> bool:
    kind = type(error)
    if isinstance(error, MemoryError) or kind.__name__ in NAMES:
        return True
    of_a_runtime = isinstance(error, RuntimeError | OSError) or kind.__module__.partition(".")[0] in RUNTIMES
    return of_a_runtime and any(message in str(error).lower() for message in MESSAGES)
