"""The command line: options and error handling. The commands themselves are in `commands`."""

from __future__ import annotations

import codecs
import io
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Annotated, Any

import typer

from saywell import __version__

# Plain help: importing rich would double the time --help takes.
app = typer.Typer(no_args_is_help=True, add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)
state = {"debug": False, "signal": 0}

BROKEN_PIPE, INTERRUPTED = 141, 130
"""128 + the signal, as shells report them."""
_RETRY_S = 0.02
"""Delay after which a signal that arrives during an import is raised again."""

_REPLACE = "saywell-replace"
_REPLACEMENTS = {"✓": "+", "✗": "x", "→": ">", "×": "x", "–": "-", "—": "-", "…": "."}
"""Error handler of the standard streams: ASCII for characters that their encoding lacks."""

Model = Annotated[str | None, typer.Option("--model", "-m", help="Name or directory of the model.")]
Voice = Annotated[str | None, typer.Option("--voice", "-v", help="The voice; see `saywell voices`.")]
Reference = Annotated[Path | None, typer.Option("--reference", help="A recording to clone; - is standard input.")]
Transcript = Annotated[str, typer.Option("--transcript", help="What is said in the recording.")]
Set = Annotated[
    list[str] | None, typer.Option("--set", metavar="NAME=VALUE", help="Any other setting, e.g. threads=2. May repeat.")
]
Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]


class Terminated(KeyboardInterrupt):
    """SIGTERM or SIGHUP, handled like Ctrl-C so that no incomplete file is left."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.code = 128 + number


def main() -> None:
    """The `saywell` program."""
    _open_streams()
    signal.signal(signal.SIGTERM, _on_signal)
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
        signal.signal(signal.SIGINT, _on_signal)
    if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # nohup
        signal.signal(signal.SIGHUP, _on_signal)
    try:
        app(prog_name="saywell")
    except KeyboardInterrupt as error:
        sys.exit(_code_of(error))
    except SystemExit as leaving:
        if leaving.code == INTERRUPTED and state["signal"]:  # typer exits with 130 for every KeyboardInterrupt
            leaving.code = 128 + state["signal"]
        raise


def _open_streams() -> None:
    """Open /dev/null for closed standard streams (services, pythonw), and replace characters an encoding lacks.

    The descriptors are opened in order: no other file may get the number of a standard stream, which children inherit.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, Path(os.devnull).open(mode, encoding="utf-8"))  # noqa: SIM115 - until the end
    codecs.register_error(_REPLACE, _replaced)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=_REPLACE)


def _replaced(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return "".join(_REPLACEMENTS.get(char, "?") for char in error.object[error.start : error.end]), error.end


def _on_signal(number: int, frame: FrameType | None) -> None:
    if _importing(frame):
        # An exception raised inside an import becomes an ImportError, or a crash in an extension module.
        threading.Timer(_RETRY_S, signal.raise_signal, (number,)).start()
        return
    state["signal"] = number
    raise KeyboardInterrupt if number == signal.SIGINT else Terminated(number)


def _importing(frame: FrameType | None) -> bool:
    while frame is not None:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            return True
        frame = frame.f_back
    return False


def _code_of(error: KeyboardInterrupt) -> int:
    return error.code if isinstance(error, Terminated) else INTERRUPTED


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"saywell {__version__}")
        raise typer.Exit


Parameters = Annotated[
    list[str] | None,
    typer.Option("--option", metavar="NAME=VALUE", help="A parameter of this model, such as cfg_weight=0.3."),
]
Version = Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")]
Debug = Annotated[bool, typer.Option("--debug", help="Show where an error comes from.")]


@app.callback()
def program(version: Version = False, debug: Debug = False) -> None:  # noqa: ARG001 - its callback acts
    """Text-to-speech that adapts to this machine."""
    state["debug"] = debug


