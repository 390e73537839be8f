"""Families told from modules, against what the papers say their architectures are."""

from __future__ import annotations

import pytest
import timm
import torch
from torch import nn

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
    "mamba": ["test_mambaout", "efficientvim_m1"],
}

# The rest of timm's classes, one model each; the smallest of its class.
REST = {
    "cnn": """cs3darknet_focus_s cspnext_tiny densenet121 dla46x_c dpn48b ese_vovnet19b_slim_dw
        fasternet_t0 fastvit_t8 focalnet_tiny_srf ghostnet_050 hgnetv2_b0 hrnet_w18_small
        inception_next_atto inception_resnet_v2 inception_v3 inception_v4 lcnet_035 lcnetv2_small
        legacy_seresnet18 legacy_xception nasnetalarge pnasnet5large poolformerv2_s12 rdnet_tiny
        regnetx_002 repghostnet_050 repvit_m1 resnetv2_18 rexnet_100 selecsls42 test_byobnet
        test_efficientnet test_nfnet tresnet_m vgg11 xception41p""",
    "transformer": """beit_base_patch16_224 coat_tiny convit_tiny cpubone_nano crossvit_tiny_240
        csatv2 davit_tiny deepseek_vit_412m efficientformer_l1 efficientformerv2_s0
        efficientvit_b0 efficientvit_l1 efficientvit_m0 fastvit_sa12 gcvit_xxtiny
        gemma4_vit_167m hiera_tiny_224 iformer_t levit_128s levit_256d lowformer_b0
        mobilenetv5_base mvitv2_tiny naflexvit_base_patch16_parfac_gap nest_tiny nextvit_small
        pit_ti_224 pvt_v2_b0 qwen3_vit_88m sam2_hiera_tiny samvit_base_patch16_224 shvit_s1
        swiftformer_xs swinv2_cr_tiny_224 swinv2_tiny_window8_256 test_vit_relpos
        tnt_s_legacy_patch16_224 twins_svt_small visformer_tiny vit_small_r26_s32_224
        vit_tiny_patch16_dinov3_qkvb volo_d1_224""",
    "mamba": "efficientvim_m1_dist sequencer2d_s mambaout_femto",  # an LSTM carries a state too
}


def told(name: str) -> str:
    with torch.device("meta"):
        return family(timm.create_model(name, num_classes=2))


@pytest.mark.parametrize(("name", "expected"), [(n, f) for f, ns in KNOWN.items() for n in ns])
def test_family_is_what_the_paper_says(name: str, expected: str) -> None:
    assert told(name) == expected


@pytest.mark.slow
@pytest.mark.parametrize("expected", REST)
def test_family_of_the_other_timm_classes(expected: str) -> None:
    wrong = {n: f for n in REST[expected].split() if (f := told(n)) != expected}
    assert not wrong


@pytest.mark.slow
def test_the_table_has_one_model_of_every_timm_class() -> None:
    names = [
        n for table in (KNOWN, {f: r.split() for f, r in REST.items()}) for n in table.values()
    ]
    listed = {type_of(name) for group in names for name in group}
    encoders = {"DeepseekVitEncoder", "Gemma4VitEncoder", "Qwen3VitEncoder", "MobileNetV5Encoder"}
    one_of_each_file = {type_of(name): name for name in first_of_each_module()}
    missing = {c: n for c, n in one_of_each_file.items() if c not in listed | encoders}
    assert not missing


def first_of_each_module() -> list[str]:
    return [timm.list_models(module=module)[0] for module in timm.list_modules()]


def type_of(name: str) -> str:
    with torch.device("meta"):
        return type(timm.create_model(name, num_classes=2)).__name__


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
