"""The one way from an image to a network's input; its parameters are data in the manifest.

Training's evaluation, parity, the service, the demo and the profiler all call this file; a second
copy of it anywhere is a defect (docs/design.md, section Bundle). B images, H x W the input size.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydantic import BaseModel, ConfigDict, Field

from .conventions import Decoding, Rounding
from .picture import UnfitPicture
from .upright import upright_rgb

Pixels = NDArray[np.uint8]
Floats = NDArray[np.float32]
Side = Annotated[int, Field(ge=1, le=8192)]
Mean = Annotated[float, Field(ge=-1, le=2)]
Std = Annotated[float, Field(gt=0, le=256)]

_MOST_RESIZED = 64_000_000  # pixels before the crop; at 224 x 224 a picture 1,275 times as long
_LONG = 4  # long side / short side that is taken however large the input is

_RESAMPLING = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}


class Preprocessing(BaseModel):
    """How images become inputs: resize, centre crop, scale, channel order.

    The geometry is timm's and torchvision's evaluation transform, rounding included, so that a
    pretrained teacher sees what it was evaluated with; ``rounding`` states it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    size: tuple[Side, Side] = Field(description="Height and width of the network's input, pixels.")
    resize: Literal["shortest", "squash"] = Field(
        default="shortest",
        description="`shortest` keeps the aspect ratio and fits the shorter side, the crop takes "
        "away what is left over; `squash` fits both sides.",
    )
    crop_fraction: float = Field(
        default=1.0,
        gt=0,
        le=1,
        description="Part of the resized image that the centre crop keeps (timm's `crop_pct`): the "
        "image is resized to `size / crop_fraction`, rounded down, then cropped to `size`.",
    )
    interpolation: Literal["nearest", "bilinear", "bicubic", "lanczos"] = Field(
        default="bicubic", description="Pillow's resampling filter for the resize."
    )
    mean: tuple[Mean, Mean, Mean] = Field(
        description="Mean of red, green and blue that is subtracted, of pixels divided by 255."
    )
    std: tuple[Std, Std, Std] = Field(
        description="Standard deviation of red, green and blue, of pixels divided by 255."
    )
    channel_order: Literal["rgb", "bgr"] = Field(
        default="rgb",
        description="Order in which the network takes the channels. `mean` and `std` are always "
        "listed as red, green, blue.",
    )
    decoding: Decoding = Field(default=Decoding(), description="How files become pixels.")
    rounding: Rounding = Field(default=Rounding(), description="How sizes and values are rounded.")

    def affine(self) -> tuple[Floats, Floats]:
        """(scale [3], bias [3]) of red, green, blue: ``x = pixel * scale + bias``."""
        mean, std = np.array(self.mean), np.array(self.std)
        return (1 / (255 * std)).astype(np.float32), (-mean / std).astype(np.float32)


def to_pixels(image: Image.Image | Pixels, spec: Preprocessing) -> Pixels:
    """``image`` upright, resized and cropped: RGB [H, W, 3]. An array must be upright already,
    RGB uint8 [h, w, 3].

    Nothing is resampled when the image already has the size that the resize would give it.
    Raises MldrError for an image whose values are not defined (docs/pictures.md), and UnfitPicture
    as ``resized_size`` does.
    """
    if isinstance(image, np.ndarray):
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
            raise ValueError(f"pixels must be uint8 [h, w, 3], not {image.dtype} {image.shape}")
        if resized_size(image.shape[0], image.shape[1], spec) == image.shape[:2]:
            return _centre(image, spec)
        image = Image.fromarray(image)
    image = upright_rgb(image)
    height, width = resized_size(image.height, image.width, spec)
    if (height, width) != (image.height, image.width):
        image = image.resize((width, height), _RESAMPLING[spec.interpolation])
    return _centre(np.asarray(image), spec)


def normalise(pixels: Pixels, spec: Preprocessing) -> Floats:
    """RGB uint8 [B, H, W, 3] -> network input float32 [B, 3, H, W], contiguous.

    One product and one sum, each rounded to float32: the same bits on every machine.
    """
    scale, bias = spec.affine()
    batch, height, width, _ = pixels.shape
    out = np.empty((batch, 3, height, width), np.float32)
    for channel in range(3):
        plane = out[:, channel if spec.channel_order == "rgb" else 2 - channel]
        np.multiply(pixels[..., channel], scale[channel], out=plane, dtype=np.float32)
        plane += bias[channel]
    return out


def preprocess(images: Sequence[Image.Image | Pixels], spec: Preprocessing) -> Floats:
    """Any images -> network input float32 [B, 3, H, W]. Raises as ``to_pixels``."""
    if not len(images):
        return np.empty((0, 3, *spec.size), np.float32)
    return normalise(np.stack([to_pixels(image, spec) for image in images]), spec)


def resized_size(height: int, width: int, spec: Preprocessing) -> tuple[int, int]:
    """(height, width) of an image of ``height`` x ``width`` after the resize, before the crop.

    Raises UnfitPicture where that is too large: `shortest` makes of a thin image of a few hundred
    bytes one that fills the memory.
    """
    tall, wide = _resized(height, width, spec)
    kept = spec.size[0] * spec.size[1] / spec.crop_fraction**2
    if spec.resize == "shortest" and tall * wide > max(_MOST_RESIZED, _LONG * kept):
        raise UnfitPicture(
            "pixels",
            f"{width} x {height} pixels would become {wide} x {tall} before the crop: "
            "crop it first",
        )
    return tall, wide


def _resized(height: int, width: int, spec: Preprocessing) -> tuple[int, int]:
    """Size after the resize, before the crop (torchvision's and timm's rounding)."""
    target_h, target_w = (math.floor(side / spec.crop_fraction) for side in spec.size)
    if spec.resize == "squash":
        return target_h, target_w
    if target_h != target_w:
        ratio = min(height / target_h, width / target_w)
        return round(height / ratio), round(width / ratio)
    if height <= width:
        return target_h, int(target_h * width / height)
    return int(target_w * height / width), target_w


def _centre(pixels: Pixels, spec: Preprocessing) -> Pixels:
    height, width = spec.size
    top = round((pixels.shape[0] - height) / 2)
    left = round((pixels.shape[1] - width) / 2)
    return pixels[top : top + height, left : left + width]
