"""A forked process has a copy of the engine without its threads, and of its worker's pipe: it must keep off both."""

from __future__ import annotations

import os

from saywell.errors import EngineClosed


class Birthplace:
    """The process an engine was made in."""

    def __init__(self) -> None:
        self._pid = os.getpid()

    @property
    def elsewhere(self) -> bool:
        """Whether this process is a fork of that one."""
        return os.getpid() != self._pid

    def check(self) -> None:
        """Raise EngineClosed in a forked process, where whoever asks would wait for threads that are not there."""
        if self.elsewhere:
            raise EngineClosed(
                "the engine was opened before this process was forked and stays with the process that opened it; "
                "open one here, after the fork"
            )
