from __future__ import annotations

import base64
import copy
import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from scipy.special import softmax

from mldr_deploy.bundle.manifest import describe
from mldr_deploy.bundle.parity import Accuracy, Gate
from mldr_deploy.bundle.quality import Answers, quality_of
from mldr_deploy.bundle.reader import Bundle
from mldr_deploy.demo.about import card, header, summary
from mldr_deploy.demo.answers import answers, comparison
from mldr_deploy.demo.classify_tab import _loaded
from mldr_deploy.demo.demo_config import DemoConfig
from mldr_deploy.demo.html import milliseconds, notice, percent
from mldr_deploy.demo.image_classifier import ImageClassifier, as_json
from mldr_deploy.demo.loaded_student import LoadedStudent
from mldr_deploy.demo.look import Look, Viewer
from mldr_deploy.demo.proof_page import gate_lines, proof_page
from mldr_deploy.demo.quality_section import quality_section
from mldr_deploy.runtimes.runtime import RuntimeOptions
from mldr_deploy.serve.service_config import ServeConfig


@pytest.fixture(scope="module")
def viewer(student: LoadedStudent) -> Viewer:
    return Viewer(student, None)


def look(viewer: Viewer, k: int, name: str = "fp32", compare: bool = False) -> Look:
    image = Image.fromarray(viewer.student.bundle.golden.sources[k])
    return viewer.look(image, name, 0.001, compare=compare)


def test_what_is_said_is_the_softmax_of_the_golden_logits(viewer: Viewer) -> None:
    golden = viewer.student.bundle.golden
    for k in range(len(golden)):
        found = look(viewer, k)
        expected = softmax(golden.logits[k].astype(np.float64))
        order = np.argsort(-expected)[:5]
        assert [p.index for p in found.student.top] == order.tolist()
        assert [p.probability for p in found.student.top] == pytest.approx(
            expected[order], rel=1e-4
        )
        assert found.truth == str(golden.label[k])
        assert np.array_equal(found.pixels, golden.pixels[k])


def test_an_image_that_is_not_the_bundle_s_has_no_known_label(viewer: Viewer) -> None:
    other = Image.fromarray(255 - viewer.student.bundle.golden.sources[0])
    assert viewer.look(other, "fp32", 0.0).truth is None


def test_every_artifact_that_runs_is_compared(viewer: Viewer) -> None:
    found = look(viewer, 3, compare=True)
    assert [answer.name for answer in found.artifacts] == ["fp32", "int8"]
    assert found.artifacts[0].top == found.student.top
    page = comparison(found, {"fp32": 1_500_000, "int8": 400_000}, "fp32")
    assert "All give the same answer" in page and "1.50" in page and "0.40" in page


def test_another_answer_of_an_artifact_is_called_so(viewer: Viewer) -> None:
    base, other = look(viewer, 3), look(viewer, 5)
    both = [
        base.student,
        other.student.__class__("int8", "", other.student.top, other.student.shares, 1),
    ]
    changed = Look(base.pixels, base.student, None, None, 0, 0, both)
    page = comparison(changed, {"fp32": 1, "int8": 1}, "fp32")
    assert "Another answer than fp32 from: int8" in page


def test_a_failed_artifact_is_left_out_with_its_reason(student: LoadedStudent) -> None:
    assert [*student.forms] == ["fp32", "int8"]
    assert "student.fp16.onnx failed its parity gate (top-1 drop 4.20" in student.left_out["fp16"]


def test_the_bundle_is_loaded_when_failed_ones_are_allowed(shown: Path) -> None:
    from mldr_deploy.bundle.reader import open_bundle

    allowed = open_bundle(shown, allow_failed=True)
    with LoadedStudent(allowed, "onnxruntime-cpu", RuntimeOptions(threads=1)) as everything:
        assert [*everything.forms] == ["fp32", "int8", "fp16"]


def test_limits_of_uploads_are_the_service_s() -> None:
    demo, service = DemoConfig(), ServeConfig()
    assert (demo.max_upload, demo.max_pixels) == (service.max_upload, service.max_pixels)


