"""int8 as TensorRT takes it."""

from __future__ import annotations

from .qdq import SYMMETRIC
from .search import quantised_kind

KIND = quantised_kind("int8-symmetric", SYMMETRIC)
