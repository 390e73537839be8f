"""The main job end to end: its table, its stages skipped or continued, its refusals."""

from __future__ import annotations

import json
import shutil
import tomllib
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner, Result
from PIL import Image
from safetensors.torch import load_file, save_file

from mldr_deploy.bundle.chance import Chance
from mldr_deploy.bundle.data_report import data_report_of
from mldr_deploy.bundle.preprocess import preprocess
from mldr_deploy.bundle.progress import Silent
from mldr_deploy.bundle.reader import open_bundle
from mldr_deploy.bundle.trained import load_trained
from mldr_deploy.bundle.wording import counted
from mldr_deploy.cli.group import main
from mldr_deploy.data.data_config import DataConfig
from mldr_deploy.data.dataset import load_dataset
from mldr_deploy.errors import MldrError
from mldr_deploy.models.rebuild import rebuild
from mldr_deploy.pipeline import phases
from mldr_deploy.pipeline.phases import _subject, identifying, pipeline
from mldr_deploy.pipeline.recipe import Recipe, load_recipe
from mldr_deploy.pipeline.summary import _stored_rows
from mldr_deploy.pipeline.workspace import workspace

Command = Callable[..., Result]


@pytest.fixture(scope="module")
def finished(command: Command, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Result]:
    """`distill-and-export` from nothing to the table."""
    out = tmp_path_factory.mktemp("finished")
    return out, command("distill-and-export", out)


def files(out: Path) -> dict[str, int]:
    """Modification times of what the stages left."""
    stages = (out / name for name in ("teacher", "student", "bundle"))
    return {str(p): p.stat().st_mtime_ns for stage in stages for p in stage.rglob("*")}


def test_ends_with_one_table_and_exit_code_0(finished: tuple[Path, Result]) -> None:
    out, result = finished
    assert result.exit_code == 0, result.output
    assert "Traceback" not in result.stderr
    table = result.stdout.splitlines()
    rows = {word: next(line for line in table if word in line) for word in ("teacher", "student")}
    assert "test_resnet" in rows["teacher"]
    assert "test_vit" in rows["student"]
    assert any("student.onnx" in line and "passed" in line for line in table)
    assert any("time" in line and "teacher" in line for line in table)
    assert f"bundle  {out / 'bundle'}" in result.stdout


@pytest.mark.parametrize(
    ("encoding", "rule"), [("ascii", "-"), ("cp1252", "-"), ("koi8-r", "─"), ("euc-jp", "─")]
)
def test_the_table_is_printed_in_any_encoding(
    encoding: str, rule: str, finished: tuple[Path, Result], small: Path
) -> None:
    out, result = finished
    words = ["distill-and-export", "--recipe", str(small), "--out", str(out), "--device", "cpu"]
    again = CliRunner(charset=encoding).invoke(main, words)
    assert again.exit_code == 0, again.output
    assert "─" * 20 in result.stdout
    assert again.stdout == result.stdout.replace("─", rule)


def test_summary_says_what_the_bundle_and_the_stages_say(finished: tuple[Path, Result]) -> None:
    out, _ = finished
    summary = json.loads((out / "summary.json").read_text())
    teacher, student, onnx = summary["rows"]
    bundle = open_bundle(out / "bundle")
    (artifact,) = bundle.manifest.artifacts
    assert (student["top1"], onnx["top1"]) == (
        artifact.parity.reference.top1,
        artifact.parity.artifact.top1,
    )
    assert onnx["file_bytes"] == (out / "bundle" / artifact.file).stat().st_size
    assert student["parameters"] == load_trained(out / "student" / "trained")[0].parameters
    assert teacher["parameters"] == load_trained(out / "teacher" / "trained")[0].parameters
    assert summary["images"] == artifact.parity.samples == 359  # a stratified fifth
    assert summary["passed"] is True
    recorded = data_report_of(bundle.manifest)
    assert (recorded.leaked, recorded.test_images, recorded.omissions) == (0, 359, [])
    assert summary["data"] == []
    records = {p: load_trained(out / p / "trained")[0].provenance for p in ("teacher", "student")}
    assert summary["steps"] == [
        f"{phase} in {record['precision']} with {counted(record['threads'], 'thread')}"
        for phase, record in records.items()
    ]
    assert {"teacher", "student", "export and parity", "table"} <= set(summary["seconds"])
    assert all(row["ms_single"] > 0 and row["ms_batch"] > 0 for row in summary["rows"])


