"""Unusual environments (containers, services, encodings, damaged packages): the program works or says what to do."""

from __future__ import annotations

import json
import logging
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO

import pytest

from paths import ROOT
from saywell import settings
from saywell.commands import tune
from saywell.errors import PlanError, StorageFailure
from saywell.machine import detect, devices
from saywell.machine.sensors import nvidia
from saywell.models.base import find_spec
from saywell.plan.tuning_store import Record, Store
from saywell.runtimes import onnx
from saywell.tune.search import Trial

PROGRAM = [sys.executable, "-m", "saywell"]
POSIX = pytest.mark.skipif(os.name != "posix", reason="needs a POSIX system")
SOURCES = f"{ROOT / 'src'}{os.pathsep}{ROOT / 'compat'}"
UID = "12345"


def run(*arguments: str | bytes, shell: str = "", **variables: str) -> subprocess.CompletedProcess[str]:
    """Run the program in a child process. `shell`: redirections."""
    environ = {name: text for name, text in os.environ.items() if not name.startswith("SAYWELL_")}
    environ |= {"SAYWELL_CONFIG": "", "PYTHONPATH": SOURCES, **variables}
    command: list[str | bytes] = [*PROGRAM, *arguments]
    if shell:
        command = ["/bin/sh", "-c", f'exec "$@" {shell}', "sh", *command]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, env=environ, errors="replace")


def message(done: subprocess.CompletedProcess[str]) -> str:
    """Standard error of a failed run; fails for a traceback or a bug."""
    assert "internal error" not in done.stderr
    assert "Traceback" not in done.stderr
    return done.stderr


# -- no home


def test_user_without_home_directory_uses_the_root(monkeypatch: pytest.MonkeyPatch) -> None:
    def nowhere(*_: object, **__: object) -> Path:
        raise RuntimeError("could not determine the home directory")

    monkeypatch.setattr("platformdirs.user_data_path", nowhere)
    monkeypatch.setattr("platformdirs.user_config_path", lambda *_, **__: Path("~/.config/saywell"))
    assert settings.default_data_dir().parts[-3:] == (".local", "share", "saywell")
    assert settings.default_file().parts[-3:] == (".config", "saywell", "saywell.toml")
    for place in (settings.default_data_dir(), settings.default_file()):
        assert place.root
        assert "~" not in place.parts


def test_home_of_an_unknown_user_is_rejected() -> None:
    with pytest.raises(PlanError, match="must be a path"):
        settings.load_settings({"data_dir": "~unknown-user/x"}, environ={"SAYWELL_CONFIG": ""})


def test_unreadable_settings_are_logged_and_ignored(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    def forbidden(path: Path, **_: object) -> BinaryIO:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(settings, "default_file", lambda: tmp_path / "saywell.toml")
    monkeypatch.setattr(settings, "open_file", forbidden)
    assert settings.load_settings(environ={}).overrides() == {}
    assert "saywell.toml" in caplog.text
    assert "Permission denied" in caplog.text
    with pytest.raises(PlanError, match="Permission denied"):
        settings.load_settings(environ={"SAYWELL_CONFIG": str(tmp_path / "saywell.toml")})


@POSIX
def test_invalid_settings_file_is_rejected(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "long").write_bytes(b"#" * (2 << 20))
    (tmp_path / "deep").write_bytes(b"a = " + b"[" * 100_000)
    for name, why in (("pipe", "a pipe"), ("long", "exceeds"), ("deep", "not valid TOML"), (".", "directory")):
        with pytest.raises(PlanError, match=why):
            settings.load_settings(environ={"SAYWELL_CONFIG": str(tmp_path / name)})
    assert settings.load_settings(environ={"SAYWELL_CONFIG": os.devnull}).overrides() == {}


# -- mount namespaces


def _closed(needed: Path) -> Path | None:
    """The topmost directory of a path that other users may not enter."""
    directories = [needed, *needed.parents][::-1]
    return next((directory for directory in directories if not directory.stat().st_mode & 1), None)


class Namespace:
    """Runs the program in a mount namespace."""

    def __init__(self, place: Path) -> None:
        self.place = place
        """A tmpfs with the directories `free`, writable by all, and `locked`, readable by root only."""
        self._mounts = [
            "mount --make-rprivate /", f"mount -t tmpfs -o mode=755 none {place}",
            f"mkdir -m 1777 {place}/free", f"mkdir -m 700 {place}/locked",
        ]  # fmt: skip

    def reachable(self) -> None:
        """Make the interpreter and the sources readable for other users."""
        needed = {Path(os.path.realpath(sys.executable)).parents[1], Path(sys.prefix), ROOT}
        closed = {path: directory for path in needed if (directory := _closed(path)) is not None}
        for number, path in enumerate(closed):
            self._mounts += [f"mkdir {self.place}/{number}", f"mount --bind {path} {self.place}/{number}"]
        self._mounts += [f"mount -t tmpfs -o mode=755 none {directory}" for directory in set(closed.values())]
        for number, path in enumerate(closed):
            self._mounts += [f"mkdir -p {path}", f"mount --bind {self.place}/{number} {path}"]

    def run(self, *arguments: str, before: str = "true", uid: str = "", **variables: str) -> tuple[int, str]:
        """Returns exit code and standard error. `uid`: run as a user without an account."""
        as_user = f"setpriv --reuid {uid} --regid {uid} --clear-groups " if uid else ""
        environ = [f"{name}={text}" for name, text in variables.items()]
        script = " && ".join([*self._mounts, before, f"cd {self.place}/free", f'exec {as_user}env -i "$@"'])
        environment = ["PATH=/usr/bin:/bin", f"PYTHONPATH={SOURCES}", "PYTHONDONTWRITEBYTECODE=1", *environ]
        command = ["unshare", "-m", "/bin/sh", "-c", script, "sh", *environment, *PROGRAM, *arguments]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120)
        message(done)
        return done.returncode, done.stderr


