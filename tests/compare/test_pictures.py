"""The pictures of a comparison."""

from __future__ import annotations

from itertools import combinations
from types import SimpleNamespace
from typing import Any

import numpy as np
from matplotlib.colors import to_rgb

from mldr_deploy.compare import pictures


def test_a_dozen_methods_have_colours_that_can_be_told_apart() -> None:
    names = [f"method {k}" for k in range(14)]
    results: Any = SimpleNamespace(matrix=SimpleNamespace(methods=names, focus=names[-1]))
    colours = [np.array(to_rgb(pictures._colour(results, k))) for k in range(len(names))]
    assert min(np.abs(a - b).sum() for a, b in combinations(colours[:13], 2)) > 0.15
