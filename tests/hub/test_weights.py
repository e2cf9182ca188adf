"""Weights are fetched from a stand-in of the hub: pinned, resumable, verified, never without the licence."""

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


class StandIn:
    """The hub's API for one repository, with its moods."""

    def __init__(self) -> None:
        self.commits = {OLD: files(b"old"), NEW: files(b"new")}
        self.branch = OLD
        self.gated = False
        self.breaks = 0
        """How many answers are to end in their middle."""
        self.damage = False
        self.ranges = True
        self.url = ""
        self.asked: list[tuple[str, str | None]] = []

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


def handler(hub: StandIn) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            """Quiet."""

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
            return self.say({"id": REPO, "sha": commit, "siblings": siblings})

        def tree(self, place: str) -> None:
            commit, _, folder = unquote(place).partition("/")
            self.say([listed(name, each) for name, each in hub.commits[commit].items() if name.startswith(folder)])

        def say(self, content: object) -> None:
            body = json.dumps(content).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def file(self, commit: str, name: str) -> None:
            span = self.headers.get("Range")
            hub.asked.append((name, span))
            if hub.gated and self.headers.get("Authorization") != f"Bearer {TOKEN}":
                return self.refuse(403, "GatedRepo")
            content = hub.commits[commit][name]
            if hub.damage and name == "codec.pth":
                content = content[:-1] + b"?"
            asked = [int(each) for each in span.removeprefix("bytes=").split("-")] if span and hub.ranges else None
            piece = content[asked[0] : asked[1] + 1] if asked else content
            self.send_response(206 if asked else 200)
            self.send_header("Content-Length", str(len(piece)))
            self.end_headers()
            if hub.breaks:
                hub.breaks -= 1
                self.close_connection = True
                piece = piece[: len(piece) // 2]
            self.wfile.write(piece)
            return None

    return Handler


def sibling(name: str, content: bytes) -> dict[str, Any]:
    blob = hashlib.sha1(f"blob {len(content)}\0".encode() + content).hexdigest()
    found: dict[str, Any] = {"rfilename": name, "size": len(content), "blobId": blob}
    if name.endswith((".pth", ".onnx")):
        found["lfs"] = {"sha256": hashlib.sha256(content).hexdigest(), "size": len(content), "pointerSize": 134}
    return found


def listed(name: str, content: bytes) -> dict[str, Any]:
    about = sibling(name, content)
    lfs = {"lfs": {"oid": about["lfs"]["sha256"], "size": len(content), "pointerSize": 134}} if "lfs" in about else {}
    return {"type": "file", "path": name, "size": len(content), "oid": about["blobId"], **lfs}


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[StandIn]:
    monkeypatch.setattr(client, "_PIECE", PIECE)
    monkeypatch.setattr("huggingface_hub.utils._http.time.sleep", lambda _: None)  # between its attempts
    stand_in = StandIn()
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler(stand_in))
    stand_in.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield stand_in
    server.shutdown()
    thread.join()
    server.server_close()


def fetch(hub: StandIn, path: Path, **more: Any) -> Path:
    return pull("s1-mini", path, endpoint=hub.url, **{"accept_licence": True, **more})


def held(path: Path, commit: dict[str, bytes]) -> bool:
    return all((path / name).read_bytes() == content for name, content in commit.items())


def test_licence_is_shown_and_must_be_accepted(hub: StandIn, tmp_path: Path) -> None:
    with pytest.raises(LicenceNotAccepted, match=r"CC-BY-NC-SA-4\.0.*non-commercial.*--accept-license"):
        fetch(hub, tmp_path, accept_licence=False)
    assert not hub.asked
    assert not list(tmp_path.iterdir())


def test_files_arrive_and_are_recorded(hub: StandIn, tmp_path: Path) -> None:
    said: list[tuple[str, int, int]] = []
    path = fetch(hub, tmp_path, progress=lambda *each: said.append(each))
    assert path == tmp_path / "s1-mini"
    assert held(path, hub.commits[OLD])
    record = read_record(path)
    assert (record["repo"], record["commit"], record["accepted"]) == (REPO, OLD, "CC-BY-NC-SA-4.0")
    assert record["files"]["model.pth"]["sha256"] == hashlib.sha256(hub.commits[OLD]["model.pth"]).hexdigest()
    assert [(done, total) for name, done, total in said if name == "model.pth"][-1] == (1_280_000, 1_280_000)
    assert not list(path.glob("*.partial"))


