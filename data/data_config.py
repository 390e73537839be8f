"""What a recipe may say about its data and its augmentation."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

NAMED_SOURCES = ("digits", "cifar100", "tiny-imagenet")
PATH_SOURCES = ("folder", "parquet", "csv")

Positive = Annotated[float, Field(gt=0)]
_HUB_NAME = re.compile(r"[\w.-]+(/[\w.-]+)?(@\S+)?")


def located(source: str) -> str:
    """The source with its path absolute and free of links: equal where the place is the same."""
    kind, _, path = source.partition(":")
    if kind not in PATH_SOURCES:
        return source
    return f"{kind}:{os.path.realpath(Path(path).expanduser())}"


class DataConfig(BaseModel):
    """Which images, how they are split, and how many are fed at a time."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    source: str = Field(
        default="digits",
        description="`digits` (embedded: scikit-learn's 8x8 scans, up-scaled), `cifar100`, "
        "`tiny-imagenet`, `folder:PATH` (a folder per class, in train/ and val/ or test/ where "
        "there are splits), `parquet:PATH` (a file, or a folder of train*/test* shards), "
        "`csv:FILE` (columns path and label, and split where there are splits) or "
        "`hf:USER/NAME[@REVISION]` (Parquet shards of the Hugging Face Hub).",
    )
    root: str | None = Field(
        default=None,
        description="Folder that holds the named data sets. Unset: $MLDR_DATA, else ../shared/data "
        "beside the checkout where that exists, else the user's cache folder.",
    )
    batch_size: int = Field(
        default=128, ge=1, description="Images a step, over all processes together."
    )
    image_size: int = Field(
        default=32, ge=8, le=1024, description="Height and width fed to the networks, pixels."
    )
    crop_fraction: float = Field(
        default=1.0,
        gt=0,
        le=1,
        description="Part of the picture, along its shorter side, that evaluation and the finished "
        "student see (timm's `crop_pct`); weights that come with their own preprocessing keep it.",
    )
    val_fraction: float = Field(
        default=0.1,
        ge=0,
        le=0.5,
        description="Part of every class of train that is held out to choose the best epoch. 0: "
        "train on everything, keep the last epoch.",
    )
    test_fraction: float = Field(
        default=0.2,
        gt=0,
        le=0.5,
        description="Part of every class that becomes the test split where a folder, Parquet or "
        "CSV source has neither test nor validation pictures of its own; always the same ones.",
    )
    skip_share: float = Field(
        default=0.01,
        ge=0,
        le=1,
        description="Part of the pictures, of any class or of all, that may be missing because "
        "their files are empty, no pictures, of a format that is not read, not to be opened, or "
        "links to nothing. Up to it they are counted by class and left out; beyond it the data are "
        "refused. 1: never for these. A picture that does not decode is always refused.",
    )
    leak_share: float = Field(
        default=0.01,
        ge=0,
        le=1,
        description="Part of the test pictures that may also stand in train or validation, pixel "
        "by pixel. Up to it they are counted in the table and the model card; beyond it the data "
        "are refused. 1: never refuse.",
    )
    split_seed: int = Field(default=0, ge=0, description="Seed of the train/validation split.")
    workers: int = Field(
        default=2, ge=1, le=256, description="Threads that decode images, at loading and streaming."
    )
    resident_mib: int = Field(
        default=2048,
        ge=0,
        description="Data sets whose decoded pixels fit in this many MiB (and are all of one size) "
        "stay in memory, on the training device; others are decoded as they are needed.",
    )
    check_images: bool = Field(
        default=True,
        description="Decode every image of a streamed data set once before the start, so that a "
        "broken one is named now and not hours later.",
    )
    download: bool = Field(
        default=True, description="Fetch a named data set that is nowhere on this machine."
    )
    image_column: str | None = Field(
        default=None,
        description="Parquet column of encoded images (bytes, or Hugging Face's {bytes, path}), "
        "or CSV column of paths. Unset: the only column that can be one.",
    )
    label_column: str | None = Field(
        default=None,
        description="Parquet or CSV column of labels (integers or names). Unset: `label`, "
        "`labels`, `fine_label` or `class`, whichever is there.",
    )

    @field_validator("source")
    @classmethod
    def _known_source(cls, source: str) -> str:
        kind, colon, path = source.partition(":")
        if kind in NAMED_SOURCES and not colon:
            return source
        if kind in PATH_SOURCES and path.strip():
            return f"{kind}:{Path(path)}"  # "photos/" and "./photos" are "photos"
        if kind == "hf" and _HUB_NAME.fullmatch(path):
            return source
        allowed = [*NAMED_SOURCES, "folder:PATH", "parquet:PATH", "csv:FILE", "hf:USER/NAME"]
        raise ValueError(
            f"allowed are {', '.join(allowed)}, and for --data a folder or a .parquet or .csv "
            "file that is there"
        )


class AugmentConfig(BaseModel):
    """What is done to training images; everything off gives the plain centre crop."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    crop: Literal["none", "pad", "random-resized"] = Field(
        default="pad",
        description="`pad`: zero-pad, then crop at a random place (small images); "
        "`random-resized`: a random part of the image, resized (Inception crop); `none`.",
    )
    pad: int = Field(default=4, ge=0, le=256, description="Padding of crop `pad`, pixels a side.")
    scale: tuple[Positive, Positive] = Field(
        default=(0.08, 1.0), description="Range of the area that `random-resized` keeps."
    )
    ratio: tuple[Positive, Positive] = Field(
        default=(3 / 4, 4 / 3), description="Range of its width / height, drawn log-uniformly."
    )
    interpolation: Literal["bilinear", "bicubic"] = Field(
        default="bicubic", description="Antialiased filter that `random-resized` resizes with."
    )
    flip: float = Field(default=0.5, ge=0, le=1, description="Probability of a left-right flip.")
    randaugment: float = Field(
        default=0,
        ge=0,
        le=10,
        description="Magnitude of RandAugment, timm's `rand-m{}-mstd0.5-inc1`; 0 is off.",
    )
    randaugment_ops: int = Field(
        default=2, ge=1, le=15, description="RandAugment operations drawn for each image."
    )
    erase: float = Field(
        default=0,
        ge=0,
        le=1,
        description="Probability that a random box is filled with noise (Random Erasing).",
    )
    mixup: float = Field(
        default=0, ge=0, description="Alpha of mixup's Beta(alpha, alpha); 0: off."
    )
    cutmix: float = Field(
        default=0,
        ge=0,
        description="Alpha of CutMix's Beta(alpha, alpha); 0: off. With mixup too, a fair coin "
        "chooses for every batch.",
    )
    mix_probability: float = Field(
        default=1, ge=0, le=1, description="Part of the batches that mixup or CutMix touches."
    )

    @field_validator("scale", "ratio")
    @classmethod
    def _ascending(cls, bounds: tuple[float, float]) -> tuple[float, float]:
        if bounds[0] > bounds[1]:
            raise ValueError("the first bound must not exceed the second")
        return bounds

    @model_validator(mode="after")
    def _area(self) -> Self:
        if self.scale[1] > 1:
            raise ValueError("scale must lie within 0..1: a crop cannot exceed the image")
        return self
