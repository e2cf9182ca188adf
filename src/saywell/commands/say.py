"""`saywell say`: text from anywhere, speech to a file, a pipe or the loudspeaker."""

from __future__ import annotations

import codecs
import logging
import os
import stat
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TextIO

import msgspec

from saywell.audio.decode import decode_file
from saywell.audio.encode import FORMATS, format_of
from saywell.commands import play, show
from saywell.commands.sinks import FileSink, Sink, StreamingFileSink, StreamSink, WithCodes, check_place
from saywell.engine import launch
from saywell.engine.admission import check_request
from saywell.engine.performance import Performance, performance
from saywell.errors import InvalidRequest, InvalidText, TooLarge
from saywell.files import open_file
from saywell.machine.monitor import process_memory, resources
from saywell.settings import Settings
from saywell.types import Reference, Request

if TYPE_CHECKING:
    from saywell.engine.launch import TTS
    from saywell.engine.stream import Stream
    from saywell.types import Summary, Timestamp

LONG = 300
"""Characters from which a progress bar is worth showing."""
MAX_CHARS = 10_000_000
MOST_BYTES = 4 * MAX_CHARS
"""Of as many characters in UTF-8."""
_STDIN = "standard input"
_PIPE_BYTES = 1 << 16
"""Read from a pipe at once, if there are as many."""
PATIENT_S = 86_400.0
"""Nobody else waits for the engine of a command, so it has all day unless told otherwise."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """What the options of `say` ask for."""

    text: str | None
    file: Path | None
    output: str | None
    format: str | None
    stream: bool
    json: bool
    verbose: bool
    codes_out: Path | None = None
    timestamps: Path | None = None
    reference: Path | None = None
    transcript: str = ""


def run(job: Job, settings: Settings, fields: dict[str, Any]) -> None:
    """Speak. `fields`: those of a request. Raises SaywellError and OSError."""
    _check_reference(job)
    text = _text(job)
    if job.reference is not None:
        fields["reference"] = read_reference(job.reference, job.transcript)
    sink, where = _sink(job)
    for option, beside in (("--timestamps", job.timestamps), ("--codes-out", job.codes_out)):
        if beside is not None:
            check_place(beside, option)
    if job.codes_out is not None:
        sink = WithCodes(sink, job.codes_out)
    screen = show.console(stderr=job.json or where == "-")
    if "voice" in fields:
        settings = replace(settings, voice=fields["voice"])  # it also decides about a model that is not named
    decision = launch.decide(_patient(settings, text))
    request = _request(job, decision, text, fields)
    with _steps_told(job.verbose), launch.start(decision) as speaker:
        if job.verbose:
            screen.print(show.hardware_panel(speaker.hardware))
            screen.print(show.plan_panel(speaker.plan, full=False))
        before = process_memory()
        stream = speaker.stream(request) if text is not None else launch.feed(speaker.engine, request, _arriving())
        summary, words = _speak(stream, sink)
        if job.timestamps is not None:
            _write_timestamps(job.timestamps, words, summary)
        voice = request.voice or speaker.spec.default_voice
        if job.json:
            print(_json(speaker, summary, _report(summary, before), where, voice))  # noqa: T201
        elif job.verbose:
            screen.print(show.result_panel(summary, _report(summary, before), _told(where), voice))
        elif where not in ("-", "") and sys.stderr.isatty():
            note = f"{where}: {summary.audio_s:.1f} s, first audio after {1000 * summary.first_audio_s:.0f} ms"
            print(f"{note}, RTF {summary.rtf:.3f}", file=sys.stderr)  # noqa: T201


def _request(job: Job, decision: launch.Decision, text: str | None, fields: dict[str, Any]) -> Request:
    """What the options ask for. `text`: None if it arrives. Raises what can be said against it before any load."""
    timeout_s = decision.settings.timeout_s or PATIENT_S
    request = launch.make_request(text or "", decision.settings, **{"timeout_s": timeout_s, **fields})
    if job.codes_out is not None and decision.spec.kind == "single-shot":
        raise InvalidRequest(f"{decision.spec.name} has no codes to write; leave --codes-out out", param="codes_out")
    check_request(request, decision.spec, decision.plan, more=text is None)
    return request


def _speak(stream: Stream, sink: Sink) -> tuple[Summary, list[Timestamp]]:
    """Carry every chunk to the sink while the progress bar follows the text."""
    words: list[Timestamp] = []
    with ExitStack() as stack:
        stack.callback(stream.close)
        advance = stack.enter_context(_progress(len(stream.request.text)))
        try:
            said = 0
            for chunk in stream:
                sink.write(chunk.samples, chunk.sample_rate)
                if isinstance(sink, WithCodes):
                    sink.frames.extend(chunk.frames)
                said += len(chunk.text)
                words += chunk.timestamps
                if chunk.final:
                    advance(said)
            sink.close()
        except BaseException:
            sink.abort()
            raise
    if stream.summary is None:
        raise InvalidText("there was nothing to say", param="text")
    return stream.summary, words


def _write_timestamps(path: Path, words: list[Timestamp], summary: Summary) -> None:
    told = {"duration": round(summary.audio_s, 4), "words": [word.json() for word in words]}
    path.write_bytes(msgspec.json.format(msgspec.json.encode(told), indent=1))


def _patient(settings: Settings, text: str | None) -> Settings:
    """What the server needs to protect itself from many is in the way of a single one."""
    overrides: dict[str, Any] = {}
    chars = MAX_CHARS if text is None else len(text)
    if settings.max_text_chars is None and chars > 5000:
        overrides["max_text_chars"] = chars
    origins = {**settings.origins, **{name: settings.origins.get(name, "the say command") for name in overrides}}
    return replace(settings, **overrides, origins=origins)


# -- the text


def _text(job: Job) -> str | None:
    """None: it is to be spoken while it arrives on standard input."""
    if job.text not in (None, "-") and job.file is not None:
        raise InvalidRequest("give the text or --file, not both", param="text")
    if job.file is not None and str(job.file) != "-":
        with open_file(job.file, devices=True) as file:
            return _decoded(file.read(MOST_BYTES + 1), str(job.file))
    if job.text not in (None, "-"):
        return str(job.text)
    if job.text is None and job.file is None and sys.stdin.isatty():
        raise InvalidRequest('nothing to say: saywell say "Hello there.", or pipe a text in, or --file', param="text")
    return None if job.stream else _decoded(sys.stdin.buffer.read(MOST_BYTES + 1), _STDIN)


def _arriving() -> Iterator[str]:
    """The text on standard input, as it comes. Raises InvalidText.

    By its descriptor: a thread left waiting in Python's buffered reader breaks the end of the program.
    """
    decoder, read, data = codecs.getincrementaldecoder("utf-8-sig")(), 0, b"-"
    while data:
        data = os.read(sys.stdin.fileno(), _PIPE_BYTES)
        begins = read - len(decoder.getstate()[0])
        try:
            text = decoder.decode(data, final=not data)
        except UnicodeDecodeError as error:
            raise _not_utf8(_STDIN, begins + error.start) from error
        read += len(data)
        yield text


def _not_utf8(origin: str, at: int) -> InvalidText:
    return InvalidText(f"{origin} is not UTF-8 text (byte {at}); convert it first", param="text")


def _decoded(data: bytes, origin: str) -> str:
    """The text of at most MOST_BYTES, and one more where there is more: that may be half a character."""
    try:
        text = data.decode("utf-8-sig") if len(data) <= MOST_BYTES else ""
    except UnicodeDecodeError as error:
        raise _not_utf8(origin, error.start) from error
    if len(data) > MOST_BYTES or len(text) > MAX_CHARS:
        raise TooLarge(f"{origin} has more than {MAX_CHARS} characters; split it", param="text")
    return text


def _check_reference(job: Job) -> None:
    if job.transcript and job.reference is None:
        message = "--transcript is what is said in a recording; add --reference FILE"
        raise InvalidRequest(message, param="transcript")
    if str(job.reference) == "-" and (str(job.file) == "-" or (job.file is None and job.text in (None, "-"))):
        message = "standard input cannot be both the recording and the text; give the text as an argument or by --file"
        raise InvalidRequest(message, param="reference")


def read_reference(path: Path, transcript: str) -> Reference:
    """A recording to speak like, opened where a hostile file can do no harm; `-` is standard input."""
    samples, rate = decode_file(sys.stdin.buffer if str(path) == "-" else path)
    return Reference(pcm=samples.tobytes(), sample_rate=rate, transcript=transcript)


# -- where the sound goes


def _sink(job: Job) -> tuple[Sink, str]:
    """The sink and its name: a path, `-` for standard output, empty for the loudspeaker. Checked before any work."""
    piped = not sys.stdout.isatty() and not job.json
    if job.output == "-" or (job.output is None and piped):
        return _standard_output(job), "-"
    if job.output is None:
        return play.open_player(), ""
    path = _expanded(job.output)
    check_place(path, "-o")
    format = _format(job.format or format_of(path))
    return (StreamingFileSink(path, format) if job.stream else FileSink(path, format)), str(path)


def _expanded(output: str) -> Path:
    """`~` meant as home; as it is where there is no such home."""
    try:
        return Path(output).expanduser()
    except RuntimeError:
        return Path(output)


def _standard_output(job: Job) -> Sink:
    format = _format(job.format or "wav")
    if sys.__stdout__ is None:
        raise InvalidRequest("standard output is closed; add -o hello.wav", param="output")
    if job.json:
        raise InvalidRequest("--json and the sound cannot share standard output; add -o FILE", param="json")
    if sys.stdout.isatty():
        raise InvalidRequest("sound bytes would garble the terminal; add -o hello.wav or pipe them on", param="output")
    if _is_file(sys.stdout) and not job.stream:
        return FileSink(sys.stdout.buffer, format)  # a file can have a header with the right length
    return StreamSink(sys.stdout.buffer, format)


def _is_file(stream: TextIO) -> bool:
    """Redirected into a file rather than a pipe. What has no descriptor is no file."""
    try:
        return stat.S_ISREG(os.fstat(stream.fileno()).st_mode)
    except (OSError, ValueError):
        return False


def _format(name: str) -> str:
    if name not in FORMATS:
        raise InvalidRequest(f"no format {name!r}; there is {', '.join(FORMATS)}", param="format")
    return name


# -- what is shown


@contextmanager
def _steps_told(verbose: bool) -> Iterator[None]:
    """What the engine gives up on a busy machine is news for who asked for it, and in the way of everybody else."""
    log = logging.getLogger("saywell.engine.pressure_monitor")
    before = log.level
    log.setLevel(before if verbose else logging.ERROR)
    try:
        yield
    finally:
        log.setLevel(before)


class Advance(Protocol):
    def __call__(self, characters: int, /) -> None: ...


@contextmanager
def _progress(characters: int) -> Iterator[Advance]:
    """A bar on standard error, for long texts on a terminal."""
    if characters < LONG or not sys.stderr.isatty():
        yield lambda _: None
        return
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

    columns = (TextColumn("speaking"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    with Progress(*columns, console=show.console(stderr=True), transient=True) as bar:
        task = bar.add_task("speaking", total=characters)
        yield lambda characters: bar.update(task, completed=characters)


def _told(where: str) -> str:
    return {"": "played", "-": "standard output"}.get(where, str(Path(where).absolute()))


def _report(summary: Summary, before: int) -> Performance:
    """`before`: resident bytes before it was spoken."""
    return performance(summary, before, process_memory(), resources())


def _json(speaker: TTS, summary: Summary, report: Performance, where: str, voice: str) -> str:
    plan = speaker.plan
    told = {
        "path": where or None,
        "model": plan.model,
        "voice": voice,
        "finish_reason": summary.finish_reason,
        "duration_s": round(summary.audio_s, 6),
        "ttfa_s": round(summary.first_audio_s, 6),
        "total_s": round(summary.total_s, 6),
        "rtf": round(summary.rtf, 6),
        "seed": summary.seed,
        "performance": report.json(),
        "plan": {
            "device": str(plan.device),
            **{
                name: getattr(plan, name)
                for name in ("executor", "precision", "threads", "max_batch_size", "chunk_chars")
            },
        },
    }
    return show.as_json(told, indent=None)
