"""`saywell bench`: how fast the model in use speaks here; `--ablation`: what keeps it standing in a memory limit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from saywell.bench import plot, report
from saywell.commands import show
from saywell.errors import InvalidRequest
from saywell.settings import Settings

_LIMIT_MB, _QUEUE = 512, 64
_REPEATS, _ABLATION_REPEATS = 3, 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What the command line asks for. Nothing: what fits the measurement."""

    ablation: bool = False
    streams: Sequence[int] = ()
    lengths: Sequence[int] = ()
    repeats: int | None = None
    limit_mb: int | None = None
    plot: Path | None = None
    as_json: bool = False


def run(settings: Settings, wanted: Wanted) -> int:
    """Measure and show. 1 if all that is switched on in an ablation answers less often than the baseline."""
    if wanted.plot is not None:
        plot.check(wanted.plot)
    if wanted.limit_mb is not None and not wanted.ablation:
        raise InvalidRequest("--limit goes with --ablation", param="limit")
    return _ablation(settings, wanted) if wanted.ablation else _speed(settings, wanted)


def _speed(settings: Settings, wanted: Wanted) -> int:
    from saywell.bench import speed
    from saywell.engine.launch import decide

    # As planned: what others take meanwhile should not make it give up slots or threads.
    decision = decide(replace(settings, adapt=False) if settings.adapt is None else settings)
    streams = wanted.streams or sorted({1, decision.plan.max_batch_size})
    lengths = wanted.lengths or [min(each, decision.plan.max_text_chars) for each in speed.LENGTHS]
    speed.check(decision, streams, lengths)
    here, screen = report.machine(), show.console(stderr=wanted.as_json)
    screen.print(report.about(here), markup=False)
    screen.print(f"{decision.spec.name}, {decision.plan.precision}, {decision.plan.threads} threads", markup=False)
    top = speed.ceiling(decision)
    screen.print(top if isinstance(top, str) else top.why)
    rows = speed.measure(decision, top, streams, lengths, wanted.repeats or _REPEATS)
    report.show(screen, rows)
    found = {"bench": "speed", "machine": here, "model": decision.spec.name,
             "ceiling": top if isinstance(top, str) else asdict(top), "rows": rows}  # fmt: skip
    _end(found, wanted, speed.panels(rows), decision.spec.name)
    return 0


def _ablation(settings: Settings, wanted: Wanted) -> int:
    from saywell.bench import ablation, limits, speed
    from saywell.engine.launch import decide

    limits.check()
    if len(wanted.streams) > 1:
        raise InvalidRequest("--ablation takes one number of --streams", param="streams")
    work = ablation.Work(
        limit_mb=wanted.limit_mb or _LIMIT_MB, lengths=wanted.lengths or ablation.LENGTHS,
        repeats=wanted.repeats or _ABLATION_REPEATS, clients=(wanted.streams or [1])[0],
    )  # fmt: skip
    # Room to wait for all: a full queue would hide what becomes of them.
    decision = decide(
        replace(settings, max_queue=max(_QUEUE, work.clients)) if settings.max_queue is None else settings
    )
    speed.check(decision, [work.clients], work.lengths)
    here, screen = report.machine(), show.console(stderr=wanted.as_json)
    screen.print(report.about(here), markup=False)
    runs = ablation.measure(decision, work)
    rows = [ablation.figures(run) for run in runs]
    title = f"{decision.spec.name}, each in {work.limit_mb} MB, {work.clients} at once"
    report.show(screen, rows, title, ablation.SHOWN)
    for sentence in ablation.sentences(runs):
        screen.print(sentence, markup=False)
    found = {
        "bench": "ablation",
        "machine": here,
        "model": decision.spec.name,
        **asdict(work),
        "rows": rows,
        "verdicts": ablation.verdicts(runs),
        "runs": [asdict(run) for run in runs],
    }
    _end(found, wanted, ablation.panels(runs), title)
    return 0 if ablation.met(runs) else 1


def _end(found: Mapping[str, Any], wanted: Wanted, panels: Sequence[plot.Panel], title: str) -> None:
    if wanted.plot is not None:
        plot.draw(panels, wanted.plot, title)
    if wanted.as_json:
        print(show.as_json(found))  # noqa: T201