@pytest.fixture
def namespace() -> Iterator[Namespace]:
    tools = ("unshare", "setpriv", "mount")
    if not sys.platform.startswith("linux") or os.geteuid() != 0 or not all(map(shutil.which, tools)):
        pytest.skip("needs root on Linux, and util-linux")
    place = Path(tempfile.mkdtemp(prefix="saywell-"))
    try:
        if subprocess.run(["unshare", "-m", "mount", "-t", "tmpfs", "none", place], capture_output=True).returncode:
            pytest.skip("this machine allows no mounts")
        yield Namespace(place)
    finally:
        place.rmdir()


@pytest.mark.parametrize("home", [None, "", "relative", "/dev/null", "locked"])
def test_user_without_account_can_speak(namespace: Namespace, home: str | None) -> None:
    namespace.reachable()
    variables = {} if home is None else {"HOME": f"{namespace.place}/locked" if home == "locked" else home}
    code, errors = namespace.run("say", "Hello.", "-o", "x.wav", uid=UID, **variables)
    assert code == 0, errors
    assert ("ignoring the unreadable settings file" in errors) == (home == "locked")
    code, errors = namespace.run("tune", "--seconds", "1", uid=UID, **variables)
    assert (code, "SAYWELL_DATA_DIR" in errors) == (1, True), errors


def test_user_without_account_can_inspect(namespace: Namespace) -> None:
    namespace.reachable()
    for command in ("plan", "doctor", "voices"):
        code, errors = namespace.run(command, uid=UID)
        assert (code, errors) == (0, "")


def test_read_only_root(namespace: Namespace) -> None:
    sealed = "mount -o remount,bind,ro /"
    for arguments in (["say", "Hello.", "-o", "x.wav"], ["plan"], ["doctor"]):
        code, errors = namespace.run(*arguments, before=sealed, HOME=str(Path.home()))
        assert code == 0, errors
    code, errors = namespace.run("tune", "--seconds", "1", before=sealed, HOME=str(Path.home()))
    assert (code, "SAYWELL_DATA_DIR" in errors) == (1, True), errors


def test_full_disk(namespace: Namespace) -> None:
    disk = f"{namespace.place}/full"
    full = f"mkdir {disk} && mount -t tmpfs -o size=64k none {disk}"
    code, errors = namespace.run("say", "Hello there, all of you.", "-o", f"{disk}/x.wav", before=full)
    assert (code, "No space left" in errors) == (1, True), errors
    code, errors = namespace.run("tune", "--seconds", "1", before=full, SAYWELL_DATA_DIR=disk)
    assert (code, "No space left" in errors) == (1, True), errors
    assert "SAYWELL_DATA_DIR" in errors


@pytest.mark.parametrize("command", ["plan", "doctor"])
def test_missing_proc_is_reported(namespace: Namespace, command: str) -> None:
    code, errors = namespace.run(command, before="mount -t tmpfs none /proc")
    assert (code, "mount -t proc proc /proc" in errors) == (1, True), errors


