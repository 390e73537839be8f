"""Where an engine may run: its own machine, and further ones only if it was built for them."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from mldr_deploy.bundle.engine import EngineRecord, Machine, PrecisionProof, Profile

L4 = Machine(gpu="NVIDIA L4", compute_capability="8.9", tensorrt="10.16.1.11", driver="13.0")
PROOF = PrecisionProof(claimed="fp16", layers={"fp16": 3}, compute={"fp16": 2}, expected=1.0)


def record(**change: Any) -> EngineRecord:
    fields = {
        "machine": L4,
        "hardware": "none",
        "version_compatible": False,
        "profile": Profile(min=1, opt=1, max=8),
        "source": "student.fp16.onnx",
        "source_sha256": "0" * 64,
        "proof": PROOF,
    }
    return EngineRecord(**{**fields, **change})


def other(**change: str) -> Machine:
    return L4.model_copy(update=change)


@pytest.mark.parametrize(
    ("built", "here", "reason"),
    [
        ({}, {}, None),
        ({}, {"driver": "12.8"}, None),
        ({}, {"tensorrt": "10.16.1.12"}, "built with TensorRT 10.16.1.11, here is 10.16.1.12"),
        ({}, {"gpu": "NVIDIA L40"}, "built for NVIDIA L4, here is NVIDIA L40"),
        ({"hardware": "same-compute-capability"}, {"gpu": "NVIDIA L40"}, None),
        (
            {"hardware": "same-compute-capability"},
            {"gpu": "NVIDIA H100", "compute_capability": "9.0"},
            "built for NVIDIA L4, here is NVIDIA H100",
        ),
        ({"hardware": "ampere-plus"}, {"gpu": "NVIDIA B200", "compute_capability": "10.0"}, None),
        (
            {"hardware": "ampere-plus"},
            {"gpu": "Tesla T4", "compute_capability": "7.5"},
            "built for NVIDIA L4, here is Tesla T4",
        ),
        ({"version_compatible": True}, {"tensorrt": "10.17.0.1"}, None),
        ({"version_compatible": True}, {"tensorrt": "10.9.0.1"}, "here is 10.9.0.1"),
        ({"version_compatible": True}, {"tensorrt": "11.4.0.106"}, "here is 11.4.0.106"),
    ],
)
def test_where_it_runs(built: dict[str, Any], here: dict[str, str], reason: str | None) -> None:
    found = record(**built).misfit(other(**here))
    assert (found is None) == (reason is None), found
    assert reason is None or reason in str(found)


def test_the_file_name_tells_gpu_and_version() -> None:
    assert L4.slug == "nvidia-l4-10.16.1.11"
    hopper = Machine(
        gpu="NVIDIA H100 80GB HBM3", compute_capability="9.0", tensorrt="11.4.0.106", driver="13.0"
    )
    assert hopper.slug == "nvidia-h100-80gb-hbm3-11.4.0.106"


def test_a_profile_is_in_order() -> None:
    with pytest.raises(ValidationError, match="batches 1, 9, 8 are not in order"):
        Profile(min=1, opt=9, max=8)


def test_a_proof_is_true_until_it_has_a_reason() -> None:
    assert PROOF
    assert "fp16 proven (layers that multiply: 2 fp16)" in str(PROOF)
    refuted = PROOF.model_copy(update={"reason": "no layer takes fp16"})
    assert not refuted
    assert "fp16 NOT proven: no layer takes fp16" in str(refuted)
