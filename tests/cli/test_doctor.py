"""doctor tells what is there, what is missing, and the command that brings it."""

from __future__ import annotations

import importlib.metadata
import json
import re
import tomllib
from pathlib import Path

import pytest
from click.testing import CliRunner

from mldr_deploy.cli.group import main
from mldr_deploy.pipeline import environment

PYPROJECT = tomllib.loads(
    (Path(__file__).resolve().parents[2] / "pyproject.toml").read_text(encoding="utf-8")
)


def names(requirements: list[str]) -> set[str]:
    return {re.split(r"[<>=;\[ ]", requirement)[0] for requirement in requirements}


def test_tables_agree_with_pyproject() -> None:
    extras = PYPROJECT["project"]["optional-dependencies"]
    assert {name: set(packages) for name, packages in environment.EXTRAS.items()} == {
        name: names(packages) for name, packages in extras.items() if name != "all"
    }
    assert set(environment.REQUIRED) <= names(PYPROJECT["project"]["dependencies"])


def test_json_holds_the_installed_versions() -> None:
    result = CliRunner().invoke(main, ["doctor", "--json"])
    assert result.exit_code == 0, result.output
    told = json.loads(result.stdout)["result"]
    for package in ("torch", "timm", "numpy"):
        assert told["versions"][package] == importlib.metadata.version(package)
    assert told["devices"][0]["name"] == "cpu"
    assert told["data_sets"]["digits"] == "embedded"
    for extra in told["extras"]:
        assert bool(extra["missing"]) == (extra["install"] is not None)


def test_missing_extra_comes_with_its_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(environment.EXTRAS, "openvino", ("no-such-package",))
    result = CliRunner().invoke(main, ["doctor"])
    assert result.exit_code == 0, result.output
    assert "missing no-such-package" in result.stdout
    assert 'pip install "mldr-deploy[openvino]"' in result.stdout.replace("\n", " ")


def test_missing_requirement_is_exit_code_2(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        environment, "versions", lambda: {"torch": importlib.metadata.version("torch"), "x": None}
    )
    result = CliRunner().invoke(main, ["doctor"])
    assert result.exit_code == 2
    assert result.stderr == "Error: x is not installed\n"


def test_data_sets_are_found_where_mldr_data_points(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "cifar100-test.parquet").touch()
    monkeypatch.setenv("MLDR_DATA", str(tmp_path))
    told = json.loads(CliRunner().invoke(main, ["doctor", "--json"]).stdout)["result"]
    assert told["data_sets"]["cifar100"] == str(tmp_path / "cifar100-test.parquet")
    assert told["data_sets"]["tiny-imagenet"] is None


def test_wrong_mldr_data_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLDR_DATA", str(tmp_path / "nowhere"))
    result = CliRunner().invoke(main, ["doctor"])
    assert result.exit_code == 2
    assert f"Error: $MLDR_DATA names {tmp_path / 'nowhere'}" in result.stderr
