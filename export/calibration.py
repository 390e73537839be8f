"""Real training images for measuring ranges, as the network is fed them.

See docs/design.md, section Precisions.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from ..bundle.preprocess import Floats, Preprocessing, normalise

if TYPE_CHECKING:
    from ..data.split import Split


class CalibrationConfig(BaseModel):
    """Which training images activation ranges are measured on."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    images: int = Field(
        default=512, ge=8, le=65536, description="Training images; all, where there are fewer."
    )
    seed: int = Field(default=0, ge=0, description="Decides which ones.")


class Calibration:
    """A fixed sample of the training split, the same for every artifact of an export."""

    def __init__(
        self, train: Split, preprocessing: Preprocessing, config: CalibrationConfig
    ) -> None:
        count = min(config.images, len(train))
        rows = np.random.default_rng(config.seed).choice(len(train), count, replace=False)
        self.rows: NDArray[np.int64] = np.sort(rows)  # [N] positions in the training split
        self._train, self.preprocessing = train, preprocessing

    def __len__(self) -> int:
        return len(self.rows)

    def batches(self, size: int) -> Iterator[Floats]:
        """The images in order, float32 [<= size, 3, H, W] at a time."""
        for start in range(0, len(self), size):
            rows = self.rows[start : start + size]
            images = [self._train.fitted(int(row), self.preprocessing) for row in rows]
            yield normalise(np.stack(images), self.preprocessing)
