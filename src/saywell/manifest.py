"""`saywell.json` in a model's directory: its family, and the size and digest of each file."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path

import msgspec

from saywell.files import Damaged, read_plain, replacing

MANIFEST = "saywell.json"
_MAX_BYTES = 4 << 20


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """One file."""

    bytes: int
    sha256: str
    made_from: dict[str, str] = msgspec.field(name="from", default_factory=dict)
    """Input → its digest or version. A change of any means that the file must be made again."""


class Manifest(msgspec.Struct, kw_only=True):
    family: str
    format: int = 0
    """Version of the family's file format; a family rejects unsupported ones."""
    licence: str | None = None
    """Licence of the weights."""
    files: dict[str, Entry]

    @classmethod
    def read(cls, directory: Path) -> Manifest:
        """Raises FileNotFoundError, other OSErrors, and Damaged with the reason."""
        raw = read_plain(directory / MANIFEST, _MAX_BYTES, links=True)
        try:
            manifest = msgspec.json.decode(raw, type=cls)
        except (msgspec.MsgspecError, ValueError, RecursionError) as error:
            raise Damaged(f"it is not a manifest: {error}") from None
        for name in manifest.files:
            if Path(name).name != name:
                raise Damaged(f"it names a file outside its directory: {name!r}")
        return manifest

    def write(self, directory: Path) -> None:
        """Atomic. Raises OSError."""
        with replacing(directory / MANIFEST) as file:
            file.write(msgspec.json.format(msgspec.json.encode(self), indent=1) + b"\n")

    def digest(self, names: Iterable[str] | None = None) -> str:
        """SHA-256 over the digests of these files in this order, or of all files sorted by name. Raises KeyError."""
        chosen = sorted(self.files) if names is None else names
        return hashlib.sha256("\0".join(self.files[name].sha256 for name in chosen).encode()).hexdigest()
