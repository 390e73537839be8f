"""An engine for this machine in a bundle that came from another (docs/design.md, section TensorRT).

Where no engine of the bundle fits the GPU and TensorRT at hand, one is built from the bundle's
ONNX file, proven, and added; the other machines' engines and every other file stay as they are.
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..bundle.atomic import write_bytes
from ..bundle.engine import FOLDER, FORMAT
from ..bundle.golden import Golden, golden_limit
from ..bundle.manifest import Artifact, write_manifest
from ..bundle.parity import ParityResult
from ..bundle.precisions import precision_named
from ..bundle.preprocess import Floats
from ..bundle.progress import Progress, Silent
from ..bundle.reader import Bundle, open_bundle
from ..errors import MldrError
from ..runtimes.model_file import ModelFile
from ..runtimes.onnxruntime_cpu import OnnxRuntimeCpu
from ..runtimes.runtime import Predictor
from ..runtimes.tensorrt_machine import fitting, this_machine
from .answer_memory import AnswerMemory
from .artifact_kind import Written
from .export_config import ExportConfig
from .kinds import KINDS
from .measure_parity import measure
from .prove import Grounds, on_split, proven
from .tensorrt.engine_config import EngineConfig
from .tensorrt.write import EngineFiles, write_engine
from .trained_student import bundled_model

if TYPE_CHECKING:
    from ..data.dataset import Dataset


def engine_here(
    path: Path,
    precision: str,
    config: EngineConfig | None = None,
    *,
    dataset: Dataset | None = None,
    progress: Progress | None = None,
) -> Artifact:
    """The engine of ``precision`` for this machine, built and added when the bundle has none.

    A new one is proven on the whole test split of ``dataset`` beside the PyTorch student; without
    it (a machine that only serves) on the golden images beside PyTorch's stored logits, and its
    record says so by the number of images. Raises MldrError when the ONNX file is missing, failed
    its own gate or was changed, or the bundle cannot be written; Unavailable as ``write_engine``.
    """
    config, progress = config or EngineConfig(), progress or Silent()
    bundle = open_bundle(path, allow_failed=True)
    machine = this_machine(config.device)
    present = fitting(bundle.manifest.artifacts, precision, machine)
    if present is not None:
        return present
    source = Bundle(path, bundle.manifest).artifact(precision_named(precision).built_from, "onnx")
    progress.note(f"{path} holds no {precision} engine for {machine}: building one")
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        files = write_engine(
            bundle.file(source),
            folder,
            precision,
            bundle.manifest.max_batch,
            config,
            progress,
        )
        artifact = _proven(bundle, precision, source, folder, files, dataset, progress)
        names = [artifact.file, *(entry.file for entry in artifact.beside)]
        artifacts = [*bundle.manifest.artifacts, artifact]
        add_files(bundle, folder, names, {"artifacts": artifacts})
    return artifact


def _proven(
    bundle: Bundle,
    precision: str,
    source: Artifact,
    folder: Path,
    files: EngineFiles,
    dataset: Dataset | None,
    progress: Progress,
) -> Artifact:
    manifest, key = bundle.manifest, (FORMAT, precision)
    written = Written(
        files.plan,
        islands=tuple(source.islands),
        quantization=source.quantization,
        engine=files.record,
        beside=(files.layers,),
    )
    ends = (manifest.input, manifest.output)
    if dataset is None:
        grounds = Grounds(ends, lambda runner: _on_golden(bundle, runner, source, progress))
    else:
        grounds = on_split(
            bundled_model(bundle),
            dataset.test,
            manifest.preprocessing,
            ExportConfig(max_batch=manifest.max_batch),
            ends=ends,
            precision=source.precision,
            gate=source.parity.gate,
            images=None,
            memory=AnswerMemory(),
            progress=progress,
        )
    return proven(folder, key, written, KINDS[key], grounds)


def _on_golden(
    bundle: Bundle, engine: Predictor, source: Artifact, progress: Progress
) -> ParityResult:
    golden = bundle.golden
    gate = source.parity.gate.model_copy(update={"max_dlogit": golden_limit(source.parity)})
    size = bundle.manifest.max_batch
    parts = range(0, len(golden), size)
    batches = [(golden.inputs[k : k + size], golden.label[k : k + size]) for k in parts]
    # The fp32 ONNX file was proven to give what PyTorch gives.
    exact = Bundle(bundle.path, bundle.manifest).artifact()
    with OnnxRuntimeCpu(ModelFile.of(bundle, exact)) as stand_in:
        return measure(
            StoredLogits(golden, stand_in),
            engine,
            batches,
            samples=len(golden),
            precision=source.precision,
            gate=gate,
            max_batch=size,
            progress=progress,
        )


class StoredLogits:
    """PyTorch's logits of the golden images, looked up by the very bytes of an image.

    Other images, which parity makes up to probe an engine, are answered by ``stand_in``.
    """

    def __init__(self, golden: Golden, stand_in: Predictor) -> None:
        pairs = zip(golden.inputs, golden.logits, strict=True)
        self._logits = {image.tobytes(): logits for image, logits in pairs}
        self._stand_in = stand_in

    def __call__(self, inputs: Floats) -> Floats:
        stored = [self._logits.get(image.tobytes()) for image in inputs]
        hits = [logits for logits in stored if logits is not None]
        return np.stack(hits) if len(hits) == len(inputs) else self._stand_in(inputs)


def add_files(bundle: Bundle, folder: Path, names: list[str], update: dict[str, list[Any]]) -> None:
    """Put ``names`` from ``folder`` into the bundle, and what ``update`` says into its manifest.

    The manifest comes last: until then nothing lists them. Raises MldrError where the bundle lists
    such a file already or cannot be written; it is then as it was.
    """
    listed = {entry.file for entry in bundle.manifest.files}
    if clash := listed.intersection(names):
        raise MldrError(f"{bundle.path} already lists {', '.join(sorted(clash))}: export it again")
    manifest = bundle.manifest.model_copy(update=update)
    home = bundle.path / FOLDER
    fresh = not home.exists()
    try:
        try:
            home.mkdir(exist_ok=True)
        except OSError as error:
            reason = error.strerror or error
            raise MldrError(f"{home} cannot be written ({reason}): copy the bundle") from error
        for name in names:
            write_bytes(bundle.path / name, (folder / name).read_bytes())
        write_manifest(bundle.path, manifest)
    except BaseException:
        for name in names:
            (bundle.path / name).unlink(missing_ok=True)
        if fresh:
            shutil.rmtree(home, ignore_errors=True)
        raise
