"""A Python child process on a duplex message pipe: no pickle, no ports, no files.

Messages are length-prefixed byte strings (multiprocessing's Connection), so the child may run another Python version.
The pipe is the child's standard input: the child sees EOF when its parent ends, in whatever way.
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
"""The directory that contains the package `saywell`. As the child's working directory it makes `-m` find this package
and no module of the user's."""


@dataclass(frozen=True, slots=True, eq=False)
class Child:
    process: subprocess.Popen[bytes]
    connection: Connection

    def kill(self) -> int:
        """Kill and reap the process; return its exit status. May be called repeatedly."""
        self.process.kill()
        status = self.process.wait()
        self.connection.close()
        return status


def interpreter() -> str:
    """The Python for child processes: the running one, or the one set by `multiprocessing.set_executable`.

    Raises Unavailable in an application that is frozen or embeds Python: its executable is the application, and a child
    started with it would start children in turn.
    """
    configured = os.fsdecode(multiprocessing_spawn.get_executable() or "")
    candidates = [sys.executable or "", configured]
    if getattr(sys, "frozen", False):
        candidates = [configured] if configured != sys.executable else []
    for candidate in candidates:
        name = Path(candidate).stem.lower()
        if ("python" in name or "pypy" in name) and name != "pythonservice":  # pywin32's host of Windows services
            return candidate
    raise Unavailable(
        "this application embeds Python, so it cannot start Python processes by itself; name an interpreter that has "
        "saywell installed, by multiprocessing.set_executable() or, for the engine's worker, by worker_python"
    )


def spawn(module: str, *, python: Path | None = None) -> Child:
    """Start `python -m module` with a new pipe, which the module opens by `parent()`.

    `python`: another interpreter, in whose environment the module can be imported. Raises OSError, and Unavailable as
    `interpreter`.
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
    # Another environment has its own saywell; the packages of this one must not shadow it.
    directory = Path(ROOT.anchor) if python else ROOT
    standard_input = _descriptor(theirs)
    try:
        return subprocess.Popen(command, stdin=standard_input, stdout=subprocess.DEVNULL, cwd=directory)
    finally:
        os.close(standard_input)


def _descriptor(end: Connection) -> int:
    if sys.platform == "win32":
        import msvcrt
        from multiprocessing import reduction

        return msvcrt.open_osfhandle(reduction.duplicate(end.fileno()), 0)
    return os.dup(end.fileno())


def parent() -> Connection:
    """In the child: the connection to the parent. From here on signals to the process group are ignored.

    The parent handles them: it drains its requests and then closes the connection.
    """
    for number in (signal.SIGINT, signal.SIGTERM, getattr(signal, "SIGHUP", None)):
        if number is not None:
            signal.signal(number, signal.SIG_IGN)
    if sys.platform == "win32":
        import msvcrt
        from multiprocessing.connection import PipeConnection

        return PipeConnection(msvcrt.get_osfhandle(0))
    return Connection(0)
