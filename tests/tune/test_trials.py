"""Trials on real engines in worker processes, and the command around them."""

from __future__ import annotations

import io
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, redirect_stdout
from dataclasses import replace
from pathlib import Path
from statistics import median

import msgspec
import pytest

from machines import PLAIN
from paths import TESTS
from plans import TINY
from saywell.commands import tune as command
from saywell.engine.launch import decide
from saywell.engine.worker import client as client_module
from saywell.errors import SaywellError
from saywell.machine import detect
from saywell.machine.process_memory import Peak, footprint
from saywell.models.espeak import binding
from saywell.plan.plan import make_plan
from saywell.plan.tuning_store import Chosen, Record, Store
from saywell.settings import Settings
from saywell.tune.search import Judge, Search
from saywell.tune.space import Space
from saywell.tune.trials import Trials
from workers import workers

needs_espeak = pytest.mark.skipif(not binding.installed(), reason="needs eSpeak NG")
SPEC = replace(TINY, family="tiny_ar.paced")


@pytest.fixture
def trials(monkeypatch: pytest.MonkeyPatch) -> Iterator[Trials]:
    monkeypatch.setenv("PYTHONPATH", str(TESTS), prepend=os.pathsep)
    with closing(Trials(SPEC, 10.0, room=1 << 40)) as made:
        yield made


def test_real_engines_correct_a_wrong_rule_and_survive_a_crash(trials: Trials, monkeypatch: pytest.MonkeyPatch) -> None:
    """Four threads by the rules; one is sixteen times as fast, and three kill the worker."""
    monkeypatch.setattr(client_module, "_BACKOFF_S", (0.0,))
    space = Space(Settings(max_batch_size=2, chunk_frames=8), PLAIN, SPEC)
    told: list[str] = []
    began = time.perf_counter()
    found = Search(space, trials, Judge(first_s=5.0), time.perf_counter, lambda _, line: told.append(line)).run(30)
    assert time.perf_counter() - began < 62
    by_threads = {each.plan.threads: trial for each, trial in found.trials.items()}
    assert (space.rules.plan.threads, found.best.plan.threads, found.chosen["threads"].value) == (4, 1, 1)
    assert found.verdict == "won"
    assert "died" in by_threads[3].failed
    assert any(line.startswith("threads=3 is excluded: ") for line in told)
    assert median(by_threads[1].rtf) < 0.5 * median(by_threads[4].rtf)
    assert by_threads[1].peak_bytes > 20 << 20


def test_a_slow_trial_is_aborted(trials: Trials) -> None:
    rules = Space(Settings(max_batch_size=2), PLAIN, SPEC).rules
    began = time.perf_counter()
    with pytest.raises(SaywellError):
        trials.run(rules, 0, 0.2)
    assert time.perf_counter() - began < 5
    assert workers() == []


def test_unneeded_engines_are_closed(trials: Trials) -> None:
    space = Space(Settings(max_batch_size=2), PLAIN, SPEC)
    one, four = space.candidate({"threads": 1}), space.rules
    trials.hold([one, four])
    for each in (four, one):  # the first one decides how much work a round is
        trials.run(each, 0, 60.0)
    assert len(workers()) == 2
    trials.hold([one])
    assert len(workers()) == 1
    trials.close()
    assert workers() == []


def test_engines_that_do_not_fit_together_are_loaded_in_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(TESTS), prepend=os.pathsep)
    space = Space(Settings(max_batch_size=2), PLAIN, SPEC)
    both = [space.candidate({"threads": 2}), space.candidate({"threads": 1})]
    with closing(Trials(SPEC, 10.0, room=1)) as trials:
        trials.hold(both)
        for each in both:
            trials.run(each, 0, 60.0)
            assert len(workers()) == 1


# -- the command


