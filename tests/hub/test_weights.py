"""Downloads from a local fake of the hub: pinned, resumable, verified, and only with the licence accepted."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest

from saywell.errors import Forbidden, InvalidRequest, MissingDependency, Unavailable, UnknownModel
from saywell.hub import client, sources
from saywell.hub.weights import BadDownload, Interrupted, LicenceNotAccepted, pull, read_record
from saywell.manifest import MANIFEST, Manifest

REPO = sources.SOURCES["s1-mini"].repo
TOKEN = "hf_secret_token"
OLD, NEW = "a" * 40, "b" * 40
PIECE = 400_000


class FakeHub:
    """The hub's API for one repository, with faults that tests switch on."""

    def __init__(self) -> None:
        self.commits = {OLD: files(b"old"), NEW: files(b"new")}
        self.branch = OLD
        self.gated = False
        self.breaks = 0
        """Responses that will break off in the middle."""
        self.damage = False
        self.ranges = True
        self.url = ""
        self.requests: list[tuple[str, str | None]] = []

    def resolve(self, revision: str) -> str | None:
        return self.branch if revision == "main" else revision if revision in self.commits else None


def files(salt: bytes) -> dict[str, bytes]:
    large = hashlib.sha256(salt).digest() * 40_000
    return {
        "config.json": b"{}",
        "model.pth": large,
        "codec.pth": large[::-1],
        "tokenizer.tiktoken": b"IQ== 0\n",
        "LICENSE": salt,
    }