@app.command()
def say(
    text: Annotated[str | None, typer.Argument(help="What to say; - or nothing reads standard input.")] = None,
    file: Annotated[Path | None, typer.Option("--file", "-f", help="Read the text from a file.")] = None,
    output: Annotated[
        str | None,
        typer.Option("--output", "-o", help="Write to a file (.wav .mp3 .flac .opus .aac .pcm), - for stdout."),
    ] = None,
    voice: Voice = None,
    model: Model = None,
    language: Annotated[str | None, typer.Option("--language", "-l", help="Language tag such as en or de.")] = None,
    speed: Annotated[float, typer.Option("--speed", "-s", help="0.25 to 4.")] = 1.0,
    format: Annotated[
        str | None, typer.Option("--format", help="Output format; by default the extension of the file.")
    ] = None,
    seed: Annotated[int | None, typer.Option("--seed", help="The same seed gives the same audio.")] = None,
    timeout: Annotated[float | None, typer.Option("--timeout", help="Give up after this many seconds.")] = None,
    reference: Reference = None,
    transcript: Transcript = "",
    precision: Annotated[str | None, typer.Option("--precision", help="fp32, int8 or int4.")] = None,
    temperature: Annotated[float | None, typer.Option("--temperature", help="0 (greedy) to 2.")] = None,
    top_p: Annotated[float | None, typer.Option("--top-p", help="Above 0, up to 1.")] = None,
    repetition_penalty: Annotated[float | None, typer.Option("--repetition-penalty", help="1 is none.")] = None,
    option: Parameters = None,
    max_frames: Annotated[int | None, typer.Option("--max-frames", help="Longest sequence, in frames.")] = None,
    raw: Annotated[bool, typer.Option("--raw", help="Speak the text as one chunk, without normalising it.")] = False,
    codes_out: Annotated[Path | None, typer.Option("--codes-out", help="Write the frames' codes (.npy).")] = None,
    markup: Annotated[
        str | None, typer.Option("--markup", help="How markup is read: auto, plain, markdown or html.")
    ] = None,
    explain: Annotated[
        bool, typer.Option("--explain", help="Print how the text is read, by which rules, and speak nothing.")
    ] = False,
    timestamps: Annotated[
        Path | None, typer.Option("--timestamps", help="Write the times of words and phones (.json).")
    ] = None,
    stream: Annotated[
        bool, typer.Option("--stream", help="Speak text from a pipe as it arrives; write the file while speaking.")
    ] = False,
    json: Json = False,
    verbose: Annotated[bool, typer.Option("--verbose", help="Show the machine, the plan and the figures.")] = False,
    set_: Set = None,
) -> None:
    """Speak: aloud, into a file, or into a pipe."""
    with _guard():
        from saywell.commands.say import Options, parameters, run

        fields = {
            "voice": voice, "language": language, "speed": speed, "seed": seed, "timeout_s": timeout,
            "temperature": temperature, "top_p": top_p, "repetition_penalty": repetition_penalty,
            "max_frames": max_frames, "raw": raw or None, "keep_frames": codes_out is not None or None,
            "timestamps": timestamps is not None or None, "markup": markup, "options": parameters(option or ()) or None,
        }  # fmt: skip
        options = Options(
            text=text, file=file, output=output, format=format, stream=stream, json=json, verbose=verbose,
            codes_out=codes_out, timestamps=timestamps, reference=reference, transcript=transcript, explain=explain,
        )  # fmt: skip
        given = {name: value for name, value in fields.items() if value is not None}
        run(options, _settings(set_, model=model, precision=precision), given)


@app.command()
def serve(
    host: Annotated[str | None, typer.Option("--host", help="Address to listen on; 127.0.0.1 by default.")] = None,
    port: Annotated[int | None, typer.Option("--port", "-p", help="Port to listen on.")] = None,
    model: Model = None,
    voice: Voice = None,
    api_key: Annotated[
        list[str] | None, typer.Option("--api-key", help="A key clients must send; better set SAYWELL_API_KEYS.")
    ] = None,
    allow_public: Annotated[
        bool | None, typer.Option("--allow-public", help="Listen on a public address without a key.")
    ] = None,
    cors_origin: Annotated[list[str] | None, typer.Option("--cors-origin", help="Web origin allowed to call.")] = None,
    log_level: Annotated[str | None, typer.Option("--log-level", help="debug, info, warning or error.")] = None,
    log_json: Annotated[bool | None, typer.Option("--log-json", help="Log lines as JSON objects.")] = None,
    set_: Set = None,
) -> None:
    """Serve speech over HTTP: the OpenAI speech API and more."""
    with _guard():
        settings = _settings(
            set_, host=host, port=port, model=model, voice=voice, allow_public=allow_public, log_level=log_level,
            log_json=log_json, api_keys=api_key or None, cors_origins=cors_origin or None,
        )  # fmt: skip
        from saywell.server.app import run

        raise typer.Exit(run(settings))


