"""Completion in a shell, as docs/cli.md sets it up: what the shell asks, and what it is told."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.shell_completion import BashComplete

from mldr_deploy.cli.group import main

PAGE = Path(__file__).resolve().parents[2] / "docs" / "cli.md"
VARIABLE = "_MLDR_DEPLOY_COMPLETE"


@pytest.mark.parametrize(
    ("words", "incomplete", "answer"),
    [
        ([], "distill", "plain,distill\nplain,distill-and-export"),
        (["choose"], "--max", "plain,--max-ms\nplain,--max-mb"),
        (["demo"], "--no-such", ""),
    ],
)
def test_a_shell_is_told_commands_and_options(
    words: list[str], incomplete: str, answer: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COMP_WORDS", " ".join(["mldr-deploy", *words, incomplete]))
    monkeypatch.setenv("COMP_CWORD", str(len(words) + 1))
    told = BashComplete(main, {}, "mldr-deploy", VARIABLE).complete()
    assert sorted(told.splitlines()) == sorted(answer.splitlines())


def test_the_page_names_the_variable_that_click_reads() -> None:
    assert f"{VARIABLE}=bash_source mldr-deploy" in PAGE.read_text(encoding="utf-8")
