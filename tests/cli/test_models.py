"""models lists what can be teacher or student, with figures that the models themselves have."""

from __future__ import annotations

import json

import timm
from click.testing import CliRunner, Result

from mldr_deploy.cli.group import main


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["models", *arguments])


def test_json_agrees_with_the_model_that_timm_builds() -> None:
    result = run("mobilenetv2_0?0", "--json")
    assert result.exit_code == 0, result.output
    (listed,) = json.loads(result.stdout)
    built = timm.create_model("mobilenetv2_050")
    assert listed == {
        "name": "mobilenetv2_050",
        "family": "cnn",
        "parameters": sum(p.numel() for p in built.parameters()),
        "image_size": 224,
        "published_weights": True,
    }


def test_part_of_a_name_is_enough_and_the_limit_is_told() -> None:
    result = run("deit_tiny", "--limit", "1")
    assert result.exit_code == 0, result.output
    header, row, note = result.stdout.splitlines()
    assert header.split() == ["model", "family", "parameters", "image", "weights"]
    assert row.split()[:4] == ["deit_tiny_distilled_patch16_224", "transformer", "5.91", "M"]
    assert note == "2 names match; --limit 0 shows all of them."


def test_family_filter() -> None:
    both = json.loads(run("res*_12_224", "--json", "--limit", "0").stdout)
    mlp = json.loads(run("res*_12_224", "--json", "--family", "mlp").stdout)
    assert mlp == [listed for listed in both if listed["family"] == "mlp"] != []
    assert "None of the names" in run("resnet18", "--family", "mamba").stdout


def test_unknown_name_answers_with_the_nearest() -> None:
    result = run("mobilnetv2_050")
    assert result.exit_code == 1
    assert result.stderr.splitlines()[-1].startswith("Error: unknown model 'mobilnetv2_050'")
    assert "mobilenetv2_050" in result.stderr
