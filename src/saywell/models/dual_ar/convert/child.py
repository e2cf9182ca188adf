"""Child process that reads one published `.pth` file and writes it as safetensors. Limited before it imports torch.

    python -m saywell.models.dual_ar.convert.child (model|codec) CHECKPOINT_DIR OUT_FILE

If it refuses the file it prints one JSON object, {"refused"} or {"missing"}, and exits with status 3.
"""

from __future__ import annotations

import json
import sys
import zipfile
import zlib
from pathlib import Path
from typing import Any

REFUSED = 3
FILES = {"model": "model.pth", "codec": "codec.pth"}
_ROOM = 24 << 30
"""Address space in addition to the file's: a CUDA build of torch reserves as much on import."""
_CPU_S = 1800
_MAX_MEMBERS = 100_000


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


def main(kind: str, directory: str, out: str) -> int:
    source = Path(directory) / FILES[kind]
    if not source.is_file():
        say(refused=f"{source.name} is missing in the checkpoint directory")
        return REFUSED
    limit(source.stat().st_size)
    wrong = check_archive(source)
    if wrong:
        say(refused=f"{source.name} {wrong}")
        return REFUSED
    try:
        from saywell.models.dual_ar.convert import checkpoint
    except ModuleNotFoundError as error:
        say(missing=error.name)
        return REFUSED
    return checkpoint.write(kind, source, Path(out), say)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
