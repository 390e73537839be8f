"""One model of every timm class that classifies, the smallest, by the family of its paper."""

from __future__ import annotations

import pytest

CLASSES = {
    "cnn": """convmixer_768_32 cs3darknet_focus_s cspnext_tiny densenet121 dla46x_c dpn48b
        ese_vovnet19b_slim_dw fasternet_t0 fastvit_t8 focalnet_tiny_srf ghostnet_050 hgnetv2_b0
        hrnet_w18_small inception_next_atto inception_resnet_v2 inception_v3 inception_v4
        lcnet_035 lcnetv2_small legacy_seresnet18 legacy_xception nasnetalarge pnasnet5large
        poolformerv2_s12 rdnet_tiny regnetx_002 repghostnet_050 repvit_m1 resnetv2_18 rexnet_100
        selecsls42 starnet_s050 test_byobnet test_convnext test_efficientnet test_nfnet
        test_resnet tresnet_m vgg11 xception41p""",
    "transformer": """beit_base_patch16_224 cait_xxs24_224 coat_tiny convit_tiny cpubone_nano
        crossvit_tiny_240 csatv2 davit_tiny deepseek_vit_412m deit_tiny_distilled_patch16_224
        edgenext_xx_small efficientformer_l1 efficientformerv2_s0 efficientvit_b0
        efficientvit_l1 efficientvit_m0 gcvit_xxtiny gemma4_vit_167m hiera_tiny_224 iformer_t
        levit_128s levit_256d lowformer_b0 mobilenetv5_base mobilevit_xxs mvitv2_tiny
        naflexvit_base_patch16_parfac_gap nest_tiny nextvit_small pit_ti_224 pvt_v2_b0
        qwen3_vit_88m sam2_hiera_tiny samvit_base_patch16_224 shvit_s1 swiftformer_xs
        swin_tiny_patch4_window7_224 swinv2_cr_tiny_224 swinv2_tiny_window8_256 test_coatnet
        test_vit test_vit_relpos tiny_vit_5m_224 tnt_s_legacy_patch16_224 twins_svt_small
        visformer_tiny vit_small_r26_s32_224 vit_tiny_patch16_dinov3_qkvb volo_d1_224
        vitamin_small_224 xcit_nano_12_p8_224""",
    "mlp": "gmlp_ti16_224 mixer_s32_224 resmlp_12_224",
    "mamba": "efficientvim_m1 efficientvim_m1_dist test_mambaout sequencer2d_s vim_nano_patch4_32",
}

# Those that do not take 64 px, with a size that they take.
SIZES = {
    "crossvit_tiny_240": 240,
    "deepseek_vit_412m": 112,
    "efficientformer_l1": 224,
    "inception_resnet_v2": 96,
    "inception_v3": 96,
    "inception_v4": 96,
}


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run a test that asks for `timm_class` (name, family, size in pixels) once for each."""
    if "timm_class" in metafunc.fixturenames:
        table = [(n, f, SIZES.get(n, 64)) for f, names in CLASSES.items() for n in names.split()]
        metafunc.parametrize("timm_class", table, ids=[name for name, *_ in table])


@pytest.fixture(scope="session")
def timm_names() -> tuple[str, ...]:
    """The names of the table."""
    return tuple(name for names in CLASSES.values() for name in names.split())
