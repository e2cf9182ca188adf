"""How published weights get here. Nothing is ever fetched silently."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock

from saywell.errors import Forbidden, MissingDependency, Unavailable
from saywell.files import Damaged, read_plain, replacing, sha256
from saywell.hub.sources import Source, source
from saywell.manifest import MANIFEST, Entry, Manifest

if TYPE_CHECKING:
    from saywell.hub.client import Hub

RECORD = "source.json"
"""What was fetched from where, beside the files."""
_MOST_RECORD = 1 << 20

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
    for that commit. Files that run as published get a manifest. Raises LicenceNotAccepted unless acknowledged now or
    before, MissingDependency, Forbidden for gated repositories, BadDownload, Unavailable.
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
        if known.get("commit") != snapshot.commit:
            (target / MANIFEST).unlink(missing_ok=True)  # until all is there the files may be of two commits
        files = _fetch_all(hub, snapshot, chosen, target, progress or _silent)
        if chosen.as_is:
            mine = {Path(name).name: Entry(**each) for name, each in files.items()}
            Manifest(family=chosen.family, licence=chosen.licence, files=mine).write(target)
        record = {"repo": chosen.repo, "commit": snapshot.commit, "accepted": chosen.licence, "files": files}
        with replacing(target / RECORD) as file:
            file.write(json.dumps(record, indent=1).encode() + b"\n")
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
            files[name] = {"bytes": remote.size, "sha256": sha256(place)}
    return files


def _check_announced(chosen: Source, snapshot: Snapshot, name: str, remote: RemoteFile) -> None:
    """Raise BadDownload for a file that is known here and is another one there."""
    if chosen.digests.get(name, remote.sha256) != remote.sha256:
        raise BadDownload(
            f"{chosen.repo} at {snapshot.commit[:12]} has another {name} than this version was made for; "
            "ask for an older commit with --revision"
        )


def _fetch(hub: Hub, snapshot: Snapshot, name: str, remote: RemoteFile, final: Path, progress: Progress) -> None:
    if final.is_file() and _matches(final, remote):
        progress(name, remote.size, remote.size)
        return
    # Named after its content, so that what is left of another commit is never continued.
    partial = final.with_name(f".{final.name}.{(remote.sha256 or remote.git_id)[:16]}.partial")
    partial.touch()
    pieces = hub.read(snapshot, name, partial.stat().st_size)
    _receive(pieces, remote.size, partial, lambda done: progress(name, done, remote.size))
    if not _matches(partial, remote):
        partial.unlink()
        raise BadDownload(f"{name} of {snapshot.repo} arrived damaged; run it again to fetch it anew")
    partial.replace(final)


def _receive(pieces: Iterator[bytes], size: int, partial: Path, progress: Callable[[int], None]) -> None:
    """Append to `partial` until it has `size` bytes, or more: a server that knows no ranges sends all of it."""
    with partial.open("ab") as file:
        for piece in pieces:
            file.write(piece)
            progress(file.tell())
            if file.tell() >= size:
                return


def _matches(path: Path, remote: RemoteFile) -> bool:
    if path.stat().st_size != remote.size:
        return False
    if remote.sha256 is not None:
        return sha256(path) == remote.sha256
    # Git names content by its SHA-1 with a header; for small files the hub knows no other digest.
    content = b"blob %d\0" % remote.size + path.read_bytes()
    return hashlib.sha1(content, usedforsecurity=False).hexdigest() == remote.git_id
