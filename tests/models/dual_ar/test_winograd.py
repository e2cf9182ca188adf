"""Convolutions with fewer products: the same outputs, each from its own frame and earlier ones."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from saywell.graphs.winograd import cheapest, groups, transforms


@pytest.mark.parametrize(("outputs", "taps"), [(1, 7), (4, 7), (6, 7), (4, 2), (2, 2), (3, 1)])
def test_transforms_compute_the_filter(outputs: int, taps: int) -> None:
    random = np.random.default_rng(outputs * 10 + taps)
    x, w = random.standard_normal(outputs + taps - 1), random.standard_normal(taps)
    matrices = transforms(outputs, taps)
    found = matrices.after @ ((matrices.filters @ w) * (matrices.before @ x))
    np.testing.assert_allclose(found, [x[at : at + taps] @ w for at in range(outputs)], atol=1e-12)


@settings(max_examples=200)
@given(st.integers(1, 4), st.integers(1, 70), st.sampled_from([1, 2, 3, 9]), st.sampled_from([(2, 4), (7, 6), (7, 4)]))
def test_dilated_convolution_depends_on_no_later_frame(
    frames: int, rows: int, dilation: int, size: tuple[int, int]
) -> None:
    taps, outputs = size
    past, found = (taps - 1) * dilation, groups(frames, rows, taps, dilation, outputs)
    random = np.random.default_rng(rows)
    x, w = random.standard_normal(past + frames * rows), random.standard_normal(taps)
    wanted = [sum(w[tap] * x[row + tap * dilation] for tap in range(taps)) for row in range(frames * rows)]
    matrices = transforms(outputs, taps)
    made = matrices.after @ ((matrices.filters @ w)[:, None] * (matrices.before @ x[found.taken]))
    np.testing.assert_allclose(made.reshape(-1)[found.positions], wanted, atol=1e-11)
    group = found.positions % found.taken.shape[1]
    last = past + (np.arange(frames * rows) // rows + 1) * rows - 1
    assert (found.taken[:, group].max(axis=0) <= last).all()  # nothing of a later frame


def test_cheapest_groups_are_chosen() -> None:
    assert (
        cheapest(4, 32, 7, 9, (4, 6)).outputs == 4
    )  # three or four rows of each kind: groups of six would be half empty
    assert cheapest(4, 256, 7, 9, (4, 6)).outputs == 6
