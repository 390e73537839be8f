"""The first loss of new classifiers, as timm draws them and as models/classifier.py does.

    python benchmarks/heads.py

Thirty architectures of the four families with random features, and those of real weights where
MLDR_WEIGHTS (or ../shared/weights) has them, x 2, 5, 10 and 100 classes, on sixteen pieces of two
photographs at 64 px, in train and in eval mode. The figure is how far the worse loss is from ln C,
in per cent of it. Ends in one JSON line.
"""

from __future__ import annotations

import json
import math
import os
from pathlib import Path

import torch
import torch.nn.functional as F
from sklearn.datasets import load_sample_images
from torch import Tensor, nn

from mldr_deploy.models.architecture import build
from mldr_deploy.models.architecture_config import ModelConfig
from mldr_deploy.models.family import family
from mldr_deploy.models.model_registry import create_model

CLASSES = (2, 5, 10, 100)
SIDE = 64
ARCHITECTURES = [
    "resnet18",
    "resnet10t",
    "resnetv2_18",
    "regnetx_002",
    "regnety_002",
    "mobilenetv2_050",
    "mobilenetv3_small_050",
    "mobilenetv3_large_100",
    "efficientnet_b0",
    "tf_efficientnet_lite0",
    "densenet121",
    "vgg11_bn",
    "convnext_atto",
    "ghostnet_100",
    "repvgg_a0",
    "dla46_c",
    "mnasnet_050",
    "vit_tiny_patch16_224",
    "deit_tiny_patch16_224",
    "deit_tiny_distilled_patch16_224",
    "levit_128s",
    "edgenext_xx_small",
    "mobilevit_xxs",
    "xcit_nano_12_p16_224",
    "cait_xxs24_224",
    "efficientformerv2_s0",
    "tiny_vit_5m_224",
    "mixer_s16_224",
    "resmlp_12_224",
    "gmlp_ti16_224",
    "vim_pico_patch8_64",
    "vim_nano_patch8_64",
    "mambaout_femto",
]
PRETRAINED = ("tf_efficientnet_lite0", "tf_efficientnet_lite2")


def photographs() -> Tensor:
    """Normalised pieces [16, 3, 64, 64]."""
    pieces = [
        torch.from_numpy(image.copy())[y : y + 200, x : x + 200].permute(2, 0, 1).float()
        for image in load_sample_images().images
        for y in (0, 200)
        for x in (0, 140, 280, 420)
    ]
    small = F.interpolate(torch.stack(pieces), (SIDE, SIDE), mode="bilinear", antialias=True)
    return (small / 255 - 0.45) / 0.225


def distance(model: nn.Module, images: Tensor, classes: int) -> float:
    """How far the worse of the losses in train and eval mode is from ln C, per cent."""
    labels = torch.arange(len(images)) % classes
    worst = 0.0
    for training in (False, True):
        with torch.no_grad():
            logits = model.train(training)(images)
        logits = logits[0] if isinstance(logits, tuple) else logits
        worst = max(worst, abs(F.cross_entropy(logits, labels).item() / math.log(classes) - 1))
    return 100 * worst


def measure(config: ModelConfig, images: Tensor) -> dict[str, list[float]]:
    """By who drew the classifier, for each number of classes."""
    rows: dict[str, list[float]] = {"timm": [], "ours": []}
    for classes in CLASSES:
        torch.manual_seed(0)
        sizes = {"num_classes": classes, "image_size": SIDE}
        rows["ours"].append(distance(create_model(config, **sizes), images, classes))
        torch.manual_seed(0)
        bare = config.model_copy(update={"weights": None})
        theirs = build(bare, **sizes)
        if config.weights:
            ours = create_model(config, **sizes).state_dict()
            own = theirs.state_dict()
            theirs.load_state_dict({k: own[k] if k.startswith("cl") else ours[k] for k in own})
        rows["timm"].append(distance(theirs, images, classes))
    return rows


def main() -> None:
    """Print the table."""
    images, result = photographs(), {}
    folder = Path(os.environ.get("MLDR_WEIGHTS", "../shared/weights"))
    configs = {name: ModelConfig(name=name) for name in ARCHITECTURES}
    for name in PRETRAINED:
        if (file := folder / f"{name}.safetensors").is_file():
            configs[f"{name}, ImageNet weights"] = ModelConfig(
                name=name, weights=str(file), fresh_head=True
            )
    head = "".join(f"{c:>9}" for c in CLASSES)
    print(f"{'loss off ln C by %: timm, ours':40}{head}    {head}")
    for name, config in configs.items():
        rows = result[name] = measure(config, images)
        kind = family(build(ModelConfig(name=config.name), num_classes=2, image_size=SIDE))
        cells = ["".join(f"{v:9.2f}" for v in rows[who]) for who in ("timm", "ours")]
        print(f"{name:40}{cells[0]}    {cells[1]}  {kind}", flush=True)
    worst = {who: max(max(rows[who]) for rows in result.values()) for who in ("timm", "ours")}
    print(json.dumps({"models": len(result), "classes": CLASSES, "worst_per_cent": worst}))


if __name__ == "__main__":
    main()
