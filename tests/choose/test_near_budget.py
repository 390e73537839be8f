"""The rule for which contenders are measured and trained, on made-up latencies."""

from __future__ import annotations

import pytest

from mldr_deploy.choose.near_budget import near_budget
from mldr_deploy.choose.shelf import Contender
from mldr_deploy.models.architecture_config import ModelConfig
from mldr_deploy.models.listing import Family, Listing

FAMILIES: tuple[Family, ...] = ("cnn", "transformer", "mlp")


def contender(kind: Family, number: int) -> Contender:
    """The ``number``-th of a family, of as many million operations."""
    listing = Listing(f"{kind}{number}", kind, 1000, 1000, 224, False, True)
    return Contender(ModelConfig(name=listing.name), 32, listing, 1_000_000 * number)


SHELF = [contender(kind, number) for kind in FAMILIES for number in range(1, 17)]


class Machine:
    """Remembers what was measured; a family's limit is the largest number that fits."""

    def __init__(self, **limits: int) -> None:
        self.limits, self.measured = limits, set[str]()

    def fits(self, subject: Contender) -> bool:
        self.measured.add(subject.model.name)
        number = subject.operations // 1_000_000
        return number <= self.limits[subject.listing.family]


def test_the_largest_that_fit_of_every_family_in_turns() -> None:
    machine = Machine(cnn=11, transformer=5, mlp=0)
    chosen = near_budget(SHELF, 5, machine.fits)
    names = [c.model.name for c in chosen]
    assert names == ["cnn11", "transformer5", "cnn10", "transformer4", "cnn9"]


def test_a_handful_is_measured() -> None:
    machine = Machine(cnn=11, transformer=5, mlp=0)
    near_budget(SHELF, 5, machine.fits)
    assert len(machine.measured) <= 3 * 5 + 5  # bisection of 16 takes at most 5 each


@pytest.mark.parametrize("turned", [False, True])
def test_the_order_of_the_list_has_no_say(turned: bool) -> None:
    listed = SHELF[::-1] if turned else SHELF
    chosen = near_budget(listed, 4, Machine(cnn=3, transformer=16, mlp=2).fits)
    names = {c.model.name for c in chosen}
    assert names == {"cnn3", "transformer16", "mlp2", "cnn2"}


def test_nothing_fits() -> None:
    machine = Machine(cnn=0, transformer=0, mlp=0)
    assert near_budget(SHELF, 4, machine.fits) == []
    assert {"cnn1", "transformer1", "mlp1"} <= machine.measured  # the smallest, for the message


def test_few_are_all_measured() -> None:
    machine = Machine(cnn=1, transformer=1, mlp=1)
    few = [contender("cnn", 1), contender("cnn", 2), contender("mlp", 3)]
    assert [c.model.name for c in near_budget(few, 3, machine.fits)] == ["cnn1"]
    assert machine.measured == {"cnn1", "cnn2", "mlp3"}