# -- measurements


def test_measurements_are_shown_even_if_they_cannot_be_saved(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """The disk becomes full during the measurement."""

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    class QuickSearch(tune.Search):
        """Measures nothing and keeps the rules' plan."""

        def run(self, seconds: float) -> tune.Result:
            result = super().run(0)
            trial = Trial(values={}, rtf=(0.1,), first_s=(0.1,))
            return replace(result, verdict="rules", trials={result.best: trial})

    monkeypatch.setattr(tune, "Search", QuickSearch)
    hardware, spec = detect(), find_spec("hibari")
    store = Store(tmp_path, hardware, spec)
    store.check()
    assert list((tmp_path / "measured").iterdir()) == []
    monkeypatch.setattr("saywell.plan.tuning_store.write_atomically", full)
    record = Record(
        model="hibari", runtime="", device="cpu", goal="latency", when="", seconds=1.0, best={}, chosen={}, trials=[]
    )
    with pytest.raises(StorageFailure, match="SAYWELL_DATA_DIR"):
        store.save(record)
    with pytest.raises(StorageFailure, match="No space left"):
        tune.run(
            settings.Settings(data_dir=tmp_path, model="espeak"),
            tune.Wanted(as_json=True),
        )
    assert json.loads(capsys.readouterr().out)["model"] == "espeak"


def test_unreadable_measurements_are_logged_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    def forbidden(*_: object) -> bytes:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("saywell.plan.tuning_store.read_plain", forbidden)
    store = Store(tmp_path, detect(), find_spec("hibari"))
    with caplog.at_level(logging.WARNING):
        assert (store.load(), store.weighed(), store.load()) == (None, {}, None)
    assert len(caplog.messages) == 1


# -- standard streams


@POSIX
def test_closed_standard_output_is_no_error(tmp_path: Path) -> None:
    path = str(tmp_path / "x.wav")
    for arguments in (["say", "Hello.", "-o", path], ["say", "Hello.", "-o", path, "--json"], ["plan"]):
        done = run(*arguments, shell=">&-")
        assert (done.returncode, done.stderr) == (0, "")
    assert run("say", "Hello.", "-o", path, shell="<&- >&- 2>&-").returncode == 0
    done = run("say", "Hello.", shell=">&-")
    assert (done.returncode, "-o hello.wav" in message(done)) == (2, True)
    assert run("say", "-o", path, shell="<&-").returncode == 2


@POSIX
@pytest.mark.parametrize("command", ["plan", "voices", "doctor", "plan --json"])
def test_closed_pipe_exits_with_141(command: str) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run([*PROGRAM, *command.split()], stdout=writer, stderr=subprocess.PIPE, timeout=60)
    os.close(writer)
    assert (done.returncode, done.stderr) == (141, b"")


@pytest.mark.parametrize("encoding", ["cp1252", "ascii"])
def test_characters_that_an_encoding_lacks(encoding: str, tmp_path: Path) -> None:
    path = str(tmp_path / "日本.wav")
    for arguments in (["doctor"], ["say", "Hello.", "-o", path, "--verbose"]):
        done = run(*arguments, PYTHONIOENCODING=encoding)
        assert done.returncode == 0, done.stderr
    result = json.loads(run("say", "Hello.", "-o", path, "--json", PYTHONIOENCODING=encoding).stdout)
    assert result["path"] == path
    done = run("say", "Hello.", "-v", "日本", "-o", path, PYTHONIOENCODING=encoding)
    assert (done.returncode, "no such voice" in message(done)) == (2, True)


def test_doctor_marks_differ_in_ascii() -> None:
    marks = {line[0] for line in run("doctor", PYTHONIOENCODING="ascii").stdout.splitlines() if line[1:2] == " "}
    assert {"+", "-"} <= marks


# -- output files


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="other systems refuse such names")
def test_file_name_that_is_not_utf8(tmp_path: Path) -> None:
    path = os.fsencode(tmp_path) + b"/x\xff.wav"
    done = run("say", "Hello.", "-o", path, "--json")
    assert done.returncode == 0, done.stderr
    assert os.fsencode(json.loads(done.stdout)["path"]) == path
    assert Path(os.fsdecode(path)).stat().st_size > 1000
    assert run("say", "Hello.", "-o", path, "--verbose").returncode == 0


