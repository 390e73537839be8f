"""The ``mldr-deploy`` command: click commands, one file each, no logic of their own."""

from .group import main

__all__ = ["main"]