@pytest.fixture(scope="module")
def tuned(tmp_path_factory: pytest.TempPathFactory) -> tuple[Settings, str]:
    """Settings whose place for data holds what the command found, and what it printed."""
    settings = Settings(data_dir=tmp_path_factory.mktemp("tuned"), model="espeak")
    assert "measurement" not in {reason.source for reason in decide(settings).plan.reasons}
    with redirect_stdout(io.StringIO()) as printed:
        command.run(settings, command.Wanted(seconds=30.0, as_json=True))
    return settings, printed.getvalue()


@needs_espeak
def test_the_command_stores_what_later_plans_use(tuned: tuple[Settings, str]) -> None:
    settings, printed = tuned
    shown = json.loads(printed)
    assert shown["trials"][0]["rtf"]
    told = next(reason for reason in decide(settings).plan.reasons if reason.field == "max_batch_size")
    assert told.source == "measurement"
    assert told.value == str(shown["chosen"]["max_batch_size"]["value"])
    assert "RTF" in told.why


@needs_espeak
def test_forget_removes_the_measurements(tuned: tuple[Settings, str], tmp_path: Path) -> None:
    settings, _ = tuned
    mine = replace(settings, data_dir=shutil.copytree(settings.data_dir, tmp_path / "mine"))
    assert "measurement" in {reason.source for reason in decide(mine).plan.reasons}
    command.run(mine, command.Wanted(forget=True))
    assert "measurement" not in {reason.source for reason in decide(mine).plan.reasons}


def test_too_little_time_is_reported_and_nothing_is_stored(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    settings = Settings(data_dir=tmp_path, model="hibari")
    began = time.perf_counter()
    command.run(settings, command.Wanted(seconds=2.0))
    assert time.perf_counter() - began < 5
    told = capsys.readouterr().out
    assert "Too little time" in told
    assert "saywell tune --seconds 60" in told
    assert list((tmp_path / "measured").iterdir()) == []
    assert decide(settings).record is None


def test_a_record_is_not_used_for_another_device(tmp_path: Path) -> None:
    """A GPU that could not be used when this was measured."""
    settings = Settings(data_dir=tmp_path, model="hibari")
    before = decide(settings)
    store = Store(tmp_path, before.hardware, before.spec)
    record = Record(
        model="hibari", runtime=store.runtime("onnx"), device="cuda", goal="latency", when="", seconds=1.0, best={},
        chosen={"max_batch_size": Chosen(value=1, why="measured")}, trials=[],
    )  # fmt: skip
    store.save(record)
    assert (decide(settings).plan, decide(settings).record) == (before.plan, None)
    store.save(msgspec.structs.replace(record, device="cpu"))
    assert decide(settings).plan.max_batch_size == 1


@needs_espeak
def test_a_record_of_another_machine_is_not_used(tuned: tuple[Settings, str]) -> None:
    settings, _ = tuned
    here = detect()
    other = replace(here, memory=here.memory * 2)
    spec = decide(settings).spec
    assert Store(settings.data_dir, here, spec).load() is not None
    assert Store(settings.data_dir, other, spec).measurements() == {}
    assert make_plan(settings, other, spec) == decide(settings, other).plan


# -- memory of processes


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="tells memory apart on Linux only")
def test_process_memory_counts_children_and_shared_files_once() -> None:
    """Of a small process with a child: this one holds gigabytes by now, which move."""
    # Each page is touched in place: a copy of as many bytes would be counted while it is made.
    held = "import sys; held = bytearray(64 << 20); held[::1024] = b'x' * (64 << 10); sys.stdin.read()"
    code = "import subprocess, sys; subprocess.run([sys.executable, '-c', sys.argv[1]])"
    child = subprocess.Popen([sys.executable, "-c", code, held], stdin=subprocess.PIPE)
    try:
        with Peak(child.pid) as peak:
            end = time.monotonic() + 10
            while peak.bytes < 64 << 20 and time.monotonic() < end:
                time.sleep(0.02)
        assert 64 << 20 <= peak.bytes < 100 << 20
    finally:
        child.kill()
        child.communicate()
    assert footprint(child.pid) == 0