@POSIX
def test_links_are_followed_and_modes_kept(tmp_path: Path) -> None:
    target, link, dangling = tmp_path / "target.wav", tmp_path / "link.wav", tmp_path / "dangling.wav"
    target.write_bytes(b"old")
    target.chmod(0o664)
    link.symlink_to(target)
    dangling.symlink_to("new.wav")
    for path in (link, dangling):
        assert run("say", "Hello.", "-o", str(path)).returncode == 0
        assert path.is_symlink()
        assert path.read_bytes()[:4] == b"RIFF"
    assert target.stat().st_mode & 0o777 == 0o664
    assert sorted(each.name for each in tmp_path.iterdir()) == ["dangling.wav", "link.wav", "new.wav", "target.wav"]


def test_writable_file_in_a_read_only_directory(namespace: Namespace) -> None:
    namespace.reachable()
    place = f"{namespace.place}/shared"
    made = f"mkdir -m 755 {place} && touch {place}/x.wav && chmod 666 {place}/x.wav"
    code, errors = namespace.run("say", "Hello.", "-o", f"{place}/x.wav", before=made, uid=UID)
    assert code == 0, errors


# -- a damaged installation

GONE = """
import sys
from importlib.machinery import PathFinder
class Without(PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        return None if name == "onnxruntime" else PathFinder.find_spec(name, path, target)
sys.meta_path[:] = [Without if each is PathFinder else each for each in sys.meta_path]
"""
DAMAGES = {
    "an empty folder": ("onnxruntime/__init__.py", ""),
    "no library": ("onnxruntime/__init__.py", "raise ImportError('DLL load failed')"),
    "only metadata": ("sitecustomize.py", GONE),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_runtime_is_reported_with_the_command(tmp_path: Path, damage: str) -> None:
    name, text = DAMAGES[damage]
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text(text)
    for arguments in (["say", "Hello.", "-o", str(tmp_path / "x.wav")], ["serve", "--port", "0"], ["doctor"]):
        done = run(*arguments, PYTHONPATH=f"{tmp_path}{os.pathsep}{SOURCES}", COLUMNS="300")
        assert done.returncode == 1 if arguments == ["doctor"] else done.returncode == 2
        assert "pip install --force-reinstall onnxruntime" in message(done) + done.stdout
    assert "Next: " in done.stdout
    assert "pip install --force-reinstall onnxruntime" in done.stdout.partition("Next: ")[2]


def test_damaged_package_is_named(tmp_path: Path) -> None:
    (tmp_path / "soxr").mkdir()
    (tmp_path / "soxr/__init__.py").write_text("raise ImportError('no such file', name='soxr')")
    done = run("say", "Hello.", "-o", "x.wav", PYTHONPATH=f"{tmp_path}{os.pathsep}{SOURCES}")
    assert (done.returncode, "pip install --force-reinstall soxr" in message(done)) == (1, True)


def test_other_damaged_packages_are_tolerated(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(name: str) -> object:
        raise ImportError("cannot load")

    monkeypatch.setattr("importlib.util.find_spec", lambda name: object())
    for module in (nvidia, onnx):
        monkeypatch.setattr(module, "import_module", broken)
    assert devices.read_gpus() == ((), "the package that queries the NVIDIA driver is damaged (cannot load)")
    assert devices.read_runtimes()[1]["onnxruntime"] == "cannot load"


# -- a process that is forked

FORKED = """
import os, sys, time
import saywell
from saywell.errors import EngineClosed

tts = saywell.open(worker=sys.argv[1] == "worker")
child = os.fork()
if child == 0:
    began = time.monotonic()
    message = ""
    try:
        tts.say("Hello.")
    except EngineClosed as error:
        message = error.message
    state = tts.engine.health().state
    tts.close()
    with saywell.open() as own:
        length = own.say("Hello.").duration_s
    os._exit(0 if "after the fork" in message and state == "closed" and length > 0.2 else 1)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
assert tts.say("Hello.").duration_s > 0.2  # the child has not closed this engine
tts.close()
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
@pytest.mark.parametrize("where", ["here", "worker"])
def test_engine_belongs_to_the_process_that_opened_it(where: str) -> None:
    environ = os.environ | {"PYTHONPATH": SOURCES}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", FORKED, where], capture_output=True, text=True, timeout=60, env=environ
    )
    assert done.returncode == 0, done.stderr
