"""What benchmarks have in common: the machine they ran on, and the settings they are given."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import util
from pathlib import Path
from typing import Any

from saywell.commands.sinks import check_place
from saywell.errors import InvalidRequest, MissingDependency
from saywell.machine import detect
from saywell.settings import parse_pairs

SENTENCES = (
    "The lighthouse keeper lit the lamp before the ships came home through fog.",
    "A small boat crossed the bay while gulls circled over the empty harbour.",
    "She wrote down every number twice because the first list had been lost.",
    "Nobody expected the old clock to strike again after all of those years.",
    "Bring two loaves of bread and some butter from the shop at the corner.",
    "The train to the north was late so we drank our coffee in the station.",
    "Rain fell on the garden all night and by morning the river had risen.",
    "He told the story slowly as if each word were a stone to be put down.",
    "In the market they sold apples and rope and a great many old lanterns.",
)
"""Of one length, each one chunk: neither longer than a first chunk nor with a clause to cut it at."""
TRIES = 4
"""Draws of a sentence that random weights may end too early."""


def machine() -> dict[str, Any]:
    """For the report."""
    found = detect()
    return {"cpu": found.cpu.model, "cpus": found.usable_cpus, "memory_gb": round(found.usable_memory / 2**30, 1)}


def check_outputs(options: Namespace) -> None:
    """See to it, before anything is measured, that the files of `--save`, `--plot` and `--plots` can be written.

    Raises InvalidRequest, MissingDependency and OSError.
    """
    asked = vars(options)
    for name in ("save", "plot"):
        if (file := asked.get(name)) is not None:
            check_place(file, f"--{name}")
    if (folder := asked.get("plots")) is not None:
        folder.mkdir(parents=True, exist_ok=True)
    if (asked.get("plot") or asked.get("plots")) and util.find_spec("matplotlib") is None:
        raise MissingDependency("plots need matplotlib, which is not installed: pip install 'saywell[bench]'")


@contextmanager
def reading(what: str) -> Iterator[None]:
    """Files that hold something else than saved runs are told from a bug. Raises InvalidRequest."""
    try:
        yield
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise InvalidRequest(f"not all of these files hold {what}", param="files") from error


def wishes(options: Namespace) -> dict[str, Any]:
    """Settings from `--set` and `--model`, as JSON carries them."""
    found = parse_pairs(options.set, "the command line")
    return {**found, "model": options.model} if options.model else found


def spoken_wishes(options: Namespace, folder: Path) -> dict[str, Any]:
    """And those for random weights, which `--frames` is given for: a saved voice in `folder`."""
    found = wishes(options)
    if not options.frames:
        return found
    if not options.model:
        raise InvalidRequest("--frames is for random weights: name their directory with --model", param="frames")
    from saywell.bench import dual_ar_speech

    dual_ar_speech.save_voice(dual_ar_speech.Setup(model=Path(options.model), data=folder))
    return {**found, "data_dir": str(folder), "voice": dual_ar_speech.VOICE}
