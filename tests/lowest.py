"""Smoke test of the plain install: `python tests/lowest.py`.

`scripts/lowest` runs it with the lowest versions of all dependencies, without pytest.
"""

from __future__ import annotations

import http.client
import json
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from urllib.parse import urlencode

import soundfile

COMMANDS = (
    "say",
    "serve",
    "plan",
    "doctor",
    "voices",
    "models",
    "tune",
    "bench",
    "pull",
    "convert",
    "encode",
    "decode",
)
TEXT = "The kettle is on, and the door is open."


def saywell(*words: str, code: int = 0) -> str:
    ran = subprocess.run([sys.executable, "-m", "saywell", *words], capture_output=True, text=True, timeout=120)
    output = ran.stdout + ran.stderr
    assert ran.returncode == code, (words, ran.returncode, output)
    assert "Traceback" not in output, (words, output)
    assert "internal error" not in output, (words, output)
    return output


def commands(folder: Path) -> None:
    assert "say" in saywell("--help")
    for name in COMMANDS:
        assert len(saywell(name, "--help")) > 50, name
        assert "--nonsense" in saywell(name, "--nonsense", code=2), name
    assert re.search(r"\d", saywell("--version"))
    for name in ("plan", "doctor", "voices"):
        saywell(name)
    for format in ("wav", "mp3", "flac", "opus", "pcm"):
        out = folder / f"x.{format}"
        saywell("say", TEXT, "-o", str(out))
        assert out.stat().st_size > 5_000, out
        if format not in ("pcm", "opus"):
            assert 1.5 < soundfile.info(str(out)).duration < 5, out


class Server:
    """`saywell serve` in a child process."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "saywell", "serve", "--port", "0"], stdout=subprocess.PIPE, text=True
        )
        assert self._process.stdout is not None
        self._port = 0
        for line in self._process.stdout:
            if found := re.search(r"http://127\.0\.0\.1:(\d+)", line):
                self._port = int(found[1])
            if line.startswith("Ready"):
                return
        raise SystemExit("the server did not start")

    def ask(self, method: str, path: str, body: str = "", kind: str = "application/json") -> tuple[int, bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=60)
        connection.request(method, path, body.encode() or None, {"Content-Type": kind} if body else {})
        answer = connection.getresponse()
        return answer.status, answer.read()

    def end(self) -> int:
        self._process.terminate()
        return self._process.wait(30)


def routes(server: Server) -> None:
    form = "application/x-www-form-urlencoded"
    speech = {"input": TEXT, "voice": "alloy", "model": "tts-1"}
    asked = [
        *(("GET", path, "", "") for path in ("/livez", "/ready", "/readyz", "/ping", "/health", "/metrics")),
        *(("GET", path, "", "") for path in ("/hardware", "/system-status", "/v1/models", "/v1/audio/voices")),
        ("GET", "/openapi.json", "", ""),
        *(("POST", "/v1/audio/speech", json.dumps({**speech, "response_format": each}), "application/json")
          for each in ("mp3", "wav", "flac", "opus", "pcm")),
        ("POST", "/v1/audio/speech", json.dumps({**speech, "stream_format": "sse"}), "application/json"),
        ("POST", "/v1/tts", json.dumps({"text": TEXT}), "application/json"),
        ("POST", "/v1/tts/stream", json.dumps({"text": TEXT}), "application/json"),
        ("POST", "/tts", urlencode({"text": TEXT}), form),
        ("POST", "/estimate-memory", urlencode({"text": TEXT}), form),
        ("POST", "/cache/clear", "", ""),
        ("POST", "/optimize-for-hardware", "", ""),
    ]  # fmt: skip
    for method, path, body, kind in asked:
        status, answer = server.ask(method, path, body, kind)
        assert status == 200, (method, path, status, answer[:300])
        assert answer or path == "/cache/clear", path
    for body, wrong in (('{"input": ""}', 422), ("{", 400), ('{"input": "x", "voice": "unknown"}', 404)):
        assert server.ask("POST", "/v1/audio/speech", body)[0] == wrong, body
    assert server.ask("GET", "/nowhere")[0] == 404


def main() -> None:
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        commands(Path(folder))
    server = Server()
    try:
        routes(server)
    finally:
        code = server.end()
    assert code == 0, code
    print(f"Python {sys.version.split()[0]}: everything ran, {time.monotonic() - began:.0f} s")


if __name__ == "__main__":
    main()
