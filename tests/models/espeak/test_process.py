"""The speech processes: cancelled, killed, stopped, orphaned, ignored."""

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

from espeak_rig import LONG, TEXT, load, run, say, sequence
from paths import TESTS
from saywell.errors import ModelFailure
from saywell.models.base import SequenceError
from saywell.models.espeak import pool
from saywell.models.espeak.model import EspeakModel
from saywell.models.espeak.pool import Child
from saywell.types import Frame, Sequence

VOICES = ("espeak:en-us", "espeak:en-gb", "espeak:de")
PARENT = """
import sys, time
from espeak_rig import LONG, load, sequence
model = load(slots=2)
both = [sequence(model, LONG) for _ in range(2)]
model.prefill(both)
while any(one.state.child is None for one in both):
    time.sleep(0.01)
    model.prefill([])  # starts what waits for a child; reads nothing, so the first cannot end meanwhile
print(*model.pids(), flush=True)
while sys.argv[1] == "busy":
    model.step(both)
sys.stdin.read()
"""


@pytest.fixture
def model() -> Iterator[EspeakModel]:
    made = load(slots=2)
    yield made
    pids = made.pids()
    made.close()
    assert not any(psutil.pid_exists(pid) for pid in pids)


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A busy machine is no reason to kill a child."""
    monkeypatch.setattr(pool, "STOP_S", 10.0)


def until(condition: Callable[[], object], limit_s: float = 5.0) -> float:
    """Seconds until the condition held."""
    begun = time.monotonic()
    while not condition():
        assert time.monotonic() - begun < limit_s
        time.sleep(0.005)
    return time.monotonic() - begun


def begin(model: EspeakModel, text: str = LONG, voice: str = "espeak:en-us") -> Sequence:
    """A sequence that has said something."""
    one = sequence(model, text, voice)
    model.prefill([one])
    until(lambda: model.step([one]))
    return one


def open_files() -> int:
    gc.collect()
    return psutil.Process().num_fds()


def test_two_hundred_cancels_leave_nothing(model: EspeakModel, patient: None) -> None:
    draw = random.Random(1)
    texts = (TEXT, LONG, "Hello.", "你好")
    expected = say(model)
    run(model, sequence(model), sequence(model))
    until(lambda: len(model.pids()) == 2)
    before, files, children = set(model.pids()), open_files(), psutil.Process().children()
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
    assert set(model.pids()) == before  # none had to be killed
    assert open_files() == files
    assert psutil.Process().children() == children


def test_a_cancelled_child_is_soon_free(model: EspeakModel, patient: None) -> None:
    first, second = begin(model), begin(model)
    pids = model.pids()
    model.release(first)
    third = begin(model, TEXT, "espeak:de")
    assert model.pids() == pids
    for one in (second, third):
        model.release(one)


def test_release_before_prefill_and_before_a_child(model: EspeakModel) -> None:
    model.release(sequence(model))
    waiting = [sequence(model) for _ in range(5)]
    model.prefill(waiting)
    for one in reversed(waiting):
        model.release(one)
    assert len(say(model)) > 1000


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
def test_a_killed_child_fails_only_its_sequence(model: EspeakModel) -> None:
    expected = [frame.data for frame in run(model, sequence(model))[0]]
    victim = begin(model)
    other = sequence(model)
    model.prefill([other])
    os.kill(victim.state.child.process.pid, signal.SIGKILL)
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
    np.testing.assert_array_equal(np.concatenate([frame.data for frame in frames]), np.concatenate(expected))
    assert len(say(model)) > 1000


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
def test_a_child_killed_while_idle_costs_nobody_anything(model: EspeakModel) -> None:
    expected = say(model)
    for pid in model.pids():
        os.kill(pid, signal.SIGKILL)
        psutil.Process(pid).wait(5) if psutil.pid_exists(pid) else None
    np.testing.assert_array_equal(say(model), expected)


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
def test_a_child_that_does_not_stop_is_replaced(model: EspeakModel) -> None:
    one = begin(model)
    pid = one.state.child.process.pid
    os.kill(pid, signal.SIGSTOP)
    begun = time.monotonic()
    model.release(one)
    assert time.monotonic() - begun < pool.STOP_S / 2  # the engine's thread does not wait for it
    until(lambda: not psutil.pid_exists(pid), pool.STOP_S + 2.0)
    assert len(say(model)) > 1000


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
def test_a_hung_child_fails_its_sequence() -> None:
    model = load(slots=1, hang_s=0.3)
    try:
        one = sequence(model, LONG)
        model.prefill([one])
        pid = one.state.child.process.pid
        os.kill(pid, signal.SIGSTOP)
        with pytest.raises(SequenceError, match="no sound for"):
            until(lambda: model.step([one]) and False)
        model.release(one)
        assert not psutil.pid_exists(pid)
        assert len(say(model)) > 1000
    finally:
        model.close()


def test_a_paused_sequence_blocks_its_child_and_loses_nothing(model: EspeakModel) -> None:
    text = " ".join([LONG] * 3)
    whole = say(model, text)
    one = sequence(model, text)
    model.prefill([one])
    process = psutil.Process(one.state.child.process.pid)

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
    np.testing.assert_array_equal(np.concatenate([frame.data for frame in frames]), whole)


def test_a_paused_sequence_is_cancelled_as_fast(model: EspeakModel, patient: None) -> None:
    one = begin(model, " ".join([LONG] * 3))
    time.sleep(0.3)  # the pipe is full by now
    pids = model.pids()
    model.release(one)
    assert len(say(model)) > 1000
    assert set(pids) <= set(model.pids())


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
    """A zombie nobody reaps counts as gone."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_a_child_that_cannot_start_is_told(model: EspeakModel, monkeypatch: pytest.MonkeyPatch) -> None:
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


def test_a_child_is_light() -> None:
    script = "import sys, saywell.models.espeak.process; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout.split()
    assert not {"numpy", "onnxruntime", "torch", "asyncio", "saywell.types", "saywell.engine"} & set(loaded)


def test_a_child_starts_in_no_users_directory(tmp_path: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(str(tmp_path))
    with open("msgspec.py", "w") as trap:
        trap.write("raise SystemExit(3)")
    child = Child()
    try:
        assert type(child.receive(10.0)).__name__ == "Ready"
    finally:
        child.kill()
