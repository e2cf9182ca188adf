"""The HTTP server: the ASGI application around one engine, and the process that runs it until stopped."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress

import anyio.to_thread
from fastapi import FastAPI
from rich.console import Console

from saywell import __version__
from saywell.commands import show
from saywell.engine import SpeechEngine
from saywell.engine.launch import Decision, build, decide
from saywell.server import errors, extensions, middleware, routes
from saywell.server.log import set_up_logging
from saywell.server.process import Server
from saywell.server.service import DEFAULT_HOST, DEFAULT_PORT, Service, check_bind, listen
from saywell.settings import Settings


def create_app(
    engine: SpeechEngine,
    decision: Decision,
    *,
    on_ready: Callable[[Service], None] = lambda _: None,
) -> FastAPI:
    """The ASGI application around an engine not yet started; its lifespan starts and closes the engine.

    Routes use `app.state.service`. Raises PlanError for a public bind without an API key.
    """
    check_bind(decision.settings)
    service = Service(engine, decision)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        service.start(lambda: on_ready(service))
        yield
        service.draining = True
        await anyio.to_thread.run_sync(service.fleet.close)
        await anyio.to_thread.run_sync(service.close)

    # No /docs pages: they load scripts from a CDN. The document is at /openapi.json.
    app = FastAPI(title="Saywell", version=__version__, lifespan=lifespan, docs_url=None, redoc_url=None)
    app.state.service = service
    routes.install(app, service)
    extensions.install(app, service)
    errors.install(app)
    middleware.install(app, service)
    return app


def run(settings: Settings) -> int:
    """Plan, load the model in a worker process, serve until stopped. Returns the exit code of `serve`.

    Raises SaywellError.
    """
    check_bind(settings)
    decision = decide(settings)
    return serve(build(decision, worker=True), decision)


def serve(engine: SpeechEngine, decision: Decision) -> int:
    """Serve an engine not yet started. Returns the exit code: 0 after a clean shutdown, 1 if the engine failed to
    start, CUT_OFF if responses were cut off, 128 + signal number after a second signal.

    On SIGTERM or SIGINT new requests are refused and running ones get `drain_s` to finish; a second signal exits at
    once.
    """
    settings = decision.settings
    set_up_logging(settings.log_level or "info", settings.log_json or False)
    sock = listen(settings.host or DEFAULT_HOST, DEFAULT_PORT if settings.port is None else settings.port)
    url = url_of(sock)
    console = show.console(soft_wrap=True)
    app = create_app(engine, decision, on_ready=lambda service: _print_ready(console, url, service))
    server = Server(app)
    console.print(f"[bold]Saywell[/bold] {__version__} listens on [bold]{url}[/bold], loading {engine.spec.name} …")
    asyncio.run(server.serve(sockets=[sock]))
    return server.exit_code


def _print_ready(console: Console, url: str, service: Service) -> None:
    plan, voices = service.engine.plan, service.engine.voices()
    some = ", ".join(voice.id for voice in voices[:6]) + (f" and {len(voices) - 6} more" if len(voices) > 6 else "")
    key = " -H 'Authorization: Bearer KEY'" if service.keys else ""
    body = """-H 'Content-Type: application/json' -d '{"input": "Hello there."}'"""
    with suppress(BrokenPipeError):  # the server keeps running when its standard output is closed
        console.print(
            f"Ready: {plan.model} on {plan.device}, {plan.max_batch_size} at once. Voices: {some}", markup=False
        )
        console.print(f"Try:   curl {url}/v1/audio/speech{key} {body} -o hello.mp3", markup=False)


def url_of(sock: socket.socket) -> str:
    host, port = sock.getsockname()[:2]
    return f"http://[{host}]:{port}" if sock.family == socket.AF_INET6 else f"http://{host}:{port}"
