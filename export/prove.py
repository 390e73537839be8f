"""The one proof of an artifact: its graph, its scales, its parity, and where it deviates first."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ..bundle.manifest import Artifact, Runnable, TensorSpec, describe
from ..bundle.parity import Fault, Gate, ParityResult
from ..bundle.precisions import PRECISIONS
from ..bundle.preprocess import Floats, Preprocessing, preprocess
from ..bundle.progress import Progress
from ..errors import MldrError, Unavailable
from ..runtimes.runtime import Predictor, RunError
from .answer_memory import AnswerMemory
from .artifact_kind import ArtifactKind, Written
from .bisect import bisect
from .claims import Graph, broken, claims_of
from .export_config import ExportConfig
from .measure_parity import false_colours, measure
from .scales import wrong_scales
from .tensorrt.write import with_proof
from .torch_reference import torch_reference

if TYPE_CHECKING:
    from torch import nn

    from ..data.split import Split
    from .kinds import Key


@dataclass(frozen=True)
class Grounds:
    """What an artifact is proven on; None where that is not at hand.

    ``parity`` measures an entered runner beside the PyTorch student, ``images`` are those that the
    scales were measured on, and ``fault`` looks into an ONNX file that failed.
    """

    ends: tuple[TensorSpec, TensorSpec]  # input and output of every artifact
    parity: Callable[[Predictor], ParityResult] | None
    images: Iterable[Floats] | None = None
    fault: Callable[[Path, ParityResult], Fault | None] | None = None
    threads: int = 0


@dataclass(frozen=True)
class Proof:
    """What was found of one artifact."""

    graph: Graph | None  # None: it tells nothing of itself, or is not readable
    claims: list[str]  # that the graph does not bear out
    scales: list[str] | None  # that are not of the images; None: not tried
    parity: ParityResult | None  # None: not tried, or it did not run
    error: str | None = None  # why it did not run
    fault: Fault | None = None

    @property
    def failures(self) -> list[str]:
        """Everything that is wrong, in words."""
        measured = self.parity.failures if self.parity is not None else []
        return [*self.claims, *(self.scales or []), *measured, *filter(None, [self.error])]


def prove_artifact(
    folder: Path, key: Key, written: Written, kind: ArtifactKind, grounds: Grounds
) -> Proof:
    """Prove the file of the bundle ``folder`` that ``written`` tells of, as far as ``grounds`` go.

    An engine must also multiply in the precision that it is called by. Raises Unavailable where
    this machine cannot run it.
    """
    path, graph, claims, scales = folder / written.file, None, list[str](), None
    if kind.read is not None:
        claimed = claims_of(
            key[1], written.opset, grounds.ends, written.islands, written.quantization
        )
        try:
            graph = kind.read(path)
            claims = broken(graph, claimed)
        except Unavailable:
            raise
        except MldrError as error:
            claims = [str(error)]
        if written.quantization is not None and grounds.images is not None and graph is not None:
            scales = wrong_scales(path, folder / PRECISIONS["fp32"].file, grounds.images)
    if grounds.parity is None:
        return Proof(graph, claims, scales, None)
    try:
        with kind.run(folder, runnable(folder, written), grounds.threads) as runner:
            parity = with_proof(grounds.parity(runner), written.engine)
    except RunError as error:
        return Proof(graph, claims, scales, None, str(error))
    proof = Proof(graph, claims, scales, parity)
    if not proof.failures or not kind.is_graph or graph is None or grounds.fault is None:
        return proof
    return dataclasses.replace(proof, fault=grounds.fault(path, parity))


def runnable(folder: Path, written: Written) -> Runnable:
    """The file as it is now."""
    return Runnable(**describe(folder, written.file).model_dump(), engine=written.engine)


def proven(
    folder: Path, key: Key, written: Written, kind: ArtifactKind, grounds: Grounds
) -> Artifact:
    """The manifest's record of a new file, proven. Raises MldrError where it does not run."""
    proof = prove_artifact(folder, key, written, kind, grounds)
    if proof.parity is None:
        raise MldrError("; ".join(proof.failures))
    parity = proof.parity.model_copy(update={"failures": proof.failures})
    return Artifact(
        **runnable(folder, written).model_dump(),
        format=key[0],
        precision=key[1],
        opset=written.opset,
        status="passed" if parity else "failed",
        parity=parity,
        fault=proof.fault,
        emulated=kind.emulated,
        caveat=kind.caveat,
        computes=proof.graph.tally() if proof.graph is not None else {},
        islands=list(written.islands),
        beside=[describe(folder, file) for file in written.beside],
        quantization=written.quantization,
    )


def prove(
    reference: Predictor,
    artifact: Predictor,
    split: Split,
    preprocessing: Preprocessing,
    *,
    precision: str,
    gate: Gate,
    max_batch: int,
    progress: Progress,
    record: Callable[[Floats, NDArray[np.int64]], None] | None = None,
) -> ParityResult:
    """Parity of two entered runners on every image of ``split``, decoded as it streams.

    ``record`` is given the reference's logits and the labels of every batch.
    """
    from ..data.loader import EvalBatches

    batches = EvalBatches(split, preprocessing, max_batch, "cpu")
    return measure(
        reference,
        artifact,
        ((inputs.numpy(), labels.numpy()) for inputs, labels in batches),
        samples=len(split),
        precision=precision,
        gate=gate,
        max_batch=max_batch,
        progress=progress,
        record=record,
    )


def on_split(
    model: nn.Module,
    split: Split,
    preprocessing: Preprocessing,
    config: ExportConfig,
    *,
    ends: tuple[TensorSpec, TensorSpec],
    precision: str,
    gate: Gate,
    images: Iterable[Floats] | None,
    memory: AnswerMemory,
    progress: Progress,
    record: Callable[[Floats, NDArray[np.int64]], None] | None = None,
) -> Grounds:
    """Grounds of an artifact of ``precision``: the PyTorch student on every image of ``split``.

    ``memory`` is of ``model``: what it was asked for another artifact is not computed again.
    ``record`` as in ``prove``.
    """

    def parity(runner: Predictor) -> ParityResult:
        with torch_reference(model, config.threads) as reference:
            return prove(
                memory.through(reference),
                runner,
                split,
                preprocessing,
                precision=precision,
                gate=gate,
                max_batch=config.max_batch,
                progress=progress,
                record=record,
            )

    def fault(path: Path, measured: ParityResult) -> Fault | None:
        inputs = worst_inputs(split, preprocessing, measured)
        return locate(model, path, inputs, config, gate, progress)

    return Grounds(ends, parity, images, fault if config.bisect else None, config.threads)


def worst_inputs(split: Split, preprocessing: Preprocessing, parity: ParityResult) -> Floats:
    """The image with the largest difference and its successor [2, 3, H, W]."""
    rows = (parity.worst_index, (parity.worst_index + 1) % len(split))
    return preprocess([split.image(row) for row in rows], preprocessing)


def locate(
    model: nn.Module,
    artifact: Path,
    inputs: Floats,
    config: ExportConfig,
    gate: Gate,
    progress: Progress,
) -> Fault | None:
    """Bisect, for a report: None also when the artifact does not run on ``inputs`` at all.

    Where logits are gated one by one, the inputs are given in false colours too: on grey images
    alone a node that mixes up channels stays in band. (They leave the ranges of int8.)
    """
    progress.start("searching the first deviating node", None)
    try:
        if gate.max_dlogit is not None:
            inputs = np.concatenate([inputs, false_colours(inputs)])
        return bisect(model, artifact, inputs, config, gate)
    except RunError:
        return None
    finally:
        progress.finish()
