"""``mldr-deploy models``."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import click

from . import options

if TYPE_CHECKING:
    from ..models.listing import Listing

# What --sort takes -> the key of a listing; what is not known comes last.
SORT_KEYS: dict[str, Callable[[Listing], Any]] = {
    "name": lambda listing: 0,  # the catalogue's own order
    "params": lambda listing: listing.parameters,
    "macs": lambda listing: listing.operations or 0,
    "input": lambda listing: listing.image_size,
    "family": lambda listing: listing.family,
}


@click.command(name="models")
@click.argument("pattern", default="*")
@click.option(
    "--sort",
    type=click.Choice([*SORT_KEYS]),
    default="name",
    show_default=True,
    help="Order, the smallest first; equals by name.",
)
@click.option("--reverse", is_flag=True, help="The other way round: the largest first.")
@click.option(
    "--max-params",
    metavar="MILLIONS",
    type=click.FloatRange(min=0, min_open=True),
    help="Only models of at most so many million parameters.",
)
@click.option(
    "--max-macs",
    metavar="BILLIONS",
    type=click.FloatRange(min=0, min_open=True),
    help="Only models of at most so many billion multiply-accumulates (GMACs) an image.",
)
@click.option(
    "--input",
    "sides",
    metavar="PIXELS",
    type=options.CommaList(int),
    default=(),
    help="Only models published for images of this width, or one of these: 224,256.",
)
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
    help="Stop after this many; 0 shows all.",
)
@options.as_json
def command(
    pattern: str,
    sort: str,
    reverse: bool,
    max_params: float | None,
    max_macs: float | None,
    sides: tuple[int, ...],
    family: str | None,
    limit: int,
    as_json: bool,
) -> None:
    """List models that can be teacher or student: family, size, operations, image size.

    PATTERN is a shell pattern ('vit_*', quoted) or a part of a name (resnet). Parameters are
    those of the published model with 1000 classes, MACs its multiply-accumulates for one image of
    its published size, as PyTorch counts them: convolutions and matrix products, not a Mamba's
    scan. The size is the image's width in pixels; recipes may choose another. Weights says whether
    teacher.weights=timm can fetch trained weights. Encoders that take no number of classes are
    left out. Models whose stages cannot be tapped can only teach, and are marked so.

    Figures are from a catalogue that comes with the package. Where timm is of another version than
    it says, a note tells how many models are gone or new; new ones are built to be looked at.
    """
    from ..models.catalogue import model_catalogue

    catalogue = model_catalogue()
    if catalogue.note:
        print(f"note: {catalogue.note}", file=sys.stderr)
    listings = [
        listing
        for listing in catalogue.look_up(catalogue.matching(pattern))
        if listing is not None
        and family in (None, listing.family)
        and (not sides or listing.image_size in sides)
        and within(listing.parameters, max_params, 1e6)
        and within(listing.operations, max_macs, 1e9)
    ]
    listings.sort(key=SORT_KEYS[sort])
    if reverse:
        listings.reverse()
    if sort == "macs":
        listings.sort(key=lambda listing: listing.operations is None)
    shown = listings[: limit or None]
    if as_json:
        from ..api.json_form import json_form

        print(json_form("models", shown, passed=True))
    else:
        _show(shown, len(listings))


def within(count: int | None, limit: float | None, unit: float) -> bool:
    """Whether ``count`` is at most ``limit`` times ``unit``; what is not known is not."""
    return limit is None or (count is not None and count <= limit * unit)


def _show(shown: Sequence[Listing], match_count: int) -> None:
    if not shown:
        print("No classifier is like this.")
        return
    from ..pipeline.narrow_table import narrow_table

    rows = [
        (
            listing.name + ("" if listing.stages else " (teaches only)"),
            listing.family,
            f"{listing.parameters / 1e6:.2f}",
            "-" if listing.operations is None else f"{listing.operations / 1e9:.3f}",
            str(listing.image_size),
            "timm" if listing.published_weights else "-",
        )
        for listing in shown
    ]
    print(narrow_table(("model", "family", "params M", "MACs G", "image px", "weights"), rows))
    if match_count > len(shown):
        print(f"{match_count} models match; --limit 0 shows all of them.")
