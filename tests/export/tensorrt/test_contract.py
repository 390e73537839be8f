"""Every name of TensorRT and CUDA that our source uses exists in the real bindings, 10.x and 11.x.

The names are collected from our source's syntax tree, not listed by hand; the bindings are the
real ones on stub libraries (``bindings.py``). Not shown by this: that TensorRT does what it says.
"""

from __future__ import annotations

import ast
import copy
import re
from pathlib import Path
from typing import Any

# Modules of this folder, which is no package: conftest.py puts it on the path.
import api_use
import bindings
import pytest

ROOT = Path(__file__).resolve().parents[3]
FILES = [
    *sorted((ROOT / "runtimes").glob("*.py")),
    *sorted((ROOT / "export/tensorrt").glob("*.py")),
]


PACKAGES = [
    (package, major)
    for package in ("tensorrt_cu13_bindings", "tensorrt_cu12_bindings")
    for major in (10, 11)
]


@pytest.fixture(scope="module")
def stubs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("stubs")


@pytest.fixture(scope="module", params=PACKAGES, ids=lambda p: f"{p[0]}-{p[1]}")
def real(request: pytest.FixtureRequest, stubs: Path) -> Any:
    package, major = request.param
    return bindings.bindings(package, major, stubs)


@pytest.fixture(scope="module")
def api(real: Any) -> dict[str, Any]:
    described = real.api()
    major = re.match(r"\d+", described["version"])
    assert major is not None and f"-{major.group()}." in real.folder.name  # the wheel asked for
    return described


@pytest.fixture(scope="module")
def uses(api: dict[str, Any]) -> list[Any]:
    return list(api_use.collect(FILES, api, ROOT))


def test_everything_we_use_exists(api: dict[str, Any], uses: list[Any]) -> None:
    assert api_use.problems(uses, api) == []
    seen = {(use.owner, use.name, use.kind) for use in uses}
    # The walk must reach the far ends of the flow: what results of results are asked for.
    assert {
        ("Builder", "build_serialized_network", "call"),
        ("ITimingCache", "combine", "call"),
        ("EngineInspector", "get_engine_information", "call"),
        ("IExecutionContext", "execute_async_v3", "call"),
        ("IProgressMonitor", "step_complete", "override"),
        ("IProfiler", "report_layer_time", "override"),
        ("IExecutionContext", "profiler", "write"),
        ("IBuilderConfig", "progress_monitor", "write"),
        ("BuilderFlag", "VERSION_COMPATIBLE", "read"),
    } <= seen
    assert len(seen) > 70


def test_each_name_would_be_missed(api: dict[str, Any], uses: list[Any]) -> None:
    """Take away one used name after the other: the check notices every one."""
    for use in set(uses):
        poorer = copy.copy(api)
        if use.owner:
            members = {k: v for k, v in api["classes"][use.owner].items() if k != use.name}
            poorer["classes"] = {**api["classes"], use.owner: members}
        else:
            poorer["names"] = {k: v for k, v in api["names"].items() if k != use.name}
        assert api_use.problems([use], poorer), f"{use} would not be missed"


def test_no_use_escapes_the_walk(api: dict[str, Any], uses: list[Any]) -> None:
    """Attributes with a name of TensorRT's whose owner the walk could not tell."""
    known = {name for members in api["classes"].values() for name in members if "_" in name[1:]}
    known -= {"__init__"}
    told = {(use.where, use.name) for use in uses}
    escaped = []
    for file in FILES:
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Attribute) and node.attr in known:
                where = f"{file.relative_to(ROOT)}:{node.lineno}"
                if (where, node.attr) not in told and ast.unparse(node.value) != "self":
                    escaped.append(f"{where} {ast.unparse(node)}")
    ours = ("onnx.", "profile.", "record.", "options.", "metadata.")
    assert [e for e in escaped if not e.split()[1].startswith(ours)] == []


