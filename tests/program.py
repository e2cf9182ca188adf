"""`saywell serve` with eSpeak NG in a child process."""

from __future__ import annotations

import re
import subprocess
import sys
import threading

import httpx
import psutil

SENTENCE = "The quick brown fox jumps over the lazy dog, and nobody minds."


class Program:
    def __init__(self) -> None:
        code = "from saywell.cli import main; main()"
        self.process = subprocess.Popen(
            [sys.executable, "-c", code, "serve", "--port", "0", "--model", "espeak"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout is not None
        self.url = ""
        for line in self.process.stdout:
            self.url = self.url or "".join(re.findall(r"http://[\d.:]+", line)[:1])
            if line.startswith("Ready"):
                break
        self.client = httpx.Client(base_url=self.url, timeout=30)
        self._log: list[str] = []
        assert self.process.stderr is not None
        self._reader = threading.Thread(target=lambda pipe: self._log.extend(pipe), args=(self.process.stderr,))
        self._reader.start()

    def ask(self, text: str = SENTENCE, **fields) -> dict:
        return {"method": "POST", "url": "/v1/audio/speech", "json": {"input": text, **fields}}

    def end(self) -> tuple[int, str]:
        self.client.close()
        children = psutil.Process(self.process.pid).children(recursive=True)
        self.process.terminate()
        code = self.process.wait(10)
        self._reader.join(5)
        _, alive = psutil.wait_procs(children, timeout=5)
        assert not alive
        self.process.stdout.close()
        self.process.stderr.close()
        return code, "".join(self._log)
