"""Where the command line meets the person: progress bars, and failures as one line.

rich is imported inside functions: ``mldr-deploy --help`` does without it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import click

from ..errors import MldrError


class OneLine(click.ClickException):
    """An expected failure: ``Error: <one line>`` on standard error, and its exit code."""

    def __init__(self, error: MldrError) -> None:
        super().__init__(" ".join(str(error).splitlines()))
        self.exit_code = error.exit_code


@contextmanager
def reported_failures() -> Iterator[None]:
    """Turn expected failures and Ctrl-C into one line and an exit code; let bugs through."""
    try:
        yield
    except MldrError as error:
        raise OneLine(error) from error
    except KeyboardInterrupt:
        click.echo("Interrupted.", err=True)
        raise click.exceptions.Exit(130) from None
