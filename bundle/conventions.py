"""Everything that preprocessing does the same way for every bundle, stated as data.

Other programs round and convert otherwise by default, and a pixel is enough to turn an answer: a
picture of 375 x 500 becomes 224 x 298 here and 224 x 299 where the longer side is rounded up. Each
field has one value, so a bundle that states another is refused, and one that states none, from
before these fields, is read as what it is.
"""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

_RECORD = ConfigDict(frozen=True, extra="forbid")


class Decoding(BaseModel):
    """From a file to upright RGB pixels of 8 bits (docs/pictures.md has every kind of file)."""

    model_config = _RECORD

    frame: Literal["first"] = Field(default="first", description="Of several frames or pages.")
    orientation: Literal["exif-else-xmp"] = Field(
        default="exif-else-xmp", description="What turns the picture upright, before the resize."
    )
    transparency: Literal["over-white"] = Field(
        default="over-white", description="What alpha and transparent colours are laid over."
    )
    grey: Literal["repeated"] = Field(
        default="repeated", description="Grey becomes three equal channels."
    )
    grey_16_bits: Literal["nearest-of-value/257"] = Field(
        default="nearest-of-value/257", description="Grey of 16 bits to 8."
    )
    colour_16_bits: Literal["high-byte"] = Field(
        default="high-byte", description="Colours of 16 bits to 8."
    )
    colour_profile: Literal["ignored"] = Field(
        default="ignored", description="Embedded ICC profiles; CMYK is converted without one."
    )


class Rounding(BaseModel):
    """Where a size, an offset or a value is not whole. Pixels are uint8 until they are scaled."""

    model_config = _RECORD

    resize_to: Literal["floor"] = Field(
        default="floor", description="Side that is resized to: size / crop_fraction."
    )
    long_side: Literal["floor"] = Field(
        default="floor",
        description="Longer side after `shortest`, where the input is square: resize_to * long / "
        "short.",
    )
    oblong_sides: Literal["half-to-even"] = Field(
        default="half-to-even",
        description="Both sides after `shortest`, where the input is not square: side / the "
        "smaller of the two ratios.",
    )
    crop_offset: Literal["half-to-even"] = Field(
        default="half-to-even", description="Top and left of the centre crop: (side - size) / 2."
    )
    antialias: Literal[True] = Field(
        default=True,
        description="Whether the filter widens with the scale when it shrinks, as Pillow's do "
        "(`nearest` takes one pixel).",
    )
    passes: Literal["uint8-after-each"] = Field(
        default="uint8-after-each",
        description="The resize goes along the rows, then along the columns; each rounds to the "
        "nearest.",
    )
    scaling: Literal["float32: pixel * (1 / (255 std)) + (-mean / std)"] = Field(
        default="float32: pixel * (1 / (255 std)) + (-mean / std)",
        description="One product and one sum; the constants are rounded to float32 once.",
    )