def test_a_removed_flag_is_noticed(api: dict[str, Any]) -> None:
    """``BuilderFlag.FP16`` is in 10.x and gone from 11: the known trap."""
    source = (
        "def settings(builder: trt.Builder):\n"
        "    config = builder.create_builder_config()\n"
        "    config.set_flag(trt.BuilderFlag.FP16)\n"
    )
    found = api_use.problems(api_use.collect_source(source, api), api)
    if api["version"].startswith("10."):
        assert found == []
    else:
        assert found == ["<text>:3: read of BuilderFlag.FP16: there is no such name"]


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("trt.Builder()", "call of Builder.__init__: no overload takes these arguments"),
        ("trt.Bilder(1)", "read of tensorrt.Bilder: there is no such name"),
        ("trt.Runtime(x).deserialize_cuda_engine()", "no overload takes these arguments"),
        ("trt.Runtime(x).deserialize(y)", "call of Runtime.deserialize: there is no such name"),
        (
            "trt.Builder(x).create_builder_config().create_timing_cache(b'').combine(y)",
            "call of ITimingCache.combine: no overload takes these arguments",
        ),
        (
            "c = trt.Builder(x).create_builder_config()\nc.set_timing_cache(y, ignore=False)",
            "call of IBuilderConfig.set_timing_cache: no overload takes these arguments",
        ),
        (
            "class M(trt.IProgressMonitor):\n    def step_complete(self, name): ...",
            "override of IProgressMonitor.step_complete: it takes [2] arguments, ours 1",
        ),
        (
            "e = trt.Runtime(x).deserialize_cuda_engine(y)\ne.num_layers = 3",
            "write of ICudaEngine.num_layers: it cannot be set",
        ),
    ],
)
def test_wrong_uses_are_noticed(api: dict[str, Any], source: str, message: str) -> None:
    found = api_use.problems(api_use.collect_source(source, api), api)
    assert len(found) == 1 and message in found[0], found


def test_our_classes_stand_on_the_real_ones(real: Any) -> None:
    """The logger and the monitor are made from the real base classes; a build is refused kindly."""
    program = """
import sys, tensorrt_bindings
sys.modules["tensorrt"] = tensorrt_bindings
from pathlib import Path
from mldr_deploy.bundle.engine import Machine, Profile
from mldr_deploy.bundle.progress import Silent
from mldr_deploy.runtimes import cuda
from mldr_deploy.runtimes import tensorrt_logger as logger
from mldr_deploy.errors import Unavailable
from mldr_deploy.export.tensorrt import builder, engine_config, monitor

quiet = logger.quiet_logger(tensorrt_bindings)
quiet.log(tensorrt_bindings.ILogger.Severity.ERROR, "a\\n b")
quiet.log(tensorrt_bindings.ILogger.Severity.WARNING, "not an error")
assert (quiet.problems, quiet.warnings) == (["a b"], ["not an error"])
watching = monitor.build_monitor(tensorrt_bindings, Silent())
watching.phase_start("a", None, 3)
assert watching.step_complete("a", 0) is True
cuda.use = lambda device: None
version = tensorrt_bindings.__version__
here = Machine(gpu="g", compute_capability="8.9", tensorrt=version, driver="1")
try:
    builder.build_plan(
        Path("x.onnx"),
        "fp32",
        Profile(min=1, opt=1, max=2),
        here,
        engine_config.EngineConfig(),
        Silent(),
    )
except Unavailable as error:
    print(error)
"""
    assert real.run("-c", program).startswith("TensorRT finds no usable GPU")


def test_cuda_calls_exist_with_these_arguments() -> None:
    """runtimes/cuda.py beside NVIDIA's own bindings, which import without a GPU."""
    runtime = pytest.importorskip("cuda.bindings.runtime")
    tree = ast.parse((ROOT / "runtimes/cuda.py").read_text(encoding="utf-8"))
    calls = {node.func: node for node in ast.walk(tree) if isinstance(node, ast.Call)}
    names = set()
    for node in ast.walk(tree):
        if not isinstance(node, ast.Attribute) or not ast.unparse(node).startswith("runtime."):
            continue
        value: Any = runtime
        for part in ast.unparse(node).split(".")[1:]:
            assert hasattr(value, part), f"line {node.lineno}: no {ast.unparse(node)}"
            value = getattr(value, part)
        names.add(ast.unparse(node))
        if node in calls:
            signature = value.__doc__.splitlines()[0]
            inside = signature[signature.index("(") + 1 : signature.rindex(")")]
            expected = len([part for part in inside.split(",") if part.strip()])
            assert len(calls[node].args) == expected, f"line {node.lineno}: {signature}"
    assert len(names) > 15
