"""What a training step and an evaluation are fed."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from mldr_deploy.bundle.preprocess import Preprocessing, preprocess
from mldr_deploy.data.data_config import AugmentConfig, DataConfig
from mldr_deploy.data.dataset import load_dataset
from mldr_deploy.data.images import UnreadableImage
from mldr_deploy.data.loader import EvalBatches, TrainBatch, TrainBatches
from mldr_deploy.data.split import Split
from mldr_deploy.errors import MldrError

SPEC = Preprocessing(size=(16, 16), mean=(0.5, 0.4, 0.3), std=(0.2, 0.3, 0.4))


def numbered(count: int) -> Split:
    """Picture i is of colour i, its label 3 i."""
    colours = np.arange(count, dtype=np.uint8)
    pixels = np.broadcast_to(colours[:, None, None, None], (count, 8, 8, 3)).copy()
    return Split.of_pixels(pixels, np.arange(count) * 3)


def batches(split: Split, size: int, **keys: Any) -> TrainBatches:
    options = {"seed": 0, "device": "cpu", "augment": AugmentConfig(), **keys}
    return TrainBatches(split, DataConfig(batch_size=size, image_size=16), **options)


def order(found: list[TrainBatch]) -> list[int]:
    return [int(index) for batch in found for index in batch.indices]


def test_an_epoch_is_a_shuffled_pass_without_its_last_small_batch() -> None:
    train = batches(numbered(103), 10)
    found = list(train.epoch(0))
    assert len(found) == train.steps_per_epoch == 10
    seen = order(found)
    assert len(set(seen)) == 100 and seen != sorted(seen)
    for batch in found:
        assert batch.pixels.dtype == torch.uint8 and batch.pixels.shape == (10, 3, 8, 8)
        assert torch.equal(batch.labels, batch.indices * 3)
        assert torch.equal(batch.pixels[:, 0, 0, 0].long(), batch.indices)


def test_seed_and_epoch_alone_decide_the_order() -> None:
    split = numbered(64)
    first = order(list(batches(split, 8).epoch(3)))
    assert first == order(list(batches(split, 8).epoch(3)))
    assert first == order(list(batches(split, 16).epoch(3)))
    assert first != order(list(batches(split, 8).epoch(4)))
    assert first != order(list(batches(split, 8, seed=1).epoch(3)))


def test_a_resumed_epoch_is_the_rest_of_the_whole_one() -> None:
    train = batches(numbered(64), 8)
    assert order(list(train.epoch(2, start_step=5))) == order(list(train.epoch(2)))[40:]
    assert list(train.epoch(2, start_step=8)) == []


def test_processes_share_the_global_batch_in_order() -> None:
    split = numbered(40)
    whole = [batch.indices for batch in batches(split, 12).epoch(1)]
    parts = [list(batches(split, 12, rank=rank, world=3).epoch(1)) for rank in range(3)]
    for step, expected in enumerate(whole):
        joined = torch.cat([part[step].indices for part in parts])
        assert torch.equal(joined, expected)


def test_a_batch_that_processes_cannot_share_is_refused() -> None:
    with pytest.raises(MldrError, match=r"data\.batch_size is 10, which 3 processes cannot share"):
        batches(numbered(40), 10, world=3)
    with pytest.raises(
        MldrError, match=r"data\.batch_size is 41, and the training images are 40: set"
    ):
        batches(numbered(40), 41)


def streamed(disk: Any, **keys: Any) -> Split:
    path = disk.folder(each=12)
    disk.picture(70, 40, 24).save(path / "train" / "ant" / "tall.png")
    config = DataConfig(source=f"folder:{path}", batch_size=4, val_fraction=0, **keys)
    return load_dataset(config).train


@pytest.mark.parametrize("crop", ["pad", "random-resized"])
def test_streaming_does_not_depend_on_threads_or_on_the_starting_step(crop: str, disk: Any) -> None:
    split = streamed(disk)
    augment = AugmentConfig(crop=crop)

    def pixels(workers: int, start: int) -> torch.Tensor:
        config = DataConfig(batch_size=4, image_size=16, workers=workers)
        train = TrainBatches(split, config, seed=5, device="cpu", augment=augment)
        return torch.cat([batch.pixels for batch in train.epoch(1, start)])

    one = pixels(1, 0)
    assert one.shape == (24, 3, 16, 16)
    assert torch.equal(one, pixels(4, 0))
    assert torch.equal(one[8:], pixels(3, 2))


def test_streamed_pictures_are_those_of_the_split(disk: Any) -> None:
    split = streamed(disk)
    train = batches(split, 5)
    plain = Preprocessing(size=(16, 16), mean=(0, 0, 0), std=(1, 1, 1))
    for batch in train.epoch(0):
        expected = preprocess([split.image(int(i)) for i in batch.indices], plain)
        assert np.allclose(batch.pixels.numpy() / 255, expected, atol=1e-6)
        assert batch.labels.tolist() == split.labels[batch.indices].tolist()


def test_the_random_resized_crop_of_streamed_pictures_is_taken_once(disk: Any) -> None:
    split = streamed(disk)
    cropped = AugmentConfig(crop="random-resized", flip=0.0)
    train = batches(split, 5, augment=cropped)
    crops = []
    for epoch in (0, 0, 1):
        found = list(train.epoch(epoch))
        pixels = torch.cat([batch.pixels for batch in found])
        crops.append(dict(zip(order(found), pixels, strict=True)))
    seen = set(crops[0]) & set(crops[2])
    assert all(torch.equal(crops[0][index], crops[1][index]) for index in crops[0])
    assert not any(torch.equal(crops[0][index], crops[2][index]) for index in seen)
    batch = next(train.epoch(0))
    assert torch.equal(train.augment(batch.pixels, torch.Generator()), batch.pixels)
    resident = batches(numbered(10), 5, augment=cropped)
    assert resident.augment.config.crop == "random-resized"


def test_a_picture_that_is_drawn_again_in_an_epoch_is_cropped_otherwise(disk: Any) -> None:
    split = streamed(disk)
    few = split.subset(np.append(np.flatnonzero(split.labels == 0), [len(split) - 1]))
    options = {"augment": AugmentConfig(crop="random-resized"), "balanced": True}
    epoch = list(batches(few, 7, **options).epoch(0))
    rare = torch.cat([batch.pixels[batch.indices == len(few) - 1] for batch in epoch])
    assert len(rare) > 4 and len(rare.unique(dim=0)) == len(rare)
    resumed = [batch.pixels for batch in batches(few, 7, **options).epoch(0, start_step=1)]
    assert torch.equal(torch.cat(resumed), torch.cat([batch.pixels for batch in epoch[1:]]))


def test_a_picture_that_broke_since_the_check_is_named(disk: Any) -> None:
    split = streamed(disk)
    (disk.root / "train" / "bee" / "3.png").write_bytes(b"gone")
    with pytest.raises(UnreadableImage, match=r"train/bee/3\.png"):
        list(batches(split, 5).epoch(0))


def test_a_picture_too_thin_for_a_larger_network_is_named(disk: Any) -> None:
    """The check of the data set knows the student's size only."""
    split = streamed(disk)
    Image.new("RGB", (1, 100_000)).save(disk.root / "train" / "bee" / "3.png")
    words = r"train/bee/3\.png \(1 x 100000 pixels would become 64 x 6400000 before the crop"
    large = SPEC.model_copy(update={"size": (64, 64)})
    with pytest.raises(UnreadableImage, match=words):
        list(EvalBatches(split, large, 7, "cpu"))
    with pytest.raises(UnreadableImage, match=words):
        list(batches(split, 5, augment=AugmentConfig(crop="none")).epoch(0, sides=(8, 64)))


