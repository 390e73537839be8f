"""A Triton model repository from a bundle: one model for each artifact, and one in Python."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path

from ...bundle.atomic import atomic_folder, write_bytes, write_json, write_text
from ...bundle.manifest import Artifact
from ...bundle.progress import Progress, Silent
from ...bundle.reader import Bundle
from ...bundle.shipping import objection
from ...errors import MldrError
from ...runtimes.runtime_choice import artifacts_named
from .triton_config import LABELS, WARM_UP, TritonConfig, model_config

RECORD = "mldr-deploy.json"  # marks the folder as ours, so that it may be replaced
_BACKENDS = {"onnx": ("onnxruntime", "model.onnx"), "tensorrt": ("tensorrt", "model.plan")}


def write_repository(
    bundle: Bundle,
    out: Path,
    config: TritonConfig,
    name: str | None = None,
    *,
    artifacts: Sequence[str] = (),
    progress: Progress | None = None,
) -> list[str]:
    """Write ``out`` in one step; the names of its models.

    ``artifacts``: precisions or files of the manifest to take; none: all that may be shipped, and
    with a bundle opened with ``allow_failed`` those that failed. A note names what is left out.
    Raises MldrError for an artifact that is not there or failed, when nothing is left, or when
    ``out`` holds something else.
    """
    manifest, progress = bundle.manifest, progress or Silent()
    base = name or str(manifest.model.get("name", "student"))
    models = _named(bundle, artifacts) if artifacts else _permitted(bundle, progress)
    names = _names(base, models)
    with atomic_folder(out, replaces=RECORD) as folder:
        for artifact, model_name in zip(models, names, strict=True):
            backend, file = _BACKENDS[artifact.format]
            _model(bundle, artifact, folder / model_name, backend, file, config)
        # The Python model computes on a CPU, where an emulated precision has no kernels.
        onnx = next((a for a in models if a.format == "onnx" and not a.emulated), None)
        if onnx is not None:
            names.append(f"{base}_python")
            target = _model(bundle, onnx, folder / names[-1], "python", "model.py", config)
            code = files(__package__).joinpath("python_backend.py.txt").read_text(encoding="utf-8")
            write_text(target / "model.py", code)
            shutil.copyfile(bundle.file(onnx), target / "student.onnx")
        write_json(folder / RECORD, {"bundle": str(bundle.path.resolve()), "models": names})
    machines = {str(a.engine.machine) for a in models if a.engine is not None}
    if len(machines) > 1:
        progress.note(
            f"engines for {' and '.join(sorted(machines))}: each loads on its own only; start "
            "tritonserver with --exit-on-error=false, or name one by --artifact"
        )
    return names


def _named(bundle: Bundle, artifacts: Sequence[str]) -> list[Artifact]:
    """The models that ``artifacts`` name, each once, in the order of the manifest."""
    wishes = {name: artifacts_named(bundle, name) for name in artifacts}
    for name, matching in wishes.items():
        if not any(artifact.format in _BACKENDS for artifact in matching):
            raise MldrError(f"{bundle.path}: {name} is no ONNX file and no engine of TensorRT")
    taken = {artifact.file for matching in wishes.values() for artifact in matching}
    return [a for a in bundle.manifest.artifacts if a.file in taken and a.format in _BACKENDS]


def _permitted(bundle: Bundle, progress: Progress) -> list[Artifact]:
    """The models that may be taken without being named; a note says which may not, and why."""
    models = []
    reasons: dict[str, None] = {}
    for artifact in bundle.manifest.artifacts:
        if artifact.format not in _BACKENDS:
            continue
        reason = objection(bundle.manifest, artifact)
        if reason is None or (bundle.allow_failed and not artifact.emulated):
            models.append(artifact)
        else:
            reasons[reason] = None
    if not models:
        listed = "; ".join(reasons) or "no ONNX file and no engine of TensorRT"
        raise MldrError(f"{bundle.path} holds nothing for Triton: {listed}")
    for reason in reasons:
        progress.note(f"left out, --artifact takes it all the same: {reason}")
    return models


def _names(base: str, models: list[Artifact]) -> list[str]:
    """A name for each; engines of one precision for several machines have theirs in it."""
    names = [f"{base}_{artifact.precision}_{artifact.format}" for artifact in models]
    return [
        f"{name}_{artifact.engine.machine.slug}"
        if artifact.engine is not None and names.count(name) > 1
        else name
        for name, artifact in zip(names, models, strict=True)
    ]


def _model(
    bundle: Bundle, artifact: Artifact, folder: Path, backend: str, file: str, config: TritonConfig
) -> Path:
    """One model's folder, all but a Python model's code; returns its version's folder."""
    manifest, golden = bundle.manifest, bundle.golden
    version = folder / "1"
    version.mkdir(parents=True)
    (folder / "warmup").mkdir()
    write_bytes(folder / "warmup" / WARM_UP, golden.inputs[0].astype("<f4").tobytes())
    write_text(folder / LABELS, "".join(f"{_line(label)}\n" for label in manifest.labels))
    text = model_config(folder.name, backend, file, manifest, manifest.max_batch, config)
    write_text(folder / "config.pbtxt", text)
    if backend != "python":
        shutil.copyfile(bundle.file(artifact), version / file)
    return version


def _line(label: str) -> str:
    return " ".join(label.split())
