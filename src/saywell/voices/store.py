"""Voices made of recordings: the state of a reference, made once, and voices saved under a name.

    directory/cache/<SHA-256>.safetensors    states of references, bounded, may be deleted at any time
    directory/<id>.safetensors               named voices, kept until they are deleted

Nothing a client says becomes part of a path but the id of a named voice, and that only in one safe spelling.
"""

from __future__ import annotations

import hashlib
import logging
import os
import re
import stat
from collections.abc import Callable, Mapping
from pathlib import Path
from threading import Lock

import numpy as np
from filelock import FileLock, Timeout

from saywell.errors import (
    AlreadyExists,
    InvalidRequest,
    StorageFailure,
    TooLarge,
    Unavailable,
    UnknownVoice,
)
from saywell.files import UNFINISHED, Damaged, read_plain, write_atomically
from saywell.text.check import check as check_text
from saywell.types import Reference, VoiceState
from saywell.voices.cache import DiskCache, MemoryCache
from saywell.voices.sealed import SCHEMA, SUFFIX, seal, unseal

_log = logging.getLogger(__name__)

SHORTEST_S, LONGEST_S = 1.0, 60.0
LOUDEST = 1.5
RATES = (8_000, 192_000)
TRANSCRIPT_CHARS = 3_000
"""Twice what a hurried reader says in a minute."""
MAX_NAMED = 1_000
_MAX_FILE = 64 << 20
_LOCK_S = 10.0

_ID = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")
_RESERVED = {"default", "con", "prn", "aux", "nul", *(f"{port}{n}" for port in ("com", "lpt") for n in range(10))}
"""The voice every model has, and what Windows takes for devices."""


def check(reference: Reference) -> None:
    """Raise InvalidRequest or TooLarge unless this can be a recording: whether somebody speaks in it is not asked."""
    check_transcript(reference.transcript)
    rate, values = reference.sample_rate, len(reference.pcm) // 4
    if not RATES[0] <= rate <= RATES[1] or len(reference.pcm) % 4:
        raise _refused(f"must be float32 samples at {RATES[0]} to {RATES[1]} Hz")
    if values > LONGEST_S * rate + 1:  # resampling rounds
        raise TooLarge(
            f"the reference has {values / rate:.1f} s, the limit is {LONGEST_S:.0f} s; cut it", param="reference"
        )
    if values < SHORTEST_S * rate - 1:
        raise _refused(f"has {values / rate:.1f} s, too few to know a voice by; give 5 to 30 s of speech")
    samples = np.frombuffer(reference.pcm, np.float32)
    if not np.isfinite(samples).all() or np.abs(samples).max() > LOUDEST:
        raise _refused("has samples that are no numbers between -1 and 1")


def check_transcript(transcript: str) -> None:
    """Raise InvalidText or TooLarge unless it is empty or can be spoken."""
    if transcript == "":
        return
    try:
        check_text(transcript, TRANSCRIPT_CHARS)
    except InvalidRequest as error:
        raise type(error)(f"the reference's transcript: {error.message}", param="transcript") from None


def _refused(why: str) -> InvalidRequest:
    return InvalidRequest(f"the reference {why}", param="reference")


def is_id(voice: str) -> bool:
    """Whether a voice may be saved under this id."""
    return bool(_ID.fullmatch(voice)) and voice not in _RESERVED


