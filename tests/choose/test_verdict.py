"""The judge of a choice, on a made-up contest."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from mldr_deploy.choose.budget import Budget
from mldr_deploy.choose.choice_page import choice_page
from mldr_deploy.choose.choice_plan import ChoicePlan, Entrant, save_plan, stored_plan
from mldr_deploy.choose.choice_table import choice_table
from mldr_deploy.choose.contest import ProvenFile
from mldr_deploy.choose.follow_up import follow_up
from mldr_deploy.choose.halving import HalvingRound, RoundScore
from mldr_deploy.choose.measurements import machine
from mldr_deploy.choose.request import ChoiceRequest, base_recipe, student_recipe
from mldr_deploy.choose.untrained import UntrainedLatency
from mldr_deploy.choose.verdict import StudentChoice, verdict
from mldr_deploy.compare.matrix import load_matrix
from mldr_deploy.errors import MldrError
from mldr_deploy.models.architecture_config import ModelConfig
from mldr_deploy.pipeline.recipe import dump_recipe, load_recipe
from mldr_deploy.pipeline.validation import validated

BUDGET = Budget(max_ms=5, max_mb=6)


def latency(milliseconds: float, size: int) -> UntrainedLatency:
    return UntrainedLatency(rounds=[milliseconds] * 5, bytes=size)


def entrant(name: str, fp32: tuple[float, int], int8: tuple[float, int]) -> Entrant:
    latencies = {"fp32": latency(*fp32), "int8": latency(*int8)}
    excess = {
        p: why for p, f in latencies.items() if (why := BUDGET.excess(f.milliseconds, f.bytes))
    }
    return Entrant(
        name=name,
        folder=name,
        model=ModelConfig(name=name),
        image_size=32,
        family="cnn",
        parameters=1,
        published_size=224,
        operations=int(1000 * fp32[0]),
        latencies=latencies,
        excess=excess,
        seconds_per_epoch=1.0,
    )


LARGE = entrant("large", (7.0, 4_000_000), (4.0, 1_000_000))  # only int8 is within
SMALL = entrant("small", (3.0, 2_000_000), (2.0, 500_000))
SLOW = entrant("slow", (4.5, 3_000_000), (4.4, 900_000))
OVER = entrant("over", (9.0, 8_000_000), (8.0, 2_000_000))


def scores(**top1: float) -> list[RoundScore]:
    by_name = {e.name: e for e in (LARGE, SMALL, SLOW)}
    pairs = sorted(top1.items(), key=lambda pair: -pair[1])
    return [
        RoundScore(n, t, by_name[n].fastest.milliseconds, by_name[n].fastest.bytes)
        for n, t in pairs
    ]


ROUNDS = [scores(large=50.0, small=40.0, slow=30.0), scores(large=70.0, small=60.0)]

HALVING = [HalvingRound(contenders=3, epochs=1), HalvingRound(contenders=2, epochs=3)]


def proofs(**problems: str) -> dict[str, dict[str, ProvenFile]]:
    """Files of both finalists; ``problems`` by NAME_PRECISION."""
    return {
        e.name: {
            p: ProvenFile(
                file=f"{p}.onnx",
                test_top1=55.0,
                bytes=file.bytes,
                latency=file,
                objection=problems.get(f"{e.name}_{p}"),
            )
            for p, file in e.latencies.items()
        }
        for e in (LARGE, SMALL)
    }


def choice(
    files: dict[str, dict[str, ProvenFile]], failed: dict[str, str] | None = None, **changes: Any
) -> StudentChoice:
    plan = ChoicePlan(
        request=ChoiceRequest(budget=BUDGET),
        recipe="",
        machine={"processor": "a processor", "cores": 2},
        entrants=[LARGE, SMALL, SLOW],
        outside=[OVER],
        misfits={"odd": "it does not take 32 px images"},
        fixed_seconds=0.0,
        rounds=HALVING[:1],
    )
    return verdict(plan.model_copy(update=changes), HALVING, ROUNDS, files, failed or {})


def test_the_most_accurate_in_the_precision_that_is_within_the_budget() -> None:
    chosen = choice(proofs())
    assert (chosen.winner, chosen.precision) == ("large", "int8")
    over = "fp32: 9 ms, over 5 ms and 8.00 MB, over 6 MB; int8: 8 ms, over 5 ms"
    assert chosen.dropped["over"] == over
    assert chosen.dropped["slow"].startswith("place 3 of 3 in round 1 (1 epoch)")
    assert chosen.dropped["odd"] == "it does not take 32 px images"
    assert chosen.next_faster is not None and chosen.next_faster.startswith("small: 2.00 ms")
    assert chosen.next_more_accurate is not None and "perhaps over" in chosen.next_more_accurate


def test_a_failed_gate_passes_the_choice_on() -> None:
    chosen = choice(proofs(large_int8="int8.onnx failed its parity gate"))
    assert (chosen.winner, chosen.precision) == ("small", "fp32")
    assert "failed its parity gate" in chosen.dropped["large"]
    assert chosen.next_more_accurate is not None and chosen.next_more_accurate.startswith("large")


def test_a_file_that_grew_over_the_budget_is_not_shipped() -> None:
    files = proofs()
    grown = files["large"]["int8"].model_copy(update={"bytes": 6_000_001})
    files["large"]["int8"] = grown
    chosen = choice(files)
    assert chosen.winner == "small"
    assert "6.01 MB, over 6 MB" in chosen.dropped["large"]
    (row,) = (r for r in chosen.table if (r.name, r.precision) == ("large", "int8"))
    assert (row.megabytes, row.excess) == (6.000001, "6.01 MB, over 6 MB")


def test_the_size_that_is_told_is_the_proven_file_s() -> None:
    """Export leaves layers of an int8 file in fp32, so that it grows."""
    files = proofs()
    files["large"]["int8"] = files["large"]["int8"].model_copy(update={"bytes": 3_210_000})
    assert "large in int8: test top-1 55.00 %, 4.00 ms, 3.21 MB" in str(choice(files))


def test_a_refused_student_is_not_the_next_faster() -> None:
    refused = proofs(large_int8="int8.onnx failed its parity gate")
    plan, (first, last) = choice(refused).plan, ROUNDS
    quick = [RoundScore("large", 70.0, 1.0, 1_000_000), *last[1:]]
    chosen = verdict(plan, HALVING, [first, quick], refused, {})
    assert (chosen.winner, chosen.next_faster) == ("small", None)


def test_a_finalist_whose_export_failed_says_why() -> None:
    files = proofs()
    del files["large"]
    assert choice(files, {"proof of large": "no space"}).dropped["large"] == "no space"


def test_no_student_left() -> None:
    failed = {"large_int8": "no", "small_fp32": "no", "small_int8": "no"}
    with pytest.raises(MldrError, match="no student is left that may be shipped"):
        choice(proofs(**failed))


def test_the_front_by_hand() -> None:
    front = {(row.name, row.precision) for row in choice(proofs()).table if row.front}
    # Round 1: slow's files lose to small's in everything; large's fp32 loses to its own int8.
    assert front == {("large", "int8"), ("small", "int8")}


def test_noise_is_told() -> None:
    assert choice(proofs()).warnings == []
    noisy = UntrainedLatency(rounds=[2.0, 2.0, 3.0], bytes=500_000)
    restless = SMALL.model_copy(update={"latencies": {"int8": noisy}})
    (warning,) = choice(proofs(), entrants=[LARGE, restless, SLOW]).warnings
    assert "too noisy to tell" in warning and "50 %, small int8" in warning


def test_what_is_slower_when_measured_again_is_told() -> None:
    files = proofs()
    rounds = UntrainedLatency(rounds=[4.9, 5.5, 5.6], bytes=1_000_000)
    slower = files["large"]["int8"].model_copy(update={"latency": rounds})
    files["large"]["int8"] = slower
    (warning,) = choice(files).warnings
    assert "large int8 has 5.5 ms, over 5 ms (before training 4.00 ms" in warning


def test_what_is_over_the_budget_in_every_round_after_training_is_not_shipped() -> None:
    files = proofs()
    slower = files["large"]["int8"].model_copy(update={"latency": latency(5.5, 1_000_000)})
    files["large"]["int8"] = slower
    chosen = choice(files)
    assert chosen.winner == "small" and "5.5 ms, over 5 ms" in chosen.dropped["large"]


def test_the_page_stands_alone_and_says_everything() -> None:
    chosen = choice(proofs())
    page = choice_page(chosen)
    assert "http" not in page and "<script" not in page and "<link" not in page
    for name, reason in chosen.dropped.items():
        assert name in page and reason in page and reason in choice_table(chosen)
    assert "Ship large in int8" in page
    assert page.count("<circle") == 2 * 6  # three students in two precisions, two pictures


def test_the_comparison_to_go_on_with_is_one(tmp_path: Path) -> None:
    chosen = choice(proofs())
    base = base_recipe(load_recipe("digits"), chosen.plan.request)
    file = tmp_path / "compare.toml"
    file.write_text(follow_up(chosen, base, tmp_path / "out"))
    matrix = load_matrix(file)
    assert [*matrix.pairs] == ["large", "small"]
    recipe = matrix.section("large", "kd", 1)
    assert (recipe.student, recipe.train.epochs) == (LARGE.model, 3)
    assert recipe.optimizer == base.optimizer and recipe.augment == base.augment
    assert recipe.teacher is not None
    assert recipe.teacher.weights == str(tmp_path / "out" / "teacher" / "teacher")


def test_a_plan_is_read_by_who_may_go_on_with_it(tmp_path: Path) -> None:
    recipe, request = load_recipe("digits"), ChoiceRequest(budget=BUDGET)
    assert stored_plan(tmp_path, request, recipe, "cpu") is None
    plan = choice(proofs()).plan
    facts = {"recipe": dump_recipe(recipe), "machine": machine(), "device": "cpu"}
    own = plan.model_copy(update=facts)
    save_plan(own, tmp_path)
    assert stored_plan(tmp_path, request, recipe, "cpu") == own
    with pytest.raises(MldrError, match=r"a choice with hours = 2.0, not 3.0"):
        stored_plan(tmp_path, request.model_copy(update={"hours": 3.0}), recipe, "cpu")
    with pytest.raises(MldrError, match="by another recipe"):
        stored_plan(tmp_path, request, recipe.model_copy(update={"description": "another"}), "cpu")
    save_plan(own.model_copy(update={"machine": {**machine(), "cores": 999}}), tmp_path)
    with pytest.raises(MldrError, match="for another machine"):
        stored_plan(tmp_path, request, recipe, "cpu")
    save_plan(own.model_copy(update={"device": "a GPU"}), tmp_path)
    with pytest.raises(MldrError, match=r"that trains on a GPU, not cpu: go on .* there"):
        stored_plan(tmp_path, request, recipe, "cpu")
    versions = {**machine()["versions"], "onnxruntime": "1.0"}
    save_plan(own.model_copy(update={"machine": {**machine(), "versions": versions}}), tmp_path)
    with pytest.raises(MldrError, match=r"of onnxruntime 1.0, here is .*: install that version"):
        stored_plan(tmp_path, request, recipe, "cpu")
    (tmp_path / "plan.json").write_text("{")
    with pytest.raises(MldrError, match="damaged"):
        stored_plan(tmp_path, request, recipe, "cpu")


@pytest.mark.parametrize(
    ("target", "precisions", "taken"),
    [
        ("onnx", (), ("fp32", "int8")),
        ("onnx", ("int8",), ("int8",)),
        ("litert", (), ("fp32", "int8-dynamic")),
        ("executorch", ("int8-dynamic",), ("int8-dynamic",)),
    ],
)
def test_a_target_is_chosen_among_what_it_has(
    target: str, precisions: tuple[str, ...], taken: tuple[str, ...]
) -> None:
    request = ChoiceRequest(budget=BUDGET, target=target, precisions=precisions)
    assert request.precisions == taken
    assert ChoiceRequest.model_validate_json(request.model_dump_json()) == request
    export = base_recipe(load_recipe("digits", ()), request).export
    assert export.targets == (target,) and set(taken) <= set(export.precisions)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"target": "executorch", "precisions": ("int8",)}, "fp32, int8-dynamic, not int8"),
        ({"precisions": ("fp16",)}, "onnx files are chosen among fp32, int8, not fp16"),
        ({"target": "tensorrt"}, "'onnx', 'executorch' or 'litert'"),
    ],
)
def test_what_is_not_timed_is_refused(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(MldrError, match=words) as refusal:
        validated(ChoiceRequest, {"budget": {"max_ms": 5}, **settings}, "choose")
    assert "\n" not in str(refusal.value)


def test_a_choice_teaches_by_kept_logits_alone() -> None:
    request = ChoiceRequest(budget=BUDGET, precisions=("int8",))
    for name, used in [
        ("mldr-kd", "mldr-kd"),
        ("fitnet", "dist"),
        ("scratch", "dist"),
        ("dkd", "dkd"),
    ]:
        keys = (f"method.name={name}", "method.kd.temperature=7.0", "teacher.image_size=48")
        recipe = load_recipe("digits", keys)
        base = base_recipe(recipe, request)
        assert (base.method.name, base.method.kd.temperature) == (used, 7.0)
        assert base.train.teacher_views > 0
        assert base.export.precisions == ("fp32", "int8")
        run = student_recipe(base, "x", LARGE.model, 64, 10)
        assert run.schedule.warmup_epochs == pytest.approx(0.5)  # 2 of 40 epochs
        assert (run.data.image_size, run.teacher_data.image_size) == (64, 48)


def test_a_failure_in_a_later_round_is_told() -> None:
    reason = choice(proofs(), {"slow, round 2": "no memory"}).dropped["slow"]
    assert reason.startswith("its training failed in round 2: no memory; before it place 3 of 3")
