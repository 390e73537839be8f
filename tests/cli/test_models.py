"""models lists what can be teacher or student, with figures that the models themselves have."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from click.testing import CliRunner, Result

from mldr_deploy.cli.group import main
from mldr_deploy.models import catalogue


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["models", *arguments])


def listed(*arguments: str) -> list[dict[str, Any]]:
    result = run(*arguments, "--json", "--limit", "0")
    assert result.exit_code == 0, result.output
    listings: list[dict[str, Any]] = json.loads(result.stdout)["result"]
    return listings


def test_json_has_the_published_figures() -> None:
    # Sandler et al. 2018 and timm's card: 1.97 million parameters, 97 million multiply-adds.
    (listing,) = listed("mobilenetv2_0?0")
    assert round(listing.pop("parameters") / 1e6, 2) == 1.97
    assert listing.pop("operations") == pytest.approx(97e6, rel=0.01)
    assert listing == {
        "name": "mobilenetv2_050",
        "family": "cnn",
        "image_size": 224,
        "published_weights": True,
        "stages": True,
    }


def test_part_of_a_name_is_enough_and_the_limit_is_told() -> None:
    result = run("deit_tiny", "--limit", "1")
    assert result.exit_code == 0, result.output
    lines = [line.split() for line in result.stdout.splitlines() if line.strip(" ─")]
    upper, header, row, _ = lines
    assert upper == ["params", "MACs", "image"]
    assert header == ["model", "family", "M", "G", "px", "weights"]
    assert row[:3] == ["deit_tiny_distilled_patch16_224", "transformer", "5.91"]
    assert result.stdout.endswith("\n2 models match; --limit 0 shows all of them.\n")


@pytest.mark.parametrize("sort", ["params", "macs", "input"])
def test_the_order_is_that_of_the_figure(sort: str) -> None:
    key = {"params": "parameters", "macs": "operations", "input": "image_size"}[sort]
    figures = [listing[key] for listing in listed("vit_*", "--sort", sort)]
    assert figures == sorted(figures) and figures[0] < figures[-1]
    back = [listing[key] for listing in listed("vit_*", "--sort", sort, "--reverse")]
    assert back == figures[::-1]
    names = [listing["name"] for listing in listed("resnet18*")]
    assert [listing["name"] for listing in listed("resnet18*", "--reverse")] == names[::-1]


def test_filters_keep_what_is_within_the_limits() -> None:
    everything = listed()
    limits = ("--max-params", "3.2", "--max-macs", "0.25", "--input", "192, 224")
    kept = {listing["name"] for listing in listed(*limits)}
    assert kept == {
        listing["name"]
        for listing in everything
        if listing["parameters"] <= 3_200_000
        and listing["operations"] <= 250_000_000
        and listing["image_size"] in (192, 224)
    }
    assert "mobilenetv2_050" in kept and "mobilenetv2_100" not in kept


def test_every_table_fits_80_columns() -> None:
    result = run("vit_large*", "--limit", "0", "--sort", "macs")
    assert max(map(len, result.stdout.splitlines())) <= 80
    assert len(result.stdout.splitlines()) >= len(listed("vit_large*")) > 20


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--sort", "size"), "'size' is not one of 'name', 'params', 'macs', 'input', 'family'"),
        (("--max-params", "5M"), "'5M' is not a valid float"),
        (("--max-macs", "0"), "0.0 is not in the range x>0"),
        (("--input", "big"), "'big' is no list of numbers like 64,128"),
        (("--input", "224,,64"), "has an empty place"),
    ],
)
def test_values_that_mean_nothing_are_one_line(words: tuple[str, str], message: str) -> None:
    result = run(*words)
    assert result.exit_code == 2
    (line,) = [line for line in result.stderr.splitlines() if line.startswith("Error: ")]
    assert message in line and words[0] in line


def test_family_filter() -> None:
    mlp = listed("res*_12_224", "--family", "mlp")
    assert mlp == [entry for entry in listed("res*_12_224") if entry["family"] == "mlp"] != []
    assert run("resnet18", "--family", "mamba").stdout == "No classifier is like this.\n"


def test_unknown_name_answers_with_the_nearest() -> None:
    result = run("mobilnetv2_050")
    assert result.exit_code == 1
    assert result.stderr.splitlines()[-1].startswith("Error: unknown model 'mobilnetv2_050'")
    assert "mobilenetv2_050" in result.stderr


def test_encoders_that_classify_nothing_are_left_out() -> None:
    names = [listing["name"] for listing in listed("qwen3_vit_88m*")]
    assert sorted(names) == ["qwen3_vit_88m", "qwen3_vit_88m_merge"]  # and no qwen3_vit_88m_enc
    assert run("qwen3_vit_88m_enc").stdout == "No classifier is like this.\n"


def test_marks_and_notes(monkeypatch: pytest.MonkeyPatch) -> None:
    """A model without stages only teaches, an unknown figure is last, another timm is told."""
    stored = catalogue.stored_catalogue()
    entries = [stored.listings[name] for name in ("resnet18", "vgg11")]
    teacher, unknown = (entry for entry in entries if entry is not None)
    listings = {
        "vgg11": replace(unknown, operations=None),
        "resnet18": replace(teacher, stages=False),
    }
    changed = catalogue.ModelCatalogue("1.0", listings, installed="9.9")
    monkeypatch.setattr(catalogue, "model_catalogue", lambda: changed)
    result = run("--sort", "macs")
    assert "resnet18 (teaches only)" in result.stdout
    assert result.stdout.index("resnet18") < result.stdout.index("vgg11")
    assert result.stderr.startswith("note: figures are of timm 1.0, and timm 9.9 is installed")
    assert "vgg11" not in run("--max-macs", "1000").stdout
