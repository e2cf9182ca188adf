"""Takes memory inside a limit until it is as full as asked, and keeps it so, both ways, until it is killed.

Started with the limit's kind, bytes and group, and a percentage; says on the monotonic clock when it began.
"""

from __future__ import annotations

import mmap
import sys
import time
from pathlib import Path

from saywell.bench.limits import Cage, enter
from saywell.machine.monitor import memory

PIECE = 4 << 20
SLACK = 1.0
"""Per cent above what is asked, from where it gives back: what it took while the engine had let something go."""
_EVERY_S = 0.05


def eat(kind: str, size: str, group: str, full: str) -> None:
    enter(Cage(kind=kind, bytes=int(size), group=Path(group) if group else None))
    sys.stdout.write(f"{time.monotonic()}\n")
    sys.stdout.flush()
    held: list[mmap.mmap] = []
    while True:
        limit, free = memory()
        used = 100 * (1 - free / limit)
        if used < float(full):
            held.append(mmap.mmap(-1, PIECE))
            held[-1].write(b"x" * PIECE)
        elif held and used > float(full) + SLACK:
            held.pop().close()
        else:
            time.sleep(_EVERY_S)


if __name__ == "__main__":
    eat(*sys.argv[1:])
