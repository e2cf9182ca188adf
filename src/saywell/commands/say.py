"""`saywell say`: text from an argument, a file or standard input; speech to a file, a pipe or a player."""

from __future__ import annotations

import codecs
import logging
import os
import stat
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import msgspec
from rich.markup import escape

from saywell.audio.decode import decode_file
from saywell.audio.encode import format_of
from saywell.audio.formats import FORMATS
from saywell.commands import play, show
from saywell.commands.sinks import FileSink, Sink, StreamSink, WithCodes, check_place
from saywell.engine import launch
from saywell.engine.admission import check_request
from saywell.engine.performance import Performance, performance
from saywell.errors import InvalidRequest, InvalidText, TooLarge
from saywell.files import open_file
from saywell.machine.monitor import process_memory, resources
from saywell.models.base import language_of, phones_of
from saywell.settings import Settings
from saywell.text.check import check as check_text
from saywell.text.lexicon import Lexicon
from saywell.text.normalise import explain, normalise
from saywell.types import Reference, Request

if TYPE_CHECKING:
    from saywell.engine.launch import TTS
    from saywell.engine.stream import Stream
    from saywell.types import Summary, Timestamp

PROGRESS_CHARS = 300
"""Length of a text from which a progress bar is shown."""
SERVER_CHARS = 5000
"""Length of a text from which the plan's own limit, made for servers, is raised."""
MAX_CHARS = 10_000_000
MAX_BYTES = 4 * MAX_CHARS
"""Of a text of MAX_CHARS in UTF-8."""
PIPE_BYTES = 1 << 16
TIMEOUT_S = 86_400.0
"""Nothing else waits for this engine, so a request has a day unless --timeout or the settings say otherwise."""
_STDIN = "standard input"


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """The options of `say` that are no fields of a request."""

    text: str | None
    file: Path | None
    output: str | None
    format: str | None
    stream: bool
    json: bool
    verbose: bool
    codes_out: Path | None
    timestamps: Path | None
    reference: Path | None
    transcript: str
    explain: bool

    @property
    def text_from_stdin(self) -> bool:
        return str(self.file) == "-" or (self.file is None and self.text in (None, "-"))


def parameters(given: Iterable[str]) -> dict[str, float | str]:
    """`NAME=VALUE` by name; a value that is a number becomes one. Raises InvalidRequest."""
    found = dict[str, float | str]()
    for each in given:
        name, equals, value = each.partition("=")
        if not equals:
            raise InvalidRequest(f"--option takes NAME=VALUE, not {each!r:.80}", param="option")
        try:
            found[name] = float(value)
        except ValueError:
            found[name] = value
    return found


def run(options: Options, settings: Settings, fields: dict[str, Any]) -> None:
    """Speak. `fields`: those of a request. Raises SaywellError and OSError."""
    _check_reference(options)
    text = _text(options)
    if options.explain:
        _explain(text or "", settings, fields, as_json=options.json)
        return
    if options.reference is not None:
        fields["reference"] = read_reference(options.reference, options.transcript)
    sink, target = _sink(options)
    for option, path in (("--timestamps", options.timestamps), ("--codes-out", options.codes_out)):
        if path is not None:
            check_place(path, option)
    if options.codes_out is not None:
        sink = WithCodes(sink, options.codes_out)
    if "voice" in fields:
        settings = replace(settings, voice=fields["voice"])  # a voice can imply the model
    decision = launch.decide(_with_text_limit(settings, text))
    request = _request(options, decision, text, fields)
    screen = show.console(stderr=options.json or target == "-")
    with _pressure_logged(options.verbose), launch.start(decision) as tts:
        if options.verbose:
            screen.print(show.hardware_panel(tts.hardware))
            screen.print(show.plan_panel(tts.plan, full=False))
        memory_before = process_memory()
        stream = tts.stream(request) if text is not None else launch.feed(tts.engine, request, _arriving_text())
        summary, words = _speak(stream, sink)
        report = performance(summary, memory_before, process_memory(), resources())
        if options.timestamps is not None:
            _write_timestamps(options.timestamps, words, summary)
        voice = request.voice or tts.spec.default_voice
        if options.json:
            print(_json(tts, summary, report, target, voice))  # noqa: T201
        elif options.verbose:
            screen.print(show.result_panel(summary, report, _target_name(target), voice))
        elif target not in ("-", "") and sys.stderr.isatty():
            note = f"{target}: {summary.audio_s:.1f} s, first audio after {1000 * summary.first_audio_s:.0f} ms"
            print(f"{note}, RTF {summary.rtf:.3f}", file=sys.stderr)  # noqa: T201


