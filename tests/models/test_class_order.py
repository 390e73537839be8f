"""Orders of outputs: against timm's own numbering, and put into models of every kind of head."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from timm.data.readers.reader_image_folder import find_images_and_targets
from torch import nn

from mldr_deploy.errors import MldrError
from mldr_deploy.models.class_order import output_order, reorder_outputs


@pytest.mark.parametrize(
    "classes",
    [
        ("1", "10", "2"),
        tuple(sorted(map(str, range(1, 13)))),
        ("Zebra", "ape", "bee"),
        ("img10", "img2", "img9b", "x"),
        ("a1b10", "a1b9", "a10"),
    ],
)
def test_natural_order_is_that_of_timms_folders(classes: tuple[str, ...], tmp_path: Path) -> None:
    for name in classes:
        (tmp_path / name).mkdir()
        Image.new("RGB", (4, 4)).save(tmp_path / name / "p.png")
    theirs = find_images_and_targets(str(tmp_path))[1]
    assert [theirs[name] for name in classes] == output_order("natural", classes).tolist()


def test_orders_by_name() -> None:
    assert output_order("sorted", ("b", "10", "2")).tolist() == [2, 0, 1]
    assert output_order(("x", "y", "z"), ("z", "x", "y")).tolist() == [2, 0, 1]


@pytest.mark.parametrize(
    ("names", "told"),
    [
        (("a", "c"), "not in the data: c; not in the list: b"),
        (("a", "b", "b"), "3 names for the data's 2 classes .some stand there twice"),
        (("a",), "not in the list: b"),
    ],
)
def test_names_that_are_not_the_datas(names: tuple[str, ...], told: str) -> None:
    with pytest.raises(MldrError, match=told):
        output_order(names, ("a", "b"))


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("test_resnet", {}),
        ("test_vit", {}),
        ("resnetv2_18", {}),  # a convolution for a head
        ("levit_128s", {"img_size": 32, "depth": (1, 1, 1)}),  # batch norm in it, and two of them
        ("mobilenetv3_small_050", {}),
        ("vim_pico_patch4_32", {}),
    ],
)
def test_outputs_move_as_told(name: str, options: dict[str, object]) -> None:
    torch.manual_seed(0)
    model = timm.create_model(name, num_classes=5, **options)
    for parameter in model.parameters():  # biases too
        nn.init.normal_(parameter, std=0.1)
    size = 32
    images, order = torch.randn(3, 3, size, size), np.array([3, 0, 4, 1, 2])
    with torch.no_grad():
        before = model.eval()(images)
        reorder_outputs(model, order, size)
        after = model.eval()(images)
    assert (before - before.roll(1, 1)).abs().max() > 1e-3
    torch.testing.assert_close(after, before[:, order])


def test_a_head_that_is_no_layer_is_refused() -> None:
    class Summed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale = nn.Parameter(torch.arange(1.0, 4.0))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x.mean((1, 2, 3))[:, None] * self.scale

    with pytest.raises(MldrError, match="class_order cannot be applied to Summed"):
        reorder_outputs(Summed(), np.array([2, 0, 1]), 8)
