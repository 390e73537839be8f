"""Proving a bundle again, as far as this machine can (docs/design.md, section Parity)."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..bundle.chance import ADVICE
from ..bundle.infer_script import infer_script
from ..bundle.manifest import Artifact, FileEntry
from ..bundle.parity import Fault, ParityResult
from ..bundle.preprocess import Floats, to_pixels
from ..bundle.progress import Progress, Silent
from ..bundle.reader import Bundle, open_bundle
from ..bundle.temperature import fit_temperature
from ..errors import MldrError, Unavailable
from ..runtimes.runtime import Predictor, RunError
from .calibration import Calibration, CalibrationConfig
from .claims import broken, claims_of, read_graph
from .config import ExportConfig
from .evidence import evidence_of, validation_answers
from .job import ArtifactKind
from .kinds import KINDS
from .prove import locate, prove, worst_inputs
from .scales import wrong_scales
from .student import bundled_model, first_difference
from .torch_reference import torch_reference

if TYPE_CHECKING:
    from torch import nn

    from ..data.dataset import Dataset

_BATCH = 16  # calibration images at a time
_GOLDEN_SLACK = 1.2  # other kernels on another machine
_TEMPERATURE_TOLERANCE = 0.01  # part of it: logits of another machine, at an optimum that is flat
_WEIGHTS_TOLERANCE = 1e-3  # logits of the same weights in the same framework on another machine


@dataclass(frozen=True)
class Finding:
    """One thing that was proven, refuted, or (``holds`` None) could not be tried here."""

    subject: str
    holds: bool | None
    detail: str

    def __str__(self) -> str:
        word = {True: "ok", False: "FAILED", None: "skipped"}[self.holds]
        return f"{word:8}{self.subject}: {self.detail}"


@dataclass(frozen=True)
class CheckResult:
    """Everything that was found. True when nothing was refuted."""

    findings: tuple[Finding, ...]
    parity: dict[str, ParityResult]  # by artifact file, measured now
    faults: dict[str, Fault]

    def __bool__(self) -> bool:
        return all(finding.holds is not False for finding in self.findings)

    def __str__(self) -> str:
        lines = [str(finding) for finding in self.findings]
        lines += [str(result) for result in self.parity.values()]
        lines += [f"{file}: {fault}" for file, fault in self.faults.items()]
        verdict = "the bundle holds" if self else "the bundle does NOT hold"
        return "\n".join([*lines, verdict])


def check_bundle(
    path: Path, *, dataset: Dataset | None = None, progress: Progress | None = None
) -> CheckResult:
    """Prove the bundle at ``path`` again.

    Always: schema, hashes, golden inputs bit for bit, golden logits of artifacts and of the
    rebuilt PyTorch model. With ``dataset``: parity on the whole test split, and, when it is the
    data of the export, the golden pixels from their source and what training measured on the
    validation split. What needs torch is skipped, and said
    so, where torch is not installed. Raises MldrError when the bundle does not open or the data
    set has other classes.
    """
    progress = progress or Silent()
    bundle = open_bundle(path, allow_failed=True)
    count = len(bundle.manifest.files)
    findings = [
        Finding("files", True, f"{count} files have the manifest's sizes and hashes"),
        Finding("golden inputs", True, f"{len(bundle.golden)} images, every bit as at export"),
    ]
    if bundle.manifest.script is not None:
        findings.append(_script(bundle, bundle.manifest.script))
    if bundle.manifest.at_chance:
        findings.append(Finding("student", False, f"no better than chance: {ADVICE}"))
    if dataset is not None:
        findings.append(_golden_sources(bundle, dataset))
    model = None
    if find_spec("torch") is None:
        findings.append(Finding("weights", None, "torch is not installed, the model not rebuilt"))
    else:
        model = bundled_model(bundle)
        with torch_reference(model) as reference:
            findings.append(_weights(bundle, reference))
            findings += _validation(bundle, reference, dataset, progress)
    parity: dict[str, ParityResult] = {}
    faults: dict[str, Fault] = {}
    for artifact in bundle.manifest.artifacts:
        kind = KINDS.get((artifact.format, artifact.precision))
        if kind is None:
            what = f"{artifact.format} {artifact.precision}"
            findings.append(Finding(artifact.file, None, f"{what} is not known here"))
            continue
        try:
            findings += _artifact(bundle, artifact, kind)
        except Unavailable as error:
            findings.append(Finding(artifact.file, None, str(error)))
            continue
        if artifact.quantization is not None:
            findings.append(_scales(bundle, artifact, dataset))
        if model is None or dataset is None:
            why = "no data set given" if dataset is None else "torch is not installed"
            findings.append(Finding(f"{artifact.file} parity", None, why))
            continue
        try:
            result, fault = _parity(bundle, artifact, kind, model, dataset, progress)
        except RunError as error:
            findings.append(Finding(f"{artifact.file} parity", False, str(error)))
            continue
        parity[artifact.file] = result
        detail = "; ".join(result.failures) or f"{result.samples} images"
        findings.append(Finding(f"{artifact.file} parity", bool(result), detail))
        if fault is not None:
            faults[artifact.file] = fault
    findings += [Finding(engine.file, None, engine.status) for engine in bundle.manifest.built]
    return CheckResult(tuple(findings), parity, faults)


def _golden_sources(bundle: Bundle, dataset: Dataset) -> Finding:
    manifest, golden = bundle.manifest, bundle.golden
    if manifest.labels != [*dataset.classes]:
        raise MldrError(
            f"{bundle.path}: {first_difference(manifest.labels, dataset.classes, dataset.source)}: "
            "give the data set that the student was trained for"
        )
    if manifest.data_fingerprint != dataset.fingerprint:
        return Finding("golden pixels", None, f"{dataset.source} is not the data of the export")
    for k, index in enumerate(golden.index):
        pixels = to_pixels(dataset.test.image(int(index)), manifest.preprocessing)
        same = np.array_equal(pixels, golden.pixels[k])
        if not same or dataset.test.labels[index] != golden.label[k]:
            return Finding("golden pixels", False, f"test image {index} is another one now")
    return Finding("golden pixels", True, f"as preprocessed from {dataset.source}")


def _script(bundle: Bundle, script: FileEntry) -> Finding:
    """Whether infer.py is ours. It is not run: whoever made the bundle may have written it."""
    source = bundle.file(script).read_text(encoding="utf-8", errors="replace")
    if source == infer_script(bundle.manifest):
        return Finding(script.file, True, "as this version writes it")
    return Finding(script.file, None, "not this version's: read it before you run it")


def _weights(bundle: Bundle, reference: Predictor) -> Finding:
    largest = _largest(reference(bundle.golden.inputs), bundle.golden.logits)
    holds = largest <= _WEIGHTS_TOLERANCE
    return Finding(
        "weights", holds, f"|dlogit| {largest:.2g} of the rebuilt PyTorch model on golden images"
    )


def _validation(
    bundle: Bundle, reference: Predictor, dataset: Dataset | None, progress: Progress
) -> list[Finding]:
    """The rebuilt student on the validation split: what training recorded, and the temperature."""
    manifest, subject = bundle.manifest, "trained function"
    evidence = manifest.evidence
    if evidence is None:
        return [Finding(subject, None, "training recorded no validation figures")]
    if dataset is None or dataset.fingerprint != manifest.data_fingerprint:
        return [Finding(subject, None, "the data of the training are not given")]
    answers = validation_answers(reference, dataset.val, manifest.preprocessing, progress)
    again = None if answers is None else evidence_of(*answers, manifest.preprocessing)
    broken = evidence.contradicted_by(again)
    detail = f"validation loss {evidence.loss:.4f} and top-1 {evidence.top1:.2f} % as in training"
    findings = [Finding(subject, not broken, "; ".join(broken) or detail)]
    if answers is not None and manifest.quality is not None:
        findings.append(_temperature(manifest.temperature, fit_temperature(*answers)))
    return findings


def _temperature(stored: float, again: float) -> Finding:
    """Whether probabilities are over the temperature that validation gives."""
    holds = abs(stored - again) <= _TEMPERATURE_TOLERANCE * again
    detail = f"{stored:.4g} in the manifest, {again:.4g} on the validation split"
    return Finding("temperature", holds, detail)


def _artifact(bundle: Bundle, artifact: Artifact, kind: ArtifactKind) -> list[Finding]:
    """What the manifest says of one artifact, and what it gives for the golden images now."""
    stored = artifact.parity
    detail = "; ".join(stored.failures) or "passed"
    said = [Finding(f"{artifact.file} at export", bool(stored), detail)]
    if kind.is_graph:
        said.append(_claims(bundle, artifact))
    try:
        with kind.run(bundle.path, artifact, 0) as runner:
            logits = runner(bundle.golden.inputs)
    except RunError as error:
        return [*said, Finding(f"{artifact.file} golden logits", False, str(error))]
    largest = _largest(logits, bundle.golden.logits)
    limit = stored.gate.max_dlogit
    if limit is None:  # the golden images are of the split that parity was measured on
        limit = _GOLDEN_SLACK * stored.max_dlogit + _WEIGHTS_TOLERANCE
    detail = f"|dlogit| {largest:.2g}, allowed {limit:.2g}"
    return [*said, Finding(f"{artifact.file} golden logits", largest <= limit, detail)]


def _claims(bundle: Bundle, artifact: Artifact) -> Finding:
    """Whether the graph is what the manifest says: precision, operator set, inputs, all inside."""
    manifest, subject = bundle.manifest, f"{artifact.file} graph"
    claims = claims_of(
        artifact.precision,
        artifact.opset,
        (manifest.input, manifest.output),
        artifact.islands,
        artifact.quantization,
    )
    try:
        graph = read_graph(bundle.file(artifact))
    except MldrError as error:
        return Finding(subject, False, str(error))
    wrong = broken(graph, claims)
    tally = ", ".join(f"{count} in {name}" for name, count in sorted(graph.tally().items()))
    return Finding(subject, not wrong, "; ".join(wrong) or f"opset {graph.opset}, {tally}")


def _scales(bundle: Bundle, artifact: Artifact, dataset: Dataset | None) -> Finding:
    """Whether a quantised artifact's scales are those of the images it says it was made with."""
    manifest, subject = bundle.manifest, f"{artifact.file} scales"
    assert artifact.quantization is not None
    if dataset is None or dataset.fingerprint != manifest.data_fingerprint:
        return Finding(subject, None, "the data of the calibration are not given")
    drawn = CalibrationConfig(
        images=artifact.quantization.calibration_images,
        seed=artifact.quantization.calibration_seed,
    )
    images = Calibration(dataset.train, manifest.preprocessing, drawn)
    original = bundle.file(bundle.artifact("fp32"))
    wrong = wrong_scales(bundle.file(artifact), original, images.batches(_BATCH))
    detail = "; ".join(wrong) or f"as measured on {len(images)} training images"
    return Finding(subject, not wrong, detail)


def _parity(
    bundle: Bundle,
    artifact: Artifact,
    kind: ArtifactKind,
    model: nn.Module,
    dataset: Dataset,
    progress: Progress,
) -> tuple[ParityResult, Fault | None]:
    manifest, gate = bundle.manifest, artifact.parity.gate
    with torch_reference(model) as reference, kind.run(bundle.path, artifact, 0) as runner:
        result = prove(
            reference,
            runner,
            dataset.test,
            manifest.preprocessing,
            precision=artifact.precision,
            gate=gate,
            max_batch=manifest.max_batch,
            progress=progress,
        )
    if result or not kind.is_graph:
        return result, None
    config = ExportConfig(opset=artifact.opset or 20, max_batch=manifest.max_batch)
    inputs = worst_inputs(dataset.test, manifest.preprocessing, result)
    return result, locate(model, bundle.file(artifact), inputs, config, gate, progress)


def _largest(logits: Floats, expected: Floats) -> float:
    """Largest absolute difference; infinity for another shape or anything that is not finite."""
    if logits.shape != expected.shape or not np.isfinite(logits).all():
        return float("inf")
    return float(np.abs(logits - expected).max())
