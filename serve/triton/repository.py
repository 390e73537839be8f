"""A Triton model repository from a bundle: one model for each artifact, and one in Python."""

from __future__ import annotations

import shutil
from importlib.resources import files
from pathlib import Path

from ...bundle.atomic import atomic_folder, write_bytes, write_json, write_text
from ...bundle.manifest import Artifact
from ...bundle.reader import Bundle
from ...errors import MldrError
from .triton_config import LABELS, WARM_UP, TritonConfig, model_config

RECORD = "mldr-deploy.json"  # marks the folder as ours, so that it may be replaced
_BACKENDS = {"onnx": ("onnxruntime", "model.onnx"), "tensorrt": ("tensorrt", "model.plan")}


def write_repository(
    bundle: Bundle, out: Path, config: TritonConfig, name: str | None = None
) -> list[str]:
    """Write ``out`` in one step; the names of its models.

    Artifacts that failed parity are left out unless the bundle was opened with ``allow_failed``.
    Raises MldrError when nothing is left, or when ``out`` holds something else.
    """
    manifest = bundle.manifest
    base = name or str(manifest.model.get("name", "student"))
    permitted = [a for a in manifest.artifacts if bundle.allow_failed or a.status == "passed"]
    models = [a for a in permitted if a.format in _BACKENDS]
    if not models:
        raise MldrError(f"{bundle.path} holds no ONNX file or engine that passed parity")
    names = []
    with atomic_folder(out, replaces=RECORD) as folder:
        for artifact in models:
            backend, file = _BACKENDS[artifact.format]
            model_name = f"{base}_{artifact.precision}_{artifact.format}"
            names.append(model_name)
            _model(bundle, artifact, folder / model_name, backend, file, config)
        onnx = next((a for a in models if a.format == "onnx"), None)
        if onnx is not None:
            names.append(f"{base}_python")
            target = _model(bundle, onnx, folder / names[-1], "python", "model.py", config)
            code = files(__package__).joinpath("python_backend.py.txt").read_text(encoding="utf-8")
            write_text(target / "model.py", code)
            shutil.copyfile(bundle.file(onnx), target / "student.onnx")
        write_json(folder / RECORD, {"bundle": str(bundle.path.resolve()), "models": names})
    return names


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
