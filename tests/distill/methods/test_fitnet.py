"""FitNet against a regression written out in NumPy."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from pydantic import ValidationError

from mldr_deploy.distill.methods.fitnet import FitNet, FitNetConfig


def averaged(x: NDArray[np.float64], side: int) -> NDArray[np.float64]:
    """[B, C, H, H] -> [B, C, side, side] by means of blocks; H is a multiple of side."""
    block = x.shape[2] // side
    return x.reshape(*x.shape[:2], side, block, side, block).mean(axis=(3, 5))


@pytest.mark.parametrize(("student", "teacher"), [("map", "token"), ("token", "map")])
def test_equals_the_mean_squared_error_on_the_coarser_grid(
    student: str, teacher: str, scene: Callable[..., Any]
) -> None:
    """Map stages are 16, 8, 4 and 2 wide, token stages 4."""
    made = scene(student=student, teacher=teacher)
    method = FitNet(FitNetConfig(hint_weight=3), made.pair)
    losses = method(made.student, made.teacher, made.step)
    assert list(losses) == ["hints.1", "hints.2", "hints.3", "hints.4"]
    for k, side in enumerate((4, 4, 4, 2)):
        weight = method.regressors[str(k + 1)].channels.weight.detach().double().numpy()[..., 0, 0]
        mine = made.student.stages[k].detach().double().numpy()
        regressed = averaged(np.einsum("oc,bchw->bohw", weight, mine), side)
        theirs = averaged(made.teacher.stages[k].double().numpy(), side)
        expected = 3 * np.mean((regressed - theirs) ** 2)
        assert losses[f"hints.{k + 1}"].item() == pytest.approx(expected, rel=1e-4)


def test_only_the_chosen_stages_have_a_regressor(scene: Callable[..., Any]) -> None:
    made = scene()
    method = FitNet(FitNetConfig(stages=(2,)), made.pair)
    assert set(method(made.student, made.teacher, made.step)) == {"hints.2"}
    assert set(method.regressors) == {"2"}


@pytest.mark.parametrize("stages", [(), (2, 2)])
def test_stages_are_named_once(stages: tuple[int, ...]) -> None:
    with pytest.raises(ValidationError, match="stages must name one or more of 1, 2, 3, 4 once"):
        FitNetConfig(stages=stages)  # type: ignore[arg-type]
