"""The stored catalogue says of models what timm builds, counted here in another way."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from math import prod
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from torch import nn

from mldr_deploy.models import catalogue, model_registry
from mldr_deploy.models.catalogue import ModelCatalogue, csv_text, stored_catalogue

ROOT = Path(__file__).resolve().parents[2]
FAMILIES = {
    "resnet18": "cnn",
    "mobilenetv2_050": "cnn",
    "regnetx_002": "cnn",
    "lcnet_050": "cnn",
    "tinynet_e": "cnn",
    "convnext_atto": "cnn",
    "mixer_s32_224": "mlp",
    "resmlp_12_224": "mlp",
    "deit_tiny_patch16_224": "transformer",
    "pit_ti_224": "transformer",
    "mobilevit_xxs": "transformer",
    "vit_base_patch32_siglip_256": "transformer",
    "mambaout_femto": "mamba",
}


@contextmanager
def counted(model: nn.Module, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """Multiply-accumulates by layer: outputs times what each is the sum of, and attention's two."""
    counts: list[int] = []
    attention: Callable[..., Any] = nn.functional.scaled_dot_product_attention

    def layer(module: Any, _: Any, output: torch.Tensor) -> None:
        counts.append(output.numel() * prod(module.weight.shape[1:]))

    def both_products(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, **options: Any) -> Any:
        counts.append(
            q.numel() * k.shape[-2] + prod(q.shape[:-1]) * v.numel() // prod(v.shape[:-2])
        )
        return attention(q, k, v, **options)

    for module in model.modules():
        if isinstance(module, (nn.Conv1d, nn.Conv2d, nn.Linear)):
            module.register_forward_hook(layer)
    monkeypatch.setattr(nn.functional, "scaled_dot_product_attention", both_products)
    yield counts


@pytest.mark.parametrize("name", FAMILIES)
def test_figures_are_those_of_the_model(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    listing = stored_catalogue().listings[name]
    assert listing is not None
    with torch.device("meta"), torch.no_grad():
        model = timm.create_model(name, num_classes=1000).eval()
        side = timm.get_pretrained_cfg(name).input_size[-1]
        with counted(model, monkeypatch) as counts:
            model(torch.zeros(1, 3, side, side))
    assert listing.parameters == sum(p.numel() for p in model.parameters())
    assert listing.operations == sum(counts)
    assert (listing.image_size, listing.family) == (side, FAMILIES[name])
    assert listing.published_weights == bool(timm.list_pretrained(f"{name}.*"))


def test_the_file_has_every_model_of_the_tested_timm() -> None:
    stored = stored_catalogue()
    assert f"timm=={stored.timm}" in (ROOT / "constraints.txt").read_text().splitlines()
    if timm.__version__ == stored.timm:
        assert list(stored.listings) == model_registry.list_models()
    assert csv_text(stored.timm, stored.listings) == (ROOT / "models" / catalogue.CSV).read_text()
    assert all(entry.operations for entry in stored.listings.values() if entry is not None)


@pytest.fixture
def newer(monkeypatch: pytest.MonkeyPatch) -> ModelCatalogue:
    """The catalogue where a timm is installed that has lost resnet10t and is new to resnet18."""
    stored = stored_catalogue()
    names = [name for name in stored.listings if name != "resnet10t"]
    before = {name: entry for name, entry in stored.listings.items() if name != "resnet18"}
    monkeypatch.setattr(catalogue, "stored_catalogue", lambda: ModelCatalogue("1.0", before))
    monkeypatch.setattr(catalogue, "_installed", lambda: "9.9")
    monkeypatch.setattr(model_registry, "list_models", lambda: names)
    return catalogue.model_catalogue.__wrapped__()


def test_another_timm_adds_and_removes_names(newer: ModelCatalogue) -> None:
    assert newer.matching("resnet18*") == ["resnet18d", "resnet18"]
    assert "resnet10t" not in newer.names
    assert list(newer.look_up(["resnet18"])) == [stored_catalogue().listings["resnet18"]]
    assert newer.note == (
        "figures are of timm 1.0, and timm 9.9 is installed: left out, for it lacks them, 1; new, "
        "and looked at now where they match, 1"
    )


def test_without_timm_and_with_the_same_one(monkeypatch: pytest.MonkeyPatch) -> None:
    stored = stored_catalogue()
    monkeypatch.setattr(catalogue, "_installed", lambda: stored.timm)
    assert catalogue.model_catalogue.__wrapped__().note is None
    monkeypatch.setattr(catalogue, "_installed", lambda: None)
    absent = catalogue.model_catalogue.__wrapped__()
    assert absent.note and "not installed" in absent.note
    assert absent.listings == stored.listings
