"""The speech processes: cancelled, killed, hung, orphaned, blocked."""

from __future__ import annotations

import gc
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator

import numpy as np
import psutil
import pytest

from espeak_rig import LONG, TEXT, children, joined, load, process_of, run, say, sequence
from paths import TESTS
from saywell.errors import ModelFailure
from saywell.models.base import SequenceError
from saywell.models.espeak import children as children_module
from saywell.models.espeak.children import Child
from saywell.models.espeak.model import EspeakModel
from saywell.types import Frame, Sequence

VOICES = ("espeak:en-us", "espeak:en-gb", "espeak:de")
PARENT = """
import sys, time
from espeak_rig import LONG, children, load, sequence
model = load(slots=2)
both = [sequence(model, LONG) for _ in range(2)]
model.prefill(both)
while len(children()) < 2:
    time.sleep(0.01)
print(*children(), flush=True)
while sys.argv[1] == "busy":
    model.step(both)
sys.stdin.read()
"""


@pytest.fixture
def model() -> Iterator[EspeakModel]:
    made = load(slots=2)
    yield made
    made.close()
    until(lambda: not children())


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Do not kill children because this machine is busy."""
    monkeypatch.setattr(children_module, "STOP_S", 10.0)


def until(condition: Callable[[], object], limit_s: float = 5.0) -> float:
    """Wait for a condition; returns the seconds it took."""
    begun = time.monotonic()
    while not condition():
        assert time.monotonic() - begun < limit_s
        time.sleep(0.005)
    return time.monotonic() - begun


def begin(model: EspeakModel, text: str = LONG, voice: str = "espeak:en-us") -> Sequence:
    """A sequence that has produced a frame."""
    one = sequence(model, text, voice)
    model.prefill([one])
    until(lambda: model.step([one]))
    return one


def open_files() -> int:
    gc.collect()
    return psutil.Process().num_fds()


def test_two_hundred_cancels_leak_nothing(model: EspeakModel, patient: None) -> None:
    draw = random.Random(1)
    texts = (TEXT, LONG, "Hello.", "你好")
    expected = say(model)
    run(model, sequence(model), sequence(model))
    before, files = children(), open_files()
    assert len(before) == 2
    for _ in range(200):
        batch = [sequence(model, draw.choice(texts), draw.choice(VOICES)) for _ in range(2)]
        model.prefill(batch)
        stop_at = time.monotonic() + draw.random() * 0.02
        while time.monotonic() < stop_at:
            try:
                ended = {frame.sequence for frame in model.step(batch) if frame.finish}
            except SequenceError as error:
                ended = {error.sequence}
            for one in ended:
                batch.remove(one)
                model.release(one)
            if not batch:
                break
        for one in batch:
            model.release(one)
    np.testing.assert_array_equal(say(model), expected)
    until(lambda: open_files() == files)
    assert children() == before  # none had to be killed


def test_cancelled_child_is_reused(model: EspeakModel, patient: None) -> None:
    first, second = begin(model), begin(model)
    before = children()
    model.release(first)
    third = begin(model, TEXT, "espeak:de")
    assert children() == before
    for one in (second, third):
        model.release(one)


def test_release_before_prefill_and_before_a_child_starts(model: EspeakModel) -> None:
    model.release(sequence(model))
    waiting = [sequence(model) for _ in range(5)]
    model.prefill(waiting)
    for one in reversed(waiting):
        model.release(one)
    assert len(say(model)) > 1000


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
def test_killed_child_fails_only_its_sequence(model: EspeakModel) -> None:
    expected = joined(run(model, sequence(model))[0])
    victim = begin(model)
    other = sequence(model)
    model.prefill([other])
    os.kill(process_of(victim), signal.SIGKILL)
    frames: list[Frame] = []
    failures = []
    batch = [victim, other]
    while not (frames and frames[-1].finish):
        try:
            frames += [frame for frame in model.step(batch) if frame.sequence is other]
        except SequenceError as error:
            failures.append(error)
            batch.remove(error.sequence)
            model.release(error.sequence)
    model.release(other)
    assert [failure.sequence for failure in failures] == [victim]
    assert isinstance(failures[0].cause, ModelFailure)
    assert "signal 9" in str(failures[0])
    np.testing.assert_array_equal(joined(frames), expected)
    assert len(say(model)) > 1000


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
def test_child_killed_while_idle_is_replaced(model: EspeakModel) -> None:
    expected = say(model)
    for pid in children():
        os.kill(pid, signal.SIGKILL)
        psutil.Process(pid).wait(5) if psutil.pid_exists(pid) else None
    np.testing.assert_array_equal(say(model), expected)


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
def test_child_that_does_not_stop_is_replaced(model: EspeakModel) -> None:
    one = begin(model)
    pid = process_of(one)
    os.kill(pid, signal.SIGSTOP)
    begun = time.monotonic()
    model.release(one)
    assert time.monotonic() - begun < children_module.STOP_S / 2  # the engine's thread does not wait for it
    until(lambda: not psutil.pid_exists(pid), children_module.STOP_S + 2.0)
    assert len(say(model)) > 1000


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
def test_hung_child_fails_its_sequence() -> None:
    model = load(slots=1, hang_s=0.3)
    try:
        one = sequence(model, LONG)
        model.prefill([one])
        until(lambda: process_of(one))
        pid = process_of(one)
        os.kill(pid, signal.SIGSTOP)
        with pytest.raises(SequenceError, match="no sound for"):
            until(lambda: model.step([one]) and False)
        model.release(one)
        until(lambda: not psutil.pid_exists(pid))
        assert len(say(model)) > 1000
    finally:
        model.close()


def test_paused_sequence_blocks_its_child_and_loses_nothing(model: EspeakModel) -> None:
    text = " ".join([LONG] * 3)
    whole = say(model, text)
    one = sequence(model, text)
    model.prefill([one])
    until(lambda: process_of(one))
    process = psutil.Process(process_of(one))

    def busy() -> bool:
        before = process.cpu_times().user
        time.sleep(0.3)
        return process.cpu_times().user - before > 0.1

    until(lambda: not busy(), 10.0)
    assert process.memory_info().rss < 100 << 20
    frames: list[Frame] = []
    while not (frames and frames[-1].finish):
        frames += model.step([one])
    model.release(one)
    np.testing.assert_array_equal(joined(frames), whole)


def test_paused_sequence_is_cancelled_quickly(model: EspeakModel, patient: None) -> None:
    one = begin(model, " ".join([LONG] * 3))
    time.sleep(0.3)  # the pipe is full by now
    before = children()
    model.release(one)
    assert len(say(model)) > 1000
    assert before <= children()


@pytest.mark.parametrize("doing", ["busy", "blocked"])
@pytest.mark.skipif(sys.platform == "win32", reason="signals")
def test_children_end_with_their_parent(doing: str) -> None:
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT, doing],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=TESTS,
    )
    assert parent.stdout is not None
    assert parent.stdin is not None
    try:
        pids = [int(pid) for pid in parent.stdout.readline().split()]
        assert len(pids) == 2
        assert all(psutil.pid_exists(pid) for pid in pids)
    finally:
        parent.kill()
        parent.wait()
    until(lambda: not any(map(running, pids)), 2.0)
    parent.stdin.close()
    parent.stdout.close()


def running(pid: int) -> bool:
    """A zombie does not count."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_child_that_cannot_start_fails_its_sequence(model: EspeakModel, monkeypatch: pytest.MonkeyPatch) -> None:
    first = begin(model)
    monkeypatch.setattr(sys, "executable", "/nonexistent/python")
    second = sequence(model)
    model.prefill([second])
    with pytest.raises(SequenceError, match="could not be started") as caught:
        until(lambda: [frame for frame in model.step([second]) if frame.sequence is second])
    assert caught.value.sequence is second
    model.release(second)
    assert model.step([first])
    model.release(first)


def test_child_imports_no_large_packages() -> None:
    script = "import sys, saywell.models.espeak.process; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout.split()
    assert not {"numpy", "onnxruntime", "torch", "asyncio", "saywell.types", "saywell.engine"} & set(loaded)


def test_child_does_not_import_from_the_working_directory(tmp_path: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(str(tmp_path))
    with open("msgspec.py", "w") as trap:
        trap.write("raise SystemExit(3)")
    child = Child()
    try:
        assert child.voices
    finally:
        child.kill()
