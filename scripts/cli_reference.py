"""Write docs/cli.md from the commands' own help; --check only says whether it is up to date."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import click

from mldr_deploy.cli.group import main

from generated import write_or_check

TARGET = Path(__file__).resolve().parents[1] / "docs" / "cli.md"
HEADER = """# Command reference

Written by `scripts/cli_reference.py` from the commands' own `--help`; do not edit.

Completion of commands, options and choices in your shell, from its start file (for zsh and fish,
`zsh_source` and `fish_source`):

    eval "$(_MLDR_DEPLOY_COMPLETE=bash_source mldr-deploy)"
"""


def sections() -> Iterator[str]:
    """One Markdown section a command, the group first."""
    settings = {**main.context_settings, "terminal_width": 80, "max_content_width": 80}
    group = click.Context(main, info_name="mldr-deploy", **settings)
    yield section(group)
    for name in main.list_commands(group):
        command = main.get_command(group, name)
        assert command is not None
        yield section(click.Context(command, parent=group, info_name=name))


def section(context: click.Context) -> str:
    return f"\n## {context.command_path}\n\n```text\n{context.get_help()}\n```\n"


if __name__ == "__main__":
    sys.exit(write_or_check(TARGET, HEADER + "".join(sections()), sys.argv[1:]))
