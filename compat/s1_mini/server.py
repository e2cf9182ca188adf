"""`python -m s1_mini.server --checkpoint DIR --port 8080`: Saywell's server with the S1-Mini engine's options.

Reads the S1_MINI_* variables; options override them.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from s1_mini.config import BACKENDS, PRECISIONS, TIMEOUT_S, settle
from saywell.engine.launch import build
from saywell.errors import SaywellError
from saywell.server.app import serve
from saywell_compat.lenient import DEFAULT_CHECKPOINT
from saywell_compat.variables import device

PORT = 8080


def main(args: list[str] | None = None) -> int:
    """Serve until stopped. Returns the exit code."""
    options = _parser().parse_args(args)
    try:
        decision = settle(_overrides(options), variables=True)
        return serve(build(decision, worker=True), decision)
    except SaywellError as error:
        print(f"s1_mini.server: {error.message}", file=sys.stderr)  # noqa: T201 - a command's error message
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m s1_mini.server", description=__doc__)
    parser.add_argument(
        "--checkpoint",
        type=Path,
        help=f"model directory, converted or as published (default {DEFAULT_CHECKPOINT} if it exists, else the "
        "built-in voice)",
    )
    parser.add_argument("--host", help="address to listen on (default 127.0.0.1; others need SAYWELL_API_KEYS)")
    parser.add_argument("--port", type=int, default=PORT, help=f"default {PORT}")
    parser.add_argument("--device", help="cuda, cpu, mps or auto; also as cuda:0")
    parser.add_argument("--precision", choices=tuple(PRECISIONS))
    parser.add_argument("--compile-backend", choices=BACKENDS)
    parser.add_argument("--timeout", type=float, help=f"seconds a request may take (default {TIMEOUT_S:g})")
    return parser


def _overrides(options: argparse.Namespace) -> dict[str, Any]:
    return {
        "model_path": options.checkpoint,
        "host": options.host,
        "port": options.port,
        "device": None if options.device is None else device(options.device, "--device"),
        "precision": PRECISIONS.get(options.precision),
        "compile": None if options.compile_backend == "auto" else options.compile_backend,
        "timeout_s": options.timeout,
    }


if __name__ == "__main__":
    sys.exit(main())
