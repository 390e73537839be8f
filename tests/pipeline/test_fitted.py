"""A recipe made to measure."""

from __future__ import annotations

from pathlib import Path

from mldr_deploy.bundle.progress import Silent
from mldr_deploy.pipeline.fitted import fitted
from mldr_deploy.pipeline.phases import pipeline
from mldr_deploy.pipeline.recipe import load_recipe


def test_the_photos_recipe_fits_three_pictures_a_class() -> None:
    recipe = fitted(load_recipe("photos"), pictures=20)
    assert recipe.data.batch_size == recipe.teacher_data.batch_size == 20
    assert recipe.train.passes == 40
    assert 0 < recipe.optimizer.peak < 1e-3


def test_a_student_without_weights_is_not_fine_tuned() -> None:
    recipe = fitted(load_recipe("photos", ["student.weights=none"]), pictures=1800)
    assert (recipe.train.parts, recipe.train.keep_statistics) == ("all", False)
    assert (recipe.train.passes, recipe.train.patience, recipe.optimizer.below_head) == (64, 0, 1)
    tuned = fitted(load_recipe("photos"), pictures=1800)
    assert (tuned.train.parts, tuned.train.passes) == ("head-first", 8)
    assert recipe.teacher == tuned.teacher  # has weights


def test_what_a_recipe_states_in_numbers_stays() -> None:
    recipe = load_recipe("cifar100-cpu")
    assert fitted(recipe, pictures=45_000) == recipe


def test_the_teachers_own_training_is_fitted_too() -> None:
    keys = ("teacher.train.epochs=auto", "teacher.optimizer.lr=auto", "teacher.train.parts=all")
    teacher = fitted(load_recipe("photos", keys), pictures=270).teacher
    assert teacher is not None
    assert teacher.train.passes == 21
    assert teacher.optimizer.peak == 0.05 * 50 / 128  # of sgd; 270 pictures keep the batch


def test_a_checkpoint_is_of_the_numbers_and_not_of_the_words(tmp_path: Path) -> None:
    """Else a release whose rule differs, or that had none, would be continued to other ends."""

    words = load_recipe("digits", ["data.batch_size=1000", "train.epochs=auto"])
    numbers = fitted(words, pictures=1293)
    assert (numbers.data.batch_size, numbers.train.passes) == (646, 76)
    identities = []
    for name, recipe in (("words", words), ("numbers", numbers)):
        out = tmp_path / name
        with pipeline(recipe, out, device="cpu", restart=False, progress=Silent()) as run:
            assert len(run.dataset.train) == 1293
            identities.append(run.phase("student").identity)
    assert identities[0] == identities[1]
