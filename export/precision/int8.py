"""int8 for CPUs."""

from __future__ import annotations

from .qdq import AFFINE
from .search import quantised_kind

KIND = quantised_kind("int8", AFFINE)
