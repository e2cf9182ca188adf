"""How published weights get here. Nothing is ever fetched silently."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock

from saywell.errors import Forbidden, MissingDependency, Unavailable
from saywell.files import Damaged, read_plain
from saywell.hub.sources import Source, source

if TYPE_CHECKING:
    from saywell.hub.client import Hub

RECORD = "source.json"
"""What was fetched from where, beside the files."""
_MOST_RECORD = 1 << 20
_ATTEMPTS, _PAUSE_S = 5, 0.25
_CHUNK = 4 << 20

Progress = Callable[[str, int, int], None]
"""Called with (file, bytes done, bytes in all)."""


class LicenceNotAccepted(Forbidden):
    """The licence of the weights has not been acknowledged; the message shows it."""

    status, code = 403, "licence_not_accepted"


class BadDownload(Unavailable):
    """What arrived is not what was announced."""

    status, code = 503, "bad_download"


class Interrupted(Unavailable):
    """The connection broke; what arrived so far is kept, and the rest can be asked for."""

    status, code = 503, "download_interrupted"


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """One file of a snapshot. Large files have a sha256, small ones the id git gives their content."""

    size: int
    sha256: str | None
    git_id: str


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A repository at one commit."""

    repo: str
    commit: str
    files: dict[str, RemoteFile]


def pull(
    name: str,
    directory: str | Path,
    *,
    accept_licence: bool = False,
    revision: str | None = None,
    token: str | None = None,
    endpoint: str | None = None,
    progress: Progress | None = None,
) -> Path:
    """Fetch a published checkpoint into `directory`/`name`; that path. Goes on where a former run stopped.

    A commit once fetched is kept to until `revision` names another. Every file is verified by the digest the hub gives
    for that commit. Raises LicenceNotAccepted unless acknowledged now or before, MissingDependency, Forbidden for gated
    repositories, BadDownload, Unavailable.
    """
    chosen, target = source(name), Path(directory) / name
    known = read_record(target)
    if not (accept_licence or chosen.free) and known.get("accepted") != chosen.licence:
        raise LicenceNotAccepted(
            f"the weights of {name} ({chosen.url}) are under {chosen.licence}: {chosen.terms} "
            "Run it again with --accept-license if that is what you want."
        )
    hub = _hub(endpoint, token)
    snapshot = hub.snapshot(chosen.repo, revision or known.get("commit") or chosen.revision)
    target.mkdir(parents=True, exist_ok=True)
    with FileLock(target / ".lock"):
        files = _fetch_all(hub, snapshot, chosen, target, progress or _silent)
        record = {"repo": chosen.repo, "commit": snapshot.commit, "accepted": chosen.licence, "files": files}
        _write_record(target, record)
    return target


def _hub(endpoint: str | None, token: str | None) -> Hub:
    try:
        module: Any = import_module("saywell.hub.client")  # by name: only pulling needs huggingface_hub
    except ModuleNotFoundError as error:
        raise MissingDependency(f"pulling weights needs {error.name}: pip install 'saywell[hub]'") from error
    hub: Hub = module.Hub(endpoint, token)
    return hub


def _silent(_file: str, _done: int, _total: int) -> None:
    """No progress wanted."""


def read_record(target: Path) -> dict[str, Any]:
    """What `pull` noted in this directory; empty if nothing, or nothing readable."""
    try:
        record = json.loads(read_plain(target / RECORD, _MOST_RECORD).decode())
    except (FileNotFoundError, Damaged, ValueError, RecursionError):
        return {}
    return record if isinstance(record, dict) else {}


def _write_record(target: Path, record: dict[str, Any]) -> None:
    temporary = target / f".{RECORD}"
    temporary.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    temporary.replace(target / RECORD)


def _fetch_all(hub: Hub, snapshot: Snapshot, chosen: Source, target: Path, progress: Progress) -> dict[str, Any]:
    missing = [name for name in chosen.files if name not in snapshot.files]
    if missing:
        raise BadDownload(f"{chosen.repo} at {snapshot.commit[:12]} lacks {', '.join(missing)}")
    files = {}
    for name in (*chosen.files, *chosen.optional):
        remote = snapshot.files.get(name)
        if remote is not None:
            _check_announced(chosen, snapshot, name, remote)
            place = target / Path(name).name
            _fetch(hub, snapshot, name, remote, place, progress)
            files[name] = {"bytes": remote.size, "sha256": _digest(place, "sha256")}
    return files


def _check_announced(chosen: Source, snapshot: Snapshot, name: str, remote: RemoteFile) -> None:
    """Raise BadDownload for a file that is known here and is another one there."""
    if chosen.digests.get(name, remote.sha256) != remote.sha256:
        raise BadDownload(
            f"{chosen.repo} at {snapshot.commit[:12]} has another {name} than this version was made for; "
            "ask for an older commit with --revision"
        )


def _fetch(hub: Hub, snapshot: Snapshot, name: str, remote: RemoteFile, final: Path, progress: Progress) -> None:
    if final.is_file() and final.stat().st_size == remote.size and _matches(final, remote):
        progress(name, remote.size, remote.size)
        return
    # Named after its content, so that what is left of another commit is never continued.
    partial = final.with_name(f".{final.name}.{(remote.sha256 or remote.git_id)[:16]}.partial")
    _receive(hub, snapshot, name, remote.size, partial, lambda done: progress(name, done, remote.size))
    if partial.stat().st_size != remote.size or not _matches(partial, remote):
        partial.unlink()
        raise BadDownload(f"{name} of {snapshot.repo} arrived damaged; run it again to fetch it anew")
    partial.replace(final)


def _receive(
    hub: Hub, snapshot: Snapshot, name: str, size: int, partial: Path, progress: Callable[[int], None]
) -> None:
    """Append to `partial` until it has `size` bytes. A broken connection is taken up again a few times."""
    partial.touch()
    failures = 0
    while (have := partial.stat().st_size) < size:
        broken = _append(hub, snapshot, name, size, partial, progress)
        failures = 0 if partial.stat().st_size > have else failures + 1
        if failures == _ATTEMPTS:
            raise broken or Interrupted(f"the hub stops sending {name}; run it again, it goes on")
        time.sleep(_PAUSE_S * 2**failures if failures else 0)


def _append(
    hub: Hub, snapshot: Snapshot, name: str, size: int, partial: Path, progress: Callable[[int], None]
) -> Interrupted | None:
    """What one request brings; the interruption if one ended it."""
    with partial.open("r+b") as file:
        try:
            for at, piece in hub.read(snapshot, name, partial.stat().st_size):
                if at + len(piece) > size:
                    raise BadDownload(f"{name} of {snapshot.repo} is longer than announced")
                file.seek(at)
                file.write(piece)
                file.truncate()
                progress(at + len(piece))
        except Interrupted as error:
            return error
    return None


def _matches(path: Path, remote: RemoteFile) -> bool:
    if remote.sha256 is not None:
        return _digest(path, "sha256") == remote.sha256
    # Git names content by its SHA-1 with a header; for small files the hub knows no other digest.
    return _digest(path, "sha1", f"blob {remote.size}\0".encode()) == remote.git_id


def _digest(path: Path, kind: str, before: bytes = b"") -> str:
    digest = hashlib.new(kind, before, usedforsecurity=False)
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()
