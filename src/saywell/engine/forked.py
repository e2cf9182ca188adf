"""A forked process inherits the engine without its threads and a copy of its worker's pipe; it must use neither."""

from __future__ import annotations

import os

from saywell.errors import EngineClosed


class Birthplace:
    """The process in which an engine was created."""

    def __init__(self) -> None:
        self._pid = os.getpid()

    @property
    def elsewhere(self) -> bool:
        """Whether this is another process, a fork of that one."""
        return os.getpid() != self._pid

    def check(self) -> None:
        """Raise EngineClosed in a forked process, where a call would wait for threads that do not exist."""
        if self.elsewhere:
            raise EngineClosed(
                "the engine was opened before this process was forked and stays with the process that opened it; "
                "open one here, after the fork"
            )
