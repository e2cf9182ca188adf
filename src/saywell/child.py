"""A Python child process at the other end of a duplex message pipe: no pickle, no ports, no files.

Messages are byte strings with a length in front (multiprocessing's Connection), so the child may be another Python
version. The child sees EOF when its parent is gone, however it went.
"""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

from saywell.errors import Unavailable

_GRACE_S = 2.0


@dataclass(frozen=True, slots=True, eq=False)
class Child:
    process: subprocess.Popen[bytes]
    connection: Connection

    def kill(self) -> int:
        """End it now, reap it, and return its exit status."""
        self.process.kill()
        status = self.process.wait()
        self.connection.close()
        return status

    def end(self) -> int:
        """Hang up, give it a moment to leave, then kill it. Its exit status."""
        self.connection.close()
        try:
            return self.process.wait(_GRACE_S)
        except subprocess.TimeoutExpired:
            return self.kill()


def spawn(module: str, *, python: Path | None = None) -> Child:
    """Start `python -m module` holding one end of a new pipe. The module gets it by `parent()`.

    `python`: another interpreter, in whose environment the module can be imported. Raises Unavailable.
    """
    ours, theirs = multiprocessing.Pipe(duplex=True)
    handle = theirs.fileno()
    command = [str(python or sys.executable), "-m", module, str(handle)]
    try:
        process = _popen(command, handle)
    except OSError as error:
        ours.close()
        raise Unavailable(f"the worker could not be started with {command[0]}: {error.strerror}") from error
    finally:
        theirs.close()
    return Child(process, ours)


if sys.platform == "win32":

    def _popen(command: list[str], handle: int) -> subprocess.Popen[bytes]:
        os.set_handle_inheritable(handle, True)
        info = subprocess.STARTUPINFO(lpAttributeList={"handle_list": [handle]})
        return subprocess.Popen(command, stdin=subprocess.DEVNULL, startupinfo=info)

else:

    def _popen(command: list[str], handle: int) -> subprocess.Popen[bytes]:
        # A session of its own: Ctrl-C reaches the parent alone, which then ends its children in order.
        return subprocess.Popen(command, stdin=subprocess.DEVNULL, pass_fds=[handle], start_new_session=True)


def parent() -> Connection:
    """In the child: the connection to the parent."""
    handle = int(sys.argv[1])
    if sys.platform == "win32":
        from multiprocessing.connection import PipeConnection

        return PipeConnection(handle)
    os.set_inheritable(handle, False)
    return Connection(handle)
