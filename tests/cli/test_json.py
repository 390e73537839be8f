"""One object for every command, and a page that names all that is in it."""

from __future__ import annotations

import json
import re
from dataclasses import fields
from pathlib import Path
from typing import Any, ClassVar

import click
import pytest
from click.testing import CliRunner

from mldr_deploy.api.json_form import plain
from mldr_deploy.bundle.manifest import SCHEMA_VERSION
from mldr_deploy.cli.group import COMMANDS, main
from mldr_deploy.compare import comparison
from mldr_deploy.export.recheck import Finding
from mldr_deploy.models.listing import Listing
from mldr_deploy.pipeline.environment import Environment
from mldr_deploy.pipeline.summary import RunSummary, SummaryRow

PAGE = Path(__file__).resolve().parents[2] / "docs" / "json.md"
SILENT = {"serve", "demo", "triton-repo"}  # they end in no table


def printed(*arguments: str, code: int = 0) -> dict[str, Any]:
    result = CliRunner().invoke(main, [*arguments, "--json"])
    assert result.exit_code == code, result.output
    envelope: dict[str, Any] = json.loads(result.stdout)
    assert {*envelope} == {"schema_version", "command", "passed", "result"}
    assert (envelope["schema_version"], envelope["command"]) == (SCHEMA_VERSION, arguments[0])
    return envelope


def test_every_command_with_a_table_has_the_option() -> None:
    context = click.Context(main)
    for name in COMMANDS:
        command = main.get_command(context, name)
        assert command is not None
        has_option = any("--json" in parameter.opts for parameter in command.params)
        assert has_option == (name not in SILENT), name


def test_check_prints_its_findings(served: Path) -> None:
    result = CliRunner().invoke(main, ["check", str(served), "--golden-only", "--json", "-q"])
    envelope = json.loads(result.stdout)
    by_subject = {f["subject"]: f["holds"] for f in envelope["result"]["findings"]}
    assert by_subject["files"] is True and by_subject["student.onnx parity"] is None
    assert envelope["passed"] == (False not in by_subject.values()) == (result.exit_code == 0)


def test_models_prints_a_list() -> None:
    (listing,) = printed("models", "mobilenetv2_0?0")["result"]
    assert listing["name"] == "mobilenetv2_050"


@pytest.mark.parametrize(
    ("word", "near"), [("serv", "serve"), ("distil-and-export", "distill-and-export")]
)
def test_a_misspelt_command_is_answered_with_the_nearest(word: str, near: str) -> None:
    result = CliRunner().invoke(main, [word])
    assert result.exit_code == 2
    assert f"No such command '{word}'. Did you mean {near}" in result.stderr


def test_a_refused_bundle_prints_no_object(copied: Path) -> None:
    (copied / "student.onnx").write_bytes(b"")
    result = CliRunner().invoke(main, ["check", str(copied), "--golden-only", "--json"])
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith("Error: ") and result.stderr.count("\n") == 1


def test_compare_prints_what_it_writes(monkeypatch: pytest.MonkeyPatch) -> None:
    class Reported:
        failed: ClassVar[dict[str, str]] = {}

        def as_json(self) -> dict[str, Any]:
            return {"pairs": [{"gain": float("nan")}]}

    monkeypatch.setattr(comparison, "report_finished", lambda *_: Reported())
    envelope = printed("compare", "m.toml", "--report-only")
    assert envelope["result"] == {"pairs": [{"gain": None}]} and envelope["passed"] is True
    monkeypatch.setattr(Reported, "failed", {"kd, seed 0": "not trained"})
    assert printed("compare", "m.toml", "--report-only")["passed"] is False


@pytest.mark.parametrize("record", [RunSummary, SummaryRow, Finding, Listing, Environment])
def test_the_page_names_every_field(record: type) -> None:
    named = {*re.findall(r"`(\w+)`", PAGE.read_text(encoding="utf-8"))}
    assert {field.name for field in fields(record)} <= named


def test_paths_and_tuples_become_text_and_lists() -> None:
    assert plain({"a": (Path("b"), 1.5, True, None)}) == {"a": ["b", 1.5, True, None]}
