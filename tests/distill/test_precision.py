"""`auto` follows the hardware; what is asked for by name is done anywhere."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from mldr_deploy.distill.methods.method_registry import MethodConfig
from mldr_deploy.distill.precision import computes_bf16
from mldr_deploy.distill.training_config import TrainConfig

CPU, CUDA = torch.device("cpu"), torch.device("cuda")


@pytest.mark.parametrize(
    ("flags", "expected"),
    [("avx2 fma f16c", False), ("avx512f avx512_bf16", True), ("avx512f amx_bf16 amx_tile", True)],
)
def test_a_cpu_is_asked_for_its_instructions(
    monkeypatch: pytest.MonkeyPatch, flags: str, expected: bool
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: dict.fromkeys(flags.split(), True))
    assert computes_bf16(CPU) is expected


def test_this_cpu_says_what_the_kernel_says() -> None:
    """/proc/cpuinfo is another reading of the same instruction."""
    info = Path("/proc/cpuinfo")
    if not info.is_file():
        pytest.skip("no /proc/cpuinfo here")
    line = next((one for one in info.read_text().splitlines() if one.startswith("flags")), None)
    if line is None:
        pytest.skip("/proc/cpuinfo lists no x86 flags")
    assert computes_bf16(CPU) is bool({"avx512_bf16", "amx_bf16"} & set(line.split()))


@pytest.mark.parametrize("native", [False, True])
def test_a_gpu_that_emulates_does_not_count(monkeypatch: pytest.MonkeyPatch, native: bool) -> None:
    """Turing has no bf16, yet PyTorch says that it is supported unless asked about emulation."""
    answer = {True: True, False: native}  # by whether emulation counts
    monkeypatch.setattr(
        torch.cuda, "is_bf16_supported", lambda including_emulation: answer[including_emulation]
    )
    assert computes_bf16(CUDA) is native


def test_other_devices_compute_in_fp32() -> None:
    assert not computes_bf16(torch.device("mps"))


@pytest.mark.parametrize(("native", "name"), [(True, "bf16"), (False, "fp32")])
def test_auto_trains_to_the_bits_of_the_named_precision(
    rig: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, native: bool, name: str
) -> None:
    """Student and teacher; the two precisions differ."""
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": native})
    weights = {}
    for student, teacher in [("auto", "auto"), ("bf16", "bf16"), ("fp32", "fp32"), (name, "auto")]:
        train = TrainConfig(epochs=1, precision=student, teacher_precision=teacher)  # type: ignore[arg-type]
        one = replace(rig, student="test_vit", teacher="test_resnet", train=train)
        one = replace(one, method=MethodConfig(name="kd"), folder=tmp_path / f"{student}-{teacher}")
        tensors, _ = one.build().run()
        weights[student, teacher] = torch.cat([t.flatten().float() for t in tensors.values()])
    assert torch.equal(weights["auto", "auto"], weights[name, name])
    assert torch.equal(weights[name, "auto"], weights[name, name])
    assert not torch.equal(weights["bf16", "bf16"], weights["fp32", "fp32"])


def test_where_pytorch_cannot_say_it_is_fp32(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(torch.cpu, "get_capabilities")
    assert not computes_bf16(CPU)
