"""Every command, option and setting with invalid values: an error message and a documented exit code, no bug.

The commands run in this process and are stopped where an engine would be built or a download started.
"""

from __future__ import annotations

import json
import os
import stat
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, get_type_hints

import numpy as np
import pytest
import soundfile as sf
import typer
from typer.testing import CliRunner

from machines import machine
from saywell import cli
from saywell.audio.decode import decode as decode_audio
from saywell.engine import launch
from saywell.engine.worker.messages import Load, pack
from saywell.errors import Unavailable
from saywell.machine.monitor import Resources
from saywell.settings import field_names

pytestmark = [pytest.mark.skipif(os.name != "posix", reason="devices and pipes of POSIX"), pytest.mark.timeout(120)]
CODES = (0, 1, 2)
"""Success, failure, and a user's mistake."""
STOPPED = "stopped by the test"
WORDS = [
    "", " ", "-1", "0", "99999999999999999999999999", "9" * 5000, "1e999", "nan", "-inf", "no number", "x" * 5000,
    "[bold]%s{}$HOME\n", "-", "--", "~unknown-user/x", "😀\u202e\u0301", "\udcff\udc80.wav", "a=b", "0-99999",
]  # fmt: skip
"""Values for any option."""
PROGRAM: Any = typer.main.get_command(cli.app)


@dataclass(frozen=True)
class Part:
    """An option or, without a name, an argument of a command."""

    option: str
    kind: Any
    """bool for a flag, else the type of its value."""


def _parts(command: Callable[..., Any]) -> list[Part]:
    parts = []
    for hint in get_type_hints(command, include_extras=True).values():
        option = next((each for each in getattr(hint, "__metadata__", ()) if hasattr(each, "param_decls")), None)
        if option is not None:
            kind = next((kind for kind in (bool, int, float) if kind.__name__ in str(hint.__origin__)), str)
            # In an annotation typer keeps the first name of an option where a default value stands otherwise.
            parts.append(Part(option.default if isinstance(option, typer.models.OptionInfo) else "", kind))
    return parts


COMMANDS = {
    each.name or each.callback.__name__: _parts(each.callback)
    for each in cli.app.registered_commands
    if each.callback is not None
}


