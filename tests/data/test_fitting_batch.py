"""The batch that suits the number of training pictures."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mldr_deploy.data.fitting_batch import fitting_batch
from mldr_deploy.errors import MldrError


@pytest.mark.parametrize(
    ("pictures", "batch", "size"),
    [
        (1800, 50, 50),
        (45_000, 128, 128),
        (75, 50, 37),  # two steps; one step of 50 would leave 25 out
        (30, 50, 30),
        (101, 50, 50),  # one picture is left out
        (1, 50, 1),
    ],
)
def test_the_batch_shrinks_where_an_epoch_would_leave_out_many(
    pictures: int, batch: int, size: int
) -> None:
    assert fitting_batch(pictures, batch) == size


@given(st.integers(1, 3000), st.integers(1, 300), st.integers(1, 8))
def test_an_epoch_has_a_step_and_leaves_out_little(
    pictures: int, share: int, processes: int
) -> None:
    batch = share * processes
    if pictures < processes:
        with pytest.raises(MldrError, match=f"{pictures} training pictures for {processes} proc"):
            fitting_batch(pictures, batch, processes)
        return
    size = fitting_batch(pictures, batch, processes)
    steps = pictures // size
    assert 1 <= size <= batch and size % processes == 0 and steps >= 1
    assert pictures % size <= max(0.1 * pictures, steps * processes + steps)
