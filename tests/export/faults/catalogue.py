"""Every fault that parity must catch: where it arises, who must notice, what must be said."""

from __future__ import annotations

from .of_bundles import BUNDLE_FAULTS
from .of_graphs import GRAPH_FAULTS, SCAN_FAULTS
from .of_precision import HALF_FAULTS, INT8_FAULTS
from .of_training import TRAINING_FAULTS

CATALOGUE = [
    *TRAINING_FAULTS,
    *GRAPH_FAULTS,
    *HALF_FAULTS,
    *INT8_FAULTS,
    *SCAN_FAULTS,
    *BUNDLE_FAULTS,
]