@pytest.mark.parametrize(
    ("content", "config", "words"),
    [
        (b"hello", {}, "Not taken: not an image in a format taken here: JPEG, PNG"),
        (b"\x89PNG\r\n\x1a\n nonsense", {}, "Not taken: a damaged PNG file (Truncated File Read)"),
        (b"", {}, "Not taken: the upload is empty"),
        (bytes(2 << 20), {"max_upload_mib": 1}, "Not taken: 2.0 MiB, at most 1 MiB are taken"),
    ],
)
def test_a_bad_upload_is_told_in_words(
    viewer: Viewer, tmp_path: Path, content: bytes, config: dict[str, float], words: str
) -> None:
    path = tmp_path / "upload.png"
    path.write_bytes(content)
    page, others = ImageClassifier(viewer, DemoConfig(**config)).picture(str(path), "fp32")
    assert words in page and 'role="alert"' in page and others == ""


def test_too_many_pixels_and_a_lost_upload_are_told(viewer: Viewer, tmp_path: Path) -> None:
    path = tmp_path / "upload.png"
    Image.new("RGB", (200, 100)).save(path)
    page, _ = ImageClassifier(viewer, DemoConfig(max_megapixels=0.01)).picture(str(path), "fp32")
    assert "200 x 100 pixels, at most 10000 are taken" in page
    page, _ = ImageClassifier(viewer, DemoConfig()).picture(str(tmp_path / "gone.png"), "fp32")
    assert "the upload is gone from this machine: upload it again" in page


def test_an_artifact_that_failed_or_is_unknown_is_told(viewer: Viewer, tmp_path: Path) -> None:
    path = tmp_path / "upload.png"
    Image.new("RGB", (32, 32)).save(path)
    tab = ImageClassifier(viewer, DemoConfig())
    assert "failed its parity gate" in tab.picture(str(path), "fp16")[0]
    assert "there is no artifact" in tab.picture(str(path), "int3")[0]
    assert "choose fp32, int8" in tab.picture(str(path), "int3")[0]


def test_the_answer_says_right_wrong_and_that_there_is_no_teacher(viewer: Viewer) -> None:
    found = look(viewer, 3)
    assert "right: it is 3" in answers(found)
    assert "start with --teacher RUN" in answers(found)
    wrong = Look(found.pixels, found.student, None, "8", 0, 0)
    assert "wrong: it is 8" in answers(wrong)


def test_agreement_is_told_either_way(viewer: Viewer) -> None:
    three, five = look(viewer, 3), look(viewer, 5)
    for teacher, words in ((three, "and the teacher agrees"), (five, "the teacher says 5")):
        both = Look(three.pixels, three.student, teacher.student, None, 0, 0)
        assert words in answers(both) and "--teacher" not in answers(both)
        assert as_json(both)["agree"] == (teacher is three)


def test_what_comes_from_outside_is_escaped(bundle: Bundle, viewer: Viewer) -> None:
    assert "&lt;b&gt;bold&lt;/b&gt;" in header(bundle, None)
    assert "<b>bold" not in header(bundle, None) + summary(bundle.manifest, None)
    found = look(viewer, 3)
    hostile = Look(found.pixels, found.student, None, '<img src=x onerror="alert(1)">', 0, 0)
    assert "<img src=x" not in answers(hostile) + notice("<img src=x>")


def test_the_proof_shows_what_failed_and_what_it_would_have_needed(student: LoadedStudent) -> None:
    page = proof_page(student)
    assert "FAILED: student.fp16.onnx" in page
    assert "Failed: top-1 drop 4.20 points is above 1" in page
    assert "would have needed 4.20 points" in page
    lines = [*gate_lines(student.bundle.manifest.artifacts[2].parity)]
    assert [(line.name, line.holds) for line in lines] == [
        ("drop of top-1", False),
        ("NaN or infinity", True),
    ]
    for artifact in student.bundle.manifest.artifacts:  # the lines and the verdict say the same
        assert all(line.holds for line in gate_lines(artifact.parity)) == bool(artifact.parity)


