"""Report, page, summary, recommendation and comparison."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from mldr_deploy.bundle.quality import ClassAccuracy, Confusion, Quality, Trust
from mldr_deploy.cli.group import main
from mldr_deploy.errors import MldrError
from mldr_deploy.profiler.change import changed
from mldr_deploy.profiler.page.curves import pareto
from mldr_deploy.profiler.page.page import page
from mldr_deploy.profiler.page.rows import by_operator
from mldr_deploy.profiler.page.scale import fitted, linear_ticks, log_ticks
from mldr_deploy.profiler.profiler import warnings
from mldr_deploy.profiler.report import Report, read_report
from mldr_deploy.profiler.report_files import write_report
from mldr_deploy.profiler.request_stages import Requests
from mldr_deploy.profiler.two_reports import compare, compare_files

MakeReport = Callable[..., Report]


def rounds_of(rng: np.random.Generator, factor: float = 1.0, rounds: int = 5) -> list[Any]:
    """Latencies with a tail, and 0.5 % between rounds."""
    return [
        1e6 * factor * np.exp(0.005 * rng.standard_normal() + 0.1 * rng.standard_normal(500))
        for _ in range(rounds)
    ]


def test_the_same_distribution_is_noise_and_five_per_cent_is_not() -> None:
    rng = np.random.default_rng(0)
    pairs = [(rounds_of(rng), rounds_of(rng)) for _ in range(40)]
    same = [changed(a, b, 50).verdict for a, b in pairs]
    assert same.count("noise") >= 38
    shifted = [changed(a, [1.05 * one for one in b], 50) for a, b in pairs]
    assert [one.verdict for one in shifted].count("slower") >= 38
    assert shifted[0].ratio == pytest.approx(1.05, rel=0.02)
    faster = [changed([1.05 * one for one in a], b, 50).verdict for a, b in pairs]
    assert faster.count("faster") >= 38


@pytest.mark.slow
@pytest.mark.parametrize("percent", [50, 99])
def test_false_alarms_are_as_rare_as_the_level_says(percent: int) -> None:
    rng = np.random.default_rng(1)
    found = [changed(rounds_of(rng), rounds_of(rng), percent) for _ in range(600)]
    outside = sum(not one.low <= 1 <= one.high for one in found)
    assert outside <= 12  # 1 % of 600, and two standard deviations more


def test_rounds_that_differ_are_not_taken_for_a_change() -> None:
    """Rounds 10 % apart: thousands of samples make no certainty of a 5 % difference."""
    rng = np.random.default_rng(2)
    wide = [[one * np.exp(0.1 * rng.standard_normal()) for one in rounds_of(rng)] for _ in range(2)]
    assert changed(wide[0], wide[1], 50).verdict == "noise"


def test_two_reports(report: MakeReport, tmp_path: Path) -> None:
    same = compare(report(0), report(1))
    assert not same and "0 of" in str(same)
    kinds = [("student.onnx", "onnxruntime-cpu", "fp32", ms, 88.86) for ms in (2.0, 2.2)]
    for name, kind in zip("ab", kinds, strict=True):
        write_report(report(0 if name == "a" else 1, kinds=[kind]), tmp_path / name)
    slower = compare_files(tmp_path / "a", tmp_path / "b" / "report.json")
    assert slower
    told = {row.series: row.change.verdict for row in slower.rows}
    assert told["batch 1 compute p50"] == told["batch 32 end to end p50"] == "slower"
    run = CliRunner().invoke(main, ["profile", "--compare", *(str(tmp_path / n) for n in "ab")])
    assert run.exit_code == 0 and "slower" in run.output and "bootstrap" in run.output


def test_what_two_reports_do_not_share_is_named(report: MakeReport) -> None:
    first = report(0)
    file = first.entries[0]
    fewer = file.model_copy(update={"closed": file.closed[:1], "poisson": []})
    config = first.config.model_copy(update={"encoding": "PNG"})
    entries = [fewer, *first.entries[1:]]
    second = first.model_copy(update={"config": config, "entries": entries})
    batches = [f"{file.name} at batch {closed.batch}" for closed in file.closed[1:]]
    loads = [f"{file.name} at load {arrived.load:.0%}" for arrived in file.poisson]
    lacking = ", ".join(sorted([*batches, *loads]))
    assert len(batches) and compare(first, second).notes == [
        "the encodings of the images differ: JPEG and PNG",
        f"only in the first: {lacking}",
    ]
    assert compare(second, first).notes[-1] == f"only in the second: {lacking}"
    assert compare(first, first).notes == []


def test_few_rounds_tell_nothing_and_strangers_are_refused(report: MakeReport) -> None:
    found = compare(report(0, rounds=2), report(1, rounds=2))
    assert not found and "too few rounds" in str(found)
    other = report(0, kinds=[("other.onnx", "openvino", "fp32", 1.0, 80.0)])
    with pytest.raises(MldrError, match="no file, runtime"):
        compare(report(0), other)


def test_recommendation(report: MakeReport) -> None:
    pick = report(0).recommendation
    assert (pick.file, pick.runtime) == ("student.int8.onnx", "onnxruntime-cpu")
    fp32 = ("student.onnx", "onnxruntime-cpu", "fp32", 2.0, 88.86)
    level = report(0, kinds=[fp32, ("student.int8.onnx", "onnxruntime-cpu", "int8", 2.0, 88.3)])
    assert level.recommendation.file == "student.onnx"  # int8 is not faster: not named


def test_a_report_is_read_back_and_keeps_every_sample(report: MakeReport, out: Path) -> None:
    made = report(3)
    write_report(made, out)
    again = read_report(out)
    assert again == made
    raw = json.loads((out / "report.json").read_text())
    first = raw["entries"][0]["closed"][0]
    samples = np.concatenate(
        [
            np.sum([one[s] for s in ("decode", "preprocess", "host_to_device")], axis=0)
            + np.array(one["compute"])
            + one["device_to_host"]
            for one in first["rounds"]
        ]
    )
    expected = np.percentile(samples, 99, method="inverted_cdf") / 1e6
    assert first["summary"]["end_to_end"]["p99"] == pytest.approx(expected)
    assert first["throughput"] == pytest.approx(len(samples) / (samples.sum() / 1e9))


class Balanced(HTMLParser):
    """Fails on a tag that is closed out of order."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[str] = []

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.seen.append(tag)
        if tag not in ("meta",):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: Any) -> None:
        self.seen.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_the_page_stands_alone(report: MakeReport) -> None:
    text = page(report(0, warnings=["<b>busy</b> & noisy"]))
    parser = Balanced()
    parser.feed(text)
    assert parser.open == []
    assert "script" not in parser.seen and "link" not in parser.seen and "img" not in parser.seen
    assert not re.search(r"https?://|url\(|@import", text)
    assert parser.seen.count("svg") >= 7 + 4  # pictures, and layers of four entries
    assert "prefers-color-scheme" in text and "width=device-width" in text
    assert "&lt;b&gt;busy" in text and "<b>busy" not in text
    assert "nan" not in re.findall(r'[xyd][12]?="([^"]*)"', text)


