"""TensorRT-RTX engines in a bundle: built here, listed as "built, not run", never served.

They stand apart from the artifacts: without a run on such a card there is no parity.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from ...bundle.atomic import sha256, write_bytes
from ...bundle.engine import FOLDER, RTX, RtxRecord
from ...bundle.manifest import Artifact, BuiltEngine, describe
from ...bundle.precisions import PRECISIONS, precision_named
from ...bundle.progress import Progress, Silent
from ...bundle.reader import Bundle, open_bundle
from ...errors import MldrError, Unavailable
from ...runtimes.tensorrt_library import require_rtx
from ..artifact_kind import ExportContext
from ..rebuild_engine import add_files
from .engine_config import EngineConfig
from .rtx import build_rtx_plan, capabilities_for
from .write import linted, profile_for


def rtx_engines(
    context: ExportContext, artifacts: list[Artifact]
) -> tuple[list[BuiltEngine], list[str]]:
    """The engines that the export asks for, and why some of them are not there."""
    config = context.config
    if RTX not in config.targets:
        return [], []
    engines: list[BuiltEngine] = []
    missing: dict[str, list[str]] = {}  # precisions by reason
    passed = {a.precision for a in artifacts if (a.format, a.status) == ("onnx", "passed")}
    for precision in (precision for target, precision in config.pairs if target == RTX):
        try:
            source = PRECISIONS[precision].built_from
            onnx = context.onnx(source)
            if source not in passed:
                raise Unavailable(f"{onnx.name} did not pass its gate")
            engine = write_rtx_engine(
                onnx, context.folder, precision, config.max_batch, config.engine, context.progress
            )
            engines.append(engine)
        except Unavailable as error:
            missing.setdefault(str(error), []).append(precision)
    return engines, [f"{RTX} {', '.join(p)}: {reason}" for reason, p in missing.items()]


def write_rtx_engine(
    onnx: Path,
    folder: Path,
    precision: str,
    max_batch: int,
    config: EngineConfig,
    progress: Progress,
) -> BuiltEngine:
    """Build the engine of ``onnx`` and write it into the bundle ``folder``.

    Raises Unavailable in one line where TensorRT-RTX is not installed or refuses the graph.
    """
    library, computes_in = require_rtx(), precision_named(precision).computes_in
    profile = profile_for(max_batch, config)
    graph = linted(onnx, profile, progress, rtx=True)
    try:
        plan = build_rtx_plan(library, onnx, computes_in, profile, config, progress)
    except MldrError as error:  # the ONNX files are good without it, so the export goes on
        raise Unavailable(graph.with_module(str(error))) from error
    reach = "-".join(plan.capabilities)
    file = f"{FOLDER}/{RTX}-{library.version}-cc{reach}.{precision}.plan"
    (folder / FOLDER).mkdir(parents=True, exist_ok=True)
    write_bytes(folder / file, plan.content)
    record = RtxRecord(
        version=library.version,
        capabilities=[*plan.capabilities],
        profile=profile,
        source=onnx.name,
        source_sha256=sha256(onnx),
        asked=plan.requested,
    )
    engine = BuiltEngine(**describe(folder, file).model_dump(), precision=precision, rtx=record)
    progress.note(str(engine))
    return engine


def rtx_engine_here(
    path: Path, precision: str, config: EngineConfig | None = None, progress: Progress | None = None
) -> BuiltEngine:
    """The engine of ``precision`` in the bundle ``path``, built and added when it has none.

    Raises MldrError as ``engine_here`` does for the bundle, Unavailable where TensorRT-RTX is not
    installed, its parser refuses the graph, or it does not build.
    """
    config, progress = config or EngineConfig(), progress or Silent()
    bundle = open_bundle(path, allow_failed=True)
    source = Bundle(path, bundle.manifest).artifact(precision_named(precision).built_from, "onnx")
    library, capabilities = require_rtx(), capabilities_for(precision, config)
    for engine in bundle.manifest.built:
        rtx = engine.rtx
        same_source = (engine.precision, rtx.source_sha256) == (precision, source.sha256)
        reach = (rtx.version, tuple(rtx.capabilities))
        if same_source and reach == (library.version, capabilities):
            return engine
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        onnx, max_batch = bundle.file(source), bundle.manifest.max_batch
        engine = write_rtx_engine(onnx, folder, precision, max_batch, config, progress)
        add_files(bundle, folder, [engine.file], {"built": [*bundle.manifest.built, engine]})
    return engine
