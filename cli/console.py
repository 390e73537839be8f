"""Failures of a command as one line, and its progress."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from ..api.progress_bars import bars as progress
from ..bundle.atomic import FULL, Unwritable
from ..errors import MldrError

__all__ = ["progress", "reported_failures", "show"]


def show(text: object, hang: int = 0) -> None:
    """Print ``text`` in 80 columns; what follows the first line of a long one is indented more."""
    from ..pipeline.terminal_text import terminal_text

    print(terminal_text(text, hang))


@contextmanager
def reported_failures() -> Iterator[None]:
    """Turn expected failures and Ctrl-C into one line and an exit code; let bugs through."""
    try:
        yield
    except MldrError as error:
        print(f"Error: {' '.join(str(error).splitlines())}", file=sys.stderr)
        raise click.exceptions.Exit(error.exit_code) from error
    except UnicodeEncodeError as error:  # a name that cannot be handed to the system or kept
        print(
            f"Error: {error.object[:200]!r} cannot be written in {error.encoding}: rename it, or "
            "set PYTHONUTF8=1 where it is this machine's encoding that is too small",
            file=sys.stderr,
        )
        raise click.exceptions.Exit(MldrError.exit_code) from error
    except OSError as error:
        if error.errno not in FULL:
            raise
        print(f"Error: {Unwritable(Path(error.filename or 'a file'), error)}", file=sys.stderr)
        raise click.exceptions.Exit(MldrError.exit_code) from error
    except KeyboardInterrupt:
        print("Interrupted.", file=sys.stderr)
        raise click.exceptions.Exit(130) from None
