"""Voices from recordings: a cache of the states of references, and voices saved under a name.

    directory/cache/<SHA-256>.safetensors    states of references; bounded, can be deleted at any time
    directory/<id>.safetensors               named voices, kept until they are deleted

The id of a named voice, which has one safe spelling, is the only client input that becomes part of a path.
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
from saywell.voices.checksummed import SCHEMA, SUFFIX, pack, unpack

_log = logging.getLogger(__name__)

SHORTEST_S, LONGEST_S = 1.0, 60.0
LOUDEST = 1.5
RATES = (8_000, 192_000)
TRANSCRIPT_CHARS = 3_000
"""Twice what a fast reader says in a minute."""
MAX_NAMED = 1_000
_MAX_FILE = 64 << 20
_LOCK_S = 10.0

_ID = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")
_RESERVED = {"default", "con", "prn", "aux", "nul", *(f"{port}{n}" for port in ("com", "lpt") for n in range(10))}
"""The alias of each model's default voice, and the names of devices on Windows."""


def check(reference: Reference) -> None:
    """Raise InvalidRequest or TooLarge unless format, length and level are acceptable; speech is not looked for."""
    check_transcript(reference.transcript)
    rate, values = reference.sample_rate, len(reference.pcm) // 4
    if not RATES[0] <= rate <= RATES[1] or len(reference.pcm) % 4:
        raise _refused(f"must be float32 samples at {RATES[0]} to {RATES[1]} Hz")
    if values > LONGEST_S * rate + 1:  # resampling rounds
        raise TooLarge(
            f"the reference has {values / rate:.1f} s, the limit is {LONGEST_S:.0f} s; shorten it", param="reference"
        )
    if values < SHORTEST_S * rate - 1:
        raise _refused(f"has {values / rate:.1f} s, too few to learn a voice from; give 5 to 30 s of speech")
    samples = np.frombuffer(reference.pcm, np.float32)
    if not np.isfinite(samples).all() or np.abs(samples).max() > LOUDEST:
        raise _refused("has samples that are not numbers between -1 and 1")


