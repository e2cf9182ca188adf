"""`saywell bench NAME`: runs a module of `saywell.bench`, each with `main(args) -> int | None`."""

from __future__ import annotations

import ast
import pkgutil
from importlib import import_module, util
from pathlib import Path

from rich.table import Table

from saywell.commands import show
from saywell.errors import InvalidRequest

HOME = "saywell.bench"


def run(arguments: list[str]) -> int:
    """Run one, or list them all. Returns the exit code."""
    if not arguments or arguments[0] in ("--help", "-h"):
        _list()
        return 0
    name, *rest = arguments
    module = name.replace("-", "_")
    if not module.isidentifier() or not _has_main(module):
        there = ", ".join(names()) or "none is installed"
        raise InvalidRequest(f"no benchmark {name!r}; there is {there}", param="name")
    code = import_module(f"{HOME}.{module}").main(rest)
    return int(code or 0)


def names() -> list[str]:
    """Every benchmark there is."""
    spec = util.find_spec(HOME)
    places = list(spec.submodule_search_locations or []) if spec else []
    found = (module.name for module in pkgutil.iter_modules(places) if _has_main(module.name))
    return sorted(name.replace("_", "-") for name in found)


def _list() -> None:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), show_header=False)
    for name in names():
        table.add_row(name, _about(name))
    show.console().print(table if names() else "no benchmark is installed")


def _has_main(module: str) -> bool:
    """Whether a module is a benchmark, not a part of one."""
    return any(isinstance(node, ast.FunctionDef) and node.name == "main" for node in _read(module).body)


def _read(module: str) -> ast.Module:
    """A benchmark's module, read without importing it."""
    spec = util.find_spec(f"{HOME}.{module}")
    return ast.parse(Path(spec.origin).read_bytes()) if spec and spec.origin else ast.Module([], [])


def _about(name: str) -> str:
    """The first line of a module's docstring."""
    text = ast.get_docstring(_read(name.replace("-", "_"))) or ""
    return text.partition("\n")[0]
