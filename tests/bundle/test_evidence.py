from __future__ import annotations

import pytest

from mldr_deploy.bundle.evidence import Evidence
from mldr_deploy.bundle.preprocess import Preprocessing

SPEC = Preprocessing(size=(32, 32), mean=(0.5, 0.4, 0.3), std=(0.2, 0.25, 0.3))
RECORDED = Evidence(images=1000, top1=75.0, loss=0.8, preprocessing=SPEC)


@pytest.mark.parametrize(
    "change", [{}, {"loss": 0.8008}, {"loss": 0.7992}, {"top1": 75.2}, {"top1": 74.8}]
)
def test_rounding_is_no_contradiction(change: dict[str, object]) -> None:
    assert RECORDED.contradicted_by(RECORDED.model_copy(update=change)) == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"loss": 0.801}, "validation loss 0.801 where training recorded 0.8 (off by 0.001,"),
        ({"loss": 0.799}, "validation loss 0.799 where training recorded 0.8 (off by 0.001,"),
        ({"top1": 75.3}, "validation top-1 75.30 % where training recorded 75.00 %"),
        ({"images": 999}, "999 validation images where training had 1000"),
        (
            {"preprocessing": SPEC.model_copy(update={"std": (1.0, 1.0, 1.0)})},
            "preprocessing.std is [1, 1, 1] where training evaluated with [0.2, 0.25, 0.3]",
        ),
    ],
)
def test_every_contradiction_is_told(change: dict[str, object], message: str) -> None:
    (told,) = RECORDED.contradicted_by(RECORDED.model_copy(update=change))
    assert told.detail.startswith(message)
    assert (told.kind,) == tuple(change)


def test_a_measurement_that_could_not_be_made() -> None:
    (told,) = RECORDED.contradicted_by(None)
    assert str(told) == "nothing finite came back from the validation split"