def check_transcript(transcript: str) -> None:
    """Raise InvalidText or TooLarge unless the transcript is empty or speakable."""
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
    """The states of references and the named voices of one model. Safe among threads and processes."""

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
        """`make` encodes a recording; it is called from several threads.

        `family` and `model` (a digest of all weights) identify the model that can use its states. `recipe`: what else
        they depend on, such as the encoder's precision.
        """
        self.directory = directory
        self._make = make
        self._family, self._model, self._recipe = family, model, recipe
        self._memory: MemoryCache[VoiceState] = MemoryCache(memory_bytes, memory_entries)
        self._disk = DiskCache(directory / "cache", disk_bytes)
        self._listing = Lock()
        self._known: dict[Path, tuple[str, bool]] = {}
        """File → its mark when it was read, and whether it is a voice of this model."""

    # -- references

    def key(self, reference: Reference) -> str:
        """SHA-256 of everything the state of a reference depends on."""
        parts = ("saywell voice", str(SCHEMA), self._family, self._model, self._recipe, reference.key)
        return hashlib.sha256("\0".join(parts).encode()).hexdigest()

    def encode(self, reference: Reference) -> VoiceState:
        """The state of a reference, from memory, from disk or by `make`. Blocks.

        Raises InvalidRequest and TooLarge for an unacceptable recording or transcript, and what `make` raises.
        """
        check_transcript(reference.transcript)
        key = self.key(reference)
        state = self._memory.get(key)
        if state is None:
            check(reference)
            state = self._disk.compute(key, lambda: self._encode(key, reference))
            self._memory.put(key, state)
        return state

    def _encode(self, key: str, reference: Reference) -> VoiceState:
        state = self._memory.get(key)  # another thread may have been faster while the disk fails
        if state is None:
            state = self._make(reference)
            self._memory.put(key, state)
        return state

    def limit(self, memory_bytes: int, memory_entries: int | None) -> None:
        """Change the bounds of the states in memory; evicted ones stay on disk."""
        self._memory.limit(memory_bytes, memory_entries)

    def clear_memory(self) -> None:
        """Drop the states in memory; they stay on disk."""
        self._memory.clear()

    # -- named voices

    def save(self, voice: str, state: VoiceState, *, replace: bool = False) -> None:
        """Save a voice under an id.

        Raises InvalidRequest for a reserved id or one that is not [a-z0-9][a-z0-9_-]{0,63}, AlreadyExists, TooLarge,
        StorageFailure, Unavailable.
        """
        if not is_id(voice):
            raise InvalidRequest(
                "a voice's id has 1 to 64 characters of a-z, 0-9, _ and -, begins with a letter or digit and is not "
                "reserved (default, con, nul, …)",
                param="voice",
            )
        data = pack(voice, state, {"family": self._family, "model": self._model})
        if len(data) > _MAX_FILE:
            raise TooLarge(f"a saved voice takes at most {_MAX_FILE >> 20} MB, and this one takes more", param="voice")
        self._locked(lambda: self._write(self._path(voice), data, replace))

    def _write(self, path: Path, data: bytes, replace: bool) -> None:
        if os.path.lexists(path):
            if not replace:
                raise AlreadyExists("a voice of this id exists; replace it or choose another id", param="voice")
        elif len(self._files()) >= MAX_NAMED:
            raise TooLarge(f"the limit of {MAX_NAMED} saved voices is reached; delete one first", param="voice")
        for leftover in self.directory.glob(f"{UNFINISHED}*"):  # of a process that died: this one holds the lock
            leftover.unlink()
        write_atomically(path, data)

    def named(self) -> tuple[str, ...]:
        """Sorted ids of the voices saved with this model. Damaged files and voices of other models are left out."""
        with self._listing:
            try:
                files = self._files()
            except OSError as error:
                _log.warning("the saved voices in %s cannot be listed: %s", self.directory, error.strerror)
                return ()
            voices = tuple(path.stem for path in files if self._is_voice(path))
            self._known = {path: self._known[path] for path in files if path in self._known}
            return voices

    def load(self, voice: str) -> VoiceState:
        """Raises UnknownVoice, also if the voice is damaged or was made with another model; Unavailable."""
        if not is_id(voice):
            raise _unknown()
        path = self._path(voice)
        try:
            key = f"{voice} {_mark(path)}"
            cached = self._memory.get(key)
            if cached is not None:
                return cached
            state, metadata = self._open(path)
        except (FileNotFoundError, NotADirectoryError):
            raise _unknown() from None
        except Damaged:
            raise UnknownVoice(f"the voice {voice!r} is damaged; save it again or delete it", param="voice") from None
        except OSError as error:
            raise Unavailable(f"the voice {voice!r} cannot be read: {error.strerror}", retry_after=1.0) from error
        if not self._is_ours(metadata):
            family = metadata.get("family", self._family)
            maker = "another model" if family == self._family else f"a model of another family, {family}"
            raise UnknownVoice(f"the voice {voice!r} was made with {maker}; save it again with this one", param="voice")
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
        """Sorted by id; none if the directory does not exist yet. Raises OSError."""
        try:
            names = [path.name for path in self.directory.iterdir()]
        except FileNotFoundError:
            return []
        voices = (name[: -len(SUFFIX)] for name in names if name.endswith(SUFFIX))
        return [self._path(voice) for voice in sorted(voices) if is_id(voice)]

    def _is_voice(self, path: Path) -> bool:
        """Whether a file is a voice of this model; a file is read again only after a change."""
        try:
            mark = _mark(path)
            if self._known.get(path, ("", False))[0] != mark:
                try:
                    ours = self._is_ours(self._open(path)[1])
                except Damaged:
                    ours = False
                if not ours:
                    _log.warning("a saved voice in %s is left out: it is damaged or another model's", self.directory)
                self._known[path] = mark, ours
        except OSError:
            return False
        return self._known[path][1]

    def _open(self, path: Path) -> tuple[VoiceState, dict[str, str]]:
        """State and metadata of a voice of any model. Raises OSError, Damaged."""
        return unpack(path.stem, read_plain(path, _MAX_FILE))

    def _is_ours(self, metadata: Mapping[str, str]) -> bool:
        """Files of schema 1 name the model alone."""
        return metadata.get("model") == self._model and metadata.get("family", self._family) == self._family

    def _locked(self, change: Callable[[], None]) -> None:
        """Run `change` while no other process changes the voices."""
        try:
            self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            with FileLock(self.directory / ".lock", timeout=_LOCK_S):
                change()
        except Timeout:
            raise Unavailable("another process is changing the saved voices; try again", retry_after=1.0) from None
        except OSError as error:
            raise StorageFailure(
                f"the saved voices cannot be changed: {error.strerror}; set SAYWELL_DATA_DIR to a writable directory"
            ) from error


def _mark(path: Path) -> str:
    """A text that changes whenever the file does. Raises OSError."""
    status = path.lstat()
    return f"{status.st_ino} {status.st_size} {status.st_mtime_ns} {status.st_ctime_ns}"


def _is_file(path: Path) -> bool:
    """Whether this is a regular file and not a link."""
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
    """The same message for missing voices and invalid ids, so that it reveals nothing."""
    return UnknownVoice("there is no such voice; see the list of voices", param="voice")