@app.command()
def plan(
    model: Model = None,
    machine: Annotated[Path | None, typer.Option("--machine", help="Plan for a recorded machine (JSON).")] = None,
    json: Json = False,
    set_: Set = None,
) -> None:
    """Show this machine, the plan for it, and the reasons."""
    with _guard():
        from saywell.commands.plan import run

        run(_settings(set_, model=model), machine, as_json=json)


@app.command()
def tune(
    model: Model = None,
    seconds: Annotated[float, typer.Option("--seconds", min=1, max=36_000, help="Time limit.")] = 60.0,
    goal: Annotated[str, typer.Option("--for", help="What to optimise: throughput or latency.")] = "throughput",
    first_ms: Annotated[
        float, typer.Option("--first-ms", min=1, help="Limit of the time to first audio, for throughput.")
    ] = 500.0,
    allow: Annotated[
        list[str] | None, typer.Option("--allow", metavar="PRECISION", help="Also try this precision. May repeat.")
    ] = None,
    forget: Annotated[bool, typer.Option("--forget", help="Delete earlier measurements; measure nothing.")] = False,
    json: Json = False,
    set_: Set = None,
) -> None:
    """Time the choices of the plan on this machine, and keep the fastest."""
    with _guard():
        from saywell.commands.tune import Wanted, run

        wanted = Wanted(seconds=seconds, goal=goal, first_ms=first_ms, allow=allow or (), forget=forget, as_json=json)
        run(_settings(set_, model=model), wanted)


@app.command()
def doctor(json: Json = False, set_: Set = None) -> None:
    """Show what is installed, what is missing, and what to do about it."""
    with _guard():
        from saywell.commands.doctor import run

        raise typer.Exit(run(_settings(set_), as_json=json))


@app.command()
def voices(
    model: Model = None,
    save: Annotated[str | None, typer.Option("--save", metavar="NAME", help="Save --reference as a voice.")] = None,
    reference: Reference = None,
    transcript: Transcript = "",
    delete: Annotated[str | None, typer.Option("--delete", metavar="NAME", help="Delete a saved voice.")] = None,
    json: Json = False,
    set_: Set = None,
) -> None:
    """List the voices; save a recording as a voice, or delete one."""
    with _guard():
        from saywell.commands import voices as command

        settings = _settings(set_, model=model)
        if save is not None or reference is not None or transcript:
            command.save(settings, save, reference, transcript)
        if delete is not None:
            command.delete(settings, delete)
        command.run(settings, as_json=json)


@app.command()
def models(json: Json = False, set_: Set = None) -> None:
    """List the installed models, and which of them a server on this machine has loaded."""
    with _guard():
        from saywell.commands.installed import run

        run(_settings(set_), as_json=json)


@app.command()
def bench(
    model: Model = None,
    streams: Annotated[
        list[int] | None, typer.Option("--streams", min=1, max=1024, help="Concurrent requests. May repeat.")
    ] = None,
    length: Annotated[
        list[int] | None, typer.Option("--length", min=10, max=100_000, help="Characters per text. May repeat.")
    ] = None,
    repeats: Annotated[int | None, typer.Option("--repeats", min=1, max=10_000, help="Repeats.")] = None,
    ablation: Annotated[
        bool, typer.Option("--ablation", help="In a memory limit, add budget, affinity and estimate one by one.")
    ] = False,
    limit: Annotated[
        int | None,
        typer.Option("--limit", metavar="MB", min=1, max=10_000_000, help="Limit of the ablation (default 512)."),
    ] = None,
    plot: Annotated[Path | None, typer.Option("--plot", help="Plot the result into a PNG file.")] = None,
    json: Json = False,
    set_: Set = None,
) -> None:
    """Measure the model on this machine: memory bandwidth ceiling, first audio, RTF, memory."""
    with _guard():
        from saywell.commands.bench import Options, run

        options = Options(
            ablation=ablation, streams=streams or (), lengths=length or (), repeats=repeats, limit_mb=limit, plot=plot,
            as_json=json,
        )  # fmt: skip
        raise typer.Exit(run(_settings(set_, model=model), options))


