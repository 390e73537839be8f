"""Families told from modules, against what the papers say their architectures are."""

from __future__ import annotations

import pytest
import timm
import torch
from torch import nn

from mldr_deploy.models import vision_mamba as _registers_its_models  # noqa: F401
from mldr_deploy.models.family import family

KNOWN = {
    "cnn": [
        "test_resnet",
        "seresnet50",  # squeeze-and-excitation
        "ecaresnet26t",
        "skresnet18",
        "resnest14d",  # split attention weighs channels
        "gcresnet33ts",
        "resnet50_clip",  # attention pooling at the end
        "mobilenetv2_035",
        "test_convnext",
        "convformer_s18",
        "starnet_s050",  # gates, but convolves first
        "convmixer_768_32",
    ],
    "transformer": [
        "test_vit",
        "deit_tiny_distilled_patch16_224",
        "cait_xxs24_224",
        "swin_tiny_patch4_window7_224",
        "xcit_nano_12_p8_224",
        "caformer_s18",  # convolutions first, attention later
        "test_coatnet",
        "edgenext_xx_small",
        "mobilevit_xxs",
        "mobilevitv2_050",
        "tiny_vit_5m_224",
        "botnet26t_256",
        "mobilenetv4_hybrid_medium",
    ],
    "mlp": ["mixer_s32_224", "gmixer_12_224", "resmlp_12_224", "gmlp_ti16_224"],
    "mamba": ["test_mambaout", "efficientvim_m1", "vim_nano_patch4_32"],
}


def told(name: str) -> str:
    with torch.device("meta"):
        return family(timm.create_model(name, num_classes=2))


@pytest.mark.parametrize(("name", "expected"), [(n, f) for f, ns in KNOWN.items() for n in ns])
def test_family_is_what_the_paper_says(name: str, expected: str) -> None:
    assert told(name) == expected


@pytest.mark.slow
def test_family_of_every_timm_class(timm_class: tuple[str, str, int]) -> None:
    name, expected, _ = timm_class
    assert told(name) == expected


@pytest.mark.slow
def test_the_table_holds_every_timm_file(timm_names: tuple[str, ...]) -> None:
    held = {timm.models.model_entrypoint(name).__module__ for name in timm_names}
    every = {timm.models.model_entrypoint(name).__module__ for name in timm.list_models()}
    variants_of_files_held = {"byoanet", "hardcorenas", "res2net", "resnest", "sknet"}
    assert {module.rpartition(".")[2] for module in every - held} == variants_of_files_held


class SelectiveScan(nn.Module):
    """The parameters of a Vision Mamba mixer, by their published names."""

    def __init__(self) -> None:
        super().__init__()
        self.in_proj = nn.Linear(4, 16, bias=False)
        self.A_log = nn.Parameter(torch.zeros(8, 2))
        self.D = nn.Parameter(torch.ones(8))


def test_selective_scan_is_a_mamba_and_attention_makes_a_hybrid_a_transformer() -> None:
    assert family(nn.Sequential(SelectiveScan())) == "mamba"
    hybrid = nn.Sequential(SelectiveScan(), nn.MultiheadAttention(4, 2))
    assert family(hybrid) == "transformer"
