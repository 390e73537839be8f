"""Recipes: what comes with the package, overrides, and every refusal's words."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from mldr_deploy.errors import MldrError
from mldr_deploy.pipeline.recipe import dump_recipe, load_recipe, recipe_names

TINY = 'name = "tiny"\n[teacher]\nname = "test_resnet"\n[student]\nname = "test_vit"\n'


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    """A recipe of nothing but what must be said."""
    path = tmp_path / "tiny.toml"
    path.write_text(TINY)
    return path


@pytest.mark.parametrize("name", recipe_names())
def test_every_recipe_of_the_package_loads_and_comes_back_from_its_dump(
    name: str, tmp_path: Path
) -> None:
    recipe = load_recipe(name)
    dumped = tmp_path / "resolved.toml"
    dumped.write_text(dump_recipe(recipe))
    assert recipe.name == name
    assert recipe.description
    assert load_recipe(str(dumped)) == recipe


def test_the_published_runs_of_the_paper_are_there() -> None:
    """The five with released configurations, and one of the ViT/MLP table.

    See docs/design.md, section Recipes.
    """
    assert {
        "digits",
        "cifar100-cpu",
        "cifar100-swin-t-resnet18",
        "cifar100-vit-s-resnet18",
        "cifar100-mixer-b16-resnet18",
        "cifar100-vim-s-resnet18",
        "cifar100-vit-l-resnet101",
        "cifar100-convnext-t-deit-t",
    } <= set(recipe_names())


@pytest.mark.parametrize("teacher", ["swin-t", "vit-s", "mixer-b16", "vim-s"])
def test_the_published_cnn_runs_are_as_the_authors_released_them(teacher: str) -> None:
    recipe = load_recipe(f"cifar100-{teacher}-resnet18")
    optimizer, schedule = recipe.optimizer, recipe.schedule
    assert (optimizer.name, optimizer.lr, optimizer.momentum) == ("sgd", 0.05, 0.9)
    assert (optimizer.weight_decay, optimizer.decay_everything) == (2e-3, True)
    assert (schedule.warmup_epochs, schedule.warmup_lr, schedule.min_lr) == (3, 1e-4, 1e-3)
    assert (recipe.train.epochs, recipe.train.clip_norm, recipe.train.label_smoothing) == (
        300,
        0,
        0.1,
    )
    assert (recipe.data.image_size, recipe.data.crop_fraction, recipe.data.batch_size) == (
        224,
        0.875,
        128,
    )
    assert recipe.method.mldr_kd.form == "published"
    assert recipe.teacher is not None and recipe.teacher.train.label_smoothing == 0


@pytest.mark.parametrize(
    ("override", "key", "value"),
    [
        ("optimizer.lr=0.1", "optimizer.lr", 0.1),
        ("data.source=cifar100", "data.source", "cifar100"),
        ("data.source = folder:my pictures", "data.source", "folder:my pictures"),
        ("train.compile=true", "train.compile", True),
        ("optimizer.betas=[0.8, 0.9]", "optimizer.betas", (0.8, 0.9)),
        ("method.mldr_kd.stage_weight=0", "method.mldr_kd.stage_weight", 0),
        ("teacher.train.epochs=7", "teacher.train.epochs", 7),
        ("student.options.depth=3", "student.options", {"depth": 3}),
        ("teacher.weights=runs/a b/teacher", "teacher.weights", "runs/a b/teacher"),
    ],
)
def test_an_override_sets_one_key_by_its_dotted_name(
    tiny: Path, override: str, key: str, value: object
) -> None:
    found: object = load_recipe(str(tiny), [override])
    for part in key.split("."):
        found = getattr(found, part)
    assert found == value


def test_the_last_override_of_a_key_counts(tiny: Path) -> None:
    assert load_recipe(str(tiny), ["train.epochs=3", "train.epochs=4"]).train.epochs == 4


def test_none_takes_a_key_out_of_the_recipe(tiny: Path) -> None:
    tiny.write_text(TINY + "[train]\nepochs = 3\n")
    recipe = load_recipe(str(tiny), ["train.epochs=none", "teacher=none", "method.name=scratch"])
    assert recipe.train.epochs == 10
    assert recipe.teacher is None


def test_a_recipe_goes_over_the_one_that_it_extends(tiny: Path) -> None:
    above = tiny.with_name("above.toml")
    above.write_text('extends = "tiny.toml"\nname = "above"\n[student]\ndrop_path = 0.1\n')
    recipe = load_recipe(str(above))
    assert (recipe.name, recipe.student.name, recipe.student.drop_path) == (
        "above",
        "test_vit",
        0.1,
    )


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("optimizer.lrr=1", "unknown key optimizer.lrr; did you mean lr? allowed there: name, lr,"),
        ("teacher.train.epoch=1", "unknown key teacher.train.epoch; did you mean epochs?"),
        ("method.mldr_kd.beta=1", "unknown key method.mldr_kd.beta; "),
        ("zzz=1", "unknown key zzz; allowed there: name, description, data, teacher, student,"),
        (
            "train.epochs=ten",
            "train.epochs = 'ten' is not allowed: input should be a valid integer",
        ),
        ("train.epochs=", "train.epochs = '' is not allowed: input should be a valid integer"),
        (
            "train.epochs=0",
            "train.epochs = 0 is not allowed: input should be greater than or equal",
        ),
        ("optimizer.lr=inf", "optimizer.lr = inf is not allowed: input should be a finite number"),
        ("method.kd.kd_weight=nan", "method.kd.kd_weight = nan is not allowed: input should be"),
        ("augment.mixup=inf", "augment.mixup = inf is not allowed: input should be a finite"),
        ("augment.ratio=[1, inf]", "augment.ratio.1 = inf is not allowed: input should be a fin"),
        ("data.val_fraction=nan", "data.val_fraction = nan is not allowed: input should be a fin"),
        ("student.drop_path=nan", "student.drop_path = nan is not allowed: input should be a fin"),
        (
            "student.options={drop_rate = inf}",
            "student.options = {'drop_rate': inf} is not allowed: drop_rate must be a finite",
        ),
        (
            "method.rkd.label_weight=0",
            "method.rkd = {'label_weight': 0} is not allowed: with label_weight = 0 nothing would",
        ),
        ("optimizer.name=adam", "optimizer.name = 'adam' is not allowed: input should be 'sgd' or"),
        (
            "method.name=nothing",
            "method.name = 'nothing' is not allowed: input should be 'cc', 'crd', 'dist'",
        ),
        (
            "data.source=imagenet",
            "data.source = 'imagenet' is not allowed: allowed are digits, cif",
        ),
        (
            "data.source=nowhere",
            "hf:USER/NAME, and for --data a folder or a .parquet or .csv file that is there",
        ),
        ("optimizer.betas=[0.9, 1.5]", "betas must be two numbers within 0 <= beta < 1"),
        (
            "augment.scale=[0, 1]",
            "augment.scale.0 = 0 is not allowed: input should be greater than",
        ),
        (
            "student.img_size=big",
            "student.img_size = 'big' is not allowed: input should be 'auto', or input should be",
        ),
        ("data=5", "data = 5 is not allowed: input should be a valid dictionary"),
        ("student.name=none", "student.name is missing"),
        ("student=none", "student is missing"),
        ("teacher=none", "method.name=mldr-kd needs a [teacher] table with a name; only scratch"),
        ("epochs", "--set epochs: write it as KEY=VALUE, for example optimizer.lr=0.1"),
        ("=3", "--set =3: write it as KEY=VALUE"),
        ("train..epochs=3", "--set train..epochs=3: write it as KEY=VALUE"),
        ("name.first=x", "--set name.first=x: name is not a table"),
        ("student.name.first=x", "--set student.name.first=x: student.name is not a table"),
    ],
)
def test_refusals_tell_the_key_the_value_and_what_is_allowed(
    tiny: Path, override: str, message: str
) -> None:
    with pytest.raises(MldrError) as caught:
        load_recipe(str(tiny), [override])
    told = str(caught.value)
    assert message in told
    assert "more)" not in told
    assert "\n" not in told
    # The recipe is to blame only for what it says itself.
    assert told.startswith(f"{tiny}: ") == (override == "teacher=none")


def test_a_wrong_value_of_the_recipe_itself_names_it(tiny: Path) -> None:
    tiny.write_text(TINY + "[train]\nepochs = 0\n")
    with pytest.raises(MldrError, match=f"^{re.escape(str(tiny))}: train.epochs = 0 is not all"):
        load_recipe(str(tiny), ["optimizer.lr=0.1"])


def test_further_failures_are_counted(tiny: Path) -> None:
    overrides = ["train.epochs=0", "optimizer.lr=-1", "optimizer.momentum=2"]
    with pytest.raises(MldrError, match=r"train\.epochs = 0 .* \(and 2 more\)$"):
        load_recipe(str(tiny), overrides)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"name = ", "is not valid TOML: Invalid value (at end of document)"),
        (b"\xff", r"line 1: byte 0xff is not UTF-8: save the file as UTF-8"),
        (b'extends = 3\nname = "x"', "extends = 3 is not allowed: give a recipe's name or file"),
        (b'extends = "tiny.toml"', "tiny.toml extends itself, by way of"),
        (b'extends = "gone.toml"', "gone.toml does not exist"),
        (b'extends = "gone"', "unknown recipe 'gone'; there are cifar100-"),
    ],
)
def test_files_that_are_no_recipe(tiny: Path, content: bytes, message: str) -> None:
    tiny.write_bytes(content)
    with pytest.raises(MldrError, match=re.escape(message)):
        load_recipe(str(tiny))


def test_an_unknown_name_lists_the_known_ones() -> None:
    known = ", ".join(recipe_names())
    with pytest.raises(MldrError, match=f"unknown recipe 'digit'; there are {known}, or give a"):
        load_recipe("digit")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(MldrError, match=r"recipe file \S+/gone\.toml does not exist"):
        load_recipe(str(tmp_path / "gone.toml"))


def test_a_folder_is_no_recipe(tmp_path: Path) -> None:
    (tmp_path / "folder.toml").mkdir()
    with pytest.raises(MldrError, match=r"folder\.toml cannot be read: .*[Dd]irectory"):
        load_recipe(str(tmp_path / "folder.toml"))
