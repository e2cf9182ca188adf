"""A published PyTorch file as safetensors, by a child process that limits itself before it imports torch.

    python -m saywell.models.torch_file READER FILE OUT

READER is a module whose `read(path)` gives tensors by name. If the child refuses the file it prints one JSON object,
{"refused"} or {"missing"}, and exits with status 3.
"""

from __future__ import annotations

import json
import subprocess
import sys
import zipfile
import zlib
from importlib import import_module
from pathlib import Path
from typing import Any

from saywell.child import interpreter
from saywell.errors import BadCheckpoint, MissingDependency

REFUSED = 3
_ROOM = 24 << 30
"""Address space in addition to the file's: a CUDA build of torch reserves as much on import."""
_CPU_S = 1800
_MAX_MEMBERS = 100_000


def rewrite(reader: str, source: Path, out: Path) -> None:
    """Write the tensors of a PyTorch file to `out`. Raises BadCheckpoint, MissingDependency without torch."""
    command = [interpreter(), "-m", __name__, reader, str(source), str(out)]
    child = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    if child.returncode == REFUSED:
        reply = json.loads(child.stdout)
        if "refused" in reply:
            raise BadCheckpoint(reply["refused"])
        raise MissingDependency(
            f"reading {source.name} needs {reply['missing']}, which is not installed: pip install 'saywell[convert]'"
        )
    if child.returncode:
        lines = child.stderr.strip().splitlines()
        reason = lines[-1][:300] if lines else f"exit status {child.returncode}"
        raise BadCheckpoint(f"{source.name} could not be converted: the child process failed with {reason}")


def say(**line: Any) -> None:
    sys.stdout.write(json.dumps(line) + "\n")
    sys.stdout.flush()


def limit(size: int) -> None:
    """Set resource limits for reading a file of `size` bytes, where the system supports them."""
    try:
        import resource
    except ModuleNotFoundError:  # Windows
        return
    limits = {
        resource.RLIMIT_AS: _ROOM + 4 * size,
        resource.RLIMIT_CPU: _CPU_S,
        resource.RLIMIT_FSIZE: 2 * size + (64 << 20),
        resource.RLIMIT_CORE: 0,
    }
    for which, wanted in limits.items():
        hard = resource.getrlimit(which)[1]
        value = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(which, (value, value))


def check_archive(path: Path) -> str | None:
    """What is wrong with the archive, before torch opens it: a checksum, or entries that would expand."""
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
            if len(members) > _MAX_MEMBERS or any(member.compress_type != zipfile.ZIP_STORED for member in members):
                return "holds compressed or too many entries"
            damaged = archive.testzip()
            return f"is damaged: checksum of {damaged} is wrong" if damaged else None
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, ValueError, NotImplementedError, RuntimeError) as error:
        return f"is damaged or not a PyTorch file (zip format): {error}"


def main(reader: str, file: str, out: str) -> int:
    source = Path(file)
    if not source.is_file():
        say(refused=f"{source.name} is missing in the checkpoint directory")
        return REFUSED
    limit(source.stat().st_size)
    wrong = check_archive(source)
    if wrong:
        say(refused=f"{source.name} {wrong}")
        return REFUSED
    try:
        tensors, read = import_module("saywell.models.torch_tensors"), import_module(reader).read
    except ModuleNotFoundError as error:
        say(missing=error.name)
        return REFUSED
    if tensors.TOO_OLD:
        say(missing=tensors.TOO_OLD)
        return REFUSED
    try:
        tensors.save(read(source), Path(out))
    except BadCheckpoint as error:
        say(refused=error.message)
        return REFUSED
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
