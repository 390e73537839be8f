"""The command group, which imports a command's module only when that command is asked for."""

from __future__ import annotations

import difflib
import importlib
import sys
from collections.abc import Sequence
from typing import Any

import click

from .. import __version__
from .console import reported_failures
from .process import require_utf8_names, respect_quota
from .streams import dependable_streams, lost_output

# Order of the help page: the main job, its stages, then what inspects.
COMMANDS = {
    "distill-and-export": "distill_and_export",
    "train-teacher": "train_teacher",
    "distill": "distill",
    "compare": "compare",
    "choose": "choose",
    "export": "export",
    "check": "check",
    "build-engine": "build_engine",
    "serve": "serve",
    "triton-repo": "triton_repo",
    "profile": "profile",
    "demo": "demo",
    "models": "models",
    "doctor": "doctor",
}
HIDDEN = {"take-runs": "take_runs"}  # the command's own processes


class LazyGroup(click.Group):
    """A group over ``COMMANDS``: module ``cli/<file>.py`` holds the click command ``command``."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        file = (COMMANDS | HIDDEN).get(cmd_name)
        if file is None:
            return None
        command = importlib.import_module(f".{file}", __package__).command
        assert isinstance(command, click.Command), f"cli/{file}.py must define `command`"
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """As click's; a name that there is not is answered with the nearest ones."""
        near = difflib.get_close_matches(args[0].lower(), COMMANDS, n=3, cutoff=0.5)
        if near and args[0] not in COMMANDS and args[0].isprintable() and args[0][:1] != "-":
            ctx.fail(f"No such command {args[0]!r}. Did you mean {' or '.join(near)}?")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The whole first sentence of every command; click itself would cut it off."""
        rows = []
        for name in self.list_commands(ctx):
            command = self.get_command(ctx, name)
            assert command is not None
            rows.append((name, command.get_short_help_str(limit=200)))
        with formatter.section("Commands"):
            formatter.write_dl(rows)

    def invoke(self, ctx: click.Context) -> Any:
        with reported_failures():
            return super().invoke(ctx)

    def main(self, args: Sequence[str] | None = None, *positional: Any, **options: Any) -> Any:
        """As click's; printing cannot end the command, and its exit code stays its own."""
        if args is None:  # the process is this command's alone
            require_utf8_names()
            respect_quota()
        with dependable_streams() as outlet:
            try:
                return super().main(args, *positional, **options)
            except SystemExit as ended:
                lost = None if ended.code else lost_output(outlet)
                if lost is None:
                    raise
                print(f"Error: {lost}", file=sys.stderr)
                raise SystemExit(1) from None


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, "-V", "--version", prog_name="mldr-deploy")
def main() -> None:
    """Distil a large image classifier into a small one, export it, and prove what ships.

    Exit codes: 0 done; 1 what was asked cannot be done, or a parity gate failed; 2 wrong usage, or
    the machine lacks something (a package, a GPU); 130 interrupted.
    """
