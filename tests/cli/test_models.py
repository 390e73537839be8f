"""models lists what can be teacher or student, with figures that the models themselves have."""

from __future__ import annotations

import json

import pytest
import timm
from click.testing import CliRunner, Result

from mldr_deploy.cli.group import main


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["models", *arguments])


def test_json_agrees_with_the_model_that_timm_builds() -> None:
    result = run("mobilenetv2_0?0", "--json")
    assert result.exit_code == 0, result.output
    (listed,) = json.loads(result.stdout)["result"]
    built = timm.create_model("mobilenetv2_050")
    assert listed == {
        "name": "mobilenetv2_050",
        "family": "cnn",
        "parameters": sum(p.numel() for p in built.parameters()),
        "image_size": 224,
        "published_weights": True,
        "stages": True,
    }


def test_part_of_a_name_is_enough_and_the_limit_is_told() -> None:
    result = run("deit_tiny", "--limit", "1")
    assert result.exit_code == 0, result.output
    header, row, note = result.stdout.splitlines()
    assert header.split() == ["model", "family", "parameters", "image", "weights"]
    assert row.split()[:4] == ["deit_tiny_distilled_patch16_224", "transformer", "5.91", "M"]
    assert note == "2 names match; --limit 0 shows all of them."


def test_family_filter() -> None:
    both = json.loads(run("res*_12_224", "--json", "--limit", "0").stdout)["result"]
    mlp = json.loads(run("res*_12_224", "--json", "--family", "mlp").stdout)["result"]
    assert mlp == [listed for listed in both if listed["family"] == "mlp"] != []
    told = run("resnet18", "--family", "mamba").stdout.splitlines()[-1]
    assert told == "No classifier of this family has such a name."


def test_unknown_name_answers_with_the_nearest() -> None:
    result = run("mobilnetv2_050")
    assert result.exit_code == 1
    assert result.stderr.splitlines()[-1].startswith("Error: unknown model 'mobilnetv2_050'")
    assert "mobilenetv2_050" in result.stderr


def test_encoders_that_classify_nothing_are_left_out_and_every_figure_is_for_1000_classes() -> None:
    listed = {
        one["name"]: one for one in json.loads(run("qwen3_vit_88m*", "--json").stdout)["result"]
    }
    assert sorted(listed) == ["qwen3_vit_88m", "qwen3_vit_88m_merge"]  # and no qwen3_vit_88m_enc
    built = timm.create_model("qwen3_vit_88m", num_classes=1000)
    assert listed["qwen3_vit_88m"]["parameters"] == sum(p.numel() for p in built.parameters())
    assert "No classifier has such a name." in run("qwen3_vit_88m_enc").stdout


def test_a_model_without_stages_only_teaches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(timm.models.ResNet, "forward_intermediates")
    assert "resnet18 (teaches only)" in run("resnet18").stdout