def test_a_drop_that_few_images_cannot_tell_has_no_green_mark(student: LoadedStudent) -> None:
    first, second, *_ = student.bundle.manifest.artifacts
    update = {"samples": 8, "lost": 5, "gained": 0, "mcnemar_p": 0.0625, "failures": []}
    accuracy = {"reference": Accuracy(top1=100, top5=100), "artifact": Accuracy(top1=37.5, top5=99)}
    parity = first.parity.model_copy(update={**update, **accuracy, "gate": Gate(max_drop=1.0)})
    assert [line.holds for line in gate_lines(parity)] == [None, True]
    artifacts = [first, second.model_copy(update={"parity": parity})]
    manifest = student.bundle.manifest.model_copy(update={"artifacts": artifacts})
    doubted = copy.copy(student)
    doubted.bundle = dataclasses.replace(student.bundle, manifest=manifest)
    page = proof_page(doubted)
    assert f"None failed; in doubt: {second.file}." in page
    assert "Drop 62.50 points: 8 images cannot tell it from chance." in page
    assert 'aria-label="in doubt">?<' in page and ">in doubt</span>" in page


def test_the_proof_shows_the_student_class_by_class(student: LoadedStudent, tmp_path: Path) -> None:
    bundle = student.bundle
    assert quality_section(bundle) == ""
    answers_of_test = Answers(1.0)
    answers_of_test.add(5 * np.eye(10, dtype=np.float32)[[1, 1, 7]], np.array([1, 1, 1]))
    measured = quality_of(answers_of_test, bundle.manifest.labels, str, fitted_on=0)
    assert measured is not None
    (tmp_path / "quality.png").write_bytes(b"a picture")
    update = {"quality": measured[0], "quality_files": [describe(tmp_path, "quality.png")]}
    manifest = bundle.manifest.model_copy(update=update)
    shown = quality_section(dataclasses.replace(bundle, path=tmp_path, manifest=manifest))
    assert "<td>1</td><td>3</td><td>66.7</td><td>20.8 to 93.9</td>" in shown
    assert "<td>1</td><td>7</td><td>1</td>" in shown and "uncalibrated" in shown
    assert base64.b64encode(b"a picture").decode() in shown


def test_the_proof_has_no_top5_with_five_classes(student: LoadedStudent) -> None:
    assert "top-5" in proof_page(student)
    labels = student.bundle.manifest.labels[:5]
    manifest = student.bundle.manifest.model_copy(update={"labels": labels})
    few = copy.copy(student)
    few.bundle = dataclasses.replace(student.bundle, manifest=manifest)
    assert "top-5" not in proof_page(few)


def test_a_bundle_without_a_card_gets_one_made(bundle: Bundle) -> None:
    assert bundle.manifest.card is None and "# centres" in card(bundle)


@pytest.mark.parametrize(
    ("share", "text"),
    [(1.0, "100.0 %"), (0.9996, "> 99.9 %"), (0.5, "50.0 %"), (0.0001, "< 0.1 %"), (0.0, "0.0 %")],
)
def test_a_probability_is_never_rounded_to_certainty(share: float, text: str) -> None:
    assert percent(share) == text


def test_times_have_three_digits() -> None:
    assert [milliseconds(s) for s in (0.0001234, 0.01234, 1.234)] == [
        "0.12 ms",
        "12.3 ms",
        "1234 ms",
    ]


def test_a_latency_is_one_figure_wherever_it_stands(
    student: LoadedStudent, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Card, stages and table; on a clock of its own, the median of seven calls."""
    viewer, calls = Viewer(student, None), iter(range(1, 100))

    def answered(self: Viewer, name: str, form: Any, inputs: Any) -> Any:
        logits, _ = form(inputs)
        return self._answered(name, "", logits[0], 0.001 * next(calls))

    monkeypatch.setattr(Viewer, "_answer", answered)
    compared = look(viewer, 3, compare=True)
    assert compared.student.seconds == 0.007  # of 1, 3, ..., 13
    assert compared.student in compared.artifacts
    shown = answers(compared) + comparison(compared, dict.fromkeys(student.forms, 1), "fp32")
    assert shown.count("7.00 ms") == 3 and "8.00 ms" in shown
    assert look(viewer, 3).artifacts == []


def test_the_switch_says_how_many_are_loaded(student: LoadedStudent) -> None:
    assert _loaded(student) == "2 of 3 are loaded; below, why not fp16."
