"""The command as a person meets it: help, versions, wrong usage, exit codes."""

from __future__ import annotations

import inspect
import os
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

import mldr_deploy
from mldr_deploy.cli.group import COMMANDS, main

ROOT = Path(__file__).resolve().parents[1]


def command_named(name: str) -> click.Command:
    command = main.get_command(click.Context(main), name)
    assert command is not None
    return command


def run_process(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "mldr_deploy", *arguments],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"PYTHONPATH": str(ROOT / ".src")} | environment,
    )


def test_version_is_the_package_s() -> None:
    result = CliRunner().invoke(main, ["--version"])
    assert result.stdout == f"mldr-deploy, version {mldr_deploy.__version__}\n"


def test_help_lists_every_command_in_order_with_a_sentence() -> None:
    result = CliRunner().invoke(main, ["--help"])
    listed = result.stdout.partition("Commands:\n")[2]
    assert [line.split()[0] for line in listed.splitlines() if line[2] != " "] == list(COMMANDS)
    for name in COMMANDS:
        sentence = inspect.cleandoc(command_named(name).help or "").partition("\n\n")[0]
        assert sentence.removesuffix(".") in " ".join(listed.split())


@pytest.mark.parametrize("name", COMMANDS)
def test_help_of_a_command_is_complete(name: str) -> None:
    command = command_named(name)
    assert command.name == name
    assert command.help and len(inspect.cleandoc(command.help)) > 80
    for parameter in command.params:
        if isinstance(parameter, click.Option):
            assert parameter.help, f"{name} {parameter.opts[0]} has no help"
        else:
            shown = parameter.make_metavar(click.Context(command)).strip("[]")
            assert shown in command.help, f"{name}: the help does not say what {shown} is"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nonsense"], "No such command 'nonsense'"),
        (["models", "--family", "rnn"], "'rnn' is not one of"),
        (["models", "--limit", "-1"], "-1 is not in the range"),
        (["export", "somewhere"], "Missing option '--out'"),
        (["check"], "Missing argument 'BUNDLE'"),
    ],
)
def test_wrong_usage_is_exit_code_2_with_the_reason(arguments: list[str], message: str) -> None:
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 2
    assert message in result.stderr


def test_module_runs_as_the_command() -> None:
    result = run_process("--help")
    assert result.returncode == 0
    assert "distill-and-export" in result.stdout


def test_expected_failure_prints_one_line_and_no_traceback(tmp_path: Path) -> None:
    result = run_process("check", str(tmp_path))
    assert result.returncode == 1
    assert result.stdout == ""
    assert result.stderr.startswith(f"Error: {tmp_path} is not a bundle")
    assert result.stderr.count("\n") == 1