def test_what_is_there_is_not_fetched_again(hub: StandIn, tmp_path: Path) -> None:
    fetch(hub, tmp_path)
    hub.asked.clear()
    fetch(hub, tmp_path, accept_licence=False)  # acknowledged once
    assert hub.asked == []


def test_commit_is_kept_to_until_another_is_named(hub: StandIn, tmp_path: Path) -> None:
    path = fetch(hub, tmp_path)
    hub.branch = NEW
    (path / "model.pth").unlink()
    assert held(fetch(hub, tmp_path), hub.commits[OLD])
    assert held(fetch(hub, tmp_path, revision="main"), hub.commits[NEW])
    assert read_record(path)["commit"] == NEW
    assert held(fetch(hub, tmp_path, revision=OLD), hub.commits[OLD])


def test_broken_connections_are_taken_up_again(hub: StandIn, tmp_path: Path) -> None:
    hub.breaks = 3
    assert held(fetch(hub, tmp_path), hub.commits[OLD])
    assert not hub.breaks


def test_a_connection_that_stays_broken_is_told_and_the_next_run_goes_on(hub: StandIn, tmp_path: Path) -> None:
    def break_at_last(name: str, done: int, _total: int) -> None:
        if name == "model.pth" and done == 3 * PIECE:
            hub.breaks = 1000

    with pytest.raises(Interrupted, match="run it again, it goes on"):
        fetch(hub, tmp_path, progress=break_at_last)
    hub.breaks = 0
    hub.asked.clear()
    assert held(fetch(hub, tmp_path), hub.commits[OLD])
    assert next(span for name, span in hub.asked if name == "model.pth") == "bytes=1200000-1279999"


