"""Proving a bundle again, as far as this machine can (docs/design.md, section Parity)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..bundle.golden import golden_limit
from ..bundle.infer_script import infer_script, phone_script
from ..bundle.manifest import FILE, Artifact, FileEntry, Manifest
from ..bundle.parity import Fault, ParityResult
from ..bundle.preprocess import Floats
from ..bundle.progress import Progress, Silent
from ..bundle.quantization import Quantization
from ..bundle.reader import Bundle, open_bundle
from ..bundle.temperature import fit_temperature
from ..errors import MldrError, Unavailable
from ..runtimes.runtime import Predictor, RunError
from .answer_memory import AnswerMemory
from .artifact_kind import ArtifactKind, Written
from .calibration import Calibration, CalibrationConfig
from .export_config import ExportConfig
from .kinds import KINDS
from .prove import Grounds, Proof, on_split, prove_artifact
from .timm_folder import timm_difference
from .torch_reference import torch_reference
from .trained_student import bundled_model, first_difference
from .training_evidence import evidence_of, validation_answers

if TYPE_CHECKING:
    from torch import nn

    from ..data.dataset import Dataset

_BATCH = 16  # calibration images at a time
_TEMPERATURE_TOLERANCE = 0.01  # part of it: logits of another machine, at an optimum that is flat


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
        Finding(FILE, True if bundle.manifest.record_sha256 else None, bundle.manifest.seal),
        Finding("files", True, f"{count} files have the manifest's sizes and hashes"),
        *(Finding(file, None, "not of the manifest: nothing reads it") for file in bundle.unlisted),
        Finding("golden inputs", True, f"{len(bundle.golden)} images, every bit as at export"),
    ]
    if bundle.manifest.script is not None:
        source = infer_script(bundle.manifest)
        findings.append(_script(bundle, bundle.manifest.script, source))
    if bundle.manifest.phone_script is not None:
        findings.append(_script(bundle, bundle.manifest.phone_script, phone_script()))
    if bundle.manifest.warning is not None:
        findings.append(Finding("student", False, bundle.manifest.warning))
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
        if bundle.manifest.timm_files:
            findings.append(_timm(bundle, model))
    memory = AnswerMemory()
    parity: dict[str, ParityResult] = {}
    faults: dict[str, Fault] = {}
    for artifact in bundle.manifest.artifacts:
        kind = KINDS.get((artifact.format, artifact.precision))
        if kind is None:
            kind_name = f"{artifact.format} {artifact.precision}"
            findings.append(Finding(artifact.file, None, f"{kind_name} is not known here"))
            continue
        try:
            proof = prove_artifact(
                path,
                (artifact.format, artifact.precision),
                _written(artifact),
                kind,
                _grounds(bundle, artifact, model, dataset, memory, progress),
            )
            findings += [*_findings(bundle, artifact, kind, proof)]
        except Unavailable as error:
            findings.append(Finding(artifact.file, None, str(error)))
            continue
        if proof.parity is not None:
            parity[artifact.file] = proof.parity
        elif proof.error is None:
            reason = "no data set given" if dataset is None else "torch is not installed"
            findings.append(Finding(f"{artifact.file} parity", None, reason))
        if proof.fault is not None:
            faults[artifact.file] = proof.fault
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
        pixels = dataset.test.fitted(int(index), manifest.preprocessing)
        same_pixels = np.array_equal(pixels, golden.pixels[k])
        if not same_pixels or dataset.test.labels[index] != golden.label[k]:
            return Finding("golden pixels", False, f"test image {index} is another one now")
    return Finding("golden pixels", True, f"as preprocessed from {dataset.source}")


def _script(bundle: Bundle, script: FileEntry, source: str) -> Finding:
    """Whether it is our ``source``. It is not run: whoever made the bundle may have written it."""
    if bundle.file(script).read_text(encoding="utf-8", errors="replace") == source:
        return Finding(script.file, True, "as this version writes it")
    return Finding(script.file, None, "not this version's: read it before you run it")


def _weights(bundle: Bundle, reference: Predictor) -> Finding:
    largest = bundle.golden.difference(reference(bundle.golden.inputs))
    holds = largest <= golden_limit(None)
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
        reason = "training recorded no validation figures"
        return [Finding(subject, None, reason), *_untried_temperature(manifest)]
    if dataset is None or dataset.fingerprint != manifest.data_fingerprint:
        reason = "the data of the training are not given"
        return [Finding(subject, None, reason), *_untried_temperature(manifest)]
    answers = validation_answers(reference, dataset.val, manifest.preprocessing, progress)
    repeated = None if answers is None else evidence_of(*answers, manifest.preprocessing)
    broken = evidence.contradicted_by(repeated)
    detail = f"validation loss {evidence.loss:.4f} and top-1 {evidence.top1:.2f} % as in training"
    findings = [Finding(subject, not broken, "; ".join(map(str, broken)) or detail)]
    if answers is not None and manifest.quality is not None:
        findings.append(_temperature(manifest.temperature, fit_temperature(*answers)))
    return findings


def _timm(bundle: Bundle, model: nn.Module) -> Finding:
    """Whether timm's own loader still gives the student."""
    difference = timm_difference(bundle.path, model, bundle.golden.inputs)
    detail = f"the student bit for bit on {len(bundle.golden)} images"
    return Finding("timm's student", difference is None, difference or detail)


