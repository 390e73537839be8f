"""The batch that suits the number of training pictures."""

from __future__ import annotations

from ..errors import MldrError

_LOST = 0.1  # part of an epoch that may be left out with its last, smaller batch


def fitting_batch(pictures: int, batch: int, processes: int = 1) -> int:
    """Images a step: ``batch``, or less where an epoch would leave out too many ``pictures``.

    The last, smaller batch of an epoch is dropped. Where that is more than a tenth of the
    pictures, an epoch has as many steps as it would have with that batch, all of the same size.

    Raises MldrError where ``processes`` have not a picture each.
    """
    if batch % processes or pictures % batch <= _LOST * pictures:
        return batch
    steps = -(-pictures // batch)
    size = pictures // steps
    if size < processes:
        raise MldrError(
            f"there are {pictures} training pictures for {processes} processes: start fewer"
        )
    return size - size % processes
