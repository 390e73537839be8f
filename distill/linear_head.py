"""A linear classifier taught on stored features: multinomial logistic regression.

n views of P pictures, F the width of the features, C classes. The loss is

    sum_i w_i CE(x_i V^T + c, y_i) / sum_i w_i + decay / 2 * |W|^2,

with w_i the weight of view i's picture; W acts on standardised features, V and c on features as
they are. It is convex, so L-BFGS gives the same classifier whatever it starts from.

A classifier that knows its training pictures by heart has little to teach on them. So the decay is
not a constant: from strong to weak, the one with the lowest loss on pictures held out is taken.
To tell decays apart a third of the iterations is enough, since each begins at the one before.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from ..data.split import stratified

DECAYS = (3.0, 1.0, 0.3, 0.1, 0.03, 0.01, 0.003, 0.001, 0.0003)
BALANCED_FROM = 3.0  # times as many pictures in the largest class as in the smallest
_ITERATIONS = 60
_SEARCH_ITERATIONS = 20  # of each decay that is tried
_HELD_OUT = 0.2
_WORSE = 2  # decays in a row that are worse than the best before the rest is left out
_LEAST_STD = 0.01  # of the mean deviation: a feature that hardly ever fires is not blown up

Blocks = Callable[[], Iterator[tuple[Tensor, Tensor]]]  # float32 [n, F], pictures int64 [n]


@dataclass(frozen=True, eq=False)
class LinearHead:
    """A classifier's weight [C, F] and bias [C], and its scores."""

    weight: Tensor
    bias: Tensor
    decay: float
    loss: float = math.nan  # mean cross-entropy where it was measured
    top1: float = math.nan  # per cent right there

    def __call__(self, features: Tensor) -> Tensor:
        """[n, F] -> logits [n, C]."""
        return features @ self.weight.T + self.bias


