"""A picture is the same, however it comes in: files of every orientation, by every way.

The truth is Pillow's ``exif_transpose`` of each file, opened anew. The pictures are square, so that
a data set of them can be held in memory, and no two turns of one are alike.
"""

from __future__ import annotations

import asyncio
import dataclasses
import io
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image, ImageDraw, ImageOps

from mldr_deploy.bundle.preprocess import Preprocessing, normalise, preprocess
from mldr_deploy.bundle.reader import Bundle
from mldr_deploy.bundle.trained import TrainedModel, save_trained
from mldr_deploy.data.data_config import AugmentConfig, DataConfig
from mldr_deploy.data.dataset import Dataset, load_dataset
from mldr_deploy.data.images import EncodedImages, UnreadableImage
from mldr_deploy.data.loader import EvalBatches, TrainBatches
from mldr_deploy.demo.archive import Picture
from mldr_deploy.demo.demo_config import DemoConfig
from mldr_deploy.demo.image_classifier import ImageClassifier
from mldr_deploy.demo.loaded_student import LoadedStudent
from mldr_deploy.demo.look import Viewer
from mldr_deploy.demo.scoring import score
from mldr_deploy.export.build_bundle import build_bundle
from mldr_deploy.export.export_config import ExportConfig
from mldr_deploy.export.recheck import check_bundle
from mldr_deploy.models.architecture_config import ModelConfig
from mldr_deploy.models.model_registry import create_model
from mldr_deploy.runtimes.runtime import RuntimeOptions
from mldr_deploy.runtimes.runtime_choice import open_runtime
from mldr_deploy.serve.request_refusal import RequestRefusal
from mldr_deploy.serve.service import Service
from mldr_deploy.serve.service_config import ServeConfig
from mldr_deploy.serve.uploads import open_image

SIDE = 32
SPEC = Preprocessing(size=(SIDE, SIDE), mean=(0.5, 0.4, 0.3), std=(0.2, 0.25, 0.3))
FORMATS = {"JPEG": {"quality": 95}, "PNG": {}, "WEBP": {"lossless": True}, "TIFF": {}}
CLASSES = ("ant", "bee")


