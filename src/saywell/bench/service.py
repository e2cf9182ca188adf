"""The service as it is used: `saywell serve` in a process of its own, on a free port, in a memory limit if wanted."""

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
from urllib.parse import urlencode

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
"""Of one length, each one chunk: neither longer than a first chunk nor with a clause to cut it at."""
SPEECH = "/v1/audio/speech"
_PATIENCE_S = 300.0


def text_of(chars: int) -> str:
    """Ordinary sentences, exactly so many characters."""
    whole = " ".join(SENTENCES * (1 + chars // len(SENTENCES[0])))
    return whole[: chars - 1] + "."


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """One streamed request as its client saw it. Seconds from the moment it was sent."""

    error: str
    """The code of its failure; empty: it was spoken to the end."""
    first_s: float
    """Until the first byte."""
    total_s: float
    engine_first_s: float = 0.0
    """What the engine says it took to the first sound."""
    audio_s: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """One that is ready."""

    port: int
    pid: int
    model: str

    def speak(self, text: str, format: str = "pcm", **fields: Any) -> Answer:
        """Raises OSError and HTTPException where the server is gone."""
        with closing(Client(self.port)) as client:
            return client.speak(text, format, **fields)

    def get(self, path: str) -> dict[str, Any]:
        """What it says about itself."""
        return self._json("GET", path)

    def estimate_mb(self) -> int:
        """MiB the server says its engine holds at most."""
        form = urlencode({"text": text_of(100)})
        found = self._json("POST", "/estimate-memory", form, {"Content-Type": "application/x-www-form-urlencoded"})
        return int(found["estimate"]["busy_mb"])

    def _json(self, *request: Any) -> dict[str, Any]:
        with closing(http.client.HTTPConnection("127.0.0.1", self.port, timeout=_PATIENCE_S)) as connection:
            connection.request(*request)
            found: dict[str, Any] = json.loads(connection.getresponse().read())
            return found


class Client:
    """One keep-alive connection."""

    def __init__(self, port: int) -> None:
        self.connection = http.client.HTTPConnection("127.0.0.1", port, timeout=_PATIENCE_S)

    def speak(self, text: str, format: str = "pcm", **fields: Any) -> Answer:
        body = json.dumps({"input": text, "response_format": format, "stream_format": "sse", **fields})
        began = time.perf_counter()
        self.connection.request("POST", SPEECH, body, {"Content-Type": "application/json"})
        answer = self.connection.getresponse()
        first = answer.read(1)
        first_s = time.perf_counter() - began
        rest = answer.read()
        total_s = time.perf_counter() - began
        last = json.loads((first + rest).decode().strip().split("\n\n")[-1].removeprefix("data: "))
        if answer.status != 200 or last.get("type") != "speech.audio.done":
            return Answer(error=str(last["error"]["code"]), first_s=first_s, total_s=total_s)
        timing = last["timing"]
        return Answer(error="", first_s=first_s, total_s=total_s, engine_first_s=timing["first_audio_s"],
                      audio_s=timing["audio_s"])  # fmt: skip

    def health(self) -> float:
        """Seconds one look at /health takes."""
        began = time.perf_counter()
        self.connection.request("GET", "/health")
        self.connection.getresponse().read()
        return time.perf_counter() - began

    def close(self) -> None:
        self.connection.close()


@contextmanager
def serving(overrides: Mapping[str, Any], cage: MemoryLimit | None = None, *, blind: bool = False) -> Iterator[Server]:
    """A server with these settings. `cage`: limits it. `blind`: it plans with the machine's memory, as a program does
    that does not read its container's limit. Raises EngineFailure with what it says if it does not get ready."""
    locked = None if cage is None else {**asdict(cage), "group": str(cage.group) if cage.group else None}
    told = {"overrides": {"log_level": "warning", **overrides, "port": 0}, "cage": locked, "blind": blind}
    command = [sys.executable, "-m", "saywell.bench.service", json.dumps(told, default=str)]
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
                process.kill()  # its worker sees the end of its pipe and leaves


def _ready(process: subprocess.Popen[str], errors: IO[str]) -> Server:
    assert process.stdout is not None
    port = ""
    for line in process.stdout:
        port = port or "".join(re.findall(r"http://127\.0\.0\.1:(\d+)", line)[:1])
        if ready := re.match(r"Ready: (\S+)", line):
            return Server(port=int(port), pid=process.pid, model=ready[1])
    process.wait()
    errors.seek(0)
    said = errors.read().strip().splitlines()[-1:]
    raise EngineFailure(said[0] if said else f"the server was ended by signal {-process.returncode} while it loaded")


def _serve(told: dict[str, Any]) -> int:
    """In the child: lock in first, then decide, load, serve."""
    if (cage := told["cage"]) is not None:
        enter(MemoryLimit(**{**cage, "group": Path(cage["group"]) if cage["group"] else None}))
    from saywell.engine.launch import build, decide
    from saywell.machine import detect
    from saywell.server.app import serve
    from saywell.settings import load_settings

    hardware = detect()
    if told["blind"]:
        hardware = replace(hardware, limits=replace(hardware.limits, memory=None))
    try:
        # What the environment or a file says about keys and addresses is for another server.
        settings = replace(load_settings(told["overrides"]), host=None, api_keys=None, each_key=None)
        decision = decide(settings, hardware)
        return serve(build(decision, worker=True), decision)
    except SaywellError as error:
        sys.stderr.write(f"{error.message}\n")
        return 1


if __name__ == "__main__":
    sys.exit(_serve(json.loads(sys.argv[1])))