def test_the_lesson_is_what_the_phases_recorded(finished: tuple[Path, Result]) -> None:
    out, _ = finished
    teacher, _ = load_trained(out / "teacher" / "trained")
    student, _ = load_trained(out / "student" / "trained")
    lines = map(json.loads, (out / "student" / "metrics.jsonl").read_text().splitlines())
    losses = [line["labels"] for line in lines if "labels" in line]
    lesson = open_bundle(out / "bundle").manifest.lesson
    assert lesson is not None and lesson.teacher is not None and student.evidence is not None
    assert lesson.teacher.top1 == teacher.metrics["val_top1"]
    assert (lesson.images, lesson.top1) == (student.evidence.images, student.metrics["val_top1"])
    assert (lesson.first_loss, lesson.last_loss) == (losses[0], losses[-1])
    assert json.loads((out / "summary.json").read_text())["lesson"] == lesson.lines()


def test_what_comes_before_the_first_step_is_in_the_times(
    monkeypatch: pytest.MonkeyPatch, small: Path, tmp_path: Path
) -> None:
    """A teacher's kept answers take longer than a step, and an interrupted phase took time too."""
    clock = iter([0.0, 0.0, 10.0, 14.0, 20.0, 27.0])  # the data; an interrupted phase; the rest
    monkeypatch.setattr(phases.time, "perf_counter", clock.__next__)
    recipe = load_recipe(str(small))
    with pipeline(recipe, tmp_path / "run", device="cpu", restart=False, progress=Silent()) as run:
        for ending in (KeyboardInterrupt, MldrError):
            monkeypatch.setattr(phases.training_run, "train_teacher", raising(ending))
            with pytest.raises(ending):
                run.teacher()
        assert run.space.times() == {"data": 0, "teacher": 4 + 7}


def raising(ending: type[BaseException]) -> Callable[..., Path]:
    def work(*_: Any) -> Path:
        raise ending

    return work


def test_a_stage_killed_before_its_note_is_in_the_times_all_the_same(
    finished: tuple[Path, Result],
) -> None:
    """As its record tells; in the order of the work."""
    out, _ = finished
    kept = (out / "times.json").read_text()
    (out / "times.json").write_text('{"export and parity": 1.5, "data": 0.5}')
    with workspace(out, Recipe(**tomllib.loads((out / "recipe.toml").read_text()))) as space:
        times = space.times()
    (out / "times.json").write_text(kept)
    seconds = {
        stage: round(load_trained(out / stage / "trained")[0].metrics["train_seconds"], 2)
        for stage in ("teacher", "student")
    }
    assert times == {"data": 0.5, **seconds, "export and parity": 1.5}
    assert list(times) == ["data", "teacher", "student", "export and parity"]


def test_the_resolved_recipe_is_stored_with_run_and_bundle(finished: tuple[Path, Result]) -> None:
    out, _ = finished
    recipe = open_bundle(out / "bundle").manifest.provenance["training"]["recipe"]
    assert recipe["student"]["name"] == "test_vit"
    assert recipe["optimizer"]["betas"] == [0.9, 0.999]
    assert "momentum = 0.9" in (out / "recipe.toml").read_text()


