"""The race between plans, on machines whose speeds are known."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from machines import made_up
from saywell.errors import ModelFailure, SaywellError
from saywell.machine import Cpu, Hardware, Runtime
from saywell.plan import measured
from saywell.plan.measured import Chosen, Record, Store, Trial, model_digest
from saywell.plan.plan import Plan, make_plan
from saywell.settings import Settings
from saywell.tune.search import DUEL, Judge, Result, Runs, Sample, Tuner
from saywell.tune.space import Candidate, Space
from saywell.types import ModelSpec

MIB = 1 << 20
SPEC = ModelSpec(
    name="made-up", family="made_up", kind="autoregressive", sample_rate=24000, frame_rate=25.0,
    variants=made_up(fp32=100 * MIB, int8=30 * MIB, int4=20 * MIB, executors=("onnx", "torch")),
    overhead_bytes=30 * MIB, slot_bytes=2 * MIB, max_context=1000, decode_tile=4,
)  # fmt: skip
MACHINE = Hardware(
    os="linux", arch="x86_64", python="3.11", product="", memory=8 << 30,
    cpu=Cpu(
        model="any", vendor="", sockets=1, physical=4, logical=8, performance=4, efficiency=0,
        performance_cpus=(0, 2, 4, 6),
    ),
    runtimes={"onnxruntime": Runtime(version="1.25"), "torch": Runtime(version="2.13")},
)  # fmt: skip

Speed = Callable[[Plan], Sample]


class Made:
    """A rig whose trials take no time but tell it: a clock of its own, speeds by a formula, noise by a seed."""

    def __init__(self, speed: Speed, *, noise: float = 0.0, each_s: float = 0.5, seed: int = 1) -> None:
        self.speed, self.noise, self.each_s = speed, noise, each_s
        self.random = random.Random(seed)
        self.now, self.ran = 0.0, 0
        self.held: Sequence[Candidate] = ()

    def hold(self, candidates: Sequence[Candidate]) -> None:
        self.held = candidates

    def run(self, candidate: Candidate, round_: int) -> Sample:
        assert candidate in self.held
        self.now, self.ran = self.now + self.each_s, self.ran + 1
        found = self.speed(candidate.plan)
        factor = 1 + self.noise * self.random.gauss(0, 1)
        return Sample(rtf=found.rtf * factor, first_s=found.first_s * factor)

    def peak(self, candidate: Candidate) -> int:
        return 1000 * candidate.plan.slots

    def clock(self) -> float:
        return self.now


def space(settings: Settings | None = None, precisions: Sequence[str] = ("fp32",), spec: ModelSpec = SPEC) -> Space:
    return Space(settings or Settings(), MACHINE, spec, precisions)


def tune(rig: Made, *, seconds: float = 60, judge: Judge | None = None, where: Space | None = None) -> Result:
    return Tuner(where or space(), rig, judge or Judge(), rig.clock, lambda *_: None).search(seconds)


def bumpy(plan: Plan) -> Sample:
    """Best: torch, 2 threads, 16 slots. The rules take onnx, 4 threads, 8 slots."""
    rtf = 0.4 * {"onnx": 1.0, "torch": 0.7}[plan.executor] * {"fp32": 1.6, "int8": 1.0, "int4": 0.6}[plan.precision]
    rtf *= {1: 1.3, 2: 0.8, 3: 0.9, 4: 1.0, 8: 1.7}[plan.threads] * (1 + 2 / plan.slots)
    return Sample(rtf=rtf, first_s=0.02 + 0.001 * plan.slots + 0.0005 * plan.chunk_frames)


@pytest.mark.parametrize("seed", range(20))
def test_finds_the_fastest_of_all_under_noise(seed: int) -> None:
    everything = space().every()
    truth = min(bumpy(each.plan).rtf for each in everything)
    found = tune(Made(bumpy, noise=0.03, seed=seed))
    assert bumpy(found.best.candidate.plan).rtf <= 1.02 * truth
    assert len(everything) > 30
    assert (found.best.candidate.plan.executor, found.best.candidate.plan.threads) == ("torch", 2)


def test_tries_far_fewer_rounds_than_all_of_everything_and_ends_in_time() -> None:
    rig = Made(bumpy, noise=0.01)
    tune(rig, seconds=60)
    assert rig.now <= 60 + 4 * rig.each_s
    assert rig.ran < 5 * len(space().every()) / 2


def test_the_exhaustive_search_agrees() -> None:
    rig = Made(bumpy, noise=0.01)
    all_of_it = Tuner(space(), rig, Judge(), rig.clock, lambda *_: None).exhaust(5)
    one = tune(Made(bumpy, noise=0.01))
    assert bumpy(one.best.candidate.plan).rtf <= 1.02 * bumpy(all_of_it.best.candidate.plan).rtf
    assert len(all_of_it.runs) == len(space().every())


def test_a_wrong_rule_is_corrected_in_every_later_plan(tmp_path: Path) -> None:
    """The rules want all four cores; on this machine one thread is three times as fast."""

    def one_is_best(plan: Plan) -> Sample:
        return Sample(rtf=0.1 * plan.threads, first_s=0.1)

    assert make_plan(Settings(), MACHINE, SPEC).threads == 4
    found = tune(Made(one_is_best))
    store = Store(tmp_path, MACHINE, SPEC)
    store.save(record(found))
    plan = make_plan(Settings(), MACHINE, SPEC, Store(tmp_path, MACHINE, SPEC).measurements())
    assert plan.threads == 1
    told = next(reason for reason in plan.reasons if reason.field == "threads")
    assert told.source == "measurement"
    assert "RTF 0.1" in told.why
    assert "4 RTF 0.4" in told.why


def test_what_is_as_good_stays_as_the_rules_have_it() -> None:
    found = tune(Made(lambda plan: Sample(rtf=0.3, first_s=0.1), noise=0.002))
    rules = make_plan(Settings(), MACHINE, SPEC)
    assert replace(found.best.candidate.plan, reasons=()) == replace(rules, reasons=())
    assert found.chosen["threads"].value == rules.threads


def test_what_a_disturbed_race_gave_must_beat_the_rules_plan_in_turns_with_it() -> None:
    """Another program slows the machine while it races with four threads, once in the races and no more in the end."""
    rig = Made(bumpy)

    def disturbed(plan: Plan) -> Sample:
        found, slowed = bumpy(plan), rig.now < 12 and (plan.threads, plan.executor) != (1, "onnx")
        return Sample(rtf=found.rtf * (5 if slowed else 1), first_s=found.first_s)

    rig.speed = disturbed
    found = tune(rig, seconds=12 / (1 - DUEL), where=space(Settings(executor="onnx", slots=8)))
    rules = make_plan(Settings(), MACHINE, SPEC)
    assert found.best.candidate.plan.threads == rules.threads == 4
    assert found.chosen["threads"].value == 4
    assert "RTF 0.5, " in found.chosen["threads"].why
    assert "threads=1" in found.chosen["threads"].why
    assert found.rules is found.best


def test_a_plan_that_is_kept_was_faster_than_the_rules_in_the_same_race() -> None:
    found = tune(Made(bumpy, noise=0.02))
    assert found.rules is not None
    assert found.best.rtf < found.rules.rtf
    assert len(found.best.samples) == len(found.rules.samples) > 1
    assert tune(Made(lambda plan: Sample(rtf=0.3, first_s=0.1))).rules is None


def test_the_bound_on_the_first_sound_holds_under_throughput() -> None:
    """More slots are ever faster, and ever later heard."""

    def greedy(plan: Plan) -> Sample:
        return Sample(rtf=1 / plan.slots, first_s=0.05 * plan.slots)

    assert tune(Made(greedy)).best.first_s <= 0.5
    assert tune(Made(greedy), judge=Judge(first_s=2.0)).best.candidate.plan.slots > 8


def test_latency_takes_what_is_heard_first_and_keeps_up() -> None:
    def trade(plan: Plan) -> Sample:
        return Sample(rtf=1.6 / plan.threads, first_s=0.1 * plan.threads)

    found = tune(Made(trade), judge=Judge(goal="latency"))
    assert found.best.candidate.plan.threads == 2  # one thread is heard earlier and falls behind


def test_one_plan_has_one_name() -> None:
    where = space()
    rules = where.candidate()
    assert where.candidate({"slots": rules.plan.slots, "threads": rules.plan.threads}.items()) == rules
    there = where.candidate({"slots": 16, "threads": 4}.items())
    assert (there.values, str(there), str(rules)) == ((("slots", 16),), "slots=16", "the rules' plan")


def test_a_wish_is_not_tried() -> None:
    found = tune(Made(bumpy), where=space(Settings(threads=3, executor="onnx")))
    assert {runs.candidate.plan.threads for runs in found.runs} == {3}
    assert {runs.candidate.plan.executor for runs in found.runs} == {"onnx"}
    assert "threads" not in found.chosen


def test_only_precisions_that_sound_alike_are_tried() -> None:
    assert {runs.candidate.plan.precision for runs in tune(Made(bumpy)).runs} == {"int8", "fp32"}
    found = tune(Made(bumpy), where=space(precisions=("fp32", "int4")))
    assert found.best.candidate.plan.precision == "int4"


def test_a_candidate_that_fails_is_told_of_and_never_chosen() -> None:
    def crashes(plan: Plan) -> Sample:
        if plan.executor == "torch":
            raise ModelFailure("the worker died")
        return bumpy(plan)

    rig = Made(crashes)
    found = tune(rig)
    assert found.best.candidate.plan.executor == "onnx"
    assert any(runs.failed == "the worker died" and not runs.samples for runs in found.runs)


def test_without_the_rules_own_plan_there_is_no_race() -> None:
    def broken(plan: Plan) -> Sample:
        raise ModelFailure("no such library")

    with pytest.raises(SaywellError, match="no such library"):
        tune(Made(broken))


def test_what_there_was_no_time_for_is_named() -> None:
    found = tune(Made(bumpy, each_s=10.0), seconds=30)
    assert "slots" in found.skipped
    assert found.chosen.keys().isdisjoint(found.skipped)


def test_a_clear_loser_is_out_soon_and_a_close_one_late() -> None:
    judge, base = Judge(), space().candidate()

    def runs(*rtf: float) -> Runs:
        return Runs(base, [Sample(rtf=each, first_s=0.1) for each in rtf])

    leader = runs(1.0, 1.0, 1.0, 1.0, 1.0)
    assert judge.out(runs(1.4, 1.3), leader)
    assert not judge.out(runs(1.1, 1.1), leader)
    assert judge.out(runs(1.1, 1.1, 1.06), leader)
    assert not judge.out(runs(1.01, 1.02, 1.01, 1.01), leader)
    assert judge.out(runs(1.01, 1.02, 1.01, 1.01, 1.01), leader)
    assert not judge.out(runs(1.4, 0.9, 1.4, 1.4, 1.4), leader)


# -- kept


def record(found: Result | None = None, **chosen: object) -> Record:
    return Record(
        model="made-up",
        goal="throughput",
        when="2026-01-01T00:00:00Z",
        seconds=12.0,
        best=dict(found.best.candidate.values) if found else {},
        chosen=found.chosen if found else {name: Chosen(value=value, why="why") for name, value in chosen.items()},
        trials=[runs.trial() for runs in found.runs] if found else [Trial(values={}, rtf=(0.1,), first_s=(0.2,))],
    )


def test_a_record_comes_back_as_it_was(tmp_path: Path) -> None:
    store = Store(tmp_path, MACHINE, SPEC)
    assert store.load() is None
    kept = record(tune(Made(bumpy)))
    store.save(kept)
    assert store.load() == kept
    store.save(record(affinity=[0, 2]))
    assert store.measurements()["affinity"].value == (0, 2)
    store.forget()
    store.forget()
    assert store.measurements() == {}


def test_another_machine_model_or_version_does_not_find_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Store(tmp_path, MACHINE, SPEC).save(record(threads=1))
    assert Store(tmp_path, MACHINE, SPEC).measurements()
    newer = replace(MACHINE, runtimes={**MACHINE.runtimes, "onnxruntime": Runtime(version="1.26")})
    less = replace(MACHINE, limits=replace(MACHINE.limits, quota=2.0))
    assert not Store(tmp_path, newer, SPEC).measurements()
    assert not Store(tmp_path, less, SPEC).measurements()
    assert not Store(tmp_path, MACHINE, replace(SPEC, variants=made_up(fp32=1))).measurements()
    assert not Store(tmp_path, MACHINE, SPEC, Path("/opt/other/python")).measurements()
    monkeypatch.setattr(measured, "__version__", "99")
    assert not Store(tmp_path, MACHINE, SPEC).measurements()


def test_the_digest_follows_the_files_of_a_model(tmp_path: Path) -> None:
    spec = replace(SPEC, path=tmp_path)
    without = model_digest(spec)
    (tmp_path / "saywell.json").write_text('{"family": "made_up", "files": {}}')
    assert model_digest(spec) != without
    moved = tmp_path / "moved"
    moved.mkdir()
    (moved / "saywell.json").write_text('{"family": "made_up", "files": {}}')
    assert model_digest(replace(SPEC, path=moved)) == model_digest(spec)


@pytest.mark.parametrize("damage", [b"", b"{", b"[1]", b'{"schema": 1}', b"\xff\xfe", b'{"schema": "x"}'])
def test_a_damaged_file_is_told_of_and_taken_anew(
    tmp_path: Path, damage: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    store = Store(tmp_path, MACHINE, SPEC)
    store.save(record(threads=1))
    store.path.write_bytes(damage)
    assert store.measurements() == {}
    assert "damaged" in caplog.text
    assert str(tmp_path) not in caplog.text
    store.save(record(threads=2))
    assert store.measurements()["threads"].value == 2


def test_a_record_of_another_schema_goes_unused(tmp_path: Path) -> None:
    store = Store(tmp_path, MACHINE, SPEC)
    store.save(record(threads=1))
    store.path.write_bytes(store.path.read_bytes().replace(b'"schema": 1', b'"schema": 2'))
    assert store.load() is None
