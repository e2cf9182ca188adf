"""A Python child process at the other end of a duplex message pipe: no pickle, no ports, no files.

Messages are byte strings with a length in front (multiprocessing's Connection), so the child may be another Python
version. The pipe is the child's standard input: it sees EOF when its parent is gone, however it went.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from multiprocessing import Pipe
from multiprocessing import spawn as multiprocessing_spawn
from multiprocessing.connection import Connection
from pathlib import Path

from saywell.errors import Unavailable

ROOT = Path(__file__).parents[1]
"""Where `saywell` lies. The child works there, so that `-m` finds this very package and nothing of the user's."""


@dataclass(frozen=True, slots=True, eq=False)
class Child:
    process: subprocess.Popen[bytes]
    connection: Connection

    def kill(self) -> int:
        """End it now, whatever it does, reap it, and return its exit status. Safe to call again."""
        self.process.kill()
        status = self.process.wait()
        self.connection.close()
        return status


def interpreter() -> str:
    """The Python to run children with: this one, or what `multiprocessing.set_executable` was told.

    Raises Unavailable in an application that was frozen or has Python built in: its executable, taken for Python, is
    the application once more, which does the same again.
    """
    told = os.fsdecode(multiprocessing_spawn.get_executable() or "")
    candidates = [sys.executable or "", told]
    if getattr(sys, "frozen", False):
        candidates = [told] if told != sys.executable else []
    for found in candidates:
        name = Path(found).stem.lower()
        if ("python" in name or "pypy" in name) and name != "pythonservice":  # pywin32's, for services of Windows
            return found
    raise Unavailable(
        "this application has Python built in and cannot start it for a second process: name a Python that has saywell "
        "installed by multiprocessing.set_executable(), or for the engine's worker by worker_python"
    )


def spawn(module: str, *, python: Path | None = None) -> Child:
    """Start `python -m module` at the end of a new pipe, which the module gets by `parent()`.

    `python`: another interpreter, in whose environment the module can be imported. Raises OSError, and what
    `interpreter` raises.
    """
    ours, theirs = Pipe()
    try:
        return Child(_launch(module, python, theirs), ours)
    except OSError:
        ours.close()
        raise
    finally:
        theirs.close()


def _launch(module: str, python: Path | None, theirs: Connection) -> subprocess.Popen[bytes]:
    command = [str(python or interpreter()), "-m", module]
    # Another environment has a saywell of its own; this one's packages must not get in its way.
    place = Path(ROOT.anchor) if python else ROOT
    standard_input = _descriptor(theirs)
    try:
        return subprocess.Popen(command, stdin=standard_input, stdout=subprocess.DEVNULL, cwd=place)
    finally:
        os.close(standard_input)


def _descriptor(end: Connection) -> int:
    if sys.platform == "win32":
        import msvcrt
        from multiprocessing import reduction

        return msvcrt.open_osfhandle(reduction.duplicate(end.fileno()), 0)
    return os.dup(end.fileno())


def parent() -> Connection:
    """In the child: the connection to the parent. From here on signals to the whole group are the parent's business.

    It drains and then closes the connection; a child that ended at once would cut what is being spoken.
    """
    for number in (signal.SIGINT, signal.SIGTERM, getattr(signal, "SIGHUP", None)):
        if number is not None:
            signal.signal(number, signal.SIG_IGN)
    if sys.platform == "win32":
        import msvcrt
        from multiprocessing.connection import PipeConnection

        return PipeConnection(msvcrt.get_osfhandle(0))
    return Connection(0)
