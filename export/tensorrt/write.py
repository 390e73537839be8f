"""One engine from one ONNX file: lint, build, proof, files. Export and a later rebuild share it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ...bundle.atomic import sha256, write_bytes, write_text
from ...bundle.engine import FOLDER, EngineRecord, Machine, Profile
from ...bundle.parity import ParityResult
from ...bundle.precisions import PRECISIONS, precision_named
from ...bundle.progress import Progress
from ...errors import MldrError, Unavailable
from ...runtimes.tensorrt_machine import this_machine
from .builder import Plan, build_plan
from .engine_config import EngineConfig
from .graph_view import GraphView
from .lint import lint
from .proof import prove_precision


@dataclass(frozen=True)
class EngineFiles:
    """Where an engine and its layers lie inside the bundle, and what is recorded of it."""

    plan: str
    layers: str
    record: EngineRecord


def profile_for(max_batch: int, config: EngineConfig) -> Profile:
    """Every batch up to ``max_batch``, tuned for the configured one."""
    return Profile(min=1, opt=min(config.opt_batch, max_batch), max=max_batch)


def engine_of(onnx: str) -> str | None:
    """What an engine from the ONNX file of that precision is called; None: it is not for one."""
    rows = PRECISIONS.values() if "tensorrt" in precision_named(onnx).runs_on else ()
    return next((row.name for row in rows if row.built_from == onnx), None)


def engine_files(machine: Machine, precision: str) -> tuple[str, str]:
    """Names of plan and layers: GPU, TensorRT version and precision are in them."""
    stem = f"{FOLDER}/{machine.slug}.{precision}"
    return f"{stem}.plan", f"{stem}.layers.json"


def write_engine(
    onnx: Path,
    folder: Path,
    precision: str,
    max_batch: int,
    config: EngineConfig,
    progress: Progress,
) -> EngineFiles:
    """Build the engine of ``onnx`` for this machine and write it into the bundle ``folder``.

    The lint runs first and everywhere; its findings are noted. Raises Unavailable with one
    sentence when the graph is not for TensorRT, this machine has none, or it refuses to build.
    """
    profile = profile_for(max_batch, config)
    graph = linted(onnx, profile, progress)
    machine, computes_in = this_machine(config.device), precision_named(precision).computes_in
    try:
        plan = build_plan(onnx, computes_in, profile, machine, config, progress)
        record = _record(plan, graph, onnx, computes_in, profile, machine, config)
    except Unavailable:
        raise
    except MldrError as error:  # the ONNX files are good without it, so the export goes on
        raise Unavailable(graph.with_module(str(error))) from error
    progress.note(f"engine {precision}: {plan.requested}; chosen by it: {record.proof}")
    file, layers = engine_files(machine, precision)
    (folder / FOLDER).mkdir(parents=True, exist_ok=True)
    write_bytes(folder / file, plan.content)
    write_text(folder / layers, plan.layers)
    return EngineFiles(file, layers, record)


def linted(onnx: Path, profile: Profile, progress: Progress, *, rtx: bool = False) -> GraphView:
    """The graph of ``onnx``, its lint noted. Raises Unavailable in one line where that refuses."""
    import onnx as library

    proto = library.load(str(onnx))
    result = lint(proto, profile, onnx.name, rtx=rtx)
    progress.note(str(result))
    if not result:
        raise Unavailable(result.refusal)
    return GraphView(proto)


def _record(
    plan: Plan,
    graph: GraphView,
    onnx: Path,
    computes_in: str,
    profile: Profile,
    machine: Machine,
    config: EngineConfig,
) -> EngineRecord:
    return EngineRecord(
        machine=machine,
        hardware=config.hardware,
        version_compatible=config.version_compatible,
        profile=profile,
        source=onnx.name,
        source_sha256=sha256(onnx),
        proof=prove_precision(computes_in, plan.layers, graph),
        asked=plan.requested,
    )


def with_proof(parity: ParityResult, engine: EngineRecord | None) -> ParityResult:
    """``parity``, failed where the engine's precision is not the one that it is called by."""
    if engine is None or engine.proof:
        return parity
    return parity.model_copy(update={"failures": [*parity.failures, str(engine.proof)]})