def _untried_temperature(manifest: Manifest) -> list[Finding]:
    """What can be said of the temperature without the validation split."""
    quality = manifest.quality
    if quality is not None and quality.fitted_on:
        return [Finding("temperature", None, "not fitted again without the validation split")]
    if manifest.temperature != 1:
        detail = f"{manifest.temperature:.4g} in the manifest, and nothing was fitted"
        return [Finding("temperature", False, detail)]
    return []


def _temperature(stored: float, refitted: float) -> Finding:
    """Whether probabilities are over the temperature that validation gives."""
    holds = abs(stored - refitted) <= _TEMPERATURE_TOLERANCE * refitted
    detail = f"{stored:.4g} in the manifest, {refitted:.4g} on the validation split"
    return Finding("temperature", holds, detail)


def _findings(
    bundle: Bundle, artifact: Artifact, kind: ArtifactKind, proof: Proof
) -> Iterator[Finding]:
    """What was found of one artifact, and what it gives for the golden images."""
    stored = artifact.parity
    yield Finding(
        f"{artifact.file} at export",
        bool(stored),
        _words(stored.failures, stored.doubt or "passed"),
    )
    if kind.read is not None:
        graph, tally = proof.graph, proof.graph.tally() if proof.graph is not None else {}
        computed = ", ".join(f"{count} in {name}" for name, count in sorted(tally.items()))
        opset = f"opset {graph.opset}, " if kind.is_graph and graph is not None else ""
        healthy = f"{opset}{computed}"
        yield Finding(f"{artifact.file} graph", not proof.claims, _words(proof.claims, healthy))
    yield _golden_logits(bundle, artifact, kind)
    if kind.is_graph and artifact.quantization is not None:
        subject, count = f"{artifact.file} scales", artifact.quantization.calibration_images
        if proof.scales is None:
            yield Finding(subject, None, "the data of the calibration are not given")
        else:
            healthy = f"as measured on {count} training images"
            yield Finding(subject, not proof.scales, _words(proof.scales, healthy))
    if proof.parity is not None:
        detail = _words(proof.parity.failures, f"{proof.parity.samples} images")
        yield Finding(f"{artifact.file} parity", bool(proof.parity), detail)
    elif proof.error is not None:
        yield Finding(f"{artifact.file} parity", False, proof.error)


def _words(failures: list[str], healthy: str) -> str:
    return "; ".join(failures) or healthy


def _golden_logits(bundle: Bundle, artifact: Artifact, kind: ArtifactKind) -> Finding:
    subject, limit = f"{artifact.file} golden logits", golden_limit(artifact.parity)
    try:
        with kind.run(bundle.path, artifact, 0) as runner:
            largest = bundle.golden.difference(runner(bundle.golden.inputs))
    except RunError as error:
        return Finding(subject, False, str(error))
    return Finding(subject, largest <= limit, f"|dlogit| {largest:.2g}, allowed {limit:.2g}")


def _written(artifact: Artifact) -> Written:
    """What the manifest says of the file."""
    return Written(
        artifact.file,
        artifact.opset,
        tuple(artifact.islands),
        artifact.quantization,
        artifact.engine,
    )


def _grounds(
    bundle: Bundle,
    artifact: Artifact,
    model: nn.Module | None,
    dataset: Dataset | None,
    memory: AnswerMemory,
    progress: Progress,
) -> Grounds:
    """What this artifact can be proven on here."""
    manifest = bundle.manifest
    ends = (manifest.input, manifest.output)
    images = _calibration(manifest, artifact.quantization, dataset)
    if model is None or dataset is None:
        return Grounds(ends, None, images)
    return on_split(
        model,
        dataset.test,
        manifest.preprocessing,
        ExportConfig(opset=artifact.opset or 20, max_batch=manifest.max_batch),
        ends=ends,
        precision=artifact.precision,
        gate=artifact.parity.gate,
        images=images,
        memory=memory,
        progress=progress,
    )


def _calibration(
    manifest: Manifest, record: Quantization | None, dataset: Dataset | None
) -> Iterator[Floats] | None:
    """The images that the manifest says scales were measured on; None where they are not here."""
    if record is None or dataset is None or dataset.fingerprint != manifest.data_fingerprint:
        return None
    drawn = CalibrationConfig(images=record.calibration_images, seed=record.calibration_seed)
    return Calibration(dataset.train, manifest.preprocessing, drawn).batches(_BATCH)