def handler(hub: FakeHub) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            """Log nothing."""

        def do_GET(self) -> None:
            if self.path.startswith(f"/api/models/{REPO}/revision/"):
                self.info(self.path.split("/revision/")[1].split("?")[0])
            elif self.path.startswith(f"/api/models/{REPO}/tree/"):
                self.tree(self.path.split("/tree/")[1].split("?")[0])
            elif self.path.startswith(f"/{REPO}/resolve/"):
                self.file(*self.path.removeprefix(f"/{REPO}/resolve/").split("/", 1))
            else:
                self.refuse(404, "RepoNotFound")

        def refuse(self, status: int, code: str) -> None:
            self.send_response(status)
            self.send_header("X-Error-Code", code)
            self.send_header("X-Error-Message", "refused")
            self.send_header("Content-Length", "0")
            self.end_headers()

        def info(self, revision: str) -> None:
            commit = hub.resolve(revision)
            if commit is None:
                return self.refuse(404, "RevisionNotFound")
            siblings = [sibling(name, content) for name, content in hub.commits[commit].items()]
            return self.send({"id": REPO, "sha": commit, "siblings": siblings})

        def tree(self, path: str) -> None:
            commit, _, folder = unquote(path).partition("/")
            files = hub.commits[commit].items()
            self.send([listed(name, content) for name, content in files if name.startswith(folder)])

        def send(self, content: object) -> None:
            body = json.dumps(content).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def file(self, commit: str, name: str) -> None:
            span = self.headers.get("Range")
            hub.requests.append((name, span))
            if hub.gated and self.headers.get("Authorization") != f"Bearer {TOKEN}":
                return self.refuse(403, "GatedRepo")
            content = hub.commits[commit][name]
            if hub.damage and name == "codec.pth":
                content = content[:-1] + b"?"
            ranged = span is not None and hub.ranges
            if ranged:
                first, last = map(int, span.removeprefix("bytes=").split("-"))
                content = content[first : last + 1]
            self.send_response(206 if ranged else 200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            if hub.breaks:
                hub.breaks -= 1
                self.close_connection = True
                content = content[: len(content) // 2]
            self.wfile.write(content)
            return None

    return Handler


def sibling(name: str, content: bytes) -> dict[str, Any]:
    blob = hashlib.sha1(f"blob {len(content)}\0".encode() + content).hexdigest()
    info: dict[str, Any] = {"rfilename": name, "size": len(content), "blobId": blob}
    if name.endswith((".pth", ".onnx")):
        info["lfs"] = {"sha256": hashlib.sha256(content).hexdigest(), "size": len(content), "pointerSize": 134}
    return info


def listed(name: str, content: bytes) -> dict[str, Any]:
    info = sibling(name, content)
    lfs = {"lfs": {"oid": info["lfs"]["sha256"], "size": len(content), "pointerSize": 134}} if "lfs" in info else {}
    return {"type": "file", "path": name, "size": len(content), "oid": info["blobId"], **lfs}


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    monkeypatch.setattr(client, "_PIECE", PIECE)
    monkeypatch.setattr("huggingface_hub.utils._http.time.sleep", lambda _: None)  # between its attempts
    fake = FakeHub()
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler(fake))
    fake.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield fake
    server.shutdown()
    thread.join()
    server.server_close()


def fetch(hub: FakeHub, path: Path, **options: Any) -> Path:
    return pull("s1-mini", path, endpoint=hub.url, **{"accept_licence": True, **options})


def matches(path: Path, commit: dict[str, bytes]) -> bool:
    return all((path / name).read_bytes() == content for name, content in commit.items())


def test_licence_is_shown_and_must_be_accepted(hub: FakeHub, tmp_path: Path) -> None:
    with pytest.raises(LicenceNotAccepted, match=r"CC-BY-NC-SA-4\.0.*non-commercial.*--accept-license"):
        fetch(hub, tmp_path, accept_licence=False)
    assert not hub.requests
    assert not list(tmp_path.iterdir())


def test_files_arrive_and_are_recorded(hub: FakeHub, tmp_path: Path) -> None:
    reported: list[tuple[str, int, int]] = []
    path = fetch(hub, tmp_path, progress=lambda *report: reported.append(report))
    assert path == tmp_path / "s1-mini"
    assert matches(path, hub.commits[OLD])
    record = read_record(path)
    assert (record["repo"], record["commit"], record["accepted"]) == (REPO, OLD, "CC-BY-NC-SA-4.0")
    assert record["files"]["model.pth"]["sha256"] == hashlib.sha256(hub.commits[OLD]["model.pth"]).hexdigest()
    assert [(done, total) for name, done, total in reported if name == "model.pth"][-1] == (1_280_000, 1_280_000)
    assert not list(path.glob("*.partial"))


def test_complete_files_are_not_downloaded_again(hub: FakeHub, tmp_path: Path) -> None:
    fetch(hub, tmp_path)
    hub.requests.clear()
    fetch(hub, tmp_path, accept_licence=False)  # accepted before
    assert hub.requests == []


def test_later_runs_stay_at_the_commit_unless_another_is_named(hub: FakeHub, tmp_path: Path) -> None:
    path = fetch(hub, tmp_path)
    hub.branch = NEW
    (path / "model.pth").unlink()
    assert matches(fetch(hub, tmp_path), hub.commits[OLD])
    assert matches(fetch(hub, tmp_path, revision="main"), hub.commits[NEW])
    assert read_record(path)["commit"] == NEW
    assert matches(fetch(hub, tmp_path, revision=OLD), hub.commits[OLD])


def test_broken_connections_are_retried(hub: FakeHub, tmp_path: Path) -> None:
    hub.breaks = 3
    assert matches(fetch(hub, tmp_path), hub.commits[OLD])
    assert not hub.breaks


def test_interrupted_download_raises_and_the_next_run_continues(hub: FakeHub, tmp_path: Path) -> None:
    def break_at_last(name: str, done: int, _total: int) -> None:
        if name == "model.pth" and done == 3 * PIECE:
            hub.breaks = 1000

    with pytest.raises(Interrupted, match="run it again to continue"):
        fetch(hub, tmp_path, progress=break_at_last)
    hub.breaks = 0
    hub.requests.clear()
    assert matches(fetch(hub, tmp_path), hub.commits[OLD])
    assert next(span for name, span in hub.requests if name == "model.pth") == "bytes=1200000-1279999"


def test_later_run_requests_only_the_missing_bytes(hub: FakeHub, tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        fetch(hub, tmp_path, progress=stop_at(PIECE))
    hub.requests.clear()
    assert matches(fetch(hub, tmp_path), hub.commits[OLD])
    spans = [span for name, span in hub.requests if name == "model.pth"]
    assert spans == ["bytes=400000-799999", "bytes=800000-1199999", "bytes=1200000-1279999"]


def stop_at(offset: int) -> Any:
    def progress(name: str, done: int, _total: int) -> None:
        if name == "model.pth" and done >= offset:
            raise KeyboardInterrupt

    return progress


def test_server_without_ranges_starts_over(hub: FakeHub, tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        fetch(hub, tmp_path, progress=stop_at(PIECE))
    hub.ranges = False
    with pytest.raises(BadDownload, match="run it again to download it again"):
        fetch(hub, tmp_path)
    assert matches(fetch(hub, tmp_path), hub.commits[OLD])


def test_partial_file_of_another_commit_is_not_continued(hub: FakeHub, tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        fetch(hub, tmp_path, progress=stop_at(PIECE))
    assert matches(fetch(hub, tmp_path, revision=NEW), hub.commits[NEW])


def test_damaged_download_is_rejected(hub: FakeHub, tmp_path: Path) -> None:
    hub.damage = True
    with pytest.raises(BadDownload, match=r"codec\.pth .* damaged"):
        fetch(hub, tmp_path)
    assert not (tmp_path / "s1-mini" / "codec.pth").exists()
    hub.damage = False
    assert matches(fetch(hub, tmp_path), hub.commits[OLD])


@pytest.mark.parametrize("file", ["model.pth", "config.json"])
def test_damage_on_disk_is_repaired(hub: FakeHub, tmp_path: Path, file: str) -> None:
    path = fetch(hub, tmp_path) / file
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    assert matches(fetch(hub, tmp_path), hub.commits[OLD])


def test_incomplete_repository_is_refused(hub: FakeHub, tmp_path: Path) -> None:
    del hub.commits[OLD]["codec.pth"]
    with pytest.raises(BadDownload, match=r"lacks codec\.pth"):
        fetch(hub, tmp_path)


def test_gated_repository_needs_a_token_that_is_never_shown(hub: FakeHub, tmp_path: Path) -> None:
    hub.gated = True
    for token in ("hf_wrong", None):
        with pytest.raises(Forbidden, match="ask for access at https://huggingface") as caught:
            fetch(hub, tmp_path, token=token)
        assert "hf_wrong" not in str(caught.value)
    path = fetch(hub, tmp_path, token=TOKEN)
    assert matches(path, hub.commits[OLD])
    assert not [file for file in path.iterdir() if file.is_file() and TOKEN.encode() in file.read_bytes()]


def test_unknown_revision_is_rejected(hub: FakeHub, tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match="no revision 'c"):
        fetch(hub, tmp_path, revision="c" * 40)


@pytest.fixture
def voice(hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> bytes:
    """A free voice in a folder of its repository, with a known digest."""
    content = b"graph" * 50_000
    hub.commits[OLD]["voices/bf_emma.int8.onnx"] = content
    digests = {"voices/bf_emma.int8.onnx": hashlib.sha256(content).hexdigest()}
    emma = replace(sources.SOURCES["emma"], repo=REPO, digests=digests)
    monkeypatch.setattr(sources, "SOURCES", {**sources.SOURCES, "emma": emma})
    return content


def test_free_voice_needs_no_acceptance_and_gets_a_manifest(hub: FakeHub, voice: bytes, tmp_path: Path) -> None:
    path = pull("emma", tmp_path, endpoint=hub.url)
    assert (path, (path / "bf_emma.int8.onnx").read_bytes()) == (tmp_path / "emma", voice)
    assert read_record(path)["accepted"] == "Apache-2.0"
    manifest = Manifest.read(path)
    assert (manifest.family, manifest.licence) == ("hibari", "Apache-2.0")
    assert manifest.files["bf_emma.int8.onnx"].sha256 == hashlib.sha256(voice).hexdigest()


def test_files_to_convert_get_no_manifest(hub: FakeHub, tmp_path: Path) -> None:
    assert not (fetch(hub, tmp_path) / MANIFEST).exists()


def test_manifest_is_removed_while_another_commit_downloads(hub: FakeHub, voice: bytes, tmp_path: Path) -> None:
    path = pull("emma", tmp_path, endpoint=hub.url)
    hub.commits[NEW]["voices/bf_emma.int8.onnx"] = voice
    (path / "bf_emma.int8.onnx").unlink()
    hub.breaks = 1000
    with pytest.raises(Interrupted):
        pull("emma", tmp_path, endpoint=hub.url, revision=NEW)
    assert not (path / MANIFEST).exists()
    hub.breaks = 0
    assert (pull("emma", tmp_path, endpoint=hub.url, revision=NEW) / MANIFEST).exists()


def test_voice_with_another_digest_is_rejected(hub: FakeHub, voice: bytes, tmp_path: Path) -> None:
    hub.commits[OLD]["voices/bf_emma.int8.onnx"] = voice + b"trained again"
    with pytest.raises(BadDownload, match=r"voices/bf_emma\S+ of .* is not the one"):
        pull("emma", tmp_path, endpoint=hub.url)
    assert not list(tmp_path.rglob("*.onnx"))


def test_unknown_name_is_rejected_with_the_list() -> None:
    with pytest.raises(UnknownModel, match=r"available: .*emma, .*, s1-mini"):
        pull("s2-pro", "/nowhere")


def test_unknown_repository_is_rejected(hub: FakeHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = sources.Source(repo="some/where", revision="main", licence="MIT", terms="", files=("a",))
    monkeypatch.setattr(sources, "SOURCES", {"s1-mini": other})
    with pytest.raises(UnknownModel, match="not on the hub"):
        fetch(hub, tmp_path)


def test_unreachable_hub_is_unavailable(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="no connection to the hub"):
        pull("s1-mini", tmp_path, accept_licence=True, endpoint="http://127.0.0.1:9")


def test_missing_hub_library_names_the_extra_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    monkeypatch.delitem(sys.modules, "saywell.hub.client", raising=False)
    with pytest.raises(MissingDependency, match=r"saywell\[hub\]"):
        pull("s1-mini", tmp_path, accept_licence=True)


def test_endpoint_and_token_are_read_from_the_environment(hub: FakeHub, tmp_path: Path) -> None:
    program = f"from saywell.hub.weights import pull; print(pull('s1-mini', {str(tmp_path)!r}, accept_licence=True))"
    environment = {"HF_ENDPOINT": hub.url, "HF_TOKEN": TOKEN, "HF_HOME": str(tmp_path / "home")}
    hub.gated = True
    out = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True)
    assert matches(Path(out.stdout.strip()), hub.commits[OLD])


def test_catalogue_imports_no_large_package() -> None:
    program = (
        "import sys, saywell.hub.weights; print([m for m in ('torch', 'huggingface_hub', 'numpy') if m in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout == "[]\n"