def picture(seed: int) -> Image.Image:
    blocks = np.random.default_rng(seed).integers(0, 256, (SIDE // 8, SIDE // 8, 3), np.uint8)
    return Image.fromarray(blocks.repeat(8, 0).repeat(8, 1))


@dataclass(frozen=True)
class Photographs:
    """Data sets of the same files: the test split holds every orientation in every format."""

    root: Path
    files: list[Path]  # of the test split, in its order
    truth: Any  # uint8 [N, 32, 32, 3]

    def read(self, source: str, **options: Any) -> Dataset:
        return load_dataset(
            DataConfig(source=f"{source}:{self.root / source}", batch_size=4, **options)
        )


@pytest.fixture(scope="session")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> Photographs:
    root = tmp_path_factory.mktemp("photographs")
    for split in ("train", "val"):
        for label, name in enumerate(CLASSES):
            folder = root / "folder" / split / name
            folder.mkdir(parents=True)
            for number, form in enumerate(FORMATS):
                for orientation in range(1, 9):
                    exif = Image.Exif()
                    exif[0x0112] = orientation
                    seed = 1000 * label + 100 * number + 10 * orientation + (split == "val")
                    path = folder / f"{orientation}.{form.lower()}"
                    picture(seed).save(path, form, exif=exif, **FORMATS[form])
    write_tables(root)
    files = sorted((root / "folder" / "val").rglob("*.*"))
    turned = (ImageOps.exif_transpose(Image.open(path)) for path in files)
    return Photographs(root, files, np.stack([np.asarray(image) for image in turned]))


def write_tables(root: Path) -> None:
    (root / "parquet").mkdir()
    for split in ("train", "val"):
        files = sorted((root / "folder" / split).rglob("*.*"))
        columns = {
            "image": [path.read_bytes() for path in files],
            "label": [path.parent.name for path in files],
        }
        pq.write_table(pa.table(columns), root / "parquet" / f"{split}.parquet")


@pytest.fixture(scope="session")
def exported(photographs: Photographs, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """A bundle of an untrained student: what it answers follows from the pixels alone."""
    dataset = photographs.read("folder")
    torch.manual_seed(0)
    config = ModelConfig(name="test_resnet")
    model = create_model(config, num_classes=2, image_size=SIDE).eval()
    record = TrainedModel(
        model=config.model_dump(mode="json"),
        num_classes=2,
        image_size=SIDE,
        classes=[*CLASSES],
        preprocessing=SPEC,
        family="cnn",
        parameters=sum(p.numel() for p in model.parameters()),
        data=DataConfig().model_dump(mode="json"),
        data_fingerprint=dataset.fingerprint,
        provenance={"recipe": {"train": {"seed": 0}}},
    )
    folder = tmp_path_factory.mktemp("run")
    tensors = {name: tensor.numpy() for name, tensor in model.state_dict().items()}
    save_trained(folder / "student", record, tensors)
    config = ExportConfig(max_batch=16, golden=32, latency_seconds=0.05)
    return build_bundle(folder / "student", folder / "bundle", config, dataset=dataset)


@pytest.fixture(scope="session")
def viewer(exported: Bundle) -> Iterator[Viewer]:
    with LoadedStudent(exported, "onnxruntime-cpu", RuntimeOptions(threads=1)) as student:
        yield Viewer(student, None)


def test_no_two_turns_of_a_picture_are_alike(photographs: Photographs) -> None:
    assert len(photographs.files) == 2 * 4 * 8
    for pixels in photographs.truth:
        turns = {
            np.rot90(side, k).tobytes() for side in (pixels, pixels[:, ::-1]) for k in range(4)
        }
        assert len(turns) == 8


@pytest.mark.parametrize("source", ["folder", "parquet"])
@pytest.mark.parametrize("resident", [True, False])
def test_data_sets(photographs: Photographs, source: str, resident: bool) -> None:
    dataset = photographs.read(source, resident_mib=2048 if resident else 0)
    assert (dataset.test.pixels is not None) == resident
    seen = [np.asarray(dataset.test.image(k)) for k in range(len(dataset.test))]
    assert np.array_equal(seen, photographs.truth)
    fed = [inputs.numpy() for inputs, _ in EvalBatches(dataset.test, SPEC, 16, "cpu")]
    assert np.array_equal(np.concatenate(fed), normalise(photographs.truth, SPEC))
    # What training takes, with nothing done to it.
    plain = AugmentConfig(crop="none", flip=0)
    config = DataConfig(batch_size=8, image_size=SIDE)
    batches = TrainBatches(dataset.test, config, seed=0, device="cpu", augment=plain)
    for batch in batches.epoch(0):
        expected = photographs.truth[batch.indices.numpy()].transpose(0, 3, 1, 2)
        assert np.array_equal(batch.pixels.numpy(), expected)


def test_uploads_to_the_service(photographs: Photographs, exported: Bundle) -> None:
    async def prepared(service: Service) -> list[Any]:
        deadline = asyncio.get_running_loop().time() + 60
        files = [path.read_bytes() for path in photographs.files]
        return [(await service.prepare(data, "", deadline)).inputs[0] for data in files]

    with open_runtime(exported, "onnxruntime-cpu", None, RuntimeOptions(threads=1)) as runtime:
        inputs = asyncio.run(prepared(Service(exported.manifest, runtime, ServeConfig())))
    assert np.array_equal(np.stack(inputs), normalise(photographs.truth, SPEC))


def test_uploads_to_the_demo(photographs: Photographs, exported: Bundle, viewer: Viewer) -> None:
    tab = ImageClassifier(viewer, DemoConfig())
    golden = dict(zip(exported.golden.index.tolist(), exported.golden.label.tolist(), strict=True))
    for row, (path, pixels) in enumerate(zip(photographs.files, photographs.truth, strict=True)):
        look = tab.look(str(path), None)
        assert np.array_equal(look.pixels, pixels), path.name
        known = CLASSES[golden[row]] if row in golden else None  # it knows its own pictures again
        assert look.truth == known, path.name
    assert {look.suffix for k, look in enumerate(photographs.files) if k in golden} == {
        f".{form.lower()}" for form in FORMATS
    }


def test_a_batch_in_the_demo(photographs: Photographs, exported: Bundle, viewer: Viewer) -> None:
    files = [Picture(str(path), path.read_bytes()) for path in photographs.files]
    *_, scores = score(files, viewer.form("fp32"), DemoConfig().max_pixels)
    with open_runtime(exported, "onnxruntime-cpu", None, RuntimeOptions(threads=1)) as runtime:
        answers = [
            int(runtime(normalise(pixels[None], SPEC))[0].argmax()) for pixels in photographs.truth
        ]
    assert [row.predicted for row in scores.rows] == answers
    pairs = zip(answers, photographs.files, strict=True)
    right = [CLASSES[said] == path.parent.name for said, path in pairs]
    assert scores.top(1) == 100 * np.mean(right)


def test_golden_pictures_and_check(photographs: Photographs, exported: Bundle) -> None:
    golden = exported.golden
    for place, row in enumerate(golden.index):
        assert np.array_equal(golden.sources[place], photographs.truth[row])
    for options in ({}, {"resident_mib": 0}):
        result = check_bundle(exported.path, dataset=photographs.read("folder", **options))
        holds = {f.subject: f.holds for f in result.findings}
        assert holds.pop("student") is False  # untrained: no better than chance
        assert False not in holds.values(), str(result)
        assert holds["golden pixels"] is True and all(result.parity.values())


def arrow(side: int, rng: np.random.Generator) -> Image.Image:
    """A bright triangle on dark ground, its apex at the top."""
    image = Image.new("RGB", (side, side), tuple(int(v) for v in rng.integers(0, 90, 3)))
    corners = [(side // 2, side // 6), (side // 6, 5 * side // 6), (5 * side // 6, 5 * side // 6)]
    ImageDraw.Draw(image).polygon(corners, fill=tuple(int(v) for v in rng.integers(160, 255, 3)))
    return image


@pytest.mark.parametrize("form", FORMATS)
def test_what_is_measured_is_what_is_served(form: str, tmp_path: Path) -> None:
    """A phone's photographs, held upside down: which way does the arrow point? (Of several sizes.)

    The student is a rule: an arrow up has more light in its lower half.
    """
    rng, exif = np.random.default_rng(0), Image.Exif()
    exif[0x0112] = 3
    for split, count in (("train", 3), ("val", 6)):
        for name in ("down", "up"):
            (tmp_path / split / name).mkdir(parents=True)
            for number in range(count):
                seen = arrow(int(rng.integers(34, 48)), rng)
                stored = seen if name == "down" else seen.transpose(Image.Transpose.ROTATE_180)
                # Down as a person sees it is the arrow turned by 180: stored as it is.
                path = tmp_path / split / name / f"{number}.{form.lower()}"
                stored.save(path, form, exif=exif, **FORMATS[form])

    def points_up(inputs: Any) -> Any:
        return inputs[:, :, SIDE // 2 :].sum((1, 2, 3)) > inputs[:, :, : SIDE // 2].sum((1, 2, 3))

    dataset = load_dataset(DataConfig(source=f"folder:{tmp_path}", batch_size=2))
    assert dataset.test.pixels is None and dataset.classes == ("down", "up")
    batches = [*EvalBatches(dataset.test, SPEC, 4, "cpu")]
    measured = [points_up(inputs.numpy()) == (labels.numpy() == 1) for inputs, labels in batches]
    files = sorted((tmp_path / "val").rglob("*.*"))
    served = preprocess([open_image(path.read_bytes(), 10**6) for path in files], SPEC)
    answers = points_up(served) == np.array([path.parent.name == "up" for path in files])
    assert np.concatenate(measured).all() and answers.all() and len(answers) == 12


def test_check_refuses_pictures_that_are_turned(
    photographs: Photographs, exported: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As they were by releases that turned a phone's photographs twice."""
    dataset = photographs.read("folder")
    twice = dataset.test.resident[:, ::-1, ::-1].copy()
    wrong = dataclasses.replace(dataset, test=dataclasses.replace(dataset.test, resident=twice))
    result = check_bundle(exported.path, dataset=wrong)
    assert not result and "is another one now" in str(result)


def test_a_format_that_the_service_refuses_is_not_trained_on_either(
    photographs: Photographs, exported: Bundle
) -> None:
    """One list for every way in: each file is taken by both or refused by both, and why."""
    files = {f"{form} whole": path for form, path in whole_files().items()}
    files |= {f"{form} cut": data[: len(data) // 2] for form, data in whole_files().items()}
    files["16 bits of 12"] = deep(4095)
    files["16 bits"] = deep(65535)
    files["EPS"] = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 1 1\n"
    rows = EncodedImages(pa.array(list(files.values()), pa.large_binary()), [("t", len(files))])
    taken = set()
    for row, (name, data) in enumerate(files.items()):
        try:
            served = open_image(data, 10**6)
        except RequestRefusal as refusal:
            assert 400 <= refusal.status < 500
            with pytest.raises(UnreadableImage) as unreadable:
                rows.rgb(row)
            assert str(unreadable.value) == f"row {row} of t ({refusal})", name
        else:
            taken.add(name)
            assert np.array_equal(np.asarray(served), np.asarray(rows.rgb(row))), name
    assert taken == {n for n in files if n.endswith(" whole")} | {"16 bits"}


def whole_files() -> dict[str, bytes]:
    files = {}
    for form in ("JPEG", "MPO", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM"):
        buffer = io.BytesIO()
        picture(7).save(buffer, form)
        files[form] = buffer.getvalue()
    return files


def deep(most: int) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.linspace(0, most, 64).astype(np.uint16).reshape(8, 8)).save(buffer, "TIFF")
    return buffer.getvalue()
