"""RandAugment (Cubuk 2020) of a batch: timm's ``rand-m{magnitude}-n{ops}-mstd0.5-inc1``.

For every image and layer one of 15 operations is drawn; it is applied with probability 1/2, at a
magnitude from N(magnitude, 0.5) clipped to 0..10, its direction by a fair coin. "inc1": every
operation gets stronger as the magnitude grows. The images that drew an operation go through it
together, each with its own strength. Where timm flips a coin between bilinear and bicubic this
is bilinear; uncovered corners are grey 128, timm's default.

x is uint8 [n, 3, h, w], a magnitude m and a sign s (1 or -1) are float [n], all on one device.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

_PROBABILITY = 0.5
_MAGNITUDE_STD = 0.5
_LARGEST = 10.0
_FILL = 128

Operation = Callable[[Tensor, Tensor, Tensor], Tensor]  # (x, m, s) -> uint8 [n, 3, h, w]


def rand_augment(
    pixels: Tensor, magnitude: float, layers: int, generator: torch.Generator
) -> Tensor:
    """uint8 [B, 3, h, w] -> the same shape; ``pixels`` is left as it is."""
    batch, device = len(pixels), generator.device
    for _ in range(layers):
        drawn = torch.randint(len(OPERATIONS), (batch,), generator=generator, device=device).cpu()
        chance, coin = torch.rand(2, batch, generator=generator, device=device).cpu()
        noise = torch.randn(batch, generator=generator, device=device).cpu()
        strength = (magnitude + _MAGNITUDE_STD * noise).clamp(0, _LARGEST)
        applied, sign = chance < _PROBABILITY, torch.where(coin < 0.5, 1.0, -1.0)
        pixels = _layer(pixels, drawn, applied, strength, sign)
    return pixels


def _layer(
    pixels: Tensor, drawn: Tensor, applied: Tensor, strength: Tensor, sign: Tensor
) -> Tensor:
    """Operation ``drawn[b]`` on image b, if ``applied[b]``; all but ``pixels`` lie on the host."""
    out = pixels.clone()
    for number, operation in enumerate(OPERATIONS.values()):
        rows = torch.nonzero((drawn == number) & applied)[:, 0]
        if len(rows):
            device_rows, m, s = (
                part.to(pixels.device, non_blocking=True)
                for part in (rows, strength[rows], sign[rows])
            )
            out.index_copy_(0, device_rows, operation(pixels[device_rows], m, s))
    return out


def autocontrast(x: Tensor, m: Tensor, s: Tensor) -> Tensor:
    """Stretch every channel to 0..255."""
    low, high = x.amin((2, 3), keepdim=True).float(), x.amax((2, 3), keepdim=True).float()
    stretched = (x - low) * 255 / (high - low).clamp(min=1)
    return torch.where(high > low, stretched.to(torch.uint8), x)


def equalize(x: Tensor, m: Tensor, s: Tensor) -> Tensor:
    """Flatten every channel's histogram."""
    from torchvision.transforms.v2 import functional

    flat: Tensor = functional.equalize(x)
    return flat


def invert(x: Tensor, m: Tensor, s: Tensor) -> Tensor:
    """Negative."""
    return 255 - x


def posterize(x: Tensor, m: Tensor, s: Tensor) -> Tensor:
    """Keep 4 down to 0 of the upper bits."""
    bits = 4 - (m * 4 / _LARGEST).int()
    mask = 256 - torch.bitwise_left_shift(torch.ones_like(bits), 8 - bits)
    return x & _column(mask).to(torch.uint8)


def solarize(x: Tensor, m: Tensor, s: Tensor) -> Tensor:
    """Invert what is as bright as 256 down to 0."""
    threshold = 256 - (m * 256 / _LARGEST).int()
    return torch.where(x < _column(threshold), x, 255 - x)


def solarize_add(x: Tensor, m: Tensor, s: Tensor) -> Tensor:
    """Brighten the darker half by 0 to 110."""
    added = (x + _column((m * 110 / _LARGEST).int())).clamp(max=255)
    return torch.where(x < 128, added.to(torch.uint8), x)


def color(x: Tensor, m: Tensor, s: Tensor) -> Tensor:
    """Towards or away from grey."""
    return _blend(_grey(x), x, m, s)


def contrast(x: Tensor, m: Tensor, s: Tensor) -> Tensor:
    """Towards or away from the mean grey."""
    mean = (_grey(x).mean((2, 3), keepdim=True) + 0.5).floor()
    return _blend(mean, x, m, s)


def brightness(x: Tensor, m: Tensor, s: Tensor) -> Tensor:
    """Towards or away from black."""
    return _blend(torch.zeros((), device=x.device), x, m, s)