@dataclass(frozen=True)
class Place:
    """Irregular files, and the paths that lead to them."""

    root: Path
    model: Path
    devices: tuple[str, ...]

    @property
    def words(self) -> list[str]:
        names = ("folder", "none", "none/x.wav", "pipe", "locked.wav", "link", "text.txt", "empty", "zip.wav")
        return [*(str(self.root / name) for name in names), *self.devices]

    def usual(self, command: str) -> list[str]:
        """Arguments with which a command succeeds."""
        audio, out = str(self.root / "good.wav"), str(self.root / "out" / "x")
        return {
            "say": ["Hello.", "-o", f"{out}.wav"],
            "tune": ["--seconds", "1"],
            "convert": [str(self.root / "folder"), "-o", out],
            "pull": ["emma", "-o", out],
            "encode": [audio, "-m", str(self.model), "-o", f"{out}.npy"],
            "decode": [str(self.root / "good.npy"), "-m", str(self.model), "-o", f"{out}.wav"],
        }.get(command, [])


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A converted one."""
    random_checkpoint = pytest.importorskip("benchmarks.random_checkpoint", reason="needs torch")
    from conversion import convert_here

    root = tmp_path_factory.mktemp("model")
    random_checkpoint.write(root / "checkpoint", "tiny", 0)
    return convert_here(root / "checkpoint", root / "converted", ("fp32",))


@pytest.fixture
def place(tmp_path_factory: pytest.TempPathFactory, model: Path) -> Iterator[Place]:
    root = tmp_path_factory.mktemp("walk")
    for folder in ("folder", "out"):
        (root / folder).mkdir()
    sf.write(root / "good.wav", 0.1 * np.sin(np.arange(3_200) / 9), 16_000)
    np.save(root / "good.npy", np.ones((10, 4), np.int64))
    (root / "text.txt").write_text("a line")
    (root / "empty").write_bytes(b"")
    (root / "zip.wav").write_bytes(b"PK\3\4" + bytes(100))
    (root / "locked.wav").touch(mode=0)
    (root / "link").symlink_to(root / "link")
    with _patient_pipe(root / "pipe"):
        devices = _devices(root)
        yield Place(root, model, devices)
        changed = [device for device in devices if not Path(device).is_char_device()]
    assert changed == [], "a device was replaced by a file"


@contextmanager
def _patient_pipe(path: Path) -> Iterator[None]:
    """A named pipe that blocks no one: readers find its end, and writers are read."""
    os.mkfifo(path)
    over = threading.Event()

    def other_end(reader: int) -> None:
        while not over.wait(0.002):
            os.close(os.open(path, os.O_WRONLY | os.O_NONBLOCK))
            with suppress(BlockingIOError):
                os.read(reader, 1 << 20)

    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    thread = threading.Thread(target=other_end, args=(reader,))
    thread.start()
    yield
    over.set()
    thread.join()
    os.close(reader)


def _devices(root: Path) -> tuple[str, ...]:
    """Device files of our own, because root could overwrite those of the system."""
    made = []
    for name, minor in (("null", 3), ("zero", 5), ("full", 7)):
        if os.geteuid() != 0:
            made.append(f"/dev/{name}")
            continue
        with suppress(OSError):  # in containers root may not
            os.mknod(root / name, 0o666 | stat.S_IFCHR, os.makedev(1, minor))
            (root / name).read_bytes() if name == "null" else None
            made.append(str(root / name))
    return tuple(made)


@pytest.fixture(autouse=True)
def _stopped(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Stop commands before slow work; a plan must be serialisable for its worker."""
    hardware = machine("i5-1334u-8gb")

    def build(decision: launch.Decision, *, worker: bool) -> Any:
        pack(Load(spec=decision.spec, plan=decision.plan, start_degraded_reason=""))
        raise Unavailable(STOPPED)

    def stop(*_: object, **__: object) -> Any:
        raise Unavailable(STOPPED)

    for name in ("SAYWELL_CONFIG", *(f"SAYWELL_{name.upper()}" for name in field_names())):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("SAYWELL_CONFIG", "")
    monkeypatch.setenv("SAYWELL_DATA_DIR", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    for module in ("engine.launch", "commands.plan", "commands.doctor", "commands.tune", "commands.models"):
        monkeypatch.setattr(f"saywell.{module}.detect", lambda *_: hardware)
    monkeypatch.setattr(
        "typer.testing._get_command", lambda _: PROGRAM
    )  # otherwise all commands are built for each run
    monkeypatch.setattr("saywell.engine.launch.build", build)
    monkeypatch.setattr("saywell.server.app.build", build)
    monkeypatch.setattr("saywell.bench.ablation.serving", stop)
    monkeypatch.setattr("saywell.commands.tune.Trials", stop)
    monkeypatch.setattr("saywell.hub.weights._hub", stop)
    now = Resources(cpu_percent=0, memory_limit=8 << 30, memory_available=6 << 30, memory_percent=25)
    monkeypatch.setattr("saywell.commands.doctor.resources", lambda: now)


class Walk:
    """Runs commands and records wrong endings."""

    def __init__(self) -> None:
        self.wrong: list[str] = []
        self.runs = 0

    def step(self, *arguments: str, env: dict[str, str] | None = None, label: str = "") -> int:
        done = CliRunner().invoke(cli.app, list(arguments), input=b"", env=env)
        bug = "internal error" in done.stderr or "Traceback" in done.output
        crash = done.exception is not None and not isinstance(done.exception, SystemExit)
        silent = done.exit_code != 0 and not done.stderr.strip() and not done.stdout.strip()
        if bug or crash or silent or done.exit_code not in CODES:
            message = done.stderr.strip().splitlines()[-1:] or [repr(done.exception)]
            shown = " ".join(each if len(each) < 60 else f"{each[:50]}…" for each in map(ascii, arguments))
            self.wrong.append(f"{shown} {label}: {done.exit_code}, {ascii(message[0])[:240]}")
        self.runs += 1
        return done.exit_code

    def over(self) -> None:
        assert self.wrong == [], f"{len(self.wrong)} of {self.runs} ended badly:\n" + "\n".join(self.wrong)
        assert self.runs


@pytest.mark.parametrize("command", sorted(COMMANDS))
def test_every_option_of_a_command(command: str, place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    # Each decoding starts a sandbox, and most runs decode the same file.
    monkeypatch.setattr("saywell.models.dual_ar.offline.decode_audio", cache(decode_audio), raising=False)
    walk, usual = Walk(), place.usual(command)
    arguments = [part for part in COMMANDS[command] if not part.option]
    for part in COMMANDS[command]:
        words = {bool: FEW[:3], str: [*WORDS, *place.words]}.get(part.kind, WORDS)
        for word in words:
            if not part.option:
                at = arguments.index(part)
                walk.step(command, *usual[:at], word, *usual[at + 1 :])
                walk.step(command, "--", *usual[:at], word)
            elif part.kind is bool:
                walk.step(command, *usual, f"{part.option}={word}")
            else:
                walk.step(command, *usual, part.option, word)
        if part.option:
            walk.step(command, *usual, part.option)
    walk.step(command, *usual, "--no-such-option")
    walk.step(command, *usual, "one", "too", "many")
    walk.over()


@cache
def _of_type() -> dict[str, list[str]]:
    """Invalid values of the right type, by setting."""
    return {
        "host": [
            "[::1]",
            "[",
            "::1",
            "256.1.1.1",
            "http://127.0.0.1",
            "a b",
            "xn--",
            "x." * 200,
            "é" * 70,
            ".",
            "a..b",
        ],
        "port": ["65536", "1", "-0", "1.0", "0x10"],
        "affinity": ["0-", "-3", "3-1", "0,0", "1000", "0-3,8", "65536", "99999999999-5"],
        "voice": ["espeak:", "espeak:../x", "ESPEAK:de", "heart\n", "../heart"],
        "api_keys": ["short", ",", "x" * 600, "aaaaaaaa,aaaaaaaa", "é" * 8],
        "cors_origins": [",", "*", "null", "http://[", "x" * 5000],
    }


PLACES = frozenset({"model", "model_path", "data_dir", "worker_python", "voice", "host"})
"""Settings that may be mistaken for a path; others get few values, because one rule parses them all."""
FEW = ["", "-1", "0", "1", "9" * 30, "1e999", "nan", "inf", "no number", "x" * 5000, "\n", "😀\u202e", "\udcff", "a=b"]


def _one_by_one(place: Place) -> Iterator[tuple[str, str]]:
    for name in field_names():
        words = [*WORDS, *place.words] if name in PLACES else FEW
        for word in [*words, *_of_type().get(name, [])]:
            yield name, word


@pytest.mark.parametrize("source", ["--set", "environment"])
def test_every_setting_as_text(source: str, place: Place) -> None:
    """What `plan` accepts must not break other commands."""
    walk = Walk()
    for name, word in _one_by_one(place):
        if source == "environment":
            walk.step("plan", "--json", env={f"SAYWELL_{name.upper()}": word}, label=f"{name}={ascii(word)[:60]}")
            continue
        given = ["--set", f"{name}={word}"]
        if walk.step("plan", "--json", *given) == 0:
            walk.step("say", "Hello.", "-o", "x.wav", *given)
            if name in PLACES:
                walk.step("serve", *given, "--port", "0")
            if name in ("data_dir", "host"):
                walk.step("doctor", *given)
                walk.step("tune", "--seconds", "1", *given)
    walk.over()


def test_every_setting_in_a_file(place: Place, tmp_path: Path) -> None:
    walk, file = Walk(), tmp_path / "saywell.toml"
    words = [json.dumps(word) for word in FEW if word.isprintable()]
    others = ["nan", "inf", "-inf", "-1", "0", "1e999", "9" * 30, "9" * 5000, "[]", "{}", "[[[]]]", "true", "[1, 'a']"]
    for name in field_names():
        for text in (*words, *others, "1979-05-27", r'"a\u0000b"', "''", "", "'", "[nan]", "[-1]"):
            file.write_text(f"{name} = {text}\n", encoding="utf-8")
            walk.step("plan", "--json", env={"SAYWELL_CONFIG": str(file)}, label=f"{name} = {text[:60]}")
    for data in (b"\xff", b"\0", b"[", b"a.b = 1", b"x = 1", b"threads = 1\nthreads = 2", b"[threads]\nx=1"):
        file.write_bytes(data)
        walk.step("plan", "--json", env={"SAYWELL_CONFIG": str(file)}, label=repr(data))
    for word in [*WORDS, *place.words]:
        walk.step("plan", "--json", env={"SAYWELL_CONFIG": word}, label=ascii(word)[:60])
    walk.over()


def test_walk_detects_bugs(monkeypatch: pytest.MonkeyPatch) -> None:
    walk, wrong = Walk(), lambda *_, **__: 1 / 0
    monkeypatch.setattr("saywell.commands.plan.run", wrong)
    walk.step("plan")
    with pytest.raises(AssertionError, match="1 of 1 ended badly"):
        walk.over()