@app.command()
def convert(
    directory: Annotated[Path, typer.Argument(help="A published checkpoint.")],
    out: Annotated[
        Path | None, typer.Option("--output", "-o", help="Target directory; by default the model is installed.")
    ] = None,
    precision: Annotated[list[str] | None, typer.Option("--precision", help="Only this precision. May repeat.")] = None,
    calibration: Annotated[int | None, typer.Option("--calibration", help="Calibration sentences (default 4).")] = None,
    set_: Set = None,
) -> None:
    """Convert a published checkpoint for the engine. Needs torch."""
    with _guard():
        from saywell.commands.models import convert as run

        run(directory, out, precision or [], calibration, _settings(set_))


@app.command()
def pull(
    name: Annotated[str, typer.Argument(help="Name of the weights, e.g. s1-mini.")],
    out: Annotated[Path | None, typer.Option("--output", "-o", help="Directory to download into.")] = None,
    accept_license: Annotated[bool, typer.Option("--accept-license", help="You accept the weights' licence.")] = False,
    revision: Annotated[str | None, typer.Option("--revision", help="A commit of the repository.")] = None,
    set_: Set = None,
) -> None:
    """Download published weights from Hugging Face, verified; shows their licence first."""
    with _guard():
        from saywell.commands.models import pull as run

        run(name, out, _settings(set_), accept_license=accept_license, revision=revision)


Codec = Annotated[Path, typer.Option("--model", "-m", help="Directory of a converted model.")]


@app.command()
def encode(
    audio: Annotated[Path, typer.Argument(help="An audio file.")],
    model: Codec,
    out: Annotated[Path, typer.Option("--output", "-o", help="Codes file (.npy).")],
) -> None:
    """Encode audio into a model's codes."""
    with _guard():
        from saywell.commands.models import encode as run

        run(audio, model, out)


@app.command()
def decode(
    codes: Annotated[Path, typer.Argument(help="Codes file (.npy).")],
    model: Codec,
    out: Annotated[Path, typer.Option("--output", "-o", help="Audio file.")],
) -> None:
    """Decode a model's codes into audio, at the codec's own level."""
    with _guard():
        from saywell.commands.models import decode as run

        run(codes, model, out)


def _settings(pairs: list[str] | None, **overrides: Any) -> Any:
    """Settings from a command's options. `pairs`: those of --set."""
    from saywell.settings import load_settings, parse_pairs

    overrides.update(parse_pairs(pairs or [], "the command line"))
    return load_settings(overrides, origin="the command line")


@contextmanager
def _guard() -> Iterator[None]:
    """Print errors as one line. Exit code 2 for a user's mistake, 1 for everything else."""
    from saywell.errors import SaywellError

    try:
        yield
        sys.stdout.flush()
    except typer.Exit:
        raise
    except KeyboardInterrupt as error:
        raise typer.Exit(_code_of(error)) from None
    except BrokenPipeError:
        # The reader has closed the pipe. Python must not flush into it at exit either.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise typer.Exit(BROKEN_PIPE) from None
    except SaywellError as error:
        _complain(error.message)
        raise typer.Exit(2 if 400 <= error.status < 500 else 1) from error
    except OSError as error:
        _complain(f"{error.strerror or error}{f': {error.filename}' if error.filename else ''}")
        raise typer.Exit(1) from error
    except MemoryError as error:
        _complain("out of memory; close other programs, or raise the memory limit of this one")
        raise typer.Exit(1) from error
    except ImportError as error:
        package = (error.name or "").partition(".")[0]
        if package in ("", "saywell"):
            raise _bug(error) from error
        _complain(f"the package {package} is damaged ({_brief(error)}): pip install --force-reinstall {package}")
        raise typer.Exit(1) from error
    except Exception as error:  # one line for the user; --debug shows the traceback
        raise _bug(error) from error


def _bug(error: Exception) -> typer.Exit:
    _complain(f"internal error: {type(error).__name__}: {error} (saywell --debug … shows where)")
    return typer.Exit(1)


def _brief(error: Exception) -> str:
    return str(error).strip().partition("\n")[0]


def _complain(message: str) -> None:
    if state["debug"]:
        import traceback

        traceback.print_exc()
    typer.secho(f"saywell: {message}", fg=typer.colors.RED, err=True)


if __name__ == "__main__":
    main()