def test_a_later_run_goes_on_where_one_stopped(hub: StandIn, tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        fetch(hub, tmp_path, progress=stop_at(PIECE))
    hub.asked.clear()
    assert held(fetch(hub, tmp_path), hub.commits[OLD])
    asked = [span for name, span in hub.asked if name == "model.pth"]
    assert asked == ["bytes=400000-799999", "bytes=800000-1199999", "bytes=1200000-1279999"]


def stop_at(place: int) -> Any:
    def progress(name: str, done: int, _total: int) -> None:
        if name == "model.pth" and done >= place:
            raise KeyboardInterrupt

    return progress


def test_a_server_without_ranges_starts_over(hub: StandIn, tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        fetch(hub, tmp_path, progress=stop_at(PIECE))
    hub.ranges = False
    with pytest.raises(BadDownload, match="run it again to fetch it anew"):
        fetch(hub, tmp_path)
    assert held(fetch(hub, tmp_path), hub.commits[OLD])


def test_what_is_left_of_another_commit_is_not_continued(hub: StandIn, tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        fetch(hub, tmp_path, progress=stop_at(PIECE))
    assert held(fetch(hub, tmp_path, revision=NEW), hub.commits[NEW])


def test_damage_is_noticed(hub: StandIn, tmp_path: Path) -> None:
    hub.damage = True
    with pytest.raises(BadDownload, match=r"codec\.pth .* damaged"):
        fetch(hub, tmp_path)
    assert not (tmp_path / "s1-mini" / "codec.pth").exists()
    hub.damage = False
    assert held(fetch(hub, tmp_path), hub.commits[OLD])


@pytest.mark.parametrize("file", ["model.pth", "config.json"])
def test_damage_on_disk_is_repaired(hub: StandIn, tmp_path: Path, file: str) -> None:
    path = fetch(hub, tmp_path) / file
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    assert held(fetch(hub, tmp_path), hub.commits[OLD])


def test_incomplete_repository_is_refused(hub: StandIn, tmp_path: Path) -> None:
    del hub.commits[OLD]["codec.pth"]
    with pytest.raises(BadDownload, match=r"lacks codec\.pth"):
        fetch(hub, tmp_path)


def test_gated_needs_a_token_that_is_never_shown(hub: StandIn, tmp_path: Path) -> None:
    hub.gated = True
    for token in ("hf_wrong", None):
        with pytest.raises(Forbidden, match="ask for access at https://huggingface") as caught:
            fetch(hub, tmp_path, token=token)
        assert "hf_wrong" not in str(caught.value)
    path = fetch(hub, tmp_path, token=TOKEN)
    assert held(path, hub.commits[OLD])
    assert not [each for each in path.iterdir() if each.is_file() and TOKEN.encode() in each.read_bytes()]


def test_unknown_revision(hub: StandIn, tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match="no revision 'c"):
        fetch(hub, tmp_path, revision="c" * 40)


@pytest.fixture
def voice(hub: StandIn, monkeypatch: pytest.MonkeyPatch) -> bytes:
    """A voice that is free, lies in a folder of its repository, and whose content is known here."""
    content = b"graph" * 50_000
    hub.commits[OLD]["voices/bf_emma.int8.onnx"] = content
    digests = {"voices/bf_emma.int8.onnx": hashlib.sha256(content).hexdigest()}
    emma = replace(sources.SOURCES["emma"], repo=REPO, digests=digests)
    monkeypatch.setattr(sources, "SOURCES", {**sources.SOURCES, "emma": emma})
    return content


def test_a_free_voice_needs_no_acceptance_and_lies_where_it_is_looked_for(
    hub: StandIn, voice: bytes, tmp_path: Path
) -> None:
    path = pull("emma", tmp_path, endpoint=hub.url)
    assert (path, (path / "bf_emma.int8.onnx").read_bytes()) == (tmp_path / "emma", voice)
    assert read_record(path)["accepted"] == "Apache-2.0"
    manifest = Manifest.read(path)
    assert (manifest.family, manifest.licence) == ("hibari", "Apache-2.0")
    assert manifest.files["bf_emma.int8.onnx"].sha256 == hashlib.sha256(voice).hexdigest()


def test_files_that_have_to_be_converted_get_no_manifest(hub: StandIn, tmp_path: Path) -> None:
    assert not (fetch(hub, tmp_path) / MANIFEST).exists()


def test_the_manifest_is_gone_while_files_of_another_commit_arrive(hub: StandIn, voice: bytes, tmp_path: Path) -> None:
    path = pull("emma", tmp_path, endpoint=hub.url)
    hub.commits[NEW]["voices/bf_emma.int8.onnx"] = voice
    (path / "bf_emma.int8.onnx").unlink()
    hub.breaks = 1000
    with pytest.raises(Interrupted):
        pull("emma", tmp_path, endpoint=hub.url, revision=NEW)
    assert not (path / MANIFEST).exists()
    hub.breaks = 0
    assert (pull("emma", tmp_path, endpoint=hub.url, revision=NEW) / MANIFEST).exists()


def test_another_file_under_the_name_of_a_voice_is_refused(hub: StandIn, voice: bytes, tmp_path: Path) -> None:
    hub.commits[OLD]["voices/bf_emma.int8.onnx"] = voice + b"trained again"
    with pytest.raises(BadDownload, match="another voices/bf_emma"):
        pull("emma", tmp_path, endpoint=hub.url)
    assert not list(tmp_path.rglob("*.onnx"))


def test_unknown_name() -> None:
    with pytest.raises(UnknownModel, match=r"there are emma, .*, s1-mini"):
        pull("s2-pro", "/nowhere")


def test_unknown_repository(hub: StandIn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = sources.Source(repo="some/where", revision="main", licence="MIT", terms="", files=("a",))
    monkeypatch.setattr(sources, "SOURCES", {"s1-mini": other})
    with pytest.raises(UnknownModel, match="not on the hub"):
        fetch(hub, tmp_path)


def test_nobody_there(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="no connection to the hub"):
        pull("s1-mini", tmp_path, accept_licence=True, endpoint="http://127.0.0.1:9")


def test_without_the_hub_library_the_way_out_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    monkeypatch.delitem(sys.modules, "saywell.hub.client", raising=False)
    with pytest.raises(MissingDependency, match=r"saywell\[hub\]"):
        pull("s1-mini", tmp_path, accept_licence=True)


def test_endpoint_of_the_environment(hub: StandIn, tmp_path: Path) -> None:
    program = f"from saywell.hub.weights import pull; print(pull('s1-mini', {str(tmp_path)!r}, accept_licence=True))"
    environment = {"HF_ENDPOINT": hub.url, "HF_TOKEN": TOKEN, "HF_HOME": str(tmp_path / "home")}
    hub.gated = True
    out = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True)
    assert held(Path(out.stdout.strip()), hub.commits[OLD])


def test_catalogue_imports_nothing_heavy() -> None:
    program = (
        "import sys, saywell.hub.weights; print([m for m in ('torch', 'huggingface_hub', 'numpy') if m in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout == "[]\n"
