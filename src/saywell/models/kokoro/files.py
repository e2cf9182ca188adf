"""The folder of a published Kokoro export: its graph, told apart by its inputs and outputs, and its voices."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
import numpy.typing as npt

from saywell.errors import ModelFailure, UnknownModel
from saywell.files import Damaged, open_file, read_plain

Pack = npt.NDArray[np.float32]
"""The style of a voice for texts of 1 to 510 phones [510, 256]."""
ROWS, STYLE = 510, 256
_NAME = re.compile(r"[abefhijpz][fm]_[a-z0-9]{1,32}")
_GRAPHS = ("*.onnx", "onnx/*.onnx")
_PLACES = ("voices/*.bin", "*.bin")
_ARCHIVES = ("voices*.bin", "voices*.npz", "voices/*.npz")
_MAX_PACK, _MAX_ARCHIVE = 4 * ROWS * STYLE, 64 << 20
_UNUSABLE = re.compile(r"fp16|q8f16|q4f16|uint8f16", re.IGNORECASE)
"""Exports in half precision are silent or fail on CPUs (reported)."""


@dataclass(frozen=True, slots=True)
class Found:
    """What a folder holds."""

    graph: Path
    voices: tuple[str, ...]
    """Names, sorted; at least one."""
    single: dict[str, Path]
    """Voices that have a file of their own."""
    archive: Path | None
    """NumPy archive of voices."""


def look(directory: Path) -> Found:
    """What a folder holds, by the names of its files. Raises UnknownModel."""
    graphs = [
        path for pattern in _GRAPHS for path in sorted(directory.glob(pattern)) if not _UNUSABLE.search(path.name)
    ]
    if not graphs:
        raise UnknownModel(f"{directory} holds no ONNX graph (model.onnx, kokoro-v1.0.onnx, …)", param="model_path")
    if len(graphs) > 1:
        small = [path for path in graphs if re.search(r"int8|quantized|q8", path.name)]
        graphs = small or [max(graphs, key=lambda path: path.stat().st_size)]
    single = {
        path.stem: path for pattern in _PLACES for path in sorted(directory.glob(pattern)) if _NAME.fullmatch(path.stem)
    }
    archive = next(
        (path for pattern in _ARCHIVES for path in sorted(directory.glob(pattern)) if _is_archive(path)), None
    )
    names = sorted({*single, *(_names(archive) if archive else ())})
    if not names:
        raise UnknownModel(
            f"{directory} holds a graph and no voices; put voices/af_heart.bin, … or voices-v1.0.bin beside it",
            param="model_path",
        )
    return Found(graphs[0], tuple(names), single, archive)


def _is_archive(path: Path) -> bool:
    try:
        with open_file(path) as file:
            return file.read(4) == b"PK\x03\x04"
    except OSError:
        return False  # a pipe, or somebody else's file


def _names(archive: Path) -> list[str]:
    try:
        if archive.stat().st_size > _MAX_ARCHIVE:
            raise ValueError(f"it is larger than {_MAX_ARCHIVE >> 20} MB")
        with open_file(archive) as file, np.load(file, allow_pickle=False) as packs:
            return [name for name in packs.files if _NAME.fullmatch(name)]
    except (OSError, ValueError, BadZipFile) as error:
        raise UnknownModel(f"{archive} is not an archive of voices: {error}", param="model_path") from error


def pack(found: Found, name: str) -> Pack:
    """A voice. Raises ModelFailure for a damaged file."""
    try:
        if name in found.single:
            data = read_plain(found.single[name], _MAX_PACK, links=True)
            rows = np.frombuffer(data, "<f4")
        else:
            assert found.archive is not None
            with open_file(found.archive) as file, np.load(file, allow_pickle=False) as packs:
                rows = np.asarray(packs[name], np.float32)
    except (OSError, ValueError, BadZipFile, Damaged) as error:
        raise ModelFailure(f"the voice {name} cannot be read: {error}") from error
    if rows.size != ROWS * STYLE or not np.isfinite(rows).all():
        raise ModelFailure(f"the voice {name} is damaged: it has {rows.size} finite numbers, not {ROWS * STYLE}")
    return rows.reshape(ROWS, STYLE)
