"""Export and check on their own, outside a recipe's run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..bundle.progress import Progress
from ..bundle.reader import Bundle, open_bundle
from ..bundle.trained import load_trained
from ..export.build_bundle import build_bundle
from ..export.export_config import ExportConfig
from ..export.recheck import CheckResult, check_bundle
from .recorded import recorded_dataset
from .validation import validated


def export_trained(
    trained: Path,
    out: Path,
    source: str | None,
    root: Path | None,
    settings: dict[str, Any],
    *,
    progress: Progress,
) -> Bundle:
    """Export the folder ``trained`` to the bundle ``out``; ``settings`` are ExportConfig's keys.

    The bundle is false when a parity gate failed. Raises MldrError and Unavailable as
    ``recorded_dataset`` and ``build_bundle`` do, and for settings out of range.
    """
    config = validated(ExportConfig, settings, "export")
    record, _ = load_trained(trained)
    dataset = recorded_dataset(record.data, source, root, progress=progress)
    return build_bundle(trained, out, config, dataset=dataset, progress=progress)


def check_exported(
    path: Path,
    source: str | None,
    root: Path | None,
    *,
    golden_only: bool,
    progress: Progress,
) -> CheckResult:
    """Check the bundle at ``path``, on the whole test split unless ``golden_only``.

    Raises MldrError when the bundle is not what its manifest says, Unavailable when the data set
    is not on this machine.
    """
    dataset = None
    if not golden_only:
        manifest = open_bundle(path, allow_failed=True).manifest
        dataset = recorded_dataset(manifest.data, source, root, progress=progress)
    return check_bundle(path, dataset=dataset, progress=progress)
