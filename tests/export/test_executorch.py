"""Files for phones, by the real library: proven, run, chosen by name, and their faults caught."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor, nn

from mldr_deploy.bundle.card import model_card
from mldr_deploy.bundle.golden import golden_limit
from mldr_deploy.bundle.reader import Bundle
from mldr_deploy.bundle.shipping import objection
from mldr_deploy.errors import MldrError, Unavailable
from mldr_deploy.export.build_bundle import build_bundle
from mldr_deploy.export.executorch_program import EXECUTORCH
from mldr_deploy.export.executorch_reading import read_program
from mldr_deploy.export.export_config import ExportConfig
from mldr_deploy.export.phone_file import PhoneFormat
from mldr_deploy.export.recheck import check_bundle
from mldr_deploy.models.architecture_config import ModelConfig
from mldr_deploy.models.model_registry import create_model
from mldr_deploy.runtimes import executorch as runner
from mldr_deploy.runtimes.executorch import ExecuTorch
from mldr_deploy.runtimes.model_file import ModelFile
from mldr_deploy.runtimes.runtime import RunError, RuntimeOptions
from mldr_deploy.runtimes.runtime_choice import candidates, open_runtime

from .exchanged_files import rechecked, refuted, run_vision_mamba

pytest.importorskip("executorch")
DYNAMIC = "student.int8-dynamic.pte"


@pytest.fixture(scope="module")
def phones(run: Any, exported: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """The healthy bundle with both files for phones added; not to be written to."""
    out = Path(shutil.copytree(exported.path, tmp_path_factory.mktemp("phones") / "bundle"))
    precisions = ("fp32", "int8-dynamic")
    config = ExportConfig(max_batch=32, targets=("executorch",), precisions=precisions)
    return build_bundle(run.folder, out, config, dataset=run.dataset)


@pytest.fixture
def copy(phones: Bundle, tmp_path: Path) -> Path:
    return Path(shutil.copytree(phones.path, tmp_path / "copy"))


def plain_file(forward: Callable[[Tensor], Tensor], example: Tensor, path: Path) -> None:
    """ExecuTorch's own way to a file, without ours."""
    from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
    from executorch.exir import to_edge_transform_and_lower

    class Net(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return forward(x)

    program = torch.export.export(Net(), (example,))
    lowered = to_edge_transform_and_lower(program, partitioner=[XnnpackPartitioner()])
    path.write_bytes(lowered.to_executorch().buffer)


@pytest.mark.slow
def test_both_files_pass_and_say_what_they_prove(run: Any, phones: Bundle) -> None:
    assert phones, [a.parity.failures for a in phones.manifest.artifacts]
    files = {a.file: a for a in phones.manifest.artifacts if a.format == "executorch"}
    assert list(files) == ["student.pte", DYNAMIC]
    layers = [m for m in run.model.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    assert files["student.pte"].computes == {"fp32": len(layers)}
    assert files[DYNAMIC].computes == {"int8": len(layers)}  # those before a ReLU too
    card = model_card(phones.manifest)
    for file, artifact in files.items():
        assert artifact.parity.samples == 359 and artifact.latency is None
        assert f"- {file}: x86 proves the file, not the phone's kernels" in card
        assert "not for this machine" in str(objection(phones.manifest, artifact))
    result = check_bundle(phones.path, dataset=run.dataset)
    assert result, str(result)


@pytest.mark.slow
def test_a_batch_is_run_image_by_image(run: Any, phones: Bundle) -> None:
    inputs = phones.golden.inputs[:5]
    with torch.inference_mode():
        logits = run.model(torch.from_numpy(inputs)).numpy()
    with open_runtime(phones, artifact="student.pte") as runtime:
        assert runtime.name == "executorch"
        assert runtime(inputs) == pytest.approx(logits, abs=1e-4)
        first = runtime(inputs[:1])
        runtime(inputs[1:])
        assert first == pytest.approx(logits[:1], abs=1e-4)  # the caller owns it
        with pytest.raises(RunError, match="does not run on"):
            runtime(inputs[..., :16])


@pytest.mark.slow
def test_it_is_taken_by_its_name_and_by_nothing_less(phones: Bundle) -> None:
    pairs = {c.artifact.file: c.kind.name for c in candidates(phones) if c.artifact}
    assert pairs["student.pte"] == pairs[DYNAMIC] == "executorch"
    assert open_runtime(phones, artifact="int8-dynamic").file == DYNAMIC
    assert open_runtime(phones, artifact="fp32").file == "student.onnx"
    assert open_runtime(phones).file == "student.onnx"
    with pytest.raises(MldrError, match="the phone's kernels: name it by --artifact"):
        open_runtime(replace(phones, allow_failed=False), "executorch")


@pytest.mark.slow
def test_the_device_check_tells_right_from_wrong(phones: Bundle, copy: Path) -> None:
    def told(folder: Path) -> tuple[int, str]:
        words = [sys.executable, str(folder / "check_phone.py")]
        ended = subprocess.run(words, capture_output=True, text=True, check=False)
        return ended.returncode, ended.stdout

    code, text = told(phones.path)
    assert code == 0 and text.count("ok student") == 2, text
    for artifact in phones.manifest.artifacts[1:]:
        assert f"allowed {golden_limit(artifact.parity):.3g}" in text
    shutil.copy(copy / DYNAMIC, copy / "student.pte")  # off by far more than fp32 may be
    code, text = told(copy)
    assert code == 1 and "FAILED student.pte" in text and f"ok {DYNAMIC}" in text


@pytest.mark.slow
def test_other_weights_are_caught(run: Any, copy: Path) -> None:
    torch.manual_seed(1)
    other = create_model(ModelConfig(name="test_resnet"), num_classes=10, image_size=32).eval()
    (copy / "student.pte").write_bytes(EXECUTORCH.content(other, 32, "fp32"))
    assert "student.pte parity: " in refuted(rechecked(copy, run))


@pytest.mark.slow
def test_int8_that_stayed_fp32_is_caught(run: Any, copy: Path) -> None:
    shutil.copy(copy / "student.pte", copy / DYNAMIC)
    said = refuted(rechecked(copy, run))
    assert f"{DYNAMIC} graph: the artifact is called int8, but none" in said


LAYOUTS = {
    "batch": ((2, 3, 32, 32), lambda x: x, "its batch is fixed at 2"),
    "channels last": (
        (1, 32, 32, 3),
        lambda x: x.permute(0, 3, 1, 2),
        "input float [?, 32, 32, 3]",
    ),
    "turned": ((1, 3, 32, 32), lambda x: x.mT, "student.pte parity: "),
}


@pytest.mark.slow
@pytest.mark.parametrize("fault", LAYOUTS)
def test_another_layout_is_caught(run: Any, copy: Path, fault: str) -> None:
    shape, change, words = LAYOUTS[fault]
    layer = nn.Conv2d(3, 10, 32).eval()
    plain_file(lambda x: layer(change(x)).flatten(1), torch.zeros(shape), copy / "student.pte")
    assert words in refuted(rechecked(copy, run))


@pytest.mark.slow
def test_half_a_file_is_told_in_one_line(phones: Bundle, tmp_path: Path) -> None:
    path = tmp_path / "half.pte"
    path.write_bytes((phones.path / "student.pte").read_bytes()[:2000])
    with pytest.raises(MldrError, match="is not a readable ExecuTorch program"):
        read_program(path)
    with pytest.raises(RunError, match=r"half\.pte does not load in ExecuTorch"):
        ExecuTorch(ModelFile(path)).load()


@pytest.mark.parametrize(
    ("targets", "precisions", "words"),
    [
        (("executorch",), ("int8",), "executorch has no int8 .static int8 is not"),
        (("executorch",), ("fp32", "fp16"), "executorch has no fp16, only fp32, int8-dynamic"),
        (("onnx",), ("fp32", "int8-dynamic"), "onnx has no int8-dynamic, only fp32, fp16"),
        (("onnx", "executorch"), ("int8",), "executorch has no int8"),
    ],
)
def test_what_would_write_nothing_is_refused(
    targets: tuple[str, ...], precisions: tuple[str, ...], words: str
) -> None:
    with pytest.raises(ValidationError, match=words):
        ExportConfig(targets=targets, precisions=precisions)


def test_each_target_is_written_in_what_it_has() -> None:
    config = ExportConfig(
        targets=("onnx", "executorch"), precisions=("fp32", "int8", "int8-dynamic")
    )
    onnx, phone = [("onnx", "fp32"), ("onnx", "int8")], ["fp32", "int8-dynamic"]
    assert config.pairs == [*onnx, *(("executorch", precision) for precision in phone)]


def test_without_the_library_the_rest_is_exported(
    run: Any, exported: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = Path(shutil.copytree(exported.path, tmp_path / "bundle"))
    monkeypatch.setitem(sys.modules, "executorch.runtime", None)
    config = ExportConfig(max_batch=32, targets=("executorch",))
    bundle = build_bundle(run.folder, out, config, dataset=run.dataset)
    assert [a.file for a in bundle.manifest.artifacts] == ["student.onnx"]
    (reason,) = bundle.manifest.unavailable
    assert reason.startswith("executorch fp32: ExecuTorch is not there")
    assert reason.endswith('pip install "mldr-deploy[executorch]"')
    assert not (out / "check_phone.py").exists()
    with pytest.raises(Unavailable, match="ExecuTorch is not there"):
        runner.require_executorch()


def test_a_student_that_cannot_be_written() -> None:
    class Branching(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x if x.sum() > 0 else -x

    with pytest.raises(Unavailable, match="ExecuTorch cannot write Branching in fp32"):
        EXECUTORCH.content(Branching(), 8, "fp32")


def test_layers_that_share_an_input_are_right(tmp_path: Path) -> None:
    """XNNPACK computes the second of them wrongly from one dynamically quantised input."""

    class Fork(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem = nn.Sequential(nn.Conv2d(3, 16, 3, padding=1), nn.ReLU())
            self.branches = nn.ModuleList(nn.Conv2d(16, 8, 1, stride) for stride in (1, 2))

        def forward(self, x: Tensor) -> Tensor:
            stem = self.stem(x)
            return torch.cat([branch(stem).mean((2, 3)) for branch in self.branches], 1)

    torch.manual_seed(0)
    model = Fork().eval()
    path = tmp_path / "fork.pte"
    path.write_bytes(EXECUTORCH.content(model, 16, "int8-dynamic"))
    assert read_program(path).tally() == {"int8": 3}
    images = torch.randn(4, 3, 16, 16)
    with ExecuTorch(ModelFile(path)) as runtime, torch.inference_mode():
        assert runtime(images.numpy()) == pytest.approx(model(images).numpy(), abs=5e-3)


@pytest.mark.slow
def test_small_weights_are_not_rounded_to_nothing(tmp_path: Path) -> None:
    """The library's least scale would leave five values of these weights."""
    torch.manual_seed(0)
    layer = nn.Linear(192, 10)
    with torch.no_grad():
        layer.weight.uniform_(-6e-4, 6e-4)
        layer.bias.zero_()
    path, model = tmp_path / "small.pte", nn.Sequential(nn.Flatten(), layer).eval()
    path.write_bytes(EXECUTORCH.content(model, 8, "int8-dynamic"))
    images = torch.randn(4, 3, 8, 8)
    with ExecuTorch(ModelFile(path)) as runtime, torch.inference_mode():
        logits = model(images).numpy()
        assert abs(runtime(images.numpy()) - logits).max() < 0.02 * abs(logits).max()


class Tokens(nn.Module):
    """A convolution of what a linear layer made of an image's rows."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.linear = nn.Conv2d(3, 16, 3, 2, 1), nn.Linear(16, 16)
        self.head = nn.Conv2d(16, 10, 3, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.turned(self.stem(x))).mean((2, 3))

    def turned(self, x: Tensor) -> Tensor:
        rows = self.linear(x.flatten(2).transpose(1, 2))
        return rows.transpose(1, 2).reshape(x.shape)


class Grid(Tokens):
    def turned(self, x: Tensor) -> Tensor:
        return nn.functional.gelu(self.linear(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2))


@pytest.mark.slow
@pytest.mark.parametrize("kind", [Tokens, Grid])
def test_convolutions_of_rows_keep_fp32(tmp_path: Path, kind: type[Tokens]) -> None:
    """XNNPACK would quantise their input with its axes in the wrong order."""
    torch.manual_seed(0)
    path, model = tmp_path / "rows.pte", kind().eval()
    path.write_bytes(EXECUTORCH.content(model, 32, "int8-dynamic"))
    assert read_program(path).tally() == {"int8": 2, "fp32": 1}
    images = torch.randn(4, 3, 32, 32)
    with ExecuTorch(ModelFile(path)) as runtime, torch.inference_mode():
        logits = model(images).numpy()
        assert abs(runtime(images.numpy()) - logits).max() < 0.02 * abs(logits).max()


@pytest.mark.slow
def test_what_does_not_run_is_left_out(
    run: Any, phones: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    half = (phones.path / "student.pte").read_bytes()[:2000]
    monkeypatch.setattr(PhoneFormat, "content", lambda *arguments: half)
    out = Path(shutil.copytree(phones.path, tmp_path / "bundle"))
    config = ExportConfig(max_batch=32, targets=("executorch",), precisions=("int8-dynamic",))
    bundle = build_bundle(run.folder, out, config, dataset=run.dataset)
    assert [a.file for a in bundle.manifest.artifacts] == ["student.onnx", "student.pte"]
    (reason,) = bundle.manifest.unavailable
    assert f"{DYNAMIC} does not load in ExecuTorch" in reason and "choose another" in reason
    assert not (out / DYNAMIC).exists()


def test_a_library_prints_nothing_of_its_own(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "a.pte"
    plain_file(lambda x: nn.functional.avg_pool2d(x, 8).flatten(1), torch.zeros(1, 3, 8, 8), path)
    capfd.readouterr()
    for threads in (1, 2):
        with ExecuTorch(ModelFile(path), RuntimeOptions(threads=threads)):
            pass
    assert capfd.readouterr() == ("", "")


@pytest.mark.slow
def test_vision_mamba_needs_no_operator_of_ours(tmp_path: Path) -> None:
    logits, expected = run_vision_mamba(EXECUTORCH, tmp_path)
    assert logits == pytest.approx(expected, abs=1e-4)
