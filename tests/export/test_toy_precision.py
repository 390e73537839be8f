"""A new precision is a row of the table and a file: a toy one, put into a copy of the package.

Nothing else of the copy is touched. Its int16 rounds both operands of every product.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from mldr_deploy.bundle.reader import open_bundle
from mldr_deploy.export.recheck import check_bundle
from mldr_deploy.export.scales import activation_ranges
from mldr_deploy.runtimes.model_file import ModelFile
from mldr_deploy.runtimes.onnxruntime_cpu import OnnxRuntimeCpu

ROOT = Path(__file__).resolve().parents[2]
END_OF_TABLE = ")  # fmt: skip\nPRECISIONS = "
ROW = """    Precision(
        "int16", 16, "INT16", (), {"max_drop": 0.5, "max_relative": 0.01}, "a toy",
        runs_on=("cpu",)
    ),
"""
FILE = '''"""int16."""

import numpy as np

from ...bundle.precisions import PRECISIONS
from ..artifact_kind import ArtifactKind, Written
from .graph import load_graph, opset_of, save_graph
from .ranges import largest_magnitudes


def _write(context):
    from onnx import helper, numpy_helper

    proto, images = load_graph(context.onnx()), context.calibration
    largest = largest_magnitudes(proto, images.batches(16), len(images), context.progress)
    nodes = []
    for node in proto.graph.node:
        for k, name in enumerate(node.input[:2]):
            if node.op_type in ("Conv", "Gemm", "MatMul"):
                steps = [f"{node.name}/{k}/{step}" for step in ("code", "value", "scale", "zero")]
                constants = np.float32(largest[name] / 32767), np.int16(0)
                for value, label in zip(constants, steps[2:]):
                    proto.graph.initializer.append(numpy_helper.from_array(np.array(value), label))
                nodes.append(helper.make_node("QuantizeLinear", [name, *steps[2:]], steps[:1]))
                ends = [steps[0], *steps[2:]], steps[1:2]
                nodes.append(helper.make_node("DequantizeLinear", *ends))
                node.input[k] = steps[1]
        nodes.append(node)
    for k, node in enumerate(nodes):
        node.name = node.name or f"round {k}"
    del proto.graph.node[:]
    proto.graph.node.extend(nodes)
    save_graph(proto, context.onnx("int16"))
    return Written(PRECISIONS["int16"].file, opset=opset_of(proto))


KIND = ArtifactKind(_write)
'''
ASK = """
import json, pathlib, sys, types
import numpy as np
from click.testing import CliRunner
from mldr_deploy.bundle.precisions import by_width, precision_of_type
from mldr_deploy.bundle.progress import Silent
from mldr_deploy.cli import main
from mldr_deploy.export.claims import read_graph
from mldr_deploy.export.export_config import ExportConfig
from mldr_deploy.export.artifact_kind import ExportContext
from mldr_deploy.export.kinds import KINDS, plan
from mldr_deploy.export.tensorrt.write import engine_of
from mldr_deploy.runtimes.runtime_kinds import RUNTIMES

folder = pathlib.Path(sys.argv[1])
config = ExportConfig(precisions=["int16"], opset=21)
images = np.load(folder / "images.npy")
calibration = type("Images", (), {"__len__": lambda _: len(images), "batches": lambda *_: [images]})
context = ExportContext(None, folder, config, calibration(), None, Silent())
written = KINDS["onnx", "int16"].write(context)
print(json.dumps({
    "plan": plan(config),
    "gate": config.gates.of("int16").model_dump(exclude_defaults=True),
    "other gate": ExportConfig(gates={"int16": {"max_drop": 3}}).gates.of("int16").max_drop,
    "file": written.file,
    "computes": read_graph(folder / written.file).tally(),
    "type": precision_of_type("Int16"),
    "by width": by_width(["int8", "int16", "float"]),
    "help": CliRunner().invoke(main, ["export", "--help"]).stdout,
    "lacking": sorted(name for name, kind in RUNTIMES.items() if kind.lacks("int16")),
    "engine": engine_of("int16"),
    "torch": "torch" in sys.modules,
}))
"""
BODY = """
    c = Conv<kernel_shape = [3, 3], pads = [1, 1, 1, 1]>(input, w1)
    r = Relu(c)
    p = GlobalAveragePool(r)
    f = Flatten(p)
    logits = Gemm<transB = 1>(f, w2)