def _request(options: Options, decision: launch.Decision, text: str | None, fields: dict[str, Any]) -> Request:
    """The validated request, before anything is loaded. `text`: None if it arrives on standard input."""
    timeout_s = decision.settings.timeout_s or TIMEOUT_S
    request = launch.make_request(text or "", decision.settings, **{"timeout_s": timeout_s, **fields})
    if options.codes_out is not None and decision.spec.kind == "single-shot":
        raise InvalidRequest(f"{decision.spec.name} has no codes to write; leave --codes-out out", param="codes_out")
    check_request(request, decision.spec, decision.plan, more=text is None)
    return request


def _speak(stream: Stream, sink: Sink) -> tuple[Summary, list[Timestamp]]:
    """Write every chunk to the sink and show progress through the text."""
    words: list[Timestamp] = []
    with closing(stream), _progress(len(stream.request.text)) as advance:
        try:
            spoken_chars = 0
            for chunk in stream:
                sink.write(chunk.samples, chunk.sample_rate)
                if isinstance(sink, WithCodes):
                    sink.frames.extend(chunk.frames)
                spoken_chars += len(chunk.text)
                words += chunk.timestamps
                if chunk.final:
                    advance(spoken_chars)
            sink.close()
        except BaseException:
            sink.abort()
            raise
    if stream.summary is None:
        raise InvalidText("there was nothing to say", param="text")
    return stream.summary, words


def _explain(text: str, settings: Settings, fields: dict[str, Any], *, as_json: bool) -> None:
    """Print each decision about the text: written → spoken, rule, span, and phones if the model gives some."""
    spec = launch.facts(replace(settings, voice=fields.get("voice", settings.voice)))
    request = Request(text=text, **{name: fields[name] for name in ("language", "markup") if name in fields})
    check_text(text, MAX_CHARS)
    voice = fields.get("voice", settings.voice)
    language = request.language or language_of(spec, voice)
    own = Lexicon.of(settings.lexicon, spec).words(voice or spec.default_voice)
    spoken = normalise(text, language, markup=request.markup, own=own)
    decisions = explain(text, language, markup=request.markup, own=own)
    read = phones_of(spec, voice, [decision.spoken for decision in decisions])
    phones = [decision.phones or sound for decision, sound in zip(decisions, read, strict=True)]
    if as_json:
        rows = [asdict(each) | {"phones": sound} for each, sound in zip(decisions, phones, strict=True)]
        print(show.as_json({"spoken": spoken, "decisions": rows}))  # noqa: T201
        return
    table = show.table("Written", "Spoken", "Rule", "Span", "Phones")
    for decision, sound in zip(decisions, phones, strict=True):
        span = f"{decision.start}–{decision.end}"
        table.add_row(*map(escape, (decision.written.strip(), decision.spoken, decision.rule, span, sound)))
    screen = show.console()
    screen.print(spoken, markup=False, soft_wrap=True)
    screen.print(table if decisions else "Nothing is spoken other than written.")


def _write_timestamps(path: Path, words: list[Timestamp], summary: Summary) -> None:
    document = {"duration": round(summary.audio_s, 4), "words": [word.json() for word in words]}
    path.write_bytes(msgspec.json.format(msgspec.json.encode(document), indent=1))


def _with_text_limit(settings: Settings, text: str | None) -> Settings:
    """Settings that admit this text: the limit of a server protects other clients, and there are none."""
    chars = MAX_CHARS if text is None else len(text)
    if settings.max_text_chars is not None or chars <= SERVER_CHARS:
        return settings
    origins = {**settings.origins, "max_text_chars": "the say command"}
    return replace(settings, max_text_chars=chars, origins=origins)


# -- the text


def _text(options: Options) -> str | None:
    """None: the text is to be spoken while it arrives on standard input."""
    if options.text not in (None, "-") and options.file is not None:
        raise InvalidRequest("give the text or --file, not both", param="text")
    if not options.text_from_stdin:
        if options.file is None:
            return str(options.text)
        with open_file(options.file, devices=True) as file:
            return _decoded(file.read(MAX_BYTES + 1), str(options.file))
    if options.text is None and options.file is None and sys.stdin.isatty():
        raise InvalidRequest('nothing to say: saywell say "Hello there.", or pipe a text in, or --file', param="text")
    return None if options.stream else _decoded(sys.stdin.buffer.read(MAX_BYTES + 1), _STDIN)


def _arriving_text() -> Iterator[str]:
    """The text on standard input, as it arrives. Raises InvalidText.

    Reads the file descriptor: a thread that waits in Python's buffered reader crashes the interpreter at exit.
    """
    decoder, read_bytes, data = codecs.getincrementaldecoder("utf-8-sig")(), 0, b"-"
    while data:
        data = os.read(sys.stdin.fileno(), PIPE_BYTES)
        start = read_bytes - len(decoder.getstate()[0])
        try:
            text = decoder.decode(data, final=not data)
        except UnicodeDecodeError as error:
            raise _not_utf8(_STDIN, start + error.start) from error
        read_bytes += len(data)
        yield text