def test_evaluation_is_the_one_preprocessing_in_order(disk: Any) -> None:
    split = streamed(disk)
    for spec in (SPEC, SPEC.model_copy(update={"crop_fraction": 0.8})):
        found = list(EvalBatches(split, spec, 7, "cpu"))
        assert [len(labels) for _, labels in found] == [7, 7, 7, 4]
        expected = preprocess([split.image(i) for i in range(len(split))], spec)
        assert np.array_equal(torch.cat([pixels for pixels, _ in found]).numpy(), expected)
        assert torch.cat([labels for _, labels in found]).tolist() == split.labels.tolist()


def test_resident_evaluation_equals_streamed(disk: Any) -> None:
    path = disk.folder(each=9, side=20)
    results = []
    for limit in (2048, 0):
        config = DataConfig(source=f"folder:{path}", batch_size=4, resident_mib=limit)
        evaluation = EvalBatches(load_dataset(config).train, SPEC, 4, "cpu")
        assert len(evaluation) == 4
        results.append(torch.cat([pixels for pixels, _ in evaluation]))
        assert torch.equal(results[-1], torch.cat([pixels for pixels, _ in evaluation]))
    assert torch.equal(*results)


@pytest.mark.parametrize("world", [1, 2, 3, 7])
def test_processes_evaluate_every_picture_once(world: int) -> None:
    split = numbered(20)
    labels: list[int] = []
    for rank in range(world):
        part = EvalBatches(split, SPEC, 4, "cpu", rank=rank, world=world)
        labels += [int(label) for _, batch in part for label in batch]
    assert labels == split.labels.tolist()
    assert list(EvalBatches(split.subset(np.empty(0, np.int64)), SPEC, 4, "cpu")) == []
