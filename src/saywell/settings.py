"""Settings from keywords, environment and file. None means: decided by the plan.

The only reader of `os.environ`. Every Settings object is valid: a wrong type or unknown name is a PlanError that names
the field, the source and the way out.
"""

from __future__ import annotations

import logging
import os
import re
import reprlib
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, fields
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal, get_type_hints

import msgspec
from msgspec import Meta, inspect

from saywell.errors import PlanError
from saywell.files import open_file

_log = logging.getLogger(__name__)

PREFIX = "SAYWELL_"
CONFIG = PREFIX + "CONFIG"
"""Names the settings file; empty: no file."""
_WORDS: dict[type[inspect.Type], str] = {
    inspect.IntType: "a whole number",
    inspect.FloatType: "a number of seconds",
    inspect.BoolType: "true or false",
    inspect.StrType: "a text",
    inspect.CustomType: "a path",
}
"""Type names for messages."""
_SECRET = frozenset({"api_keys", "hub_token"})
"""Never shown, not even in errors."""
_MAX_FILE = 1 << 20
"""Largest settings file, bytes."""
_BRIEF = reprlib.Repr()
_BRIEF.maxstring = _BRIEF.maxother = 120

Text = Annotated[str, Meta(min_length=1, max_length=4096)]
Count = Annotated[int, Meta(ge=1, le=1024)]
Size = Annotated[int, Meta(ge=1, le=10_000_000)]
Seconds = Annotated[float, Meta(gt=0, le=86_400)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """All settings."""

    model: Text | None = None
    """The model."""
    model_path: Path | None = None
    """Directory of the model files."""
    voice: Text | None = None
    """Default voice of requests."""
    device: Annotated[str, Meta(pattern=r"^(cpu|mps|cuda(:[0-9]{1,2})?)$")] | None = None
    """cpu, mps, cuda, or one of several GPUs such as cuda:1."""
    precision: Text | None = None
    """fp32, fp16, bf16, int8 or int4, if the model has it."""
    executor: Text | None = None
    """The executor: process, onnx, torch, …"""
    compile: Literal["inductor", "eager", "disabled"] | None = None
    """How the torch executor compiles; other executors accept only `disabled`."""
    threads: Count | None = None
    """Arithmetic threads of one engine."""
    affinity: Annotated[tuple[Annotated[int, Meta(ge=0, le=65_535)], ...], Meta(min_length=1)] | None = None
    """Logical CPUs of the engine's threads; as text `0,2` or `0-3,8`."""
    max_batch_size: Count | None = None
    """Sequences in one decode step (slots)."""
    max_parallel_chunks: Count | None = None
    """Concurrent sequences of one request."""
    max_queue: Annotated[int, Meta(ge=0, le=100_000)] | None = None
    """Waiting requests; 0: reject requests that cannot start at once."""
    max_text_chars: Size | None = None
    """Longest text of one request."""
    chunk_chars: Annotated[int, Meta(ge=20, le=100_000)] | None = None
    """Upper bound of a text chunk."""
    first_chunk_chars: Annotated[int, Meta(ge=20, le=100_000)] | None = None
    """About the length of the first text chunk, which ends where a pause is natural; shorter means earlier audio."""
    max_frames: Size | None = None
    """Frames after which a sequence ends with finish reason `length`."""
    first_frames: Annotated[int, Meta(ge=1, le=10_000)] | None = None
    """Frames of the first decode; fewer means earlier audio."""
    chunk_frames: Annotated[int, Meta(ge=1, le=10_000)] | None = None
    """Frames per later decode."""
    timeout_s: Seconds | None = None
    """Default deadline of a request: seconds its reader waits for audio, in total."""
    buffer_s: Seconds | None = None
    """Seconds of audio buffered for a slow reader."""
    stall_s: Seconds | None = None
    """Seconds a reader may be behind real time before it can be disconnected for another."""
    each_key: Count | None = None
    """Concurrent requests per API key; default: three quarters of the capacity if there are several keys."""
    each_address: Count | None = None
    """Concurrent requests per remote address; default: unlimited, because a proxy shares one."""
    memory_budget_mb: Size | None = None
    """Mebibytes to plan for. A model that does not fit is rejected; not enforced at run time."""
    cache_entries: Annotated[int, Meta(ge=0, le=1_000_000)] | None = None
    """Entry limit of each in-memory cache; 0: no cache."""
    adapt: bool | None = None
    """Whether the engine degrades under pressure of memory, CPUs or heat; default yes."""
    check_memory: bool | None = None
    """Whether a text that would not fit into memory is rejected before it starts; default yes."""
    idle_unload_s: Annotated[float, Meta(ge=0, le=31_536_000)] | None = None
    """Idle seconds after which the model is unloaded until the next request; 0 (default): never."""
    keep_alive_s: Annotated[float, Meta(ge=0, le=31_536_000)] | None = None
    """Seconds that a model other than the server's own stays loaded after its last request; default 300."""
    cache_mb: Annotated[int, Meta(ge=0, le=10_000_000)] | None = None
    """Mebibytes of all in-memory caches."""
    thermal: bool | None = None
    """Whether heat reduces the load; default yes."""
    host: Text | None = None
    """Address the server listens on; default 127.0.0.1."""
    port: Annotated[int, Meta(ge=0, le=65_535)] | None = None
    """Port the server listens on; 0: any free one."""
    api_keys: tuple[Annotated[str, Meta(min_length=8, max_length=512)], ...] | None = field(default=None, repr=False)
    """API keys of the server; in the environment separated by commas. Never printed."""
    allow_public: bool | None = None
    """Allow a public address without an API key."""
    cors_origins: tuple[Text, ...] | None = None
    """Allowed CORS origins; default none."""
    drain_s: Annotated[float, Meta(ge=0, le=86_400)] | None = None
    """Seconds for running requests to finish when the server stops."""
    log_level: Literal["debug", "info", "warning", "error"] | None = None
    """Log level."""
    log_json: bool | None = None
    """Log in JSON lines."""
    hub_token: str | None = field(default=None, repr=False)
    """Hugging Face token for gated weights. Never printed."""
    lexicon: Path | None = None
    """File with the user's own readings of words."""
    data_dir: Path | None = None
    """Directory of converted models, voices and measurements."""
    worker_python: Path | None = None
    """Python interpreter of the worker process, for a model that needs its own environment."""
    origins: Mapping[str, str] = field(default_factory=dict, repr=False, compare=False)
    """Field → source of its value, for messages: `SAYWELL_THREADS`, a file, `keyword`."""

    def __post_init__(self) -> None:
        for name, value in self.overrides().items():
            object.__setattr__(self, name, _convert(name, value, self.origin(name), strict=True))

    def overrides(self) -> dict[str, Any]:
        """The fields that are set."""
        return {name: value for name in field_names() if (value := getattr(self, name)) is not None}

    def origin(self, name: str) -> str:
        """The source of a field's value."""
        return self.origins.get(name, "keyword")


OF_ONE_MODEL = (
    "model", "model_path", "voice", "device", "precision", "executor", "compile", "max_batch_size",
    "max_parallel_chunks", "max_queue", "chunk_chars", "first_chunk_chars", "max_frames", "first_frames",
    "chunk_frames", "cache_entries", "cache_mb", "worker_python",
)  # fmt: skip
"""Settings of the server's own model; other models are planned without them."""

Variable = tuple[str, Callable[[str, str], str | None]]
"""Field, and a function (text, variable name) → value as text, or None for the default."""


def load_settings(
    overrides: Mapping[str, Any] | None = None,
    file: Path | None = None,
    environ: Mapping[str, str] | None = None,
    *,
    variables: Mapping[str, Variable] | None = None,
    origin: str = "keyword",
) -> Settings:
    """Merge keywords over environment over file. None in `overrides` defers to the next source.

    `file` None: SAYWELL_CONFIG, else the user's own file if it exists. `variables`: those of other programs; SAYWELL_*
    win over them, and a later one over an earlier one. `origin`: name of the overrides in messages. Raises PlanError.
    """
    environ = os.environ if environ is None else environ
    values: dict[str, Any] = {}
    origins: dict[str, str] = {}
    sources = [_from_file(file, environ), _from_environ(environ), _from_overrides(overrides or {}, origin)]
    if variables:
        sources.insert(1, _from_variables(variables, environ))
    for source in sources:
        for name, value, origin in source:
            values[name], origins[name] = value, origin
    return Settings(**{name: value for name, value in values.items() if value is not None}, origins=origins)


def default_data_dir() -> Path:
    """The system's data directory of a program."""
    from platformdirs import user_data_path

    return _of_user(user_data_path, ".local/share")


def default_file() -> Path:
    """`saywell.toml` in the user's configuration directory."""
    from platformdirs import user_config_path

    return _of_user(user_config_path, ".config") / "saywell.toml"


def _of_user(find: Callable[..., Path], below: str) -> Path:
    """A directory below the user's home; a user without one (no /etc/passwd entry) uses the root directory, as
    containers do with HOME=/."""
    try:
        found = find("saywell", appauthor=False)
    except RuntimeError:
        found = Path()
    return found if found.is_absolute() and _is_text(str(found)) else Path("/", below, "saywell")


def _is_text(value: str) -> bool:
    """False for paths of undecodable bytes, which cannot be stored or sent to a worker."""
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


@cache
def field_names() -> tuple[str, ...]:
    """Names of all settings, in order."""
    return tuple(item.name for item in fields(Settings) if item.name != "origins")


@cache
def _types() -> dict[str, Any]:
    return get_type_hints(Settings, include_extras=True)


Found = Iterator[tuple[str, Any, str]]


def parse_pairs(pairs: Iterable[str], source: str) -> dict[str, Any]:
    """Settings from `NAME=VALUE` texts. `source` appears in the error for a malformed pair."""
    found: dict[str, Any] = {}
    for pair in pairs:
        name, equals, text = pair.partition("=")
        if not equals:
            raise PlanError(f"--set takes NAME=VALUE, not {pair!r}; for example --set threads=2", param="set")
        found[name] = parse(name, text, source)
    return found


def parse(name: str, text: str, origin: str) -> Any:
    """A setting's value from text, as the environment gives it. Raises PlanError."""
    _known(name, origin)
    return _from_text(name, text, origin)


def _from_overrides(overrides: Mapping[str, Any], origin: str) -> Found:
    for name, value in overrides.items():
        _known(name, origin)
        if value is not None:
            yield name, _convert(name, value, origin, strict=True), origin


def _from_environ(environ: Mapping[str, str]) -> Found:
    for variable, text in sorted(environ.items()):
        if not variable.startswith(PREFIX) or variable == CONFIG or not text or _service_link(variable, text):
            continue
        name = variable.removeprefix(PREFIX).lower()
        _known(name, f"environment variable {variable}")
        yield name, _from_text(name, text, f"environment variable {variable}"), variable


def _from_variables(variables: Mapping[str, Variable], environ: Mapping[str, str]) -> Found:
    for variable, (name, meaning) in variables.items():
        text = environ.get(variable, "").strip()
        if text and (word := meaning(text, variable)):
            yield name, _from_text(name, word, f"environment variable {variable}"), variable


def _from_file(file: Path | None, environ: Mapping[str, str]) -> Found:
    """Settings of `file`, else of SAYWELL_CONFIG (empty: none), else of the user's own file."""
    named = file is not None or CONFIG in environ
    if file is None:
        file = Path(environ.get(CONFIG, "")) if named else default_file()
    if file == Path():
        return
    for name, value in _read_toml(file, needed=named).items():
        _known(name, str(file))
        # TOML has its own numbers, booleans and lists; only paths are converted from strings.
        value = None if value == "auto" else value
        yield name, None if value is None else _convert(name, value, str(file), strict=True), str(file)


def _read_toml(file: Path, *, needed: bool) -> dict[str, Any]:
    """Content of a settings file. An unrequested file may be missing; if unreadable, a warning is logged."""
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib
    try:
        with open_file(file, devices=True) as opened:
            data = opened.read(_MAX_FILE + 1)
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else error
        if needed:
            raise PlanError(f"cannot read the settings file {file}: {why}", param="config") from error
        if not isinstance(error, FileNotFoundError | NotADirectoryError):
            _log.warning("ignoring the unreadable settings file %s: %s", file, why)
        return {}
    if len(data) > _MAX_FILE:
        raise PlanError(f"the settings file {file} exceeds {_MAX_FILE} bytes; name another", param="config")
    try:
        return tomllib.loads(data.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise PlanError(f"the settings file {file} is not valid TOML: {error}", param="config") from error


def _from_text(name: str, text: str, origin: str) -> Any:
    if text.strip().lower() == "auto":
        return None
    value: Any = text.strip()
    if name in ("api_keys", "cors_origins"):
        value = [part.strip() for part in text.split(",") if part.strip()]
    elif name == "affinity":
        value = _cpus(text)
    elif name in ("adapt", "allow_public", "check_memory", "log_json", "thermal"):
        value = {"yes": "true", "on": "true", "no": "false", "off": "false"}.get(value.lower(), value.lower())
    elif name == "log_level":
        value = value.lower()
    return _convert(name, value, origin, strict=False)


def _cpus(text: str) -> list[int] | str:
    """`0-3,8` → 0, 1, 2, 3, 8; what is no such list stays as it is, to be refused with everything else."""
    parts = [re.fullmatch(r"(\d{1,5})(?:-(\d{1,5}))?", part.strip()) for part in text.split(",")]
    if not all(parts):
        return text
    return [cpu for part in parts if part for cpu in range(int(part[1]), int(part[2] or part[1]) + 1)]


def _convert(name: str, value: Any, origin: str, *, strict: bool) -> Any:
    if isinstance(value, Path):
        value = str(value)
    try:
        if isinstance(value, str) and not _is_text(value):
            raise msgspec.ValidationError("It is no valid UTF-8")
        return msgspec.convert(value, _types()[name], strict=strict, dec_hook=_path)
    except msgspec.ValidationError as error:
        shown = "" if name in _SECRET else f" not {_BRIEF.repr(value)}:"
        message = f"setting {name!r} ({origin}) must be {_wanted(name)},{shown} {_plain(str(error))}"
        raise PlanError(f"{message}; change it or leave it out to let the program decide", param=name) from error


def _path(kind: type, value: Any) -> Any:
    if kind is not Path or not isinstance(value, str) or not value or "\0" in value:
        raise msgspec.ValidationError("Expected a path")
    try:
        return Path(value).expanduser()
    except RuntimeError:
        raise msgspec.ValidationError("There is no such home directory") from None


def _wanted(name: str) -> str:
    """What a field takes, in words."""
    if name == "device":
        return "cpu, mps, cuda or one of several GPUs as cuda:1"
    found = inspect.type_info(_types()[name])
    if isinstance(found, inspect.UnionType):
        found = next(each for each in found.types if not isinstance(each, inspect.NoneType))
    if isinstance(found, inspect.LiteralType):
        return f"one of {', '.join(map(str, found.values))}"
    if isinstance(found, inspect.VarTupleType):
        cpus = isinstance(found.item_type, inspect.IntType)
        return "a list of CPU numbers, as 0,2 or 0-3" if cpus else "a list of texts"
    return _WORDS[type(found)]


def _plain(message: str) -> str:
    return message.partition(" - at `")[0].replace("`", "").lower()


def _known(name: str, origin: str) -> None:
    if name in field_names():
        return
    near = get_close_matches(name, field_names(), n=1)
    hint = f"; did you mean {near[0]!r}?" if near else f"; there is {', '.join(field_names())}"
    raise PlanError(f"unknown setting {name!r} ({origin}){hint}", param=name)


def _service_link(variable: str, text: str) -> bool:
    """Kubernetes announces a service called saywell in variables that look like ours but are not overrides."""
    linked = re.fullmatch(r"SAYWELL_(SERVICE_(HOST|PORT\w*)|PORT_\d+_(TCP|UDP)\w*)", variable)
    return linked is not None or (variable == PREFIX + "PORT" and "://" in text)
