"""``mldr-deploy models``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from . import options
from .console import progress

if TYPE_CHECKING:
    from ..models.catalogue import Listing


@click.command(name="models")
@click.argument("pattern", default="*")
@click.option(
    "--family",
    type=click.Choice(["cnn", "transformer", "mlp", "mamba"]),
    help="Only models of this family.",
)
@click.option(
    "--limit",
    type=click.IntRange(min=0),
    default=40,
    show_default=True,
    help="Stop after this many; 0 shows all (about 0.1 s a model).",
)
@options.as_json
def command(pattern: str, family: str | None, limit: int, as_json: bool) -> None:
    """List models that can be teacher or student: name, family, parameters, image size.

    PATTERN is a shell pattern ('vit_*', quoted) or a part of a name (resnet). Parameters are
    those of the published model with 1000 classes; the image size is its published one, and
    recipes may choose another. Weights says whether teacher.weights=timm can fetch trained
    weights. Encoders that take no number of classes are left out. Models whose stages cannot be
    tapped can only teach, and are marked so.
    """
    from ..api.json_form import json_form
    from ..models.catalogue import catalogue, matching

    names = matching(pattern)
    listings: list[Listing] = []
    with progress(quiet=as_json) as bar:
        bar.start("looking at models", len(names))
        for listing in catalogue(names):
            if listing is not None and family in (None, listing.family):
                listings.append(listing)
            bar.advance()
            if len(listings) == limit:
                break
    if as_json:
        print(json_form("models", listings, passed=True))
    else:
        _show(listings, len(names), limit, family)


def _show(listings: list[Listing], match_count: int, limit: int, family: str | None) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("model", no_wrap=True)
    table.add_column("family")
    for column in ("parameters", "image"):
        table.add_column(column, justify="right", no_wrap=True)
    table.add_column("weights")
    for listing in listings:
        table.add_row(
            listing.name + ("" if listing.stages else " (teaches only)"),
            listing.family,
            f"{listing.parameters / 1e6:.2f} M",
            f"{listing.image_size} px",
            "timm" if listing.published_weights else "-",
        )
    console = Console(highlight=False)
    console.print(table)
    if len(listings) == limit and match_count > limit:
        console.print(f"{match_count} names match; --limit 0 shows all of them.", markup=False)
    elif not listings:
        console.print(f"No classifier{' of this family' if family else ''} has such a name.")
