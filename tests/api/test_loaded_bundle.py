"""A bundle in Python: what a stranger gives it, and that it answers as the service does."""

from __future__ import annotations

import io
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from fastapi.testclient import TestClient
from PIL import Image

import mldr_deploy as md
from mldr_deploy.bundle.reader import Bundle, open_bundle
from mldr_deploy.runtimes.runtime_choice import open_runtime
from mldr_deploy.serve.app import create_app
from mldr_deploy.serve.service import Service
from mldr_deploy.serve.service_config import ServeConfig

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def classifier(served: Path) -> Iterator[md.Classifier]:
    with md.load(served, runtime="onnxruntime-cpu") as loaded:
        yield loaded


@pytest.fixture(scope="module")
def pixels() -> np.ndarray:
    coarse = np.random.default_rng(3).integers(0, 256, (5, 4, 3), np.uint8)
    return coarse.repeat(12, 0).repeat(11, 1)


def png(pixels: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def test_every_form_of_a_picture_gets_the_same_answer(
    classifier: md.Classifier, pixels: np.ndarray, tmp_path: Path
) -> None:
    (tmp_path / "cat.png").write_bytes(png(pixels))
    forms = [pixels, png(pixels), Image.fromarray(pixels), tmp_path / "cat.png"]
    answers = [classifier.classify(form) for form in [*forms, str(tmp_path / "cat.png")]]
    assert answers == [answers[0]] * 5
    assert classifier.classify(forms) == answers[:4]
    assert classifier.classify(np.stack([pixels, pixels])) == answers[:2]


def test_it_answers_as_the_service_does(
    classifier: md.Classifier, served: Path, pixels: np.ndarray
) -> None:
    bundle = open_bundle(served)
    with open_runtime(bundle, "onnxruntime-cpu") as runtime:
        service = Service(bundle.manifest, runtime, ServeConfig())
        with TestClient(create_app(service)) as client:
            reply = client.post("/classify?top_k=3", files={"file": png(pixels)}).json()
    answer = classifier.classify(png(pixels), top=3)
    ours = [(p.label, p.index, p.probability) for p in answer.predictions]
    assert ours == [(p["label"], p["index"], p["probability"]) for p in reply["predictions"]]
    assert str(answer).startswith(f"{answer.label} {100 * answer.probability:.1f} %, ")


def test_a_batch_of_any_size_is_answered_in_order(
    classifier: md.Classifier, bundle: Bundle
) -> None:
    golden = bundle.golden
    pictures = [golden.pixels[k % len(golden)] for k in range(bundle.manifest.max_batch + 3)]
    answers = classifier.classify(pictures, top=1)
    single = [classifier.classify(picture, top=1).label for picture in pictures[:8]]
    assert [answer.label for answer in answers] == [single[k % 8] for k in range(len(pictures))]
    assert len(set(single)) > 1
    assert classifier.classify([]) == []


@pytest.mark.parametrize(
    ("picture", "words"),
    [
        ("nowhere.png", "nowhere.png cannot be read: No such file"),
        (b"GIF", "not an image in a format"),
        (np.zeros((4, 4), np.uint8), "give uint8 RGB [h, w, 3]"),
        (np.zeros((4, 4, 3), np.float32), "an array of float32 [4, 4, 3] is no picture"),
        (np.zeros((0, 4, 3), np.uint8), "without pixels"),
        (7, "int is no picture"),
        ([np.zeros((4, 4, 3), np.uint8), b""], "picture 1: an empty file"),
        (Image.new("L", (1, 10_000_000)), "picture 0: 1 x 10000000 pixels would become"),
    ],
)
def test_what_is_no_picture_is_refused(
    classifier: md.Classifier, picture: object, words: str
) -> None:
    with pytest.raises(md.MldrError) as refusal:
        classifier.classify(picture)
    assert words in str(refusal.value)


def test_a_picture_that_pillow_opened_but_cannot_decode_is_refused_by_number(
    classifier: md.Classifier, pixels: np.ndarray
) -> None:
    cut = Image.open(io.BytesIO(png(pixels)[:200]))  # its header alone was read
    with pytest.raises(md.MldrError, match="picture 1 cannot be decoded"):
        classifier.classify([pixels, cut])


def test_a_picture_of_pillow_s_is_turned_upright_as_its_file_is(
    classifier: md.Classifier, pixels: np.ndarray
) -> None:
    tags, file = Image.Exif(), io.BytesIO()
    tags[0x0112] = 6  # lies on its side
    Image.fromarray(pixels).save(file, "PNG", exif=tags)
    upright = classifier.classify(np.rot90(pixels, -1))
    assert classifier.classify(Image.open(file)) == classifier.classify(file.getvalue()) == upright
    assert upright != classifier.classify(pixels)


def test_threads_that_there_cannot_be_are_refused(served: Path) -> None:
    with pytest.raises(md.MldrError, match=r"load: threads = -1 is not allowed"):
        md.load(served, threads=-1)


def test_python_loads_no_torch_to_classify(served: Path) -> None:
    script = (
        "import sys, numpy, mldr_deploy as md\n"
        "heavy = {'numpy', 'PIL', 'pydantic', 'torch', 'onnxruntime'}\n"
        f"with md.load({str(served)!r}, runtime='onnxruntime-cpu') as student:\n"
        "    print(student.classify(numpy.zeros((40, 40, 3), numpy.uint8)).label)\n"
        "print('torch' in sys.modules)\n"
    )
    lines = run(script)
    assert lines[0].startswith("class ") and lines[1] == "False"


def test_the_import_itself_loads_nothing() -> None:
    script = "import sys, mldr_deploy as md; print({'numpy', 'click', 'rich'} & {*sys.modules})"
    assert run(script) == ["set()"]


def test_rooms_that_are_functions_stay_rooms() -> None:
    from mldr_deploy import compare, export
    from mldr_deploy.export.export_config import ExportConfig

    assert export is md.export and md.export.export_config.ExportConfig is ExportConfig
    with pytest.raises(md.MldrError, match="nowhere holds no trained model"):
        md.export("nowhere", "out")
    with pytest.raises(md.MldrError, match="nowhere"):
        compare("nowhere.toml")
    assert all(hasattr(md, name) for name in dir(md))


def run(script: str) -> list[str]:
    """What a fresh interpreter prints."""
    done = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        check=False,
        env={"PYTHONPATH": str(ROOT / ".src"), "PATH": ""},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()