def _not_utf8(origin: str, offset: int) -> InvalidText:
    return InvalidText(f"{origin} is not UTF-8 text (byte {offset}); convert it first", param="text")


def _decoded(data: bytes, origin: str) -> str:
    """Text from up to MAX_BYTES + 1 bytes; the last byte only shows that there are too many."""
    try:
        text = data.decode("utf-8-sig") if len(data) <= MAX_BYTES else ""
    except UnicodeDecodeError as error:
        raise _not_utf8(origin, error.start) from error
    if len(data) > MAX_BYTES or len(text) > MAX_CHARS:
        raise TooLarge(f"{origin} has more than {MAX_CHARS} characters; split it", param="text")
    return text


def _check_reference(options: Options) -> None:
    if options.transcript and options.reference is None:
        message = "--transcript is what is said in a recording; add --reference FILE"
        raise InvalidRequest(message, param="transcript")
    if str(options.reference) == "-" and options.text_from_stdin:
        message = "standard input cannot be both the recording and the text; give the text as an argument or by --file"
        raise InvalidRequest(message, param="reference")


def read_reference(path: Path, transcript: str) -> Reference:
    """A recording to clone, decoded in the sandbox; `-` is standard input."""
    samples, rate = decode_file(sys.stdin.buffer if str(path) == "-" else path)
    return Reference(pcm=samples.tobytes(), sample_rate=rate, transcript=transcript)


# -- the output


def _sink(options: Options) -> tuple[Sink, str]:
    """The sink and its target: a path, `-` for standard output, empty for a player. Checked before any work."""
    piped = not sys.stdout.isatty() and not options.json
    if options.output == "-" or (options.output is None and piped):
        return _standard_output(options), "-"
    if options.output is None:
        return play.open_player(), ""
    path = _expanded(options.output)
    check_place(path, "-o")
    format = _format(options.format or format_of(path))
    return (StreamSink if options.stream else FileSink)(path, format), str(path)


def _expanded(output: str) -> Path:
    """With `~` replaced, unless that home directory does not exist."""
    try:
        return Path(output).expanduser()
    except RuntimeError:
        return Path(output)


def _standard_output(options: Options) -> Sink:
    format = _format(options.format or "wav")
    if sys.__stdout__ is None:
        raise InvalidRequest("standard output is closed; add -o hello.wav", param="output")
    if options.json:
        raise InvalidRequest("--json and the sound cannot share standard output; add -o FILE", param="json")
    if sys.stdout.isatty():
        raise InvalidRequest("sound bytes would garble the terminal; add -o hello.wav or pipe them on", param="output")
    seekable = _is_regular_file(sys.stdout) and not options.stream  # so its header can have the right length
    return (FileSink if seekable else StreamSink)(sys.stdout.buffer, format)


def _is_regular_file(stream: TextIO) -> bool:
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
def _pressure_logged(verbose: bool) -> Iterator[None]:
    """Without --verbose, silence what the engine logs about adapting to a busy machine."""
    log = logging.getLogger("saywell.engine.pressure_monitor")
    level = log.level
    log.setLevel(level if verbose else logging.ERROR)
    try:
        yield
    finally:
        log.setLevel(level)


@contextmanager
def _progress(characters: int) -> Iterator[Callable[[int], None]]:
    """A progress bar on standard error, for long texts on a terminal. Yields a function that sets it."""
    if characters < PROGRESS_CHARS or not sys.stderr.isatty():
        yield lambda _: None
        return
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

    columns = (TextColumn("speaking"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    with Progress(*columns, console=show.console(stderr=True), transient=True) as bar:
        task = bar.add_task("speaking", total=characters)
        yield lambda characters: bar.update(task, completed=characters)


def _target_name(target: str) -> str:
    return {"": "played", "-": "standard output"}.get(target, str(Path(target).absolute()))


def _json(tts: TTS, summary: Summary, report: Performance, target: str, voice: str) -> str:
    plan = tts.plan
    chosen = ("executor", "precision", "threads", "max_batch_size", "chunk_chars")
    document = {
        "path": target or None,
        "model": plan.model,
        "voice": voice,
        "finish_reason": summary.finish_reason,
        "duration_s": round(summary.audio_s, 6),
        "ttfa_s": round(summary.first_audio_s, 6),
        "total_s": round(summary.total_s, 6),
        "rtf": round(summary.rtf, 6),
        "seed": summary.seed,
        "performance": report.json(),
        "plan": {"device": str(plan.device), **{name: getattr(plan, name) for name in chosen}},
    }
    return show.as_json(document, indent=None)
