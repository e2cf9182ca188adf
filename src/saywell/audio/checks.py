"""Checks of generated audio before it is sent, so that a broken model gives an error instead of noise.

They are cheap: minimum and maximum of the samples as they arrive, then statistics of 100 ms windows on a fixed grid, so
the result does not depend on how the audio is split. They reject what cannot be speech, not what merely sounds bad, and
know nothing of words.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass

import numpy as np

from saywell.errors import BadAudio
from saywell.types import Samples

OVER_RANGE = 1.5
"""Models overshoot full scale by a few per cent, which the encoder clamps; 1.5 times full scale is a wrong scale."""
FULL_SCALE = 0.99
CLIPPED_SHARE = 0.25
"""Share of a window at full scale. Measured on a voice normalised to full scale: 0.3 % in its loudest window; driven
3 dB into clipping 10 %, 6 dB 27 %, 12 dB 70 %."""
DC = 0.2
"""Mean of a window. Speech has no energy below 50 Hz; three voices at speeds 0.25 to 4 stayed below 0.016."""
SILENT = 2e-3
"""Peak-to-peak of a window, -60 dB. By this measure a constant offset is silence."""
WINDOW_S = 0.1
LONGEST_SILENCE_S = 4.0
"""Longer than any pause or tail of a sentence at speed 1. A third of it does not depend on speed; slow speech stretches
the rest."""
SLACK_S = 2.5
"""Added to the longest duration: silence at both ends, and an abbreviation or two spoken in full."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """Range of the duration of a text in seconds at speed 1, without silence at the ends."""

    shortest: float
    longest: float


def bounds(text: str) -> Bounds:
    """The duration range of a text, wide enough for any language and reader.

    Readers of 17 languages spoke 4 to 9 syllables a second (Coupé et al. 2019, doi:10.1126/sciadv.aaw2594), which is
    8 to 25 Latin letters or 3 to 8 Chinese characters. The lower bound is a synthesiser at 350 words a minute, as
    experienced listeners use it, in French, whose silent letters make it the fastest per letter. The upper bound is a
    slow reader: 0.2 s a letter, but 0.8 s a word, because any short word may be an abbreviation; 0.7 s for a letter of
    a word in capitals or without a vowel, which is spelled (`FBI`, `mph`); 1 s for a digit ("seventy-seven million" has
    half a second each); 1.5 s for a symbol, whose name may have several words.
    """
    shortest = longest = 0.0
    for word in re.findall(r"\S+|\n", text):
        low, high = _word(word)
        shortest, longest = shortest + low, longest + high
    return Bounds(shortest, longest)


_VOWELS = frozenset("aeiouyáàâäãåæéèêëíìîïóòôöõøœúùûüýÿ")


def _word(word: str) -> tuple[float, float]:
    low = high = letters = 0.0
    capitals = sum(map(str.isupper, word)) > 1
    spelled = capitals or not _VOWELS.intersection(word.lower())
    for character in word:
        fastest, slowest = _character(character, spelled)
        low, high = low + fastest, high + slowest
        letters += character.isalnum()
    return low, max(high, 0.8 if letters else 0.0)


def _character(character: str, spelled: bool) -> tuple[float, float]:
    """Shortest and longest duration of a character in seconds."""
    kind = unicodedata.category(character)
    if kind in ("Lo", "Nl", "No") and _is_wide(character):
        return 0.05, 0.7
    if kind == "Nd":
        return (0.0, 1.0) if unicodedata.digit(character) == 0 else (0.03, 1.0)
    if kind[0] == "L":
        return 0.018, 0.7 if spelled and character < "\u0250" else 0.4 if kind == "Lo" else 0.2
    if kind[0] in "PMZ" or character == "\n":
        return 0.0, 1.0 if kind[0] == "P" or character == "\n" else 0.2
    return (0.0, 1.5) if kind[0] in "SN" else (0.0, 0.0)


def _is_wide(character: str) -> bool:
    """Whether a character is a syllable or a word: Chinese, Japanese, Korean."""
    return unicodedata.east_asian_width(character) in "WFH"


class AudioChecks:
    """Checks the samples of one sequence. `text`: the spoken text; `speed`: 0.25 to 4.

    `add` raises BadAudio as soon as a check fails, `finish` for the checks of the whole.
    """

    def __init__(self, text: str, sample_rate: int, speed: float = 1.0) -> None:
        self._rate, self._speed = sample_rate, speed
        self._bounds = bounds(text)
        self._window = round(WINDOW_S * sample_rate)
        self._partial = np.zeros(0, np.float32)
        """Samples that do not fill a window yet."""
        self._samples = 0
        self._first_sound: int | None = None
        """Index of the first window with sound."""
        self._last_sound = -1
        self._windows = 0

    def add(self, samples: Samples) -> None:
        """The next samples, shape [n]. Raises BadAudio if they are not numbers, out of range, clipped, offset, too
        long silent or too long for the text."""
        if not len(samples):
            return
        low, high = float(samples.min()), float(samples.max())
        if not (low >= -OVER_RANGE and high <= OVER_RANGE):  # NaN compares false
            raise BadAudio(f"the model produced samples out of range ({low:g} to {high:g})")
        self._samples += len(samples)
        waiting = np.concatenate((self._partial, samples))
        whole = len(waiting) // self._window * self._window
        self._partial = waiting[whole:]
        if whole:
            self._check_windows(waiting[:whole].reshape(-1, self._window))
            self._check_length()

    def finish(self) -> None:
        """The sequence is complete. Raises BadAudio if it is silent, or too short or too long for its text."""
        if len(self._partial):
            self._check_windows(self._partial[np.newaxis])
            self._partial = self._partial[:0]
        self._check_length()
        if self._bounds.shortest == 0:  # nothing to speak: silence is correct
            return
        if self._first_sound is None:
            raise BadAudio("the model produced silence")
        spoken = min((self._last_sound + 1 - self._first_sound) * self._window, self._samples) / self._rate
        # Not every model can speak as slowly as requested.
        if spoken < self._bounds.shortest / max(self._speed, 0.5):
            raise BadAudio(f"the model stopped after {spoken:.2f} s: too early for its text")

    def _check_windows(self, windows: Samples) -> None:
        """`windows`: shape [windows, samples]."""
        high, low = windows.max(axis=1), windows.min(axis=1)
        loud = windows[np.maximum(high, -low) >= FULL_SCALE]
        if len(loud) and (np.abs(loud) >= FULL_SCALE).mean(axis=1).max() > CLIPPED_SHARE:
            raise BadAudio("the model produced clipped samples")
        if np.abs(windows.mean(axis=1)).max() > DC:
            raise BadAudio("the model produced a constant offset")
        sound = np.flatnonzero(high - low > SILENT) + self._windows
        self._check_silence(sound, self._windows + len(windows))
        if len(sound):
            self._first_sound = int(sound[0]) if self._first_sound is None else self._first_sound
            self._last_sound = int(sound[-1])
        self._windows += len(windows)

    def _check_silence(self, sound: np.ndarray[tuple[int, ...], np.dtype[np.intp]], end: int) -> None:
        """`sound`: indices of the new windows with sound; `end`: index after the last new window."""
        gaps = np.diff(sound, prepend=self._last_sound, append=end) - 1
        longest = LONGEST_SILENCE_S * (1 / 3 + 2 / 3 / min(self._speed, 1))
        if gaps.max() * WINDOW_S > longest:
            raise BadAudio(f"the model was silent for more than {longest:.0f} s")

    def _check_length(self) -> None:
        longest = self._bounds.longest / self._speed + SLACK_S
        if self._samples > longest * self._rate:
            raise BadAudio(f"the model produced more than {longest:.1f} s: too long for its text")
