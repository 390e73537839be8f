from __future__ import annotations

from collections.abc import Callable

from mldr_deploy.bundle.parity import Fault, Gate, ParityResult

Measured = Callable[[list[str]], ParityResult]


def test_truth_is_the_gate(measured: Measured) -> None:
    assert measured([])
    assert not measured(["no"])


def test_the_tolerance_it_would_have_needed(measured: Measured) -> None:
    # 4 of 200 disagree beyond ties; the batch of 1 was further off than the split.
    assert measured([]).needed == Gate(min_agreement=98, max_dlogit=0.5, max_drop=1)


def test_top5_is_not_told_with_five_classes(measured: Measured) -> None:
    for classes, shown in ((5, False), (6, True)):
        result = measured([]).model_copy(update={"classes": classes})
        assert ("top-5" in str(result)) is shown
        assert "(PyTorch 90.00 %)" in str(result) and "drop +1.00 points" in str(result)


def test_it_prints_every_measure_and_every_failure(measured: Measured) -> None:
    text = str(measured(["|dlogit| 0.5 is above 0.001"]))
    for part in (
        "parity fp32: FAILED on 200 images",
        "top-1 89.00 % (PyTorch 90.00 %)",
        "top-5 98.00 % (PyTorch 99.00 %)",
        "drop +1.00 points (McNemar p 0.62)",
        "agreement 98.00 % (1 ties)",
        "|dlogit| max 0.25, p99 0.1, mean KL 0.001",
        "would have needed: agreement 98.00 %, |dlogit| 0.5, drop 1.00 points",
        "failed: |dlogit| 0.5 is above 0.001",
    ):
        assert part in text
    assert "parity fp32: passed" in str(measured([]))


def test_a_fault_prints_node_and_module() -> None:
    fault = Fault(
        node="node_Conv_3",
        op_type="Conv",
        value="getitem_3",
        module="layer1.0.bn1",
        module_type="BatchNorm2d",
        difference=None,
        allowed=1e-4,
        suspects=["node_Pad_1"],
    )
    assert str(fault) == (
        "first node out of band: Conv node_Conv_3 (getitem_3: NaN, infinity or wrong shape), from "
        "PyTorch module layer1.0.bn1 (BatchNorm2d); unverified before it: node_Pad_1"
    )