def test_a_second_run_touches_nothing_that_is_finished(
    finished: tuple[Path, Result], command: Command
) -> None:
    out, first = finished
    before = files(out)
    again = command("distill-and-export", out)
    assert again.exit_code == 0
    assert files(out) == before
    for stage in ("student", "bundle"):
        assert f"{stage}: already there, {out / stage}" in again.stderr
    assert again.stdout == first.stdout  # the times too: nothing was measured again
    assert "testing the teacher" not in again.stderr
    assert f"table: already there, {out / 'summary.json'}" in again.stderr


@pytest.mark.parametrize("way", ["changed", "away"])
def test_what_is_finished_is_of_the_data_as_they_are(
    finished: tuple[Path, Result], command: Command, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    """A corrected label would else change nothing, and pass a teacher pictures of its test."""

    def fingerprint(config: DataConfig) -> str:
        if way == "away":
            raise MldrError("no such folder")
        return "of other pictures"

    monkeypatch.setattr(phases, "fingerprint", fingerprint)
    out, _ = finished
    again = command("distill-and-export", out)
    if way == "away":  # what was made of them is there all the same
        assert again.exit_code == 0 and "are not compared" in again.stderr
    else:
        assert again.exit_code == 1
        assert "was trained on other data than digits as it is now: restore" in again.stderr


@pytest.mark.parametrize("place", ["runs/photos", "."])
def test_results_do_not_lie_among_the_pictures(
    place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    recipe = load_recipe("digits", ["data.source=folder:."])
    opened = pipeline(recipe, Path(place), device="cpu", restart=False, progress=Silent())
    with pytest.raises(MldrError, match=r"lies inside the data, folder:[.]: choose"), opened:
        pass
    assert not [*tmp_path.iterdir()]


@pytest.mark.slow
def test_on_another_machine_it_is_measured_again(
    finished: tuple[Path, Result], command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    shutil.copytree(finished[0], out)
    path = out / "summary.json"
    summary = json.loads(path.read_text())
    path.write_text(json.dumps(summary | {"rows": [r | {"top1": -1.0} for r in summary["rows"]]}))
    monkeypatch.setattr("mldr_deploy.pipeline.summary.machine", lambda: "another")
    assert command("distill-and-export", out).exit_code == 0
    again = json.loads(path.read_text())
    assert [row["top1"] for row in again["rows"]] == [row["top1"] for row in summary["rows"]]
    assert again["measured"] != summary["measured"]


def test_only_a_whole_summary_of_the_same_things_is_kept(
    finished: tuple[Path, Result], tmp_path: Path
) -> None:
    summary = json.loads((finished[0] / "summary.json").read_text())
    path = tmp_path / "summary.json"
    assert _stored_rows(path, summary["measured"]) == ()  # there is none
    path.write_text(json.dumps(summary))
    kept = _stored_rows(path, summary["measured"])
    assert [row.top1 for row in kept] == [row["top1"] for row in summary["rows"]]
    assert _stored_rows(path, "other") == ()
    for damaged in ('{"rows": [{}], "measured": "x"}', '{"rows": []}', "[]", "half {"):
        path.write_text(damaged)
        assert _stored_rows(path, "x") == ()


@pytest.fixture
def unbundled(finished: tuple[Path, Result], tmp_path: Path) -> Path:
    """A copy of the finished run, interrupted before its export."""
    out = tmp_path / "out"
    shutil.copytree(finished[0], out, ignore=shutil.ignore_patterns("bundle", "summary.json"))
    return out


@pytest.mark.slow
def test_an_interrupted_run_goes_on_with_what_is_missing(
    unbundled: Path, command: Command, finished: tuple[Path, Result]
) -> None:
    before = files(unbundled)
    result = command("distill-and-export", unbundled)
    assert result.exit_code == 0
    assert {path: time for path, time in files(unbundled).items() if path in before} == before
    mine, first = (open_bundle(out / "bundle").manifest for out in (unbundled, finished[0]))
    assert mine.weights.sha256 == first.weights.sha256


@pytest.mark.slow
def test_a_failed_gate_is_exit_code_1_and_a_marked_bundle(
    command: Command, finished: tuple[Path, Result], tmp_path: Path
) -> None:
    impossible = ["--set", "export.gates.fp32.max_dlogit=0", "--set", "method.name=scratch"]
    result = command("distill-and-export", tmp_path, *impossible, "--set", "train.epochs=1")
    assert result.exit_code == 1
    assert any("student.onnx" in line and "failed" in line for line in result.stdout.splitlines())
    assert "Traceback" not in result.stderr
    manifest = json.loads((tmp_path / "bundle" / "manifest.json").read_text())
    assert [artifact["status"] for artifact in manifest["artifacts"]] == ["failed"]
    assert json.loads((tmp_path / "summary.json").read_text())["passed"] is False
    assert not (tmp_path / "teacher").exists()


def refused(result: Result, message: str, exit_code: int = 1) -> None:
    """One line on standard error, nothing on standard output."""
    assert result.exit_code == exit_code, result.output
    assert message in result.stderr
    assert result.stderr.startswith("Error: ")
    assert result.stderr.count("\n") == 1
    assert result.stdout == ""


@pytest.mark.parametrize(
    ("device", "message", "exit_code"),
    [
        ("tpu", "--device tpu: allowed are auto, cpu, cuda, cuda:N and mps", 1),
        ("cuda", "--device cuda: PyTorch sees no such device; --device cpu works", 2),
        ("cuda:3", "--device cuda:3: PyTorch sees no such device", 2),
    ],
)
def test_devices_that_are_not_there(
    command: Command,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    device: str,
    message: str,
    exit_code: int,
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    refused(command("distill", tmp_path, "--device", device), message, exit_code)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["train.epochs=0"], "train.epochs = 0 is not allowed"),
        (["teacher.weights=nowhere.pth"], "nowhere.pth"),
        (["student.name=test_vitt"], "test_vit"),
    ],
)
def test_recipes_that_cannot_be_carried_out(
    command: Command, tmp_path: Path, overrides: list[str], message: str
) -> None:
    settings = [part for override in overrides for part in ("--set", override)]
    quick = ["--quiet", "--set", "method.name=kd"]
    if not overrides[0].startswith("teacher"):
        quick += ["--set", "method.name=scratch"]
    refused(command("distill", tmp_path, *quick, *settings), message)


def test_another_recipe_in_the_same_folder_is_refused_and_harms_nothing(
    finished: tuple[Path, Result], command: Command
) -> None:
    out, _ = finished
    before = files(out)
    result = command("distill", out, "--quiet", "--set", "optimizer.lr=0.5")
    refused(result, f"{out} holds a run with optimizer.lr = 0.003, not 0.5: choose another --out")
    assert files(out) == before


def test_train_teacher_needs_a_teacher(command: Command, tmp_path: Path) -> None:
    settings = ["--set", "teacher=none", "--set", "method.name=scratch"]
    refused(command("train-teacher", tmp_path, *settings), "the recipe has no [teacher] table")


def test_each_training_command_tells_its_result_in_a_line(
    finished: tuple[Path, Result], command: Command
) -> None:
    out, _ = finished
    for name, stage, model in (
        ("train-teacher", "teacher", "test_resnet"),
        ("distill", "student", "test_vit"),
    ):
        told = command(name, out).stdout
        record = load_trained(out / stage / "trained")[0]
        top1 = record.metrics["val_top1"]
        expected = f"{stage}: {model}, validation top-1 {top1:.2f} %, {out / stage / 'trained'}\n"
        assert told == expected


def test_a_finished_teacher_of_another_run_is_shared_not_trained(
    finished: tuple[Path, Result], command: Command, tmp_path: Path
) -> None:
    teacher = finished[0] / "teacher" / "trained"
    settings: list[Any] = ["--set", f"teacher.weights={teacher}", "--set", "train.epochs=1"]
    result = command("train-teacher", tmp_path, *settings)
    assert result.stdout == "teacher: nothing to train, the recipe names finished weights\n"
    assert command("distill", tmp_path, *settings).exit_code == 0
    assert not (tmp_path / "teacher" / "trained").exists()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["student.name=mobilnetv2_050"], "unknown model 'mobilnetv2_050'"),
        (
            ["method.name=crd", "method.crd.negatives=10000000000"],
            "method crd remembers 1293 training images, which takes 152587.9 GiB with",
        ),
        (
            ["method.name=rkd", "data.batch_size=2"],
            "method rkd compares 3 or more images with each other, but a forward pass has 2",
        ),
    ],
)
def test_what_cannot_be_distilled_is_told_before_the_teacher_is_trained(
    command: Command, tmp_path: Path, settings: list[str], message: str
) -> None:
    chosen = [part for setting in settings for part in ("--set", setting)]
    refused(command("distill-and-export", tmp_path, "--quiet", *chosen), message)
    assert not (tmp_path / "teacher").exists()