@dataclass(frozen=True)
class Standard:
    """Mean and standard deviation of the features, [F] each."""

    mean: Tensor
    std: Tensor

    @classmethod
    def of(cls, blocks: Blocks) -> Standard:
        """The mean and deviation over all views."""
        sums = [_sums(features.double()) for features, _ in blocks()]
        count, total, squares = torch.stack(sums).sum(0)
        mean = total / count
        std = (squares / count - mean.square()).clamp(min=0).sqrt()
        return cls(mean.float(), std.clamp(min=_LEAST_STD * float(std.mean()) or 1.0).float())

    def plain(self, weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
        """Weight and bias for features as they are, of those for standardised ones."""
        scaled = weight / self.std
        return scaled, bias - scaled @ self.mean


def class_weights(labels: Tensor, classes: int) -> Tensor:
    """Each picture's weight, [P]; classes weigh alike where they differ by more than 3 to 1."""
    counts = torch.bincount(labels, minlength=classes)
    present_counts = counts[counts > 0]
    if present_counts.max() <= BALANCED_FROM * present_counts.min():
        return torch.ones(len(labels))
    return (len(labels) / (len(present_counts) * counts))[labels]


def fit(
    blocks: Blocks,
    labels: Tensor,
    weights: Tensor,
    decay: float,
    smoothing: float,
    standard: Standard,
    start: tuple[Tensor, Tensor],
    iterations: int = _ITERATIONS,
) -> tuple[Tensor, Tensor]:
    """Weight [C, F] and bias [C] for standardised features, from ``start`` on.

    labels int64 [P] and weights [P] are the pictures'.
    """
    weight, bias = (part.clone().requires_grad_() for part in start)
    total = sum(float(weights[pictures].sum()) for _, pictures in blocks())
    optimizer = torch.optim.LBFGS(
        [weight, bias], max_iter=iterations, line_search_fn="strong_wolfe", tolerance_grad=1e-5
    )

    def loss() -> Tensor:
        optimizer.zero_grad()
        penalty = 0.5 * decay * weight.square().sum()
        penalty.backward()
        value = penalty.detach()
        for features, pictures in blocks():
            scaled, shifted = standard.plain(weight, bias)
            logits = F.linear(features, scaled, shifted)
            losses = F.cross_entropy(
                logits, labels[pictures], label_smoothing=smoothing, reduction="none"
            )
            part = (losses * weights[pictures]).sum() / total
            part.backward()
            value = value + part.detach()
        return value

    optimizer.step(loss)
    return weight.detach(), bias.detach()


def teach(
    blocks: Blocks,
    labels: Tensor,
    classes: int,
    held_out: tuple[Tensor, Tensor] | None,
    *,
    smoothing: float = 0.0,
    seed: int = 0,
    decays: Sequence[float] = DECAYS,
    tell: Callable[[LinearHead], None] = lambda _: None,
) -> tuple[LinearHead, list[LinearHead]]:
    """The classifier whose decay suits pictures held out best, and every one that was tried.

    labels int64 [P]. ``held_out``: features [V, F] and labels [V]; where there are none a fifth
    of every class is held out to choose, and the classifier is then taught on all; where no class
    has pictures enough for that, the largest decay is taken. ``tell`` hears of each that was tried.
    """
    weights = class_weights(labels, classes)
    standard = Standard.of(blocks)
    taught = partial(fit, blocks, labels, smoothing=smoothing, standard=standard)
    known = weights
    if held_out is None:
        known, unseen = _without_fifth(labels, weights, seed)
        if not unseen.any():  # nothing tells the decays apart: the most cautious one
            decays, unseen = [max(decays)], torch.ones_like(unseen)
    layers = [(torch.zeros(classes, len(standard.mean)), torch.zeros(classes))]
    heads: list[LinearHead] = []
    for decay in decays:
        layers.append(taught(known, decay, start=layers[-1], iterations=_SEARCH_ITERATIONS))
        head = LinearHead(*standard.plain(*layers[-1]), decay)
        scored = iter([held_out]) if held_out else _views_of(blocks, labels, unseen)
        heads.append(measured(head, scored))
        tell(heads[-1])
        best = min(range(len(heads)), key=lambda index: heads[index].loss)
        if len(heads) - 1 - best >= _WORSE:
            break
    whole = taught(weights, heads[best].decay, start=layers[best + 1])
    weight, bias = standard.plain(*whole)
    best_head = replace(heads[best], weight=weight, bias=bias)
    if held_out:
        best_head = measured(best_head, iter([held_out]))
    return best_head, heads


def measured(head: LinearHead, pairs: Iterable[tuple[Tensor, Tensor]]) -> LinearHead:
    """``head`` with its loss and accuracy on (features [n, F], labels [n])."""
    loss, hits, count = 0.0, 0, 0
    for features, labels in pairs:
        logits = head(features)
        loss += float(F.cross_entropy(logits, labels, reduction="sum"))
        hits += int((logits.argmax(1) == labels).sum())
        count += len(labels)
    return replace(head, loss=loss / count, top1=100.0 * hits / count)


def labelled(blocks: Blocks, labels: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """(features, labels) of all views."""
    for features, pictures in blocks():
        yield features, labels[pictures]


def _sums(features: Tensor) -> Tensor:
    """[n, F] -> [3, F]: of ones, of the features and of their squares."""
    return torch.stack(
        [torch.ones_like(features).sum(0), features.sum(0), features.square().sum(0)]
    )


def _without_fifth(labels: Tensor, weights: Tensor, seed: int) -> tuple[Tensor, Tensor]:
    """The weights with 0 for a fifth of every class, and a mask of those pictures."""
    _, held_out = stratified(labels.numpy(), _HELD_OUT, seed)
    unseen = torch.zeros(len(labels), dtype=torch.bool)
    unseen[torch.from_numpy(held_out)] = True
    return weights.masked_fill(unseen, 0.0), unseen


def _views_of(blocks: Blocks, labels: Tensor, selected: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """(features, labels) of the views of the ``selected`` pictures, bool [P]."""
    for features, pictures in blocks():
        rows = selected[pictures]
        yield features[rows], labels[pictures[rows]]
