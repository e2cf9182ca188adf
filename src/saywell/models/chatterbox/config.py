"""What a converted checkpoint is, and what tells the published ones apart."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import msgspec

from saywell.errors import BadCheckpoint
from saywell.models.chatterbox.kinds import Kind
from saywell.models.chatterbox.scripts import CANGJIE_FILE
from saywell.models.chatterbox.text import ENGLISH_FILE, MULTILINGUAL_FILE, TURBO_FILES

CONFIG = "chatterbox.json"
DEFAULT = "default"
"""The voice that a checkpoint comes with."""
RATE, FRAME_RATE = 24_000, 25.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    """The files of one published checkpoint."""

    kind: Kind
    t3: str
    s3gen: str
    speaker: str
    """Voice encoder."""
    text: tuple[str, ...]
    """Files of its tokeniser; those in `optional` may be missing."""
    optional: tuple[str, ...] = ()
    generation: int = 2
    """Of the multilingual model: its third reads capitals."""

    @property
    def files(self) -> tuple[str, ...]:
        return (self.t3, self.s3gen, self.speaker, *self.text)


def _english(kind: Kind, t3: str) -> Published:
    return Published(kind=kind, t3=t3, s3gen="s3gen.safetensors", speaker="ve.safetensors", text=(ENGLISH_FILE,))


def _multilingual(t3: str, generation: int) -> Published:
    return Published(
        kind="multilingual",
        t3=t3,
        s3gen="s3gen.pt",
        speaker="ve.pt",
        text=(MULTILINGUAL_FILE,),
        optional=(CANGJIE_FILE,),
        generation=generation,
    )


def _turbo(kind: Kind, t3: str) -> Published:
    return Published(kind=kind, t3=t3, s3gen="s3gen_meanflow.safetensors", speaker="ve.safetensors", text=TURBO_FILES)


PUBLISHED = (
    _english("english", "t3_cfg.safetensors"),
    _multilingual("t3_mtl23ls_v3.safetensors", 3),
    _multilingual("t3_mtl23ls_v2.safetensors", 2),
    _turbo("turbo", "t3_turbo_v1.safetensors"),
    _turbo("nano", "t3_nano_v1.safetensors"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Of a converted checkpoint."""

    kind: Kind
    generation: int = 2

    @property
    def guided(self) -> bool:
        return self.kind in ("english", "multilingual")

    @classmethod
    def read(cls, directory: Path) -> Config:
        """Raises BadCheckpoint."""
        try:
            return msgspec.json.decode((directory / CONFIG).read_bytes(), type=cls)
        except (OSError, msgspec.DecodeError) as error:
            raise BadCheckpoint(f"{CONFIG} cannot be read, so convert the checkpoint again: {error}") from None


def recognise(directory: Path) -> Published:
    """The checkpoint in a directory. Raises BadCheckpoint that names what is missing."""
    found = [published for published in PUBLISHED if (directory / published.t3).is_file()]
    if not found:
        raise BadCheckpoint(f"{directory} holds none of {', '.join(each.t3 for each in PUBLISHED)}")
    if len(found) > 1:
        both = " and ".join(each.t3 for each in found)
        raise BadCheckpoint(f"{directory} holds {both}; move one of them out, or keep the models in two directories")
    missing = [name for name in found[0].files if not (directory / name).is_file()]
    if missing:
        raise BadCheckpoint(f"{directory} lacks {', '.join(missing)}")
    return found[0]