def quality() -> Quality:
    trust = Trust(ece=0.0312, loss=0.5, confidence=0.9)
    return Quality(
        images=40,
        top1=75,
        fitted_on=20,
        plain=Trust(ece=0.2, loss=0.7, confidence=0.6),
        calibrated=trust,
        weakest=[ClassAccuracy(label="<b>ant", images=8, hits=3, low=13.7, high=69.4)],
        confused=[Confusion(label="<b>ant", said="bee", images=5)],
        mistakes=[],
    )


def test_the_page_tells_classes_confusion_and_calibration(report: MakeReport) -> None:
    plain = report(0)
    assert "How good it is" not in page(plain)
    subject = plain.subject.model_copy(update={"quality": quality()})
    text = page(plain.model_copy(update={"subject": subject}))
    assert "<td>&lt;b&gt;ant</td><td>8</td><td>37.5</td><td>13.7 to 69.4</td>" in text
    assert "<td>&lt;b&gt;ant</td><td>bee</td><td>5</td>" in text
    assert "<td>as answered</td><td>3.1</td><td>0.500</td><td>90.0</td>" in text
    assert "fitted on 20 validation images" in text


def test_top5_is_not_shown_with_five_classes(report: MakeReport) -> None:
    ten = report(0)
    assert "top-5" in page(ten)
    subject = ten.subject.model_copy(update={"classes": 5})
    assert "top-5" not in page(ten.model_copy(update={"subject": subject}))


