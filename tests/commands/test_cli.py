"""The command line in a terminal, in pipes and in scripts, and its errors."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile as sf
from typer.testing import CliRunner

from paths import TESTS
from saywell import __version__, cli
from saywell.commands import doctor as doctor_command
from saywell.commands import play
from saywell.commands.say import parameters
from saywell.commands.sinks import FileSink
from saywell.errors import InvalidRequest, MissingDependency, Unavailable
from saywell.machine import Hardware
from saywell.models.espeak import binding
from saywell.models.hibari import package
from saywell.settings import Settings

MACHINES = TESTS / "hardware"
PROGRAM = [sys.executable, "-m", "saywell.cli"]
POSIX = pytest.mark.skipif(os.name != "posix", reason="needs a POSIX system")


@pytest.fixture(autouse=True)
def isolated_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("SAYWELL_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("SAYWELL_CONFIG", "")
    monkeypatch.setenv("COLUMNS", "80")


def run(*arguments: str, text: str | bytes | None = None) -> Any:
    return CliRunner().invoke(cli.app, list(arguments), input=text)


# -- speaking


def test_parameters_of_a_model_are_named_and_checked(tmp_path: Path) -> None:
    assert parameters(["cfg_weight=0.3", "top_k=40", "mode=a=b"]) == {"cfg_weight": 0.3, "top_k": 40.0, "mode": "a=b"}
    with pytest.raises(InvalidRequest, match="NAME=VALUE"):
        parameters(["cfg_weight"])
    done = run("say", "Hello.", "--option", "cfg_weight=0.3", "-o", str(tmp_path / "a.wav"))
    assert done.exit_code
    assert "cfg_weight" in done.output


def test_say_into_a_file(tmp_path: Path) -> None:
    path = tmp_path / "hello.wav"
    done = run("say", "Hello there.", "-o", str(path))
    assert done.exit_code == 0, done.output
    samples, rate = sf.read(path)
    assert rate >= 16000
    assert 0.4 < len(samples) / rate < 3
    assert np.abs(samples).max() > 0.05


@pytest.mark.parametrize("extension", ["wav", "flac", "mp3", "opus", "pcm"])
def test_the_extension_chooses_the_format(tmp_path: Path, extension: str) -> None:
    path = tmp_path / f"x.{extension}"
    assert run("say", "Hello.", "-o", str(path)).exit_code == 0
    assert path.stat().st_size > 1000
    if extension != "pcm":
        assert sf.info(path).duration > 0.3


def test_format_wins_over_the_extension(tmp_path: Path) -> None:
    path = tmp_path / "x.bin"
    assert run("say", "Hello.", "-o", str(path), "--format", "flac").exit_code == 0
    assert path.read_bytes()[:4] == b"fLaC"


def test_json_describes_the_result(tmp_path: Path) -> None:
    path = tmp_path / "x.wav"
    done = run("say", "Hello there.", "-o", str(path), "--json", "--seed", "7")
    result = json.loads(done.stdout)
    assert result["path"] == str(path)
    assert result["seed"] == 7
    assert result["finish_reason"] == "stop"
    assert result["duration_s"] == pytest.approx(sf.info(path).duration, abs=0.001)
    assert 0 < result["ttfa_s"] <= result["total_s"]
    assert result["rtf"] == pytest.approx(result["total_s"] / result["duration_s"], rel=0.01)
    assert (result["model"], result["plan"]["executor"], result["plan"]["device"]) == ("hibari", "onnx", "cpu")


def test_text_from_a_file_and_from_standard_input(tmp_path: Path) -> None:
    source = tmp_path / "text.txt"
    source.write_text("\ufeffHello there.", encoding="utf-8")
    files = [tmp_path / f"{number}.wav" for number in range(4)]
    assert run("say", "Hello there.", "-o", str(files[0])).exit_code == 0
    assert run("say", "--file", str(source), "-o", str(files[1])).exit_code == 0
    assert run("say", "-", "-o", str(files[2]), text="Hello there.").exit_code == 0
    assert run("say", "-o", str(files[3]), text="Hello there.").exit_code == 0
    assert len({file.read_bytes() for file in files}) == 1


def test_streamed_file_holds_the_same_samples(tmp_path: Path) -> None:
    text = "This is the first sentence of a small story. And this is another one, which follows it."
    whole, streamed = tmp_path / "whole.wav", tmp_path / "streamed.wav"
    assert run("say", text, "-o", str(whole)).exit_code == 0
    assert run("say", text, "-o", str(streamed), "--stream").exit_code == 0
    header = streamed.read_bytes()
    assert header[4:8] == b"\xff\xff\xff\xff"
    assert header[header.index(b"data") + 8 :] == whole.read_bytes()[whole.read_bytes().index(b"data") + 8 :]


def test_pipe_receives_only_wav() -> None:
    done = run("say", "Hello.")
    assert done.exit_code == 0
    assert done.stdout_bytes[:4] == b"RIFF"
    assert run("say", "Hello.", "-o", "-", "--format", "flac").stdout_bytes[:4] == b"fLaC"


def test_speed_and_voice_reach_the_engine(tmp_path: Path) -> None:
    slow, fast = tmp_path / "slow.wav", tmp_path / "fast.wav"
    assert run("say", "Hello there, how are you?", "-o", str(slow), "-s", "0.5").exit_code == 0
    assert run("say", "Hello there, how are you?", "-o", str(fast), "-s", "2").exit_code == 0
    assert sf.info(slow).duration > 2 * sf.info(fast).duration
    assert run("say", "Hello.", "-v", "unknown", "-o", str(slow)).exit_code == 2


def test_text_longer_than_the_limit_of_a_server(tmp_path: Path) -> None:
    source = tmp_path / "long.txt"
    source.write_text("A long tale, told once more. " * 180)
    done = run("say", "--file", str(source), "-o", str(tmp_path / "long.flac"), "--json", "-s", "4")
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["duration_s"] > 60


def test_verbose_shows_machine_plan_and_figures_in_80_columns(tmp_path: Path) -> None:
    path = tmp_path / "hello.wav"
    done = run("say", "Hello there.", "-o", str(path), "--verbose")
    assert done.exit_code == 0
    for word in ("Hardware", "Memory", "Plan for hibari", "max_batch_size", "First audio", "TTFA", "RTF"):
        assert word in done.stdout
    assert str(path) in done.stdout.replace("│\n│", "").replace(" ", "")
    assert max(len(line) for line in done.stdout.splitlines()) <= 80


@pytest.mark.parametrize(("options", "reported"), [([], False), (["--verbose"], True)])
def test_degradation_is_reported_with_verbose(tmp_path: Path, options: list[str], reported: bool) -> None:
    pressed = (
        "from saywell import cli; from saywell.machine.monitor import Resources\n"
        "from saywell.engine.pressure_monitor import PressureMonitor; start = PressureMonitor.start\n"
        "hot = Resources(cpu_percent=1.0, memory_limit=1 << 33, memory_available=1 << 32, memory_percent=50.0,"
        " throttled=('it is too hot',))\n"
        "def pressed(self):\n"
        "    start(self)\n"
        "    self.hurry(hot)\n"
        "PressureMonitor.start = pressed; cli.main()"
    )
    command = [sys.executable, "-c", pressed, "say", "Hello.", *options, "-o", str(tmp_path / "x.wav")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert ("degradation levels: threads (it is too hot)" in done.stderr) is reported


# -- failing


@pytest.mark.parametrize(
    ("arguments", "way_out"),
    [
        (["say", "", "-o", "x.wav"], "nothing to speak"),
        (["say", "a", "--file", "b", "-o", "x.wav"], "not both"),
        (["say", "a", "-o", "x.xyz"], ".mp3"),
        (["say", "a", "-o", "x.wav", "--format", "midi"], "there is mp3"),
        (["say", "a", "-o", "/nonexistent/x.wav"], "choose another place"),
        (["say", "a", "-o", "/"], "choose another place"),
        (["say", "a", "-o", "x.wav", "--timestamps", "none/x.json"], "choose another place for --timestamps"),
        (["say", "a", "-o", "x.wav", "--codes-out", "."], "choose another place for --codes-out"),
        (["say", "a", "--speed", "9", "-o", "x.wav"], "between 0.25 and 4"),
        (["say", "a", "-o", "-", "--json"], "add -o FILE"),
        (["say", "a", "--set", "threads", "-o", "x.wav"], "NAME=VALUE"),
        (["plan", "--set", "threads=0"], "leave it out"),
        (["plan", "--set", "treads=1"], "did you mean 'threads'"),
        (["plan", "--set", "max_batch_size=100000"], "max_batch_size"),
        (["plan", "--model", "nothing"], "no model 'nothing'"),
        (["bench", "--limit", "300"], "goes with --ablation"),
        (["bench", "--streams", "1000"], "at once"),
        (["bench", "--length", "99999", "--set", "max_text_chars=500"], "500 characters at most"),
        (["bench", "--ablation", "--length", "900", "--set", "max_text_chars=500"], "500 characters at most"),
        (["bench", "--ablation", "--streams", "1", "--streams", "2"], "one number of --streams"),
        (["bench", "--model", "nothing"], "no model"),
        (["serve", "--port", "99999"], "port"),
        (["say", "--bogus"], "No such option"),
    ],
)
def test_mistakes_give_one_line_and_exit_code_2(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], way_out: str
) -> None:
    monkeypatch.chdir(tmp_path)
    done = run(*arguments, text="")
    assert done.exit_code == 2
    assert way_out in done.stderr
    assert "Traceback" not in done.output
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "arguments",
    [
        ["Hello.", "--temperature", "7"],
        ["Hello.", "--speed", "0.1"],
        ["Hello.", "--timeout", "0"],
        ["Hello.", "--language", "a language"],
        ["Hello.", "--max-frames", "2000000"],
        ["Hello.", "--codes-out", "codes.npy"],
        ["—"],
    ],
)
def test_invalid_request_starts_no_engine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("saywell.engine.launch.build", lambda *_, **__: pytest.fail("an engine was built"))
    done = run("say", *arguments, "-o", "x.wav")
    assert done.exit_code == 2, done.output
    assert list(tmp_path.iterdir()) == []


def test_text_that_is_not_utf8(tmp_path: Path) -> None:
    done = run("say", "-o", str(tmp_path / "x.wav"), text=b"caf\xe9")
    assert done.exit_code == 2
    assert "not UTF-8" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["say", "Hello.", "--transcript", "What was said."], "add --reference FILE"),
        (["say", "--reference", "-"], "cannot be both the recording and the text"),
        (["say", "--file", "-", "--reference", "-"], "cannot be both the recording and the text"),
        (["say", "Hello.", "--reference", "-"], "not an audio file we read"),
        (["voices", "--transcript", "What was said."], "--save NAME --reference FILE"),
        (["voices", "--reference", "a.wav"], "--save NAME --reference FILE"),
        (["voices", "--save", "anna", "--reference", "-"], "not an audio file we read"),
    ],
)
def test_unused_recording_options_are_rejected(arguments: list[str], says: str) -> None:
    output = ["-o", "x.wav"] if arguments[0] == "say" else []
    done = subprocess.run([*PROGRAM, *arguments, *output], input=b"words", capture_output=True, timeout=60)
    assert (done.returncode, done.stdout) == (2, b"")
    assert says in done.stderr.decode()


@pytest.mark.parametrize("option", ["--file", "--reference"])
def test_endless_file_is_rejected(tmp_path: Path, option: str) -> None:
    text = [] if option == "--file" else ["Hello."]
    done = run("say", *text, option, "/dev/zero", "-o", str(tmp_path / "x.wav"))
    assert done.exit_code == 2
    assert re.search("more than|larger than", done.stderr)


def test_too_long_text_is_reported_even_if_cut_within_a_character(tmp_path: Path) -> None:
    done = run("say", "-o", str(tmp_path / "x.wav"), text="あ".encode() * 13_400_000)
    assert done.exit_code == 2
    assert "more than 10000000 characters" in done.stderr


def test_missing_input_file(tmp_path: Path) -> None:
    done = run("say", "--file", str(tmp_path / "none.txt"), "-o", str(tmp_path / "x.wav"))
    assert done.exit_code == 1
    assert "No such file" in done.stderr
    assert "none.txt" in done.stderr


def test_bug_is_one_line_without_debug(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("saywell.commands.plan.run", lambda *_, **__: 1 / 0)
    done = run("plan")
    assert done.exit_code == 1
    assert "internal error: ZeroDivisionError" in done.stderr
    assert "Traceback" not in done.output
    assert "Traceback" in run("--debug", "plan").stderr


def test_failed_stream_leaves_no_file(tmp_path: Path) -> None:
    path = tmp_path / "x.wav"
    done = run("say", "Some words. " * 300, "-o", str(path), "--stream", "--timeout", "0.001")
    assert done.exit_code == 1
    assert not path.exists()


@POSIX
def test_interrupt_exits_silently_with_130(tmp_path: Path) -> None:
    source = tmp_path / "long.txt"
    source.write_text("A long tale, told once more. " * 20_000)
    command = [*PROGRAM, "say", "--file", str(source), "-o", str(tmp_path / "x.wav")]
    with subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            time.sleep(1.5)
            process.send_signal(signal.SIGINT)
            out, err = process.communicate(timeout=20)
        finally:
            process.kill()
    assert process.returncode == 130
    assert (out, err) == ("", "")
    assert not (tmp_path / "x.wav").exists()


@POSIX
def test_termination_leaves_no_incomplete_file(tmp_path: Path) -> None:
    source, path = tmp_path / "long.txt", tmp_path / "x.mp3"
    source.write_text("A long tale, told once more. " * 20_000)
    command = [*PROGRAM, "say", "--file", str(source), "--stream", "-o", str(path)]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as process:
        until = time.monotonic() + 20
        while not path.exists() and time.monotonic() < until:
            time.sleep(0.05)
        assert path.exists()
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=20) == 143
    assert not path.exists()


@POSIX
@pytest.mark.parametrize(("number", "code"), [("SIGINT", 130), ("SIGTERM", 143), ("SIGHUP", 129)])
@pytest.mark.parametrize("extension", ["mp3", "opus", "flac"])
def test_interrupt_inside_an_encoder_is_not_lost(tmp_path: Path, extension: str, number: str, code: int) -> None:
    path = tmp_path / f"x.{extension}"
    during = (
        "import os, signal, sys; from saywell import cli; from saywell.audio import encode;"
        "feed = encode.Encoder.feed\n"
        "def interrupted(self, samples):\n"
        f"    os.kill(os.getpid(), signal.{number})\n"
        "    return feed(self, samples)\n"
        "encode.Encoder.feed = interrupted; cli.main()"
    )
    command = [sys.executable, "-c", during, "say", "--stream", "A sentence to say.", "-o", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=20)
    assert (done.returncode, done.stdout, done.stderr) == (code, "", "")
    assert not path.exists()


@pytest.mark.parametrize("format", ["wav", "flac"])
def test_hours_of_speech_use_little_memory(tmp_path: Path, format: str) -> None:
    path, minute = tmp_path / f"x.{format}", np.zeros(60 * 16_000, np.float32)
    sink = FileSink(path, format)
    tracemalloc.start()
    try:
        for _ in range(60):  # 230 MB of samples
            sink.write(minute, 16_000)
        sink.close()
        most = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert most < 60 << 20
    assert sf.info(path).frames == 60 * len(minute)
    assert list(tmp_path.iterdir()) == [path]


def test_aborted_sink_leaves_the_existing_file(tmp_path: Path) -> None:
    path = tmp_path / "x.wav"
    path.write_bytes(b"precious")
    sink = FileSink(path, "wav")
    sink.write(np.zeros(1000, np.float32), 16_000)
    assert len(list(tmp_path.iterdir())) == 2
    sink.abort()
    assert list(tmp_path.iterdir()) == [path]
    assert path.read_bytes() == b"precious"


@POSIX
def test_named_pipe_receives_the_complete_file(tmp_path: Path) -> None:
    pipe = tmp_path / "x.wav"
    os.mkfifo(pipe)
    with subprocess.Popen([*PROGRAM, "say", "Hello.", "-o", str(pipe)]) as process:
        data = pipe.read_bytes()
        assert process.wait(timeout=20) == 0
    assert int.from_bytes(data[4:8], "little") == len(data) - 8


def test_rejected_request_leaves_the_existing_file(tmp_path: Path) -> None:
    path = tmp_path / "x.mp3"
    path.write_bytes(b"precious")
    done = run("say", "Hello.", "--voice", "unknown", "--stream", "-o", str(path))
    assert done.exit_code == 2
    assert path.read_bytes() == b"precious"


def test_codes_out_is_rejected_for_a_model_without_codes(tmp_path: Path) -> None:
    done = run("say", "Hello.", "-o", str(tmp_path / "x.wav"), "--codes-out", str(tmp_path / "x.npy"))
    assert done.exit_code == 2
    assert "has no codes" in done.output
    assert list(tmp_path.iterdir()) == []


@POSIX
def test_closed_pipe_is_silent() -> None:
    text = "Some words to say. " * 200
    with subprocess.Popen([*PROGRAM, "say", text], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.read(4) == b"RIFF"
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait(timeout=20) == 141


def test_redirected_file_has_the_length_in_its_header(tmp_path: Path) -> None:
    path = tmp_path / "x.wav"
    with path.open("wb") as file:
        subprocess.run([*PROGRAM, "say", "Hello."], stdout=file, check=True)
    data = path.read_bytes()
    assert int.from_bytes(data[4:8], "little") == len(data) - 8


# -- at a terminal


def at_a_terminal(arguments: list[str], path: str) -> tuple[int, str]:
    """Run with a pseudo-terminal as all three standard streams."""
    import pty

    leader, follower = pty.openpty()
    environ = os.environ | {"PATH": path, "TERM": "xterm", "COLUMNS": "80"}
    process = subprocess.Popen(
        [*PROGRAM, *arguments], stdin=follower, stdout=follower, stderr=follower, env=environ, close_fds=True
    )
    os.close(follower)
    shown = b""
    while True:
        try:
            piece = os.read(leader, 65536)
        except OSError:  # the other end is closed
            break
        if not piece:
            break
        shown += piece
    os.close(leader)
    return process.wait(timeout=20), shown.decode(errors="replace")


def tools(place: Path) -> Path:
    """A directory with what scripts need and nothing that plays: this machine may have players."""
    there = place / "tools"
    there.mkdir()
    for name in ("sh", "cat", "cp", "echo", "head", "sleep", "dd", "true", "false", "kill"):
        if found := shutil.which(name):
            (there / name).symlink_to(found)
    return there


def fake_player(place: Path, name: str, script: str) -> None:
    program = place / name
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)


@POSIX
@pytest.mark.skipif(play.has_sounddevice(), reason="would be heard")
def test_played_aloud_with_a_progress_bar(tmp_path: Path) -> None:
    heard = tmp_path / "heard"
    fake_player(tmp_path, "aplay", f'echo "$@" > {tmp_path}/arguments; cat > {heard}')
    code, shown = at_a_terminal(["say", "Some words to say. " * 30], f"{tmp_path}:{tools(tmp_path)}")
    assert code == 0, shown
    assert "speaking" in shown
    assert (tmp_path / "arguments").read_text().startswith("-q -t raw -f S16_LE -c 1 -r ")
    assert heard.stat().st_size > 100_000


@POSIX
@pytest.mark.skipif(play.has_sounddevice(), reason="would be heard")
def test_terminal_without_a_player_or_a_text() -> None:
    code, shown = at_a_terminal(["say", "Hello."], "/nonexistent")
    assert code == 1
    assert "-o hello.wav" in shown
    code, shown = at_a_terminal(["say"], "/nonexistent")
    assert code == 2
    assert "nothing to say" in shown
    code, shown = at_a_terminal(["say", "Hello.", "-o", "-"], "/nonexistent")
    assert code == 2
    assert "garble the terminal" in shown


# -- players


class FakeSound:
    """A stand-in for the sounddevice module."""

    class PortAudioError(Exception):
        pass

    def __init__(self) -> None:
        self.heard: list[np.ndarray[Any, Any]] = []
        self.calls: list[str] = []
        self.broken = False

    def OutputStream(self, samplerate: int, channels: int, dtype: str) -> FakeSound:
        if self.broken:
            raise self.PortAudioError("no device")
        self.calls.append(f"{samplerate} {channels} {dtype}")
        return self

    def write(self, samples: Any) -> None:
        self.heard.append(samples)

    def __getattr__(self, name: str) -> Any:
        return lambda: self.calls.append(name)


def test_sounddevice(monkeypatch: pytest.MonkeyPatch) -> None:
    sound = FakeSound()
    monkeypatch.setattr(play, "has_sounddevice", lambda: True)
    monkeypatch.setattr(play, "import_module", lambda name: sound)
    player = play.open_player()
    player.write(np.ones(10, np.float32), 16000)
    player.write(np.ones(5, np.float32), 16000)
    player.close()
    assert sound.calls == ["16000 1 float32", "start", "stop", "close"]
    assert [item.shape for item in sound.heard] == [(10, 1), (5, 1)]
    sound.broken = True
    with pytest.raises(Unavailable, match=r"-o hello\.wav"):
        play.open_player().write(np.ones(5, np.float32), 16000)


@pytest.fixture
def fake_players(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setattr(play, "has_sounddevice", lambda: False)
    monkeypatch.setattr(play.sys, "platform", "linux")
    monkeypatch.setenv("PATH", f"{tmp_path}:{tools(tmp_path)}")
    return tmp_path


@POSIX
@pytest.mark.parametrize("name", ["paplay", "aplay", "ffplay"])
def test_piped_players(fake_players: Path, name: str) -> None:
    fake_player(fake_players, name, f"cat > {fake_players}/heard")
    player = play.open_player()
    for _ in range(3):
        player.write(np.full(1000, 0.5, np.float32), 16000)
    player.close()
    assert np.array_equal(np.fromfile(fake_players / "heard", "<i2"), np.full(3000, 16384))


@POSIX
@pytest.mark.parametrize("name", ["pw-play", "afplay"])
def test_players_of_files(fake_players: Path, name: str) -> None:
    fake_player(fake_players, name, f'cp "$1" {fake_players}/heard.wav')
    player = play.open_player()
    player.write(np.full(1000, 0.5, np.float32), 16000)
    player.write(np.full(1000, 0.5, np.float32), 16000)
    player.close()
    assert sf.info(fake_players / "heard.wav").frames == 2000


@POSIX
@pytest.mark.parametrize("name", ["aplay", "pw-play"])
def test_failing_player_says_why(fake_players: Path, name: str) -> None:
    fake_player(fake_players, name, "cat > /dev/null; echo 'no sound card' >&2; exit 1")
    player = play.open_player()
    player.write(np.zeros(10, np.float32), 16000)
    with pytest.raises(Unavailable, match=r"no sound card.*-o hello\.wav"):
        player.close()


@POSIX
def test_player_that_exits_early(fake_players: Path) -> None:
    fake_player(fake_players, "aplay", "echo 'gone' >&2; exit 3")
    player = play.open_player()
    with pytest.raises(Unavailable, match="gone"):
        player.write(np.zeros(10_000_000, np.float32), 16000)


@POSIX
def test_aborted_player_is_stopped(fake_players: Path) -> None:
    fake_player(fake_players, "aplay", "exec sleep 60")
    player = play.open_player()
    player.write(np.zeros(10, np.float32), 16000)
    started = time.monotonic()
    player.abort()
    assert time.monotonic() - started < 5


def test_without_a_player_the_error_names_the_way_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(play, "has_sounddevice", lambda: False)
    monkeypatch.setattr(play.shutil, "which", lambda name: None)
    monkeypatch.setattr(play.sys, "platform", "linux")
    with pytest.raises(MissingDependency, match=r"saywell\[play\].*-o hello.wav"):
        play.open_player()
    monkeypatch.setattr(play.sys, "platform", "win32")
    assert play.find() == "winsound"


# -- the other commands


def test_help_and_version() -> None:
    assert run("--version").stdout == f"saywell {__version__}\n"
    shown = run("--help").stdout
    for command in ("say", "serve", "plan", "doctor", "voices", "bench"):
        assert command in shown
        assert run(command, "--help").exit_code == 0


def test_help_imports_nothing_heavy() -> None:
    heavy = {"numpy", "rich", "msgspec", "psutil", "onnxruntime", "torch", "fastapi", "soundfile", "platformdirs"}
    code = f"import sys, saywell.cli; print(*sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


def test_plan_as_a_table_and_as_json() -> None:
    shown = run("plan").stdout
    assert max(len(line) for line in shown.splitlines()) <= 80
    for field in ("executor", "max_batch_size", "memory_budget", "hang_s", "hyper-threads add"):
        assert field in " ".join(shown.split())
    document = json.loads(run("plan", "--json", "--set", "max_batch_size=1").stdout)
    assert (document["plan"]["max_batch_size"], document["plan"]["device"]) == (1, "cpu")
    assert {
        "field": "max_batch_size",
        "value": "1",
        "why": "asked for by the command line",
        "source": "setting",
    } in document["plan"]["reasons"]
    assert Hardware.from_json(json.dumps(document["hardware"])).fingerprint() == document["fingerprint"]


@pytest.mark.parametrize("file", sorted(MACHINES.glob("*.json")), ids=lambda file: file.stem)
def test_plan_for_a_recorded_machine(file: Path) -> None:
    done = run("plan", "--machine", str(file))
    assert done.exit_code == 0, done.output
    assert Hardware.from_json(file.read_bytes()).cpu.model.split("(")[0] in done.stdout
    assert max(len(line) for line in done.stdout.splitlines()) <= 80


def test_plan_rejects_another_file(tmp_path: Path) -> None:
    file = tmp_path / "x.json"
    file.write_text('{"os": "linux"}')
    done = run("plan", "--machine", str(file))
    assert done.exit_code == 2
    assert "does not describe a machine" in done.stderr


def test_voices() -> None:
    document = json.loads(run("voices", "--json").stdout)
    assert document["model"] == "hibari"
    assert document["voices"][0]["sample_rate"] >= 16000
    shown = run("voices").stdout
    assert document["voices"][0]["id"] in shown
    assert "(default)" in shown
    assert "espeak:de" in run("voices", "--model", "espeak").stdout


def test_voice_implies_its_model(tmp_path: Path) -> None:
    path = tmp_path / "x.wav"
    result = json.loads(run("say", "Guten Tag.", "-v", "espeak:de", "-l", "de", "-o", str(path), "--json").stdout)
    assert (result["model"], result["voice"]) == ("espeak", "espeak:de")


def test_doctor() -> None:
    done = run("doctor")
    assert done.exit_code == 0
    for word in ("hibari", "espeak", "Memory", "GPU", "Temperature", "Player", "AAC", "PyTorch", "Settings", "Cache"):
        assert word in done.stdout
    assert "Next: saywell" in done.stdout
    report = json.loads(run("doctor", "--json").stdout)
    assert all(finding["state"] == "ok" or finding["advice"] for finding in report["findings"])
    assert report["next"].startswith("saywell ")


def test_doctor_without_voices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(binding, "installed", lambda: False)
    find_spec = doctor_command.util.find_spec
    absent = {"av", "sounddevice"}
    monkeypatch.setattr(doctor_command.util, "find_spec", lambda name: None if name in absent else find_spec(name))
    assert run("doctor").exit_code == 0
    monkeypatch.setattr(package, "find", lambda _: None)
    done = run("doctor")
    assert done.exit_code == 1
    assert "saywell[espeak]" in done.stdout
    assert "hibari-tts==0.2.1" in done.stdout


def test_doctor_shows_overrides_but_no_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SAYWELL_API_KEYS", "very-secret-key")
    shown = run("doctor").stdout
    assert "api_keys by SAYWELL_API_KEYS" in " ".join(shown.split())
    assert "very-secret-key" not in shown


def test_serve_passes_its_options_on(monkeypatch: pytest.MonkeyPatch) -> None:
    received: list[Settings] = []

    def serve(settings: Settings) -> int:
        received.append(settings)
        return 7

    server = type("App", (), {"run": staticmethod(serve)})
    monkeypatch.setitem(sys.modules, "saywell.server.app", server)
    done = run(
        "serve", "--host", "127.0.0.1", "--port", "0", "--api-key", "first-key", "--api-key", "second-key",
        "--cors-origin", "https://a.example", "--log-level", "warning", "--log-json", "--set", "drain_s=2.5",
    )  # fmt: skip
    assert done.exit_code == 7, done.output
    overrides = received[0].overrides()
    assert overrides["api_keys"] == ("first-key", "second-key")
    assert (overrides["port"], overrides["drain_s"], overrides["log_json"]) == (0, 2.5, True)
    assert "allow_public" not in overrides


def test_the_installed_program() -> None:
    program = Path(sys.executable).with_name("saywell")
    if not program.exists():
        pytest.skip("run from a source tree")
    done = subprocess.run([program, "--version"], capture_output=True, text=True, check=True)
    assert done.stdout == f"saywell {__version__}\n"


# -- arriving text


def piped(*arguments: str, output: int = subprocess.PIPE) -> subprocess.Popen[bytes]:
    command = [*PROGRAM, "say", "--stream", *arguments]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=output, stderr=subprocess.PIPE, bufsize=0)


WORDS = "The first sentence is spoken early, I hope. The naïve café — the second — is longer. And a third comes last."


def test_text_is_spoken_while_it_arrives(tmp_path: Path) -> None:
    """Audio starts before the text is complete, and equals that of the complete text."""
    assert run("say", WORDS, "-o", str(tmp_path / "whole.pcm")).exit_code == 0
    data, early = WORDS.encode(), 60
    with piped("-o", "-", "--format", "pcm") as process:
        assert process.stdin is not None
        assert process.stdout is not None
        for index in range(early):  # byte by byte, also within a character
            process.stdin.write(data[index : index + 1])
        heard = process.stdout.read(4096)
        assert len(heard) > 1000
        for index in range(early, len(data)):
            process.stdin.write(data[index : index + 1])
        process.stdin.close()
        while piece := process.stdout.read(1 << 16):
            heard += piece
    assert process.returncode == 0
    assert heard == (tmp_path / "whole.pcm").read_bytes()


def test_file_grows_while_text_arrives(tmp_path: Path) -> None:
    path = tmp_path / "x.wav"
    with piped("-", "-o", str(path)) as process:
        assert process.stdin is not None
        process.stdin.write(b"\xef\xbb\xbf" + WORDS[:60].encode())
        until = time.monotonic() + 20
        while not path.exists() and time.monotonic() < until:
            time.sleep(0.05)
        assert path.exists()
        process.stdin.write(WORDS[60:].encode())
        process.stdin.close()
        assert process.wait(20) == 0
    whole = tmp_path / "whole.wav"
    assert run("say", WORDS, "-o", str(whole)).exit_code == 0
    assert np.array_equal(sf.read(path)[0], sf.read(whole)[0])


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"The first sentence is spoken. Then \xff comes.", "standard input is not UTF-8 text (byte 35)"),
        (b"Half a character \xe4\xbd", "standard input is not UTF-8 text (byte 17)"),
        (b"", "text has nothing to speak"),
        (b" \n... \n", "text has nothing to speak"),
        (b"Too long, it is. " * 3, "the limit is 40"),
    ],
    ids=lambda value: value[-12:] if isinstance(value, bytes) else "",
)
def test_invalid_arriving_text_is_rejected(tmp_path: Path, data: bytes, why: str) -> None:
    path = tmp_path / "x.wav"
    limit = ["--set", "max_text_chars=40"] if "limit" in why else []
    with piped("-o", str(path), *limit) as process:
        assert process.stdin is not None
        assert process.stderr is not None
        for start in range(0, len(data), 16):
            process.stdin.write(data[start : start + 16])
            time.sleep(0.01)
        process.stdin.close()
        assert process.wait(20) == 2
        errors = process.stderr.read(1 << 16).decode()
    assert why in errors
    assert errors.count("\n") == 1
    assert not path.exists()


@POSIX
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda number: number.name)
def test_waiting_for_text_can_be_interrupted(tmp_path: Path, number: signal.Signals) -> None:
    path = tmp_path / "x.wav"
    with piped("-o", str(path)) as process:
        assert process.stdin is not None
        assert process.stderr is not None
        process.stdin.write(WORDS[:60].encode())
        until = time.monotonic() + 20
        while not path.exists() and time.monotonic() < until:
            time.sleep(0.05)
        time.sleep(0.5)  # until the text so far has been spoken
        process.send_signal(number)
        assert process.wait(10) == 128 + number
        assert process.stderr.read(1 << 16) == b""
    assert not path.exists()


def test_text_that_stops_arriving_times_out(tmp_path: Path) -> None:
    with piped("-o", str(tmp_path / "x.wav"), "--timeout", "1") as process:
        assert process.stdin is not None
        assert process.stderr is not None
        process.stdin.write(b"Something was said. And then")
        assert process.wait(30) == 1
        assert b"no text came for 1 s" in process.stderr.read(1 << 16)


# -- how a text is read


def test_explain_prints_each_decision_and_speaks_nothing(tmp_path: Path) -> None:
    text = "Dr. Lee paid $5 &amp; left."
    done = run("say", "--explain", "--json", text, "-o", str(tmp_path / "x.wav"))
    document = json.loads(done.stdout)
    assert document["spoken"] == "Doctor Lee paid five dollars and left."
    rows = [(row["written"], row["spoken"], row["rule"]) for row in document["decisions"]]
    assert rows == [
        ("Dr.", "Doctor", "doctor-or-drive"),
        ("$5", "five dollars", "money"),
        ("&amp;", "and", "named-sign"),
    ]
    assert all(text[row["start"] : row["end"]] == row["written"] for row in document["decisions"])
    assert all(row["phones"] for row in document["decisions"])
    assert not (tmp_path / "x.wav").exists()
    shown = run("say", "--explain", text).stdout
    assert shown.startswith("Doctor Lee paid five dollars and left.\n")
    assert "doctor-or-drive" in shown
    assert "Nothing is spoken other than written." in run("say", "--explain", "Good morning.").stdout


@pytest.mark.parametrize(
    ("options", "spoken"),
    [
        ([], "Doctor Klein: March fourth, twenty twenty-six."),
        (["--voice", "emma"], "Doctor Klein: April third, twenty twenty-six."),
        (["--language", "en-GB"], "Doctor Klein: April third, twenty twenty-six."),
        (["-m", "espeak", "--voice", "espeak:de"], "Dr. Klein: 3/4/2026."),
        (["-m", "espeak", "--language", "de"], "Dr. Klein: 3/4/2026."),
    ],
)
def test_a_text_is_explained_as_the_voice_speaks_it(options: list[str], spoken: str) -> None:
    done = run("say", "--explain", "--json", "Dr. Klein: 3/4/2026.", *options)
    assert json.loads(done.stdout)["spoken"] == spoken


def test_markup_is_read_as_asked() -> None:
    assert "<b>" not in run("say", "--explain", "<b>Hi</b> there").stdout
    assert "b Hi b there" in run("say", "--explain", "--markup", "plain", "<b>Hi</b> there").stdout
    done = run("say", "Hi.", "--markup", "latex")
    assert (done.exit_code, "markup is one of auto, plain, markdown, html" in done.stderr) == (2, True)