def test_a_teacher_from_elsewhere_is_measured_before_it_teaches(
    finished: tuple[Path, Result], command: Command, tmp_path: Path
) -> None:
    """A bare file has no record to go by."""
    state = load_file(finished[0] / "teacher" / "trained" / "weights.safetensors")
    save_file(state, tmp_path / "good.safetensors")
    for name in ("fc.weight", "fc.bias"):
        state[name].zero_()
    save_file(state, tmp_path / "bare.safetensors")
    settings = ["--set", f"teacher.weights={tmp_path / 'bare.safetensors'}"]
    result = command("distill", tmp_path / "out", "--quiet", *settings)
    refused(result, "has nothing to teach, on validation images: top-1 ")
    assert not (tmp_path / "out" / "student").exists()
    settings = ["--set", f"teacher.weights={tmp_path / 'good.safetensors'}"]
    result = command("distill", tmp_path / "good", *settings, "--set", "train.epochs=1")
    assert result.exit_code == 0
    assert "good.safetensors), on validation images: top-1 " in result.stderr


def test_a_student_that_learned_nothing_is_marked_and_refused(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its count of hits is set: an untrained network may be lucky."""
    chance = Chance(images=359, hits=37, largest=37)
    monkeypatch.setattr("mldr_deploy.export.build_bundle._chance", lambda *_: chance)
    settings = ["method.name=scratch", "train.epochs=1"]
    chosen = [part for setting in settings for part in ("--set", setting)]
    result = command("distill-and-export", tmp_path, *chosen)
    assert result.exit_code == 0  # its parity holds; whoever would use it refuses
    rows = {line.split(",")[0].strip(): line for line in result.stdout.splitlines()}
    assert rows["student test_vit"].endswith("at chance")
    assert rows["student.onnx"].endswith("at chance") and "passed" not in result.stdout
    assert "the student is no better than chance: top-1 " in result.stdout
    bundle = open_bundle(tmp_path / "bundle", allow_failed=True)
    assert bundle.manifest.chance == chance
    assert (
        "**Do not ship it: the student is no better than chance"
        in (tmp_path / "bundle" / "MODEL_CARD.md").read_text()
    )
    folder, out = str(tmp_path / "bundle"), str(tmp_path / "new")
    commands = (["serve", folder], ["demo", folder], ["triton-repo", folder, out])
    for arguments in (*commands, ["profile", folder, "--out", out]):
        refusal = CliRunner().invoke(main, arguments)
        assert refusal.exit_code == 1, (arguments, refusal.output)
        assert "the student is no better than chance" in refusal.stderr
    checked = CliRunner().invoke(main, ["check", folder, "--golden-only"])
    assert (
        checked.exit_code == 1
        and "FAILED  student: the student is no better than chance" in checked.stdout
    )


def test_an_order_of_classes_is_of_finished_weights(command: Command, tmp_path: Path) -> None:
    result = command("distill", tmp_path, "--set", "teacher.class_order=natural")
    refused(result, "class_order is of finished weights")


def test_a_teacher_of_other_labels_is_refused(
    finished: tuple[Path, Result], command: Command, tmp_path: Path
) -> None:
    """As many classes as the digits have, under other names."""
    for split, name, number in product(("train", "val"), "abcdefghij", range(4)):
        place = tmp_path / "pictures" / split / name
        place.mkdir(parents=True, exist_ok=True)
        colour = (20 * ord(name) % 256, 60 * number, 100 * (split == "val"))
        Image.new("RGB", (32, 32), colour).save(place / f"{number}.png")
    teacher = finished[0] / "teacher" / "trained"
    settings = [f"data.source=folder:{tmp_path / 'pictures'}", "data.batch_size=8"]
    settings.append(f"teacher.weights={teacher}")
    chosen = [part for setting in settings for part in ("--set", setting)]
    told = f"teacher {teacher} tells other classes apart (class 0 is '0', in the data 'a'): use"
    refused(command("distill", tmp_path / "out", "--quiet", *chosen), told)


def test_a_stage_says_what_it_trains_and_for_how_long() -> None:
    photos = load_recipe("photos", ["train.epochs=6", "teacher.train.head_views=3"])
    assert (
        _subject(photos, "teacher") == "tf_efficientnet_lite2 on labels, its head alone on 3 views"
    )
    from_teacher = "tf_efficientnet_lite0 from tf_efficientnet_lite2 by dist"
    length = "its head alone on 2 views, then 6 epochs"
    assert _subject(photos, "student") == f"{from_teacher}, {length}"
    assert _subject(load_recipe("digits"), "teacher") == "resnet10t on labels, 8 epochs"
    short = load_recipe("photos", ["train.epochs=1", "train.head_views=1"])
    length = "its head alone on 1 view, then 1 epoch"
    assert _subject(short, "student") == f"{from_teacher}, {length}"


@pytest.mark.slow
def test_a_teacher_is_trained_asked_and_measured_at_its_own_size(
    command: Command, tmp_path: Path
) -> None:
    """Its row in the table is what a plain loop over its own pixels counts."""
    keys = ("teacher.image_size=48", "train.teacher_views=1", "method.name=kd", "train.epochs=1")
    result = command("distill-and-export", tmp_path, *(f for key in keys for f in ("--set", key)))
    assert result.exit_code == 0, result.output
    record, tensors = load_trained(tmp_path / "teacher" / "trained")
    assert (record.image_size, record.preprocessing.size) == (48, (48, 48))
    assert load_trained(tmp_path / "student" / "trained")[0].image_size == 32
    model = rebuild(record.model, record.num_classes, 48, tensors, "teacher")
    test = load_dataset(DataConfig()).test
    with torch.inference_mode():
        inputs = preprocess([test.image(i) for i in range(len(test))], record.preprocessing)
        answers = model(torch.from_numpy(inputs)).argmax(1).numpy()
    assert inputs.shape[2:] == (48, 48)
    teacher = json.loads((tmp_path / "summary.json").read_text())["rows"][0]
    assert teacher["top1"] == pytest.approx(100 * (answers == test.labels).mean())


@pytest.mark.parametrize(
    ("change", "key"),
    [
        ("data.crop_fraction=0.9", "data.crop_fraction"),
        ("train.balance_from=3", "train.balance_from"),
        ("optimizer.decay_everything=true", "optimizer.decay_everything"),
        ("method.mldr_kd.form=standardised", "method.mldr_kd.form"),
        ("method.mldr_kd.class_weight=0", "method.mldr_kd.class_weight"),
    ],
)
def test_checkpoints_from_before_a_key_are_continued_where_it_changes_nothing(
    change: str, key: str
) -> None:
    assert key not in identifying(load_recipe("digits"), "student")
    assert key in identifying(load_recipe("digits", [change]), "student")
    assert "optimizer.lr" in identifying(load_recipe("digits"), "student")