def test_no_latency_without_accuracy(report: MakeReport, out: Path) -> None:
    write_report(report(0), out)
    for text, row in (
        ((out / "summary.md").read_text(), r"^\| student.*$"),
        ((out / "report.html").read_text(), r"<tr[^>]*><td>student.*?</tr>"),
    ):
        found = re.findall(row, text, flags=re.MULTILINE)
        assert len(found) >= 12
        assert all("88.86" in one or "88.3" in one or "88.84" in one for one in found)


def test_operators_add_up_to_their_layers(report: MakeReport) -> None:
    layers = report(0).entries[0].layers
    other = layers[3].model_copy(update={"kind": "Gemm", "share": 1.0})
    found = by_operator([*layers, other])
    assert [one.kind for one in found] == ["Conv", "Gemm"]
    assert found[0].milliseconds == pytest.approx(sum(one.milliseconds for one in layers))
    assert found[0].share == pytest.approx(min(sum(one.share for one in layers), 100))
    text = page(report(0))
    assert "Time per operator" in text and "Conv · fp32" in text and "12 others" in text


def test_arrivals_that_outran_the_machine_are_said(report: MakeReport) -> None:
    made = report(0, kinds=[("student.onnx", "onnxruntime-cpu", "fp32", 2.0, 88.86)])
    images = Requests((b"",) * 16, "JPEG")

    def told(slower: float) -> list[str]:
        """The same requests in a time that makes the server ``slower`` times as busy."""
        [one] = made.entries
        poisson = []
        for p in one.poisson:
            rounds = [
                r.model_copy(
                    update={"spent": round((sum(r.latency) - sum(r.waiting)) / p.load / slower)}
                )
                for r in p.rounds
            ]
            poisson.append(p.model_copy(update={"rounds": rounds}))
            assert poisson[-1].busy == pytest.approx(p.load * slower, rel=0.01)
        entry = one.model_copy(update={"poisson": poisson})
        return [line for line in warnings([entry], made.config, images) if "arrivals" in line]

    assert told(1.0) == [] and told(1.2) == []
    [line] = told(1.5)
    assert "in 2 of 2 series" in line and "planned 80% busy, was 120%" in line


def test_pareto_line() -> None:
    points = [(3.0, 90.0), (1.0, 80.0), (2.0, 79.0), (2.5, 85.0), (2.5, 84.0), (9.0, 90.0)]
    assert pareto(points) == [1, 3, 0]


def test_scales() -> None:
    assert linear_ticks(0, 4.1) == (0, 1, 2, 3, 4)
    assert log_ticks(0.9, 30) == (1, 2, 5, 10, 20)
    scale = fitted([1.0, 100.0], 0, 100)
    assert scale.log and scale(10.0) == pytest.approx(50)
    assert not fitted([5.0, 5.0], 0, 100).log  # one value has room around it
    assert fitted([5.0], 0, 100)(5.0) == pytest.approx(50)


def test_a_newer_report_is_refused(report: MakeReport, out: Path) -> None:
    write_report(report(0), out)
    content = json.loads((out / "report.json").read_text())
    content["schema_version"] = 99
    (out / "report.json").write_text(json.dumps(content))
    run = CliRunner().invoke(main, ["profile", "--compare", str(out), str(out)])
    assert run.exit_code == 1
    assert "schema version 99" in run.output and "upgrade mldr-deploy" in run.output
    assert len(run.output.splitlines()) == 1


def test_a_folder_with_other_files_is_not_replaced(report: MakeReport, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    with pytest.raises(MldrError, match="holds other files"):
        write_report(report(0), tmp_path / "mine")