"""


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for PYTHONPATH, with the package and the toy in it."""
    home = tmp_path_factory.mktemp("toy")
    root = home / "mldr_deploy"
    root.mkdir()
    for path in ROOT.iterdir():
        if path.suffix == ".py" or (path / "__init__.py").is_file():
            (root / path.name).symlink_to(path)
    for folder in ("bundle", "export"):
        (root / folder).unlink()
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / folder, root / folder, ignore=ignored)
    table = root / "bundle" / "precisions.py"
    before, end, after = table.read_text().partition(END_OF_TABLE)
    assert end
    table.write_text(before + ROW + end + after)
    (root / "export" / "precision" / "int16.py").write_text(FILE)
    return home


def python(package: Path, *words: str) -> str:
    """What a fresh interpreter of the copy prints."""
    environment = {**os.environ, "PYTHONPATH": str(package)}
    ended = subprocess.run(
        [sys.executable, *words], capture_output=True, text=True, env=environment, check=False
    )
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


def test_a_row_and_a_file_are_all_that_a_precision_takes(package: Path, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    images = rng.standard_normal((8, 3, 6, 6)).astype(np.float32)
    weights = {"w1": (4, 3, 3, 3), "w2": (5, 4)}
    proto = onnx.parser.parse_model(
        '<ir_version: 10, opset_import: ["" : 21]>\n'
        f"g (float[batch, 3, 6, 6] input) => (float[batch, 5] logits) {{{BODY}}}"
    )
    for name, shape in weights.items():
        tensor = rng.standard_normal(shape).astype(np.float32)
        proto.graph.initializer.append(numpy_helper.from_array(tensor, name))
    for node in proto.graph.node:
        node.name = f"make {node.output[0]}"
    onnx.save(proto, tmp_path / "student.onnx")
    np.save(tmp_path / "images.npy", images)

    told: dict[str, Any] = json.loads(python(package, "-c", ASK, str(tmp_path)))
    text = " ".join(told.pop("help").split())
    assert "fp8, int16 (a toy)." in text
    assert told == {
        "plan": [["onnx", "fp32"], ["onnx", "int16"]],
        "gate": {"max_drop": 0.5, "max_relative": 0.01},
        "other gate": 3,
        "file": "student.int16.onnx",
        "computes": {"int16": 2},
        "type": "int16",
        "by width": ["fp32", "int16", "int8"],
        "lacking": ["onnxruntime-cuda", "onnxruntime-tensorrt-rtx"],
        "engine": None,
        "torch": False,
    }
    first = activation_ranges(onnx.load(tmp_path / "student.int16.onnx"))[0]
    assert (first.value, first.highest) == ("input", pytest.approx(np.abs(images).max()))
    with (
        OnnxRuntimeCpu(ModelFile(tmp_path / "student.onnx")) as exact,
        OnnxRuntimeCpu(ModelFile(tmp_path / "student.int16.onnx")) as rounded,
    ):
        error = np.abs(rounded(images) - exact(images)).max() / np.abs(exact(images)).max()
    assert 0 < error < 40 / 32767  # 27 + 4 products, each operand off by half a step at most


@pytest.mark.slow
def test_export_proves_it_and_serves_it(package: Path, run: Any, tmp_path: Path) -> None:
    out = tmp_path / "bundle"
    words = ("--precision", "int16", "--opset", "21", "--max-batch", "16", "-q")
    python(package, "-m", "mldr_deploy", "export", str(run.folder), "--out", str(out), *words)
    assert "int16" in python(package, "-m", "mldr_deploy", "check", str(out))
    ask = (
        "import sys, pathlib\n"
        "from mldr_deploy.bundle.reader import open_bundle\n"
        "from mldr_deploy.runtimes.runtime_choice import open_runtime\n"
        "bundle = open_bundle(pathlib.Path(sys.argv[1]))\n"
        "with open_runtime(bundle, artifact='int16') as runtime: print(runtime.name)\n"
    )
    assert python(package, "-c", ask, str(out)).split()[-1] in ("onnxruntime-cpu", "openvino")

    # The package without the toy is the older program that reads a newer one's bundle.
    artifact = open_bundle(out).artifact("int16")
    assert (artifact.file, artifact.status) == ("student.int16.onnx", "passed")
    assert (artifact.opset, artifact.emulated) == (21, False)
    assert artifact.computes.keys() == {"int16"} and artifact.parity.gate.max_drop == 0.5
    findings = {f.subject: f for f in check_bundle(out).findings}
    assert (
        findings[artifact.file].holds is None and "not known here" in findings[artifact.file].detail
    )
