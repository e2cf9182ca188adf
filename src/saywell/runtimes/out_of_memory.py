"""Recognises an exception that reports a lack of memory, whichever library raised it."""

from __future__ import annotations

from functools import cache

from saywell.runtimes import runtimes

NAMES = ("OutOfMemoryError", "OutOfMemory")
"""Exception classes by name, so that no library has to be imported to know its own."""
WORDS = ("out of memory", "cannot allocate memory", "bad_alloc", "bad allocation")
"""Phrases of drivers, operating systems and the C++ library. Each runtime adds its own."""


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
    packages, words = _of_runtimes()
    from_runtime = isinstance(error, RuntimeError | OSError) or kind.__module__.partition(".")[0] in packages
    return from_runtime and any(word in str(error).lower() for word in words)


@cache
def _of_runtimes() -> tuple[frozenset[str], tuple[str, ...]]:
    """Packages whose exceptions are looked at, and the phrases looked for."""
    phrases = (phrase for runtime in runtimes() for phrase in runtime.out_of_memory)
    return frozenset(runtime.package for runtime in runtimes()), (*WORDS, *phrases)
