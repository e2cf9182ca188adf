"""The search for the fastest plan, on machines whose speeds are known, and how it is kept."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from machines import made_up
from saywell.errors import EngineClosed, ModelFailure, SaywellError
from saywell.machine import CPU, Cpu, Device, Gpu, Hardware, Runtime
from saywell.plan import tuning_store
from saywell.plan.plan import Plan, make_plan
from saywell.plan.tuning_store import Chosen, Record, Store, Trial, model_digest
from saywell.settings import Settings
from saywell.tune.search import PAIRS, Judge, Result, Search
from saywell.tune.space import FIELDS, Candidate, Space
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

Speed = Callable[[Plan], tuple[float, float]]
"""RTF and first sound of a plan."""


class Made:
    """A rig whose trials take no time but tell it: a clock of its own, speeds by a formula, noise by a seed."""

    def __init__(self, speed: Speed, *, noise: float = 0.0, each_s: float = 0.25, seed: int = 1) -> None:
        self.speed, self.noise, self.each_s = speed, noise, each_s
        self.random = random.Random(seed)
        self.now = 0.0
        self.ran: list[Candidate] = []
        self.held: Sequence[Candidate] = ()
        self.doing = ""
        self.told: list[str] = []

    def hold(self, candidates: Sequence[Candidate]) -> None:
        self.held = candidates

    def run(self, candidate: Candidate, round_: int, limit_s: float) -> Trial:
        assert candidate in self.held
        self.ran.append(candidate)
        rtf, first_s = self.speed(candidate.plan)
        took = self.each_s * rtf / self.speed(RULES)[0]
        self.now += min(took, limit_s)
        if took > limit_s:
            raise EngineClosed("it was closed at work")
        factor = 1 + self.noise * abs(self.random.gauss(0, 1))
        return Trial(values={}, rtf=(rtf * factor,), first_s=(first_s * factor,), peak_bytes=1000)

    def clock(self) -> float:
        return self.now

    def tell(self, doing: str, found: str) -> None:
        self.doing = doing
        self.told += [found] if found else []


def space(
    settings: Settings | None = None, precisions: Sequence[str] = ("fp32",), hardware: Hardware = MACHINE
) -> Space:
    return Space(settings or Settings(), hardware, SPEC, precisions)


def tune(rig: Made, *, seconds: float = 60, judge: Judge | None = None, where: Space | None = None) -> Result:
    return Search(where or space(), rig, judge or Judge(), rig.clock, rig.tell).run(seconds)


RULES = make_plan(Settings(), MACHINE, SPEC)


def bumpy(plan: Plan) -> tuple[float, float]:
    """Best: torch, 2 threads, unpinned. The rules take onnx and 4 threads."""
    rtf = 0.4 * {"onnx": 1.0, "torch": 0.7}[plan.executor] * {"fp32": 1.6, "int8": 1.0, "int4": 0.6}[plan.precision]
    rtf *= {1: 1.3, 2: 0.8, 3: 0.9, 4: 1.0, 8: 1.7}[plan.threads] * (1 + 2 / plan.max_batch_size)
    return rtf * (1.1 if plan.affinity else 1), 0.02 + 0.001 * plan.max_batch_size + 0.0005 * plan.chunk_frames


def everything(where: Space) -> list[Candidate]:
    """All combinations."""
    found = [where.rules]
    for name in FIELDS:
        found = [each for base in found for each in where.options(name, base)]
    return list(dict.fromkeys(found))


@pytest.mark.parametrize("seed", range(20))
def test_finds_the_fastest_of_all_under_noise(seed: int) -> None:
    every = everything(space())
    truth = min(bumpy(each.plan)[0] for each in every)
    rig = Made(bumpy, noise=0.03, seed=seed)
    found = tune(rig)
    assert found.verdict == "won"
    assert (found.best.plan.executor, found.best.plan.threads) == ("torch", 2)
    assert bumpy(found.best.plan)[0] <= 1.1 * truth
    assert len(set(rig.ran)) < len(every) / 2
    assert rig.now <= 60


@pytest.mark.parametrize("noise", [0.0, 0.03, 0.3])
def test_noise_changes_nothing(noise: float) -> None:
    kept = [tune(Made(lambda _: (0.3, 0.1), noise=noise, seed=seed)) for seed in range(200)]
    won = sum(found.verdict == "won" for found in kept)
    assert won <= (0 if noise < 0.1 else 10)
    for found in kept:
        if found.verdict == "rules":
            assert {name: each.value for name, each in found.chosen.items()} == {
                name: getattr(RULES, name) for name in found.chosen
            }


def test_the_winner_must_pass_the_ab_test() -> None:
    """Another program slows four threads down all through the search, and no more in the end."""
    rig = Made(bumpy)

    def disturbed(plan: Plan) -> tuple[float, float]:
        slowed = plan.threads == 4 and not rig.doing.startswith("A/B test")
        return (0.4 if plan.threads == 4 else 0.5) * (5 if slowed else 1), 0.1

    rig.speed = disturbed
    found = tune(rig)
    assert (found.verdict, found.best.plan.threads, found.chosen["threads"].value) == ("rules", 4, 4)
    assert {each.plan.threads for each in found.test} == {4, 8}
    assert "RTF 0.4," in found.chosen["threads"].why
    assert "threads=8" in found.chosen["threads"].why


@pytest.mark.parametrize("seconds", [1, 2, 5, 10, 30])
@pytest.mark.parametrize("each_s", [0.3, 2.0])
def test_the_search_ends_in_time_and_reports_too_little_time(seconds: float, each_s: float) -> None:
    rig = Made(bumpy, noise=0.02, each_s=each_s)
    found = tune(rig, seconds=seconds)
    assert rig.now <= seconds
    short = seconds / each_s < 2 * PAIRS
    assert (found.verdict == "short") >= short
    assert bool(found.chosen) == (found.verdict != "short")
    assert set(found.skipped).isdisjoint(found.chosen)
    assert found.skipped or not short


def test_an_endless_candidate_is_aborted() -> None:
    rig = Made(lambda plan: (100.0 if plan.threads == 1 else 0.4, 0.1))
    found = tune(rig)
    assert rig.now <= 60
    assert found.best.plan.threads != 1


def test_without_choices_nothing_is_stored() -> None:
    overrides = Settings(executor="onnx", precision="int8", threads=2, affinity=(0,), max_batch_size=4, chunk_frames=24)
    found = tune(Made(bumpy), where=space(overrides))
    assert (found.verdict, found.skipped, found.chosen) == ("short", (), {})


def test_a_wrong_rule_is_corrected_in_every_later_plan(tmp_path: Path) -> None:
    """The rules want all four cores; on this machine one thread is three times as fast."""
    assert RULES.threads == 4
    rig = Made(lambda plan: (0.1 * plan.threads, 0.1))
    Store(tmp_path, MACHINE, SPEC).save(record(tune(rig)))
    plan = make_plan(Settings(), MACHINE, SPEC, Store(tmp_path, MACHINE, SPEC).measurements())
    assert plan.threads == 1
    told = next(reason for reason in plan.reasons if reason.field == "threads")
    assert told.source == "measurement"
    assert "RTF 0.1," in told.why
    assert "4 RTF 0.4" in told.why
    assert any(line.startswith("threads = 1, measured here") for line in rig.told)


def test_the_ttfa_bound_holds_for_throughput() -> None:
    """More slots are ever faster, and ever later heard."""

    def greedy(plan: Plan) -> tuple[float, float]:
        return 1 / plan.max_batch_size, 0.05 * plan.max_batch_size

    assert 0.05 * tune(Made(greedy)).best.plan.max_batch_size <= 0.5
    assert tune(Made(greedy), judge=Judge(first_s=2.0)).best.plan.max_batch_size > 8


def test_latency_prefers_low_ttfa_in_real_time() -> None:
    found = tune(Made(lambda plan: (1.6 / plan.threads, 0.1 * plan.threads)), judge=Judge(goal="latency"))
    assert found.best.plan.threads == 2  # one thread is heard earlier and falls behind


def test_equal_plans_are_one_candidate() -> None:
    where = space()
    assert where.candidate({"max_batch_size": RULES.max_batch_size, "threads": RULES.threads}) == where.rules
    there = where.candidate({"max_batch_size": 16, "threads": 4})
    assert (there.values, str(there), str(where.rules)) == (
        (("max_batch_size", 16),),
        "max_batch_size=16",
        "the rules' plan",
    )


def test_fields_that_are_set_are_not_tried() -> None:
    found = tune(Made(bumpy), where=space(Settings(threads=3, executor="onnx")))
    assert {each.plan.threads for each in found.trials} == {3}
    assert {each.plan.executor for each in found.trials} == {"onnx"}
    assert found.chosen.keys().isdisjoint({"threads", "executor"})


def test_only_precisions_that_are_allowed_are_tried() -> None:
    assert {each.plan.precision for each in tune(Made(bumpy)).trials} == {"int8", "fp32"}
    assert tune(Made(bumpy), where=space(precisions=("fp32", "int4"))).best.plan.precision == "int4"


def test_a_crashing_candidate_is_reported_and_excluded() -> None:
    def crashes(plan: Plan) -> tuple[float, float]:
        if plan.executor == "torch" or plan.threads == 2:
            raise ModelFailure("the worker died")
        return bumpy(plan)

    rig = Made(crashes)
    found = tune(rig)
    assert (found.verdict, found.best.plan.executor, found.best.plan.threads) == ("won", "onnx", 3)
    assert "executor=torch is excluded: the worker died" in rig.told
    torch = next(each for each in found.trials if each.values == (("executor", "torch"),))
    assert (found.trials[torch].failed, rig.ran.count(torch)) == ("the worker died", 1)


def test_options_rejected_by_the_plan_are_reported() -> None:
    where = space(Settings(memory_budget_mb=90))
    where.options("max_batch_size", where.rules)
    assert "max_batch_size" in next(iter(where.refused))


def test_a_device_is_kept_only_where_several_were_tried() -> None:
    gpu = Gpu(name="any", memory=8 << 30, capability=(8, 9), driver="")
    both = {"onnxruntime": Runtime(version="1.25"), "torch": Runtime(version="2.13", devices=("cpu", "cuda"))}
    where = space(hardware=replace(MACHINE, gpus=(gpu,), runtimes=both))
    assert where.rules.plan.device == Device("cuda")
    rig = Made(lambda plan: (0.4 if plan.device == CPU else 0.8, 0.1))
    found = tune(rig, where=where)
    assert (found.verdict, found.chosen["device"].value, found.chosen["executor"].value) == ("won", "cpu", "onnx")
    assert tune(Made(lambda plan: (0.4 if plan.device == CPU else 0.8, 0.1)), where=where, seconds=3).chosen == {}
    assert "device" not in tune(Made(bumpy)).chosen


def test_the_search_fails_if_the_rules_plan_fails() -> None:
    def broken(plan: Plan) -> tuple[float, float]:
        raise ModelFailure("no such library")

    with pytest.raises(SaywellError, match="no such library"):
        tune(Made(broken))


# -- kept


def record(found: Result | None = None, hardware: Hardware = MACHINE, **chosen: object) -> Record:
    return Record(
        model="made-up",
        runtime=Store(Path(), hardware, SPEC).runtime(found.best.plan.executor if found else "onnx"),
        device="cpu",
        goal="throughput",
        when="2026-01-01T00:00:00Z",
        seconds=12.0,
        best=dict(found.best.values) if found else {},
        chosen=found.chosen if found else {name: Chosen(value=value, why="why") for name, value in chosen.items()},
        trials=list(found.trials.values()) if found else [Trial(values={}, rtf=(0.1,), first_s=(0.2,))],
    )


def test_a_record_round_trips(tmp_path: Path) -> None:
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


def with_runtimes(**versions: str) -> Hardware:
    return replace(MACHINE, runtimes={name: Runtime(version=version) for name, version in versions.items()})


def test_records_are_bound_to_machine_model_and_version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Store(tmp_path, MACHINE, SPEC).save(record(threads=1))
    assert Store(tmp_path, MACHINE, SPEC).measurements()
    less = replace(MACHINE, limits=replace(MACHINE.limits, quota=2.0))
    assert not Store(tmp_path, with_runtimes(onnxruntime="1.26", torch="2.13"), SPEC).measurements()
    assert not Store(tmp_path, less, SPEC).measurements()
    assert not Store(tmp_path, MACHINE, replace(SPEC, variants=made_up(fp32=1))).measurements()
    assert not Store(tmp_path, MACHINE, SPEC, Path("/opt/other/python")).measurements()
    monkeypatch.setattr(tuning_store, "__version__", "99")
    assert not Store(tmp_path, MACHINE, SPEC).measurements()


def test_unused_packages_do_not_invalidate_a_record(tmp_path: Path) -> None:
    lean = with_runtimes(onnxruntime="1.25")
    found = tune(Made(bumpy), where=space(hardware=lean))
    assert found.best.plan.threads == 2
    Store(tmp_path, lean, SPEC).save(record(found, lean))
    for others in ({}, {"torch": "2.13"}, {"torch": "2.14", "openvino": "2026.0"}):
        here = with_runtimes(onnxruntime="1.25", **others)
        plan = make_plan(Settings(), here, SPEC, Store(tmp_path, here, SPEC).measurements())
        assert (plan.executor, plan.threads) == ("onnx", 2)
    assert not Store(tmp_path, with_runtimes(torch="2.13"), SPEC).measurements()


def test_the_digest_follows_the_files_of_a_model(tmp_path: Path) -> None:
    spec = replace(SPEC, path=tmp_path)
    without = model_digest(spec)
    (tmp_path / "saywell.json").write_text('{"family": "made_up", "files": {}}')
    assert model_digest(spec) != without
    moved = tmp_path / "moved"
    moved.mkdir()
    (moved / "saywell.json").write_text('{"family": "made_up", "files": {}}')
    assert model_digest(replace(SPEC, path=moved)) == model_digest(spec)


@pytest.mark.parametrize("damage", [b"", b"{", b"[1]", b'{"model": 1}', b"\xff\xfe", b"{}"])
def test_a_damaged_file_is_reported_and_rewritten(
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
