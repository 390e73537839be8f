"""The catalogue of classifiers: figures looked at once and stored, so that no model is built here.

catalogue.csv, written by scripts/model_catalogue.py, says of which timm it is. Where another one is
installed, its names count: what it no longer has is left out, what is new is looked at now, and of
the rest the stored figures stand.
"""

from __future__ import annotations

import csv
import functools
import io
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, fields
from fnmatch import fnmatchcase
from importlib import metadata, resources
from typing import Any

from .listing import Listing
from .unknown_model import unknown_model

CSV = "catalogue.csv"
_COLUMNS = [field.name for field in fields(Listing)]


@dataclass(frozen=True)
class ModelCatalogue:
    """Classifiers by name; None stands for a model of timm that cannot classify."""

    timm: str  # the version that was looked at
    listings: Mapping[str, Listing | None]
    added: tuple[str, ...] = ()  # names that only the installed timm has
    removed: tuple[str, ...] = ()  # names that the installed timm lacks
    installed: str | None = None  # version of timm on this machine

    @property
    def note(self) -> str | None:
        """How the installed timm differs from the one that was looked at, where it does."""
        if self.installed is None:
            return f"timm is not installed here: figures and names are those of timm {self.timm}"
        if self.installed == self.timm:
            return None
        return (
            f"figures are of timm {self.timm}, and timm {self.installed} is installed: left out, "
            f"for it lacks them, {len(self.removed)}; new, and looked at now where they match, "
            f"{len(self.added)}"
        )

    @property
    def names(self) -> list[str]:
        """Every model that the installed timm has."""
        return [*self.listings, *self.added]

    def matching(self, pattern: str) -> list[str]:
        """Names that match a shell pattern, or that contain the text when it has no wildcard.

        Raises MldrError where nothing matches; the message has the nearest names.
        """
        wild = any(mark in pattern for mark in "*?[")
        shape = pattern.lower() if wild else f"*{pattern.lower()}*"
        matches = [name for name in self.names if fnmatchcase(name, shape)]
        if not matches:
            raise unknown_model(pattern, self.names)
        return matches

    def named(self, pattern: str) -> list[str]:
        """The model of exactly this name; where there is none, what `matching` gives."""
        return [pattern] if pattern in self.names else self.matching(pattern)

    def look_up(self, names: Iterable[str]) -> Iterator[Listing | None]:
        """What is on record of each of ``names``; new ones are built on the meta device."""
        for name in names:
            if name in self.listings:
                yield self.listings[name]
            else:
                from .survey import survey

                yield from survey([name])


@functools.cache
def model_catalogue() -> ModelCatalogue:
    """The stored catalogue, less and plus what the installed timm lacks and adds."""
    stored, installed = stored_catalogue(), _installed()
    if installed in (None, stored.timm):
        return ModelCatalogue(stored.timm, stored.listings, installed=installed)
    from .model_registry import list_models

    names = dict.fromkeys(list_models())
    return ModelCatalogue(
        timm=stored.timm,
        listings={name: entry for name, entry in stored.listings.items() if name in names},
        added=tuple(name for name in names if name not in stored.listings),
        removed=tuple(name for name in stored.listings if name not in names),
        installed=installed,
    )


def stored_catalogue() -> ModelCatalogue:
    """catalogue.csv as it is."""
    text = (resources.files(__package__) / CSV).read_text(encoding="utf-8")
    (_, version), _, *rows = csv.reader(io.StringIO(text))
    return ModelCatalogue(version, {row[0]: _listing(row) for row in rows})


def csv_text(version: str, listings: Mapping[str, Listing | None]) -> str:
    """The file of ``listings`` by timm ``version``: a model a row, a bare name for None."""
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(["timm", version])
    rows.writerow(_COLUMNS)
    for name, listing in listings.items():
        figures = [] if listing is None else [getattr(listing, key) for key in _COLUMNS[1:]]
        rows.writerow([name, *(int(x) if isinstance(x, bool) else x for x in figures)])
    return text.getvalue()


def _listing(row: list[str]) -> Listing | None:
    if len(row) == 1:
        return None
    name, family, *figures = row
    numbers: list[Any] = [int(figure) if figure else None for figure in figures]
    parameters, operations, side, published_weights, stages = numbers
    return Listing(
        name=name,
        family=family,  # type: ignore[arg-type]  # the file has the four
        parameters=parameters,
        operations=operations,
        image_size=side,
        published_weights=bool(published_weights),
        stages=bool(stages),
    )


def _installed() -> str | None:
    try:
        return metadata.version("timm")
    except metadata.PackageNotFoundError:
        return None
