"""``digits``: scikit-learn's 1,797 real 8x8 scans of handwritten digits, up-scaled to 32 px.

Nothing is downloaded: the scans come with the library (UCI "Optical Recognition of Handwritten
Digits", test part). The test split is a fixed, stratified 20 %; ``data.split_seed`` moves only
the validation cut.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ...bundle.progress import Progress
from ..data_config import DataConfig
from ..images import ArrayImages
from ..raw import RawDataset, RawSplit
from ..split import stratified

_SIDE = 32
_TEST_FRACTION = 0.2


def load(config: DataConfig, progress: Progress) -> RawDataset:
    """The ten digits, train and test."""
    from sklearn.datasets import load_digits

    scans = load_digits()
    grey = np.rint(scans.images * (255 / 16)).astype(np.uint8)  # 17 levels, 0..16
    pixels = np.stack([_upscaled(scan) for scan in grey])
    labels = scans.target.astype(np.int64)
    train_rows, test_rows = stratified(labels, _TEST_FRACTION, seed=0)
    train, test = (
        RawSplit(ArrayImages(pixels[rows], "digits"), labels[rows], "scikit-learn's digits")
        for rows in (train_rows, test_rows)
    )
    return RawDataset(tuple("0123456789"), train, test)


def _upscaled(scan: NDArray[np.uint8]) -> NDArray[np.uint8]:
    image = Image.fromarray(scan).resize((_SIDE, _SIDE), Image.Resampling.BICUBIC)
    return np.asarray(image.convert("RGB"))
