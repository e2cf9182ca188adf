"""Is this sound fit to send? A cheap judge beside every sequence: a broken model ends in an error and not in noise.

It looks at each sample twice (minimum and maximum as it comes, then sums over 100 ms windows on a fixed grid), so a
recording gets the same verdict however it is cut. It knows nothing of words: it refuses what no speech can be, and lets
pass what merely sounds bad.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass

import numpy as np

from saywell.errors import BadAudio
from saywell.types import Samples

OVER_RANGE = 1.5
"""Models overshoot full scale by a few per cent and the encoder clamps that; half as much again is a wrong scale."""
FULL_SCALE = 0.99
CLIPPED_SHARE = 0.25
"""Of a window at full scale. Measured on a voice normalised to full scale: 0.3 % in its loudest window; driven 3 dB
into clipping 10 %, 6 dB 27 %, 12 dB 70 %."""
DC = 0.2
"""Mean of a window. Speech has nothing below 50 Hz; three voices at speeds 0.25 to 4 never averaged above 0.016."""
SILENT = 2e-3
"""Peak-to-peak of a window: -60 dB. Constant DC is silence by this measure."""
WINDOW_S = 0.1
LONGEST_SILENCE_S = 4.0
"""No pause inside a sentence, and no tail, is this long at speed 1; a third of it is a matter of the model, not of
speed, and the rest is stretched by a slow speed."""
SLACK_S = 2.5
"""On top of what the text may take: silence at both ends, and an abbreviation or two spoken in full."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """Seconds that speaking a text can take at speed 1, without silence at the ends."""

    shortest: float
    longest: float


def bounds(text: str) -> Bounds:
    """From the text alone, wide enough for any language and reader.

    Readers of 17 languages spoke 4 to 9 syllables a second (Coupé et al. 2019, doi:10.1126/sciadv.aaw2594), which is
    8 to 25 Latin letters or 3 to 8 Chinese characters. The shortest is a synthesiser at its practised listeners' 350
    words a minute, in French, whose silent letters make it the quickest per letter. The longest is a patient reader's:
    0.2 s a letter, but 0.8 s a word, because any short word may be an abbreviation; 0.7 s for a letter of a word in
    capitals or without a vowel, which is spelled (`FBI`, `mph`); 1 s for a digit ("seventy-seven million" is half a
    second each); 1.5 s for a symbol, whose name may have several words.
    """
    shortest = longest = 0.0
    for word in re.findall(r"\S+|\n", text):
        low, high = _word(word)
        shortest, longest = shortest + low, longest + high
    return Bounds(shortest, longest)


_VOWELS = frozenset("aeiouyáàâäãåæéèêëíìîïóòôöõøœúùûüýÿ")


def _word(word: str) -> tuple[float, float]:
    low = high = letters = 0.0
    shouted = sum(map(str.isupper, word)) > 1
    spelled = shouted or not _VOWELS.intersection(word.lower())
    for character in word:
        fastest, slowest = _character(character, spelled)
        low, high = low + fastest, high + slowest
        letters += character.isalnum()
    return low, max(high, 0.8 if letters else 0.0)


def _character(character: str, spelled: bool) -> tuple[float, float]:
    """Seconds one character can take: the least, the most."""
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
    """A character that is a syllable or a word: Chinese, Japanese, Korean."""
    return unicodedata.east_asian_width(character) in "WFH"


class AudioChecks:
    """Judges the samples of one sequence. `text`: what is spoken; `speed`: 0.25 to 4.

    `add` raises BadAudio as soon as something is certainly wrong, `finish` for what only the end tells.
    """

    def __init__(self, text: str, sample_rate: int, speed: float = 1.0) -> None:
        self._rate, self._speed = sample_rate, speed
        self._bounds = bounds(text)
        self._window = round(WINDOW_S * sample_rate)
        self._partial = np.zeros(0, np.float32)
        """Samples that do not fill a window yet."""
        self._samples = 0
        self._first_sound: int | None = None
        """Index of the first window with sound in it, and of the last."""
        self._last_sound = -1
        self._windows = 0

    def add(self, samples: Samples) -> None:
        """The next samples, shape [n]. Raises BadAudio: not numbers, over range, clipped, DC, silent or talking for
        longer than any reader."""
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
            self._judge(waiting[:whole].reshape(-1, self._window))
            self._check_length()

    def finish(self) -> None:
        """The sequence is complete. Raises BadAudio: silent, or too short or too long for its text."""
        if len(self._partial):
            self._judge(self._partial[np.newaxis])
            self._partial = self._partial[:0]
        self._check_length()
        if self._bounds.shortest == 0:  # nothing to say: silence is the right answer
            return
        if self._first_sound is None:
            raise BadAudio("the model produced silence")
        spoken = min((self._last_sound + 1 - self._first_sound) * self._window, self._samples) / self._rate
        # Not every model can speak as slowly as it is asked to.
        if spoken < self._bounds.shortest / max(self._speed, 0.5):
            raise BadAudio(f"the model stopped after {spoken:.2f} s: too early for its text")

    def _judge(self, windows: Samples) -> None:
        """Rows of samples, shape [w, n]."""
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
        """`sound`: indices of the new windows that hold sound, of those before `end`."""
        gaps = np.diff(sound, prepend=self._last_sound, append=end) - 1
        most = LONGEST_SILENCE_S * (1 / 3 + 2 / 3 / min(self._speed, 1))
        if gaps.max() * WINDOW_S > most:
            raise BadAudio(f"the model was silent for more than {most:.0f} s")

    def _check_length(self) -> None:
        most = self._bounds.longest / self._speed + SLACK_S
        if self._samples > most * self._rate:
            raise BadAudio(f"the model kept talking for more than {most:.1f} s: too long for its text")
