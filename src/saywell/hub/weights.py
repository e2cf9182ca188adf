"""Download and verification of published weights. Nothing is downloaded unless asked for."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
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
"""Records the origin of the files, next to them."""
_MAX_RECORD = 1 << 20

Progress = Callable[[str, int, int], None]
"""Called with (file, bytes done, total bytes)."""


class LicenceNotAccepted(Forbidden):
    """The licence of the weights has not been acknowledged; the message shows it."""

    status, code = 403, "licence_not_accepted"


class BadDownload(Unavailable):
    """The repository or a downloaded file is not as expected."""

    status, code = 503, "bad_download"


class Interrupted(Unavailable):
    """The connection broke; received data is kept, and another run continues."""

    status, code = 503, "download_interrupted"


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """One file of a snapshot. Large files have a SHA-256, small ones only git's id of their content."""

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
    progress: Progress = lambda _file, _done, _total: None,
) -> Path:
    """Download a published checkpoint and return its directory, `directory`/`name`. Continues an interrupted run.

    Later runs stay at the same commit unless `revision` names another. Every file is verified by the hub's digest of
    it. Files that run as published get a manifest. Raises LicenceNotAccepted unless the licence was accepted now or
    before, UnknownModel, MissingDependency, Forbidden for gated repositories, BadDownload, Unavailable.
    """
    chosen, target = source(name), Path(directory) / name
    known = read_record(target)
    if not (accept_licence or chosen.free) and known.get("accepted") != chosen.licence:
        raise LicenceNotAccepted(
            f"the weights of {name} ({chosen.url}) are under {chosen.licence}: {chosen.terms} "
            "Run it again with --accept-license if you accept it."
        )
    hub = _hub(endpoint, token)
    snapshot = hub.snapshot(chosen.repo, revision or known.get("commit") or chosen.revision)
    target.mkdir(parents=True, exist_ok=True)
    with FileLock(target / ".lock"):
        if known.get("commit") != snapshot.commit:
            (target / MANIFEST).unlink(missing_ok=True)  # files of two commits are mixed until all are here
        files = _fetch_all(hub, snapshot, chosen, target, progress)
        if chosen.as_is:
            entries = {Path(name).name: Entry(**entry) for name, entry in files.items()}
            Manifest(family=chosen.family, licence=chosen.licence, files=entries).write(target)
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


def read_record(target: Path) -> dict[str, Any]:
    """What `pull` recorded in this directory; empty without a readable record."""
    try:
        record = json.loads(read_plain(target / RECORD, _MAX_RECORD).decode())
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
        if remote is None:
            continue
        if chosen.digests.get(name, remote.sha256) != remote.sha256:
            raise BadDownload(
                f"{name} of {chosen.repo} at {snapshot.commit[:12]} is not the one this version was made for; "
                "ask for an older commit with --revision"
            )
        path = target / Path(name).name
        _fetch(hub, snapshot, name, remote, path, progress)
        files[name] = {"bytes": remote.size, "sha256": sha256(path)}
    return files


def _fetch(hub: Hub, snapshot: Snapshot, name: str, remote: RemoteFile, path: Path, progress: Progress) -> None:
    if path.is_file() and _matches(path, remote):
        progress(name, remote.size, remote.size)
        return
    # Named after the content, so that the partial file of another commit is never continued.
    partial = path.with_name(f".{path.name}.{(remote.sha256 or remote.git_id)[:16]}.partial")
    with partial.open("ab") as file:
        for piece in hub.read(snapshot, name, file.tell()):
            file.write(piece)
            progress(name, file.tell(), remote.size)
            if file.tell() >= remote.size:  # more, if the server ignores ranges and sends the whole file
                break
    if not _matches(partial, remote):
        partial.unlink()
        raise BadDownload(f"{name} of {snapshot.repo} arrived damaged; run it again to download it again")
    partial.replace(path)


def _matches(path: Path, remote: RemoteFile) -> bool:
    if path.stat().st_size != remote.size:
        return False
    if remote.sha256 is not None:
        return sha256(path) == remote.sha256
    # Git's id is the SHA-1 of the content with a header; for small files the hub has no other digest.
    content = b"blob %d\0" % remote.size + path.read_bytes()
    return hashlib.sha1(content, usedforsecurity=False).hexdigest() == remote.git_id