class VoiceStore:
    """What one model knows of voices: recordings, and named voices. Safe from any thread, and among processes."""

    def __init__(
        self,
        directory: Path,
        make: Callable[[Reference], VoiceState],
        *,
        family: str,
        model: str,
        recipe: str,
        memory_bytes: int = 16 << 20,
        memory_entries: int | None = None,
        disk_bytes: int = 256 << 20,
    ) -> None:
        """`make`: encodes a recording; called from several threads. `family`, `model`: who can speak with what it
        makes, `model` a digest of all weights. `recipe`: what else it depends on, such as the encoder's precision."""
        self.directory = directory
        self._make = make
        self._family, self._model, self._recipe = family, model, recipe
        self._memory: MemoryCache[VoiceState] = MemoryCache(memory_bytes, memory_entries)
        self._disk = DiskCache(directory / "cache", disk_bytes)
        self._looking = Lock()
        self._known: dict[Path, tuple[str, bool]] = {}

    # -- references

    def key(self, reference: Reference) -> str:
        """SHA-256 of everything its state depends on."""
        parts = ("saywell voice", str(SCHEMA), self._family, self._model, self._recipe, reference.key)
        return hashlib.sha256("\0".join(parts).encode()).hexdigest()

    def encode(self, reference: Reference) -> VoiceState:
        """Its state, made only if nobody has made it before. Takes as long as `make` does.

        Raises InvalidRequest and TooLarge for what is no recording of speech, and what `make` raises.
        """
        check_transcript(reference.transcript)
        key = self.key(reference)
        found = self._memory.get(key)
        if found is None:
            check(reference)
            found = self._disk.compute(key, lambda: self._made(key, reference))
            self._memory.put(key, found)
        return found

    def _made(self, key: str, reference: Reference) -> VoiceState:
        found = self._memory.get(key)  # another thread may have been quicker, and the disk out of order
        if found is None:
            found = self._make(reference)
            self._memory.put(key, found)
        return found

    def limit(self, memory_bytes: int, memory_entries: int | None) -> None:
        """Set other bounds to the states in memory; what no longer fits leaves at once, and is on disk still."""
        self._memory.limit(memory_bytes, memory_entries)

    def clear_memory(self) -> None:
        """Forget the states in memory; on disk they stay."""
        self._memory.clear()

    # -- named voices

    def save(self, voice: str, state: VoiceState, *, replace: bool = False) -> None:
        """Keep a voice under an id.

        Raises InvalidRequest for an id that is not [a-z0-9][a-z0-9_-]*, AlreadyExists, TooLarge, StorageFailure,
        Unavailable.
        """
        if not is_id(voice):
            raise InvalidRequest(
                "a voice's id has 1 to 64 characters of a-z, 0-9, _ and -, begins with a letter or digit and is not "
                "reserved (default, con, nul, …)",
                param="voice",
            )
        data = seal(voice, state, {"family": self._family, "model": self._model})
        if len(data) > _MAX_FILE:
            raise TooLarge(f"a saved voice takes at most {_MAX_FILE >> 20} MB, and this one more", param="voice")
        self._locked(lambda: self._write(self._path(voice), data, replace))

    def _write(self, path: Path, data: bytes, replace: bool) -> None:
        if os.path.lexists(path):
            if not replace:
                raise AlreadyExists("a voice of this id exists; replace it or choose another id", param="voice")
        elif len(self._files()) >= MAX_NAMED:
            raise TooLarge(f"{MAX_NAMED} voices are saved, and that is the limit; delete one first", param="voice")
        for left in self.directory.glob(f"{UNFINISHED}*"):  # by a process that died: only we write now
            left.unlink()
        write_atomically(path, data)

    def named(self) -> tuple[str, ...]:
        """The ids of the voices saved with this model, sorted. Damaged files and other models' voices are left out."""
        with self._looking:
            try:
                files = self._files()
            except OSError as error:
                _log.warning("the saved voices in %s cannot be listed: %s", self.directory, error.strerror)
                return ()
            found = tuple(path.stem for path in files if self._look(path))
            self._known = {path: self._known[path] for path in files if path in self._known}
            return found

    def load(self, voice: str) -> VoiceState:
        """Raises UnknownVoice, also for a voice that is damaged or was made with another model; Unavailable."""
        if not is_id(voice):
            raise _unknown()
        path = self._path(voice)
        try:
            key = f"{voice} {_mark(path)}"
            found = self._memory.get(key)
            if found is not None:
                return found
            state, about = self._open(path)
        except (FileNotFoundError, NotADirectoryError):
            raise _unknown() from None
        except Damaged:
            raise UnknownVoice(f"the voice {voice!r} is damaged; save it again or delete it", param="voice") from None
        except OSError as error:
            raise Unavailable(f"the voice {voice!r} cannot be read: {error.strerror}", retry_after=1.0) from error
        if not self._is_ours(about):
            family = about.get("family", self._family)
            other = "another model" if family == self._family else f"a model of another family, {family}"
            raise UnknownVoice(f"the voice {voice!r} was made with {other}; save it again with this one", param="voice")
        self._memory.put(key, state)
        return state

    def delete(self, voice: str) -> None:
        """Raises UnknownVoice, StorageFailure, Unavailable."""
        if not is_id(voice) or not _is_file(self._path(voice)):
            raise _unknown()
        self._locked(lambda: _remove(self._path(voice)))

    def _path(self, voice: str) -> Path:
        return self.directory / f"{voice}{SUFFIX}"

    def _files(self) -> list[Path]:
        """Sorted by id. Raises OSError, but not for a directory that is not there yet."""
        try:
            names = [path.name for path in self.directory.iterdir()]
        except FileNotFoundError:
            return []
        voices = (name[: -len(SUFFIX)] for name in names if name.endswith(SUFFIX))
        return [self._path(voice) for voice in sorted(voices) if is_id(voice)]

    def _look(self, path: Path) -> bool:
        """Whether a file is a voice of this model; it is read again only when it has changed."""
        try:
            mark = _mark(path)
            known = self._known.get(path)
            if known is None or known[0] != mark:
                known = self._known[path] = mark, self._read(path)
        except OSError:
            return False
        return known[1]

    def _read(self, path: Path) -> bool:
        try:
            _, about = self._open(path)
        except Damaged:
            about = {}
        if not self._is_ours(about):
            _log.warning("a saved voice in %s is left out: it is damaged or another model's", self.directory)
            return False
        return True

    def _open(self, path: Path) -> tuple[VoiceState, dict[str, str]]:
        """Any model's voice, and whose it is. Raises OSError, Damaged."""
        return unseal(path.stem, read_plain(path, _MAX_FILE))

    def _is_ours(self, about: Mapping[str, str]) -> bool:
        """Files of schema 1 name the model alone."""
        return about.get("model") == self._model and about.get("family", self._family) == self._family

    def _locked(self, change: Callable[[], None]) -> None:
        """Change a file while no other process does."""
        try:
            self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            with FileLock(self.directory / ".lock", timeout=_LOCK_S):
                change()
        except Timeout:
            raise Unavailable("another process is changing the saved voices; try again", retry_after=1.0) from None
        except OSError as error:
            out = "set SAYWELL_DATA_DIR to a place that can be written"
            raise StorageFailure(f"the saved voices cannot be changed: {error.strerror}; {out}") from error


def _mark(path: Path) -> str:
    """Changes when the file does. Raises OSError."""
    about = path.lstat()
    return f"{about.st_ino} {about.st_size} {about.st_mtime_ns} {about.st_ctime_ns}"


def _is_file(path: Path) -> bool:
    """Whether there is a regular file; a link is none."""
    try:
        return stat.S_ISREG(path.lstat().st_mode)
    except OSError:
        return False


def _remove(path: Path) -> None:
    try:
        path.unlink()
    except FileNotFoundError:
        raise _unknown() from None


def _unknown() -> UnknownVoice:
    """One and the same for whatever is not there, so that nothing can be learned from it."""
    return UnknownVoice("there is no such voice; the list of voices names those there are", param="voice")
