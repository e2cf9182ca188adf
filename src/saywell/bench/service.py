"""`saywell serve` in a child process on a free port, optionally in a memory limit, and a client for it."""

from __future__ import annotations

import http.client
import json
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import IO, Any

from saywell.bench.limits import MemoryLimit, enter
from saywell.errors import EngineFailure, SaywellError

SENTENCES = (
    "The lighthouse keeper lit the lamp before the ships came home through fog.",
    "A small boat crossed the bay while gulls circled over the empty harbour.",
    "She wrote down every number twice because the first list had been lost.",
    "Nobody expected the old clock to strike again after all of those years.",
    "Bring two loaves of bread and some butter from the shop at the corner.",
    "The train to the north was late so we drank our coffee in the station.",
    "Rain fell on the garden all night and by morning the river had risen.",
    "He told the story slowly as if each word were a stone to be put down.",
    "In the market they sold apples and rope and a great many old lanterns.",
)
"""Of nearly the same length, each one chunk: shorter than a first chunk, and without a clause to cut it at."""
SPEECH = "/v1/audio/speech"
TIMEOUT_S = 300.0


def text_of(chars: int) -> str:
    """Plain sentences of exactly `chars` characters."""
    text = " ".join(SENTENCES * (1 + chars // len(SENTENCES[0])))
    return text[: chars - 1] + "."


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """One streamed request as measured by its client, in seconds from sending it."""

    error: str
    """Error code; empty for success."""
    first_s: float
    """Until the first byte."""
    total_s: float
    engine_first_s: float = 0.0
    """Time to first audio as reported by the engine."""
    audio_s: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """A server that is ready."""

    port: int
    pid: int

    def speak(self, text: str, format: str = "pcm", **fields: Any) -> Answer:
        """Raises OSError or HTTPException if the server has died."""
        with closing(Client(self.port)) as client:
            return client.speak(text, format, **fields)

    def json(self, method: str, path: str, body: str = "", headers: Mapping[str, str] | None = None) -> dict[str, Any]:
        """The JSON that a route returns."""
        with closing(http.client.HTTPConnection("127.0.0.1", self.port, timeout=TIMEOUT_S)) as connection:
            connection.request(method, path, body, dict(headers or {}))
            document: dict[str, Any] = json.loads(connection.getresponse().read())
            return document

    def get(self, path: str) -> dict[str, Any]:
        return self.json("GET", path)


class Client:
    """One keep-alive connection."""

    def __init__(self, port: int) -> None:
        self.connection = http.client.HTTPConnection("127.0.0.1", port, timeout=TIMEOUT_S)

    def speak(self, text: str, format: str = "pcm", **fields: Any) -> Answer:
        body = json.dumps({"input": text, "response_format": format, "stream_format": "sse", **fields})
        began = time.perf_counter()
        self.connection.request("POST", SPEECH, body, {"Content-Type": "application/json"})
        response = self.connection.getresponse()
        data = response.read(1)
        first_s = time.perf_counter() - began
        data += response.read()
        total_s = time.perf_counter() - began
        last = json.loads(data.decode().strip().split("\n\n")[-1].removeprefix("data: "))
        if response.status != 200 or last.get("type") != "speech.audio.done":
            return Answer(error=str(last["error"]["code"]), first_s=first_s, total_s=total_s)
        timing = last["timing"]
        return Answer(error="", first_s=first_s, total_s=total_s, engine_first_s=timing["first_audio_s"],
                      audio_s=timing["audio_s"])  # fmt: skip

    def close(self) -> None:
        self.connection.close()


@contextmanager
def serving(overrides: Mapping[str, Any], limit: MemoryLimit | None = None, *, blind: bool = False) -> Iterator[Server]:
    """A server with these settings, in `limit` if given.

    `blind`: its plan uses the machine's memory, as a program does that ignores its container's limit.
    Raises EngineFailure with the server's message if it does not start.
    """
    job = {
        "overrides": {"log_level": "warning", **overrides, "port": 0},
        "limit": asdict(limit) if limit else None,
        "blind": blind,
    }
    command = [sys.executable, "-m", "saywell.bench.service", json.dumps(job, default=str)]
    with (
        tempfile.TemporaryFile("w+", encoding="utf-8") as errors,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True) as process,
    ):
        try:
            yield _ready(process, errors)
        finally:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()  # its worker exits at the end of its pipe


def _ready(process: subprocess.Popen[str], errors: IO[str]) -> Server:
    assert process.stdout is not None
    port = ""
    for line in process.stdout:
        port = port or "".join(re.findall(r"http://127\.0\.0\.1:(\d+)", line)[:1])
        if line.startswith("Ready: "):
            return Server(port=int(port), pid=process.pid)
    process.wait()
    errors.seek(0)
    last = errors.read().strip().rpartition("\n")[2]
    raise EngineFailure(last or f"the server was killed by signal {-process.returncode} while it loaded")


def run_server(job: dict[str, Any]) -> int:
    """In the child: apply the limit before anything is loaded, then serve."""
    if (limit := job["limit"]) is not None:
        enter(MemoryLimit(**{**limit, "group": Path(limit["group"]) if limit["group"] else None}))
    from saywell.engine.launch import build, decide
    from saywell.machine import detect
    from saywell.server.app import serve
    from saywell.settings import load_settings

    hardware = detect()
    if job["blind"]:
        hardware = replace(hardware, limits=replace(hardware.limits, memory=None))
    try:
        # Keys and addresses in the environment or a settings file are meant for another server.
        settings = replace(load_settings(job["overrides"]), host=None, api_keys=None, each_key=None)
        decision = decide(settings, hardware)
        return serve(build(decision, worker=True), decision)
    except SaywellError as error:
        sys.stderr.write(f"{error.message}\n")
        return 1


if __name__ == "__main__":
    sys.exit(run_server(json.loads(sys.argv[1])))
