from __future__ import annotations

import gc
import os
import shutil
import signal
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from filelock import FileLock
from hypothesis import settings

from paths import FINCH
from plans import TINY, TINY_PLAN
from saywell.engine.engine import Engine
from saywell.types import ModelSpec
from tiny_ar import family as tiny_ar

# The same examples in each run; `make test-slow` searches for new ones.
settings.register_profile("repeatable", derandomize=True)
settings.load_profile("repeatable")


def pytest_configure() -> None:
    """In the background of a shell, this process ignores SIGINT, and so would its children."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_finish() -> None:
    """Exclude imported modules from garbage collection, which every engine runs when it closes."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def _own_data(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ignore measurements and voices saved on this machine."""
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path_factory.getbasetemp() / "data"))


@pytest.fixture(scope="session")
def finch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A converted checkpoint that speaks, made once for all test processes."""
    pytest.importorskip("torch")
    if not FINCH.is_dir():
        pytest.skip("the weights are in the repository, not in the sdist")
    from conversion import convert_here
    from saywell.manifest import MANIFEST

    base = tmp_path_factory.getbasetemp()
    shared = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    with FileLock(shared / "finch.lock"):
        out = shared / "finch"
        return out if (out / MANIFEST).exists() else convert_here(FINCH, out)


@pytest.fixture
def named(finch: Path, tmp_path: Path) -> Path:
    """The model at the path that earlier programs document, relative to the test's directory."""
    return Path(shutil.copytree(finch, tmp_path / "checkpoints" / "openaudio-s1-mini", copy_function=os.link))


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def tiny_engine() -> Iterator[Callable[..., Engine]]:
    """Starts engines with the tiny autoregressive family; takes the model class, its spec and fields of the plan."""
    made: list[Engine] = []

    def start(model: type[tiny_ar.TinyModel] = tiny_ar.TinyModel, spec: ModelSpec = TINY, **fields: object) -> Engine:
        plan = replace(TINY_PLAN, **fields)
        engine = Engine(spec, plan, lambda now: model(spec, now))
        made.append(engine)
        engine.start()
        return engine

    yield start
    for engine in made:
        engine.close()
