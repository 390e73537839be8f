"""The written rule for which contenders are measured and which are trained.

1. Of each family, in the order of their operations, the largest that is within the budget is
   searched by bisection: so a handful of each is measured, and those nearest to the budget.
2. The families then take turns, each with its largest contender that still waits, until there
   are as many as asked for, or no family has more. One that is over the budget after all is passed
   over.

So every family that can be within the budget has its turn, and what is trained spends the budget
rather than half of it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from .shelf import Contender

Fits = Callable[[Contender], bool]  # measures, or remembers what was measured


def near_budget(contenders: Sequence[Contender], count: int, fits: Fits) -> list[Contender]:
    """Up to ``count`` of ``contenders`` that are within the budget, by the rule above."""
    families: dict[str, list[Contender]] = {}
    for contender in sorted(contenders, key=lambda c: (c.operations, c.name)):
        families.setdefault(contender.listing.family, []).append(contender)
    if len(contenders) <= count:
        return [member for members in families.values() for member in members if fits(member)]
    waiting = [members[: _fitting(members, fits)] for members in families.values()]
    selected: list[Contender] = []
    while any(waiting) and len(selected) < count:
        for members in waiting:
            while members and len(selected) < count:
                contender = members.pop()
                if fits(contender):
                    selected.append(contender)
                    break
    return selected


def _fitting(members: Sequence[Contender], fits: Fits) -> int:
    """How many of ``members``, ascending, are within the budget, if larger were always slower."""
    low, high = 0, len(members)
    while low < high:
        middle = (low + high) // 2
        if fits(members[middle]):
            low = middle + 1
        else:
            high = middle
    return low
