"""Conversion without its two processes, each of which imports torch for seconds: they are tested by themselves, in
`models/dual_ar/test_convert.py`.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from saywell.errors import BadCheckpoint
from saywell.files import sha256
from saywell.manifest import Entry
from saywell.models import torch_file
from saywell.models.conversion import read_manifest
from saywell.models.dual_ar.convert import convert as convert_module
from saywell.models.dual_ar.convert.convert import PRECISIONS


def convert_here(source: Path, out: Path, precisions: tuple[str, ...] = PRECISIONS) -> Path:
    """`convert`, all of it in this process."""
    with pytest.MonkeyPatch.context() as patch:
        in_process(patch)
        return convert_module.convert(source, out, precisions=precisions)


def in_process(patch: pytest.MonkeyPatch) -> None:
    """The child's work without its process and the limits set to it."""

    def run(reader: str, source: Path, out: Path) -> None:
        said: list[dict[str, Any]] = []
        patch.setattr(torch_file, "say", lambda **line: said.append(line))
        if torch_file.main(reader, str(source), str(out)):
            raise BadCheckpoint(said[-1]["refused"])

    patch.setattr(torch_file, "limit", lambda size: None)
    patch.setattr(convert_module, "rewrite", run)


def write_down(model: Path, files: Iterable[Path]) -> None:
    """Put files that a test has made or changed into a converted model's manifest."""
    manifest = read_manifest(model)
    for file in files:
        manifest.files[file.name] = Entry(bytes=file.stat().st_size, sha256=sha256(file))
    manifest.write(model)
