"""What a batch takes: a straight line over its images, drawn through the last batches."""

from __future__ import annotations

_KEPT = 0.8  # weight that a batch keeps when another one is measured
_ORIGIN = 0.1  # weight of the point that is known: no images, no time


class BatchCost:
    """``fixed + per_image * n`` seconds for a batch of n images, by weighted least squares.

    Old batches fade, so a wrong estimate mends itself. While all batches have one size the line
    goes through the origin: the time grows with the images.
    """

    def __init__(self) -> None:
        self._sums: tuple[float, ...] = (0.0,) * 5  # of weight, n, t, n n, n t; t in seconds

    @property
    def measured(self) -> bool:
        """Whether a batch was measured yet."""
        return self._sums[0] > 0

    def add(self, images: int, seconds: float) -> None:
        """A batch of ``images``, at least one, took ``seconds``."""
        point = (1.0, images, seconds, images * images, images * seconds)
        sums = zip(self._sums, point, strict=True)
        self._sums = tuple(_KEPT * before + new for before, new in sums)

    def seconds(self, images: int) -> float:
        """What a batch of ``images`` should take; 0 while nothing is measured.

        A larger batch takes no less, and no more for each image.
        """
        weight, n, t, nn, nt = self._sums
        if not weight:
            return 0.0
        weight += _ORIGIN
        slope = (nt - n * t / weight) / (nn - n * n / weight)
        per_image = min(max(slope, 0.0), t / n)
        return (t - per_image * n) / weight + per_image * images
