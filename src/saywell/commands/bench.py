"""`saywell bench`: speed of the model in use; with `--ablation`, what keeps a service running in a memory limit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from saywell.bench import plot, report
from saywell.commands import show
from saywell.engine.launch import decide
from saywell.errors import InvalidRequest
from saywell.settings import Settings

_LIMIT_MB, _QUEUE = 512, 64
_REPEATS, _ABLATION_REPEATS = 3, 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """The options of `bench`; empty ones have defaults that depend on the measurement."""

    ablation: bool
    streams: Sequence[int]
    lengths: Sequence[int]
    repeats: int | None
    limit_mb: int | None
    plot: Path | None
    as_json: bool


def run(settings: Settings, options: Options) -> int:
    """Measure and show. Exit code 1 if the last variant of an ablation answers less often than the baseline."""
    if options.plot is not None:
        plot.check(options.plot)
    if options.limit_mb is not None and not options.ablation:
        raise InvalidRequest("--limit goes with --ablation", param="limit")
    return _ablation(settings, options) if options.ablation else _speed(settings, options)


def _speed(settings: Settings, options: Options) -> int:
    from saywell.bench import speed

    # Measure the plan itself: load by other programs must not degrade it.
    decision = decide(replace(settings, adapt=False) if settings.adapt is None else settings)
    streams = options.streams or sorted({1, decision.plan.max_batch_size})
    lengths = options.lengths or [min(chars, decision.plan.max_text_chars) for chars in speed.LENGTHS]
    speed.check(decision, streams, lengths)
    here, screen, model = report.machine(), show.console(stderr=options.as_json), decision.spec.name
    screen.print(report.about(here), markup=False)
    screen.print(f"{model}, {decision.plan.precision}, {decision.plan.threads} threads", markup=False)
    top = speed.ceiling(decision)
    screen.print(top if isinstance(top, str) else top.why)
    rows = speed.measure(decision, top, streams, lengths, options.repeats or _REPEATS)
    report.show(screen, rows)
    result = {"bench": "speed", "machine": here, "model": model,
              "ceiling": top if isinstance(top, str) else asdict(top), "rows": rows}  # fmt: skip
    _finish(result, options, speed.panels(rows), model)
    return 0


def _ablation(settings: Settings, options: Options) -> int:
    from saywell.bench import ablation, limits, speed

    limits.check()
    if len(options.streams) > 1:
        raise InvalidRequest("--ablation takes one number of --streams", param="streams")
    work = ablation.Work(
        limit_mb=options.limit_mb or _LIMIT_MB,
        lengths=options.lengths or ablation.LENGTHS,
        repeats=options.repeats or _ABLATION_REPEATS,
        clients=(options.streams or [1])[0],
    )
    if settings.max_queue is None:  # no request may be refused for a full queue
        settings = replace(settings, max_queue=max(_QUEUE, work.clients))
    decision = decide(settings)
    speed.check(decision, [work.clients], work.lengths)
    here, screen, model = report.machine(), show.console(stderr=options.as_json), decision.spec.name
    screen.print(report.about(here), markup=False)
    runs = ablation.measure(decision, work)
    rows = [ablation.figures(run) for run in runs]
    title = f"{model}, each in {work.limit_mb} MB, {work.clients} at once"
    report.show(screen, rows, title, ablation.SHOWN)
    for sentence in ablation.sentences(runs):
        screen.print(sentence, markup=False)
    result = {"bench": "ablation", "machine": here, "model": model, **asdict(work), "rows": rows,
              "verdicts": ablation.verdicts(runs), "runs": [asdict(run) for run in runs]}  # fmt: skip
    _finish(result, options, ablation.panels(runs), title)
    return 0 if ablation.met(runs) else 1


def _finish(result: dict[str, Any], options: Options, panels: Sequence[plot.Panel], title: str) -> None:
    if options.plot is not None:
        plot.draw(panels, options.plot, title)
    if options.as_json:
        print(show.as_json(result))  # noqa: T201