def sharpness(x: Tensor, m: Tensor, s: Tensor) -> Tensor:
    """Towards or away from Pillow's SMOOTH filter, which leaves the border as it is."""
    kernel = torch.ones(3, 3, device=x.device)  # made there: a copy would be waited for
    kernel[1, 1] = 5
    kernel /= 13
    channels = x.shape[1]
    smooth = x.float()
    inner = F.conv2d(smooth, kernel.expand(channels, 1, 3, 3), groups=channels)
    smooth[:, :, 1:-1, 1:-1] = (inner + 0.5).floor()
    return _blend(smooth, x, m, s)


def rotate(x: Tensor, m: Tensor, s: Tensor) -> Tensor:
    """About the centre by up to 30 degrees."""
    angle = s * m / _LARGEST * math.radians(30)
    cos, sin = angle.cos(), angle.sin()
    centre_y, centre_x = x.shape[2] / 2, x.shape[3] / 2
    shift_x = centre_x - cos * centre_x + sin * centre_y
    shift_y = centre_y - sin * centre_x - cos * centre_y
    return _affine(x, cos, -sin, shift_x, sin, cos, shift_y)


def shear_x(x: Tensor, m: Tensor, s: Tensor) -> Tensor:
    """Rows slide by up to 0.3 of their height in the image."""
    unit, zero = torch.ones_like(m), torch.zeros_like(m)
    return _affine(x, unit, s * m / _LARGEST * 0.3, zero, zero, unit, zero)


def shear_y(x: Tensor, m: Tensor, s: Tensor) -> Tensor:
    """Columns slide by up to 0.3 of their place in the image."""
    unit, zero = torch.ones_like(m), torch.zeros_like(m)
    return _affine(x, unit, zero, zero, s * m / _LARGEST * 0.3, unit, zero)


def translate_x(x: Tensor, m: Tensor, s: Tensor) -> Tensor:
    """By up to 0.45 of the width."""
    unit, zero = torch.ones_like(m), torch.zeros_like(m)
    return _affine(x, unit, zero, s * m / _LARGEST * 0.45 * x.shape[3], zero, unit, zero)


def translate_y(x: Tensor, m: Tensor, s: Tensor) -> Tensor:
    """By up to 0.45 of the height."""
    unit, zero = torch.ones_like(m), torch.zeros_like(m)
    return _affine(x, unit, zero, zero, zero, unit, s * m / _LARGEST * 0.45 * x.shape[2])


OPERATIONS: dict[str, Operation] = {  # by timm's names, in its order
    "AutoContrast": autocontrast,
    "Equalize": equalize,
    "Invert": invert,
    "Rotate": rotate,
    "PosterizeIncreasing": posterize,
    "SolarizeIncreasing": solarize,
    "SolarizeAdd": solarize_add,
    "ColorIncreasing": color,
    "ContrastIncreasing": contrast,
    "BrightnessIncreasing": brightness,
    "SharpnessIncreasing": sharpness,
    "ShearX": shear_x,
    "ShearY": shear_y,
    "TranslateXRel": translate_x,
    "TranslateYRel": translate_y,
}


def _column(values: Tensor) -> Tensor:
    """[n] -> [n, 1, 1, 1]."""
    return values[:, None, None, None]


def _grey(x: Tensor) -> Tensor:
    """ITU-R 601 luma in Pillow's fixed point: float [n, 1, h, w] of whole numbers."""
    red, green, blue = x.int().unbind(1)
    return ((red * 19595 + green * 38470 + blue * 7471 + 0x8000) >> 16)[:, None].float()


def _blend(plain: Tensor, x: Tensor, m: Tensor, s: Tensor) -> Tensor:
    """``plain`` at factor 0, ``x`` at 1, beyond it above; factor 0.1 to 1.9, as Pillow blends."""
    factor = _column((1 + s * m / _LARGEST * 0.9).clamp(min=0.1))
    return (plain + factor * (x - plain)).clamp(0, 255).to(torch.uint8)


def _affine(x: Tensor, a: Tensor, b: Tensor, c: Tensor, d: Tensor, e: Tensor, f: Tensor) -> Tensor:
    """Output (u, v) takes input (a u + b v + c, d u + e v + f), bilinearly, as Pillow's AFFINE.

    Coordinates in pixels, centres at one half. Outside the image all is grey; its border pixels
    are not blended with the grey.
    """
    height, width = x.shape[2:]
    v = torch.arange(height, device=x.device)[None, :, None] + 0.5
    u = torch.arange(width, device=x.device)[None, None, :] + 0.5
    a, b, c, d, e, f = (part[:, None, None] for part in (a, b, c, d, e, f))
    across, down = a * u + b * v + c, d * u + e * v + f
    grid = torch.stack([across * (2 / width) - 1, down * (2 / height) - 1], dim=-1)
    sampled = F.grid_sample(x.float(), grid, padding_mode="border", align_corners=False)
    inside = (across >= 0) & (across < width) & (down >= 0) & (down < height)
    return torch.where(inside[:, None], sampled.round(), float(_FILL)).to(torch.uint8)
