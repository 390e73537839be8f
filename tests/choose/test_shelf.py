"""Who may be chosen, and what it costs on paper."""

from __future__ import annotations

import pytest

from mldr_deploy.choose.shelf import Contender, Misfit, fitted, shelf
from mldr_deploy.errors import MldrError
from mldr_deploy.models.architecture_config import ModelConfig

BASE = ModelConfig(name="resnet18")


def test_operations_are_those_of_the_published_table() -> None:
    # He et al. 2016, table 1: ResNet-18 has 1.8 x 10^9 multiply-adds at 224 px.
    (listed,) = shelf(["resnet18"], BASE, [224], 1000)
    assert isinstance(listed, Contender)
    assert listed.operations == pytest.approx(1.82e9, rel=0.01)
    assert (listed.listing.family, listed.listing.image_size) == ("cnn", 224)


def test_a_name_is_itself_and_a_pattern_is_many() -> None:
    names = [c.name for c in shelf(["test_vit", "test_resnet*"], BASE, [32], 10)]
    assert names == ["test_vit 32 px", "test_resnet 32 px"]
    sizes = [c.name for c in shelf(["test_resnet"], BASE, [64, 32, 64], 10)]
    assert sizes == ["test_resnet 32 px", "test_resnet 64 px"]


def test_patches_are_made_to_fit_small_images() -> None:
    vit = ModelConfig(name="deit_tiny_patch16_224")
    assert fitted(vit, 32, 10).patch_size == 4
    assert fitted(vit, 128, 10) == vit
    own = vit.model_copy(update={"patch_size": 8})
    assert fitted(own, 32, 10) == own


def test_a_small_stem_only_where_there_is_one() -> None:
    small = ModelConfig(name="mobilenetv2_050", stem="small")
    assert fitted(small, 32, 10).stem == "small"
    vit = small.model_copy(update={"name": "deit_tiny_patch16_224"})
    assert fitted(vit, 32, 10).stem == "default"


def test_what_cannot_take_part_says_why() -> None:
    (unpublished,) = shelf(["vim_pico_patch4_32"], ModelConfig(name="x", weights="timm"), [32], 10)
    assert isinstance(unpublished, Misfit) and "no published weights" in unpublished.reason
    with pytest.raises(MldrError, match="unknown model 'no_such_net'"):
        list(shelf(["no_such_net"], BASE, [32], 10))
