"""Convolutions with fewer products: m outputs of a filter with r taps from m + r − 1 products instead of m · r.

Minimal filtering after Toom, Cook and Winograd: input and filter are evaluated as polynomials at m + r − 1 points,
multiplied there, and interpolated to m outputs. With channels each product is a matrix product, and the transforms cost
little. Filters are transformed once, in float64.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Indices = npt.NDArray[np.int32]

_POINTS = tuple(Fraction(each) for each in ("0", "1", "-1", "1/2", "-1/2", "2", "-2", "2/3", "-3/2", "3/2", "-2/3"))
"""Small fractions in pairs of opposite sign, reciprocals last: these amplify the rounding of fp32 least (error 2e-6 for
four outputs of seven taps, 5e-6 for six)."""
_MORE_POINTS = (*_POINTS[:3], *map(Fraction, ("1/2", "-2", "-1/2", "2", "3/4", "-4/3", "1/4", "-4", "3/2", "-2/3")))
"""For larger sizes, which need other ones (error 8e-6 for four outputs of eleven taps)."""


@dataclass(frozen=True, slots=True)
class Transforms:
    """y = after · ((filters · w) ∘ (before · x)) for x [m + r − 1], w [r], y [m]: y[i] = Σ_k w[k] · x[i + k]."""

    before: Floats
    """[m + r − 1, m + r − 1]."""
    filters: Floats
    """[m + r − 1, r]."""
    after: Floats
    """[m, m + r − 1]."""


def transforms(outputs: int, taps: int) -> Transforms:
    """Computed exactly, then rounded to float64. The rows of `before` have length 1."""
    size = outputs + taps - 1
    before = _inverse(_powers(size, size)).T
    length = np.linalg.norm(before, axis=1, keepdims=True)
    filters, after = (np.array(_powers(size, count), np.float64) for count in (taps, outputs))
    return Transforms(before / length, filters * length, after.T)


def _powers(size: int, count: int) -> list[list[Fraction]]:
    """Evaluation matrix of polynomials with `count` coefficients at `size` − 1 points and at infinity."""
    points = _POINTS if size <= len(_POINTS) + 1 else _MORE_POINTS
    finite = [[point**power for power in range(count)] for point in points[: size - 1]]
    return [*finite, [Fraction(0)] * (count - 1) + [Fraction(1)]]


def _inverse(matrix: list[list[Fraction]]) -> Floats:
    """By Gauss–Jordan elimination on fractions."""
    size = len(matrix)
    rows = [[*row, *(Fraction(int(i == j)) for j in range(size))] for i, row in enumerate(matrix)]
    for column in range(size):
        pivot = next(index for index in range(column, size) if rows[index][column])
        rows[column], rows[pivot] = rows[pivot], rows[column]
        rows[column] = [value / rows[column][column] for value in rows[column]]
        for index in range(size):
            factor = rows[index][column]
            if index != column and factor:
                rows[index] = [a - factor * b for a, b in zip(rows[index], rows[column], strict=True)]
    return np.array([row[size:] for row in rows], np.float64)


@dataclass(frozen=True, slots=True)
class Groups:
    """Rows that are computed together. No group crosses a frame, so that not even the rounding of a frame depends on
    later frames."""

    outputs: int
    taken: Indices
    """[m + r − 1, groups]: input rows of each group, counted from the start of the past."""
    positions: Indices
    """[rows]: index of output row n among the [m · groups] computed."""


def groups(frames: int, rows: int, taps: int, dilation: int, outputs: int) -> Groups:
    """For `frames` frames of `rows` rows each. A group has every `dilation`-th row; the last one may be partial."""
    past, size = (taps - 1) * dilation, outputs + taps - 1
    taken, positions = [], np.empty(frames * rows, np.int32)
    starts = [
        first + step for first in range(min(dilation, rows)) for step in range(0, rows - first, dilation * outputs)
    ]
    count = frames * len(starts)
    for group, (frame, start) in enumerate((frame, start) for frame in range(frames) for start in starts):
        # Input beyond the frame affects only unused outputs, so any row serves.
        inside = [min(start + step * dilation, past + rows - 1) for step in range(size)]
        taken.append([frame * rows + row for row in inside])
        for output, row in enumerate(range(start, min(rows, start + outputs * dilation), dilation)):
            positions[frame * rows + row] = output * count + group
    return Groups(outputs, np.array(taken, np.int32).T, positions)


def cheapest(frames: int, rows: int, taps: int, dilation: int, choices: tuple[int, ...]) -> Groups:
    """The groups with the fewest products: larger ones save more but are more often partial."""
    candidates = (groups(frames, rows, taps, dilation, outputs) for outputs in choices)
    return min(candidates, key=lambda candidate: candidate.taken.size)
