"""How long and how fast to train, by the number of training pictures: the meaning of `auto`.

Few pictures are soon known by heart, many need not be seen often: the epochs fall with the square
root of their number, so that the pictures seen in all grow with it. A model without weights has
eight times as much to learn.

    pictures                72    270   1,800   20,000   50,000
    epochs, from weights    40     21       8        2        2
    epochs, from none      160    160      64       19       16

Training from weights ends early where two fifths of the epochs brought nothing better; without
weights most comes at the end of the schedule.

AdamW's rate goes with the square root of the batch, which few pictures make smaller; SGD's with
the batch. A cosine to zero over those epochs then says how far the weights may move in all.
"""

from __future__ import annotations

import math

from .training_config import OptimizerConfig, TrainConfig

_AT_ONE = 340.0  # epochs times the square root of the pictures: 8 epochs of 1,800
_LEAST, _MOST = 2, 40  # epochs from weights
_LENGTH, _MOST_FROM_NONE = 8, 160  # times as many epochs without weights, and the most then
_PATIENCE, _LEAST_PATIENCE = 0.4, 3  # part of the epochs; epochs
_ADAMW = 1e-3, 50  # learning rate, and the batch that it is for
_SGD = 0.05, 128


def timed(train: TrainConfig, pictures: int, *, has_weights: bool = True) -> TrainConfig:
    """``train`` with a number of epochs, and of those to wait, for so many training pictures."""
    if train.epochs == "auto":
        length, most = (1, _MOST) if has_weights else (_LENGTH, _MOST_FROM_NONE)
        epochs = min(max(round(length * _AT_ONE / math.sqrt(pictures)), length * _LEAST), most)
        train = train.model_copy(update={"epochs": epochs})
    if train.patience == "auto":
        patience = max(round(_PATIENCE * train.passes), _LEAST_PATIENCE) if has_weights else 0
        train = train.model_copy(update={"patience": patience})
    return train


def paced(optimizer: OptimizerConfig, batch: int) -> OptimizerConfig:
    """``optimizer`` with a learning rate, for so many images a step."""
    if optimizer.lr != "auto":
        return optimizer
    if optimizer.name == "adamw":
        rate = _ADAMW[0] * math.sqrt(batch / _ADAMW[1])
    else:
        rate = _SGD[0] * batch / _SGD[1]
    return optimizer.model_copy(update={"lr": rate})
