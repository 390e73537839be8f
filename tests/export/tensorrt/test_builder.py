"""Building on the double: what TensorRT is told, its progress, its refusals, the timing cache."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import double
import pytest

from mldr_deploy.bundle.engine import Machine, Profile
from mldr_deploy.bundle.progress import Silent
from mldr_deploy.bundle.reader import Bundle
from mldr_deploy.errors import MldrError, Unavailable
from mldr_deploy.export.tensorrt.builder import Plan, build_plan
from mldr_deploy.export.tensorrt.engine_config import EngineConfig
from mldr_deploy.export.tensorrt.timing_cache import cache_file
from mldr_deploy.runtimes.tensorrt_machine import this_machine

PROFILE = Profile(min=1, opt=4, max=32)


class Told(Silent):
    """Keeps what is reported."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def start(self, name: str, total: int | None) -> None:
        self.lines.append(f"start {name} {total}")

    def advance(self, n: int = 1, **info: float | str) -> None:
        self.lines.append(f"advance {n} {info}" if info else f"advance {n}")

    def finish(self) -> None:
        self.lines.append("finish")


@pytest.fixture
def onnx(exported: Bundle) -> Path:
    return exported.path / "student.onnx"


def build(onnx: Path, progress: Any = None, **config: Any) -> Plan:
    return build_plan(
        onnx, "fp32", PROFILE, this_machine(), EngineConfig(**config), progress or Silent()
    )


def test_what_tensorrt_is_told(trt: Any, onnx: Path) -> None:
    build(onnx, effort=4, workspace_mib=64)
    network, config = trt.last
    assert network._flags == 1 << int(double.NetworkDefinitionCreationFlag.STRONGLY_TYPED)
    assert double.BuilderFlag.TF32 not in config._flags  # fp32 means fp32
    assert double.BuilderFlag.VERSION_COMPATIBLE not in config._flags
    assert config.hardware_compatibility_level == double.HardwareCompatibilityLevel.NONE
    assert config.builder_optimization_level == 4
    assert config._pools == {double.MemoryPoolType.WORKSPACE: 64 << 20}
    assert config._profiles[0]._shapes == {
        "input": ((1, 3, 32, 32), (4, 3, 32, 32), (32, 3, 32, 32))
    }


@pytest.mark.parametrize(
    ("hardware", "level"),
    [("ampere-plus", "AMPERE_PLUS"), ("same-compute-capability", "SAME_COMPUTE_CAPABILITY")],
)
def test_compatibility_on_request(trt: Any, onnx: Path, hardware: str, level: str) -> None:
    build(onnx, hardware=hardware, version_compatible=True)
    _, config = trt.last
    assert config.hardware_compatibility_level.name == level
    assert double.BuilderFlag.VERSION_COMPATIBLE in config._flags


def test_the_layers_are_kept_as_json(trt: Any, onnx: Path) -> None:
    layers = json.loads(build(onnx).layers)["Layers"]
    assert any(layer["LayerType"] == "CaskConvolution" for layer in layers)


def test_progress_counts_the_outer_phase(trt: Any, onnx: Path) -> None:
    told = Told()
    build(onnx, told)
    assert told.lines == [
        "start TensorRT: Building Engine 3",
        "advance 0 {'phase': 'Timing kernels'}",
        *["advance 1"] * 3,
        "finish",
    ]


def test_ctrl_c_in_the_bar_stops_the_build(trt: Any, onnx: Path) -> None:
    class Interrupted(Told):
        def advance(self, n: int = 1, **info: float | str) -> None:
            if n:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build(onnx, Interrupted())
    assert not cache_file(this_machine()).exists()


def test_the_parser_names_the_node(trt: Any, onnx: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(double.OnnxParser, "refused", "Gemm")
    with pytest.raises(MldrError) as caught:
        build(onnx)
    text = str(caught.value)
    assert text.startswith("TensorRT's parser refuses student.onnx: Gemm node_")
    assert text.endswith("no importer registered") and "\n" not in text


def test_a_failed_build_gives_tensorrts_reason(trt: Any, onnx: Path) -> None:
    trt.fails = "out of\nmemory"
    with pytest.raises(MldrError, match=r"TensorRT does not build student\.onnx: out of memory"):
        build(onnx)


def test_a_gpu_that_is_not_there(trt: Any, cuda: Any, onnx: Path) -> None:
    cuda.gpu = None
    with pytest.raises(Unavailable, match="none can be used here"):
        build(onnx)


def test_the_second_build_measures_nothing(trt: Any, onnx: Path) -> None:
    build(onnx)
    assert trt.measured > 10
    build(onnx)
    assert trt.measured == 0
    build(onnx, timing_cache=False)
    assert trt.measured > 10


@pytest.mark.parametrize("what", ["gpu", "capability", "driver", "tensorrt"])
def test_times_of_another_machine_are_not_taken(
    trt: Any, cuda: Any, onnx: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    build(onnx)
    if what == "gpu":
        cuda.gpu = "Another GPU"
    elif what == "capability":
        cuda.capability = (9, 0)
    elif what == "driver":
        monkeypatch.setattr(cuda, "cudaDriverGetVersion", lambda: (0, 12080))
    else:
        trt.__version__ = "10.17.0.1"
    build(onnx)
    assert trt.measured > 10


def test_a_cache_that_does_not_fit_or_is_damaged_is_left_out(
    trt: Any, cuda: Any, onnx: Path
) -> None:
    build(onnx)
    here = this_machine()
    cuda.gpu = "Another GPU"
    other = this_machine()
    shutil.copy(cache_file(here), cache_file(other))  # a header of the other device
    build(onnx)
    assert trt.measured > 10
    cache_file(other).write_bytes(b"damaged")
    build(onnx)
    assert trt.measured > 10
    build(onnx)
    assert trt.measured == 0


def test_what_others_wrote_meanwhile_is_kept(trt: Any, onnx: Path) -> None:
    build(onnx)
    file = cache_file(this_machine())
    content = json.loads(file.read_bytes())
    file.write_text(json.dumps({**content, "entries": ["theirs"]}))
    build(onnx)
    entries = json.loads(file.read_bytes())["entries"]
    assert "theirs" in entries and len(entries) > 10


def test_an_unwritable_cache_is_no_error(trt: Any, onnx: Path, tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file where the folder would be")
    assert build(onnx).content


def test_the_key_tells_all_that_matters() -> None:
    machine = Machine(
        gpu="NVIDIA L4", compute_capability="8.9", tensorrt="11.4.0.106", driver="13.0"
    )
    assert cache_file(machine).name == "nvidia-l4-11.4.0.106-cc8.9-driver13.0.timing"
