"""Options that a mode of a command would ignore are refused, by name, before anything is read."""

from __future__ import annotations

import pytest
from click.testing import CliRunner

from mldr_deploy.cli import main

COMPARE = "does not go with --compare, which measures nothing."
AGAINST = "does not go with --against, which times requests in turn and writes no report."
GOLDEN = "does not go with --golden-only, which needs no data set."
ON_RAY = "does not go with --engine ray, whose own proxy holds the connections."


@pytest.mark.parametrize(
    ("words", "refused", "reason"),
    [
        ("profile BUNDLE --compare A B", "BUNDLE", COMPARE),
        ("profile --compare A B --against C", "--against", COMPARE),
        ("profile --compare A B --rounds 5", "--rounds", COMPARE),  # its default, and given
        ("profile --compare A B --runtime openvino", "--runtime", COMPARE),
        ("profile --compare A B --out DIR", "--out", COMPARE),
        ("profile --compare A B --no-layers", "--no-layers", COMPARE),
        ("profile A --against B --out DIR", "--out", AGAINST),
        ("profile A --against B --loads 0.5", "--loads", AGAINST),
        ("profile A --against B --no-layers", "--no-layers", AGAINST),
        ("check BUNDLE --golden-only --data digits", "--data", GOLDEN),
        ("check BUNDLE --golden-only --data-root DIR", "--data-root", GOLDEN),
        ("build-engine BUNDLE --golden-only --data digits", "--data", GOLDEN),
        ("serve BUNDLE --engine ray --head-timeout 5", "--head-timeout", ON_RAY),
        ("serve BUNDLE --engine ray --max-connections 5", "--max-connections", ON_RAY),
        ("serve BUNDLE --gpus 0", "--gpus", "needs --engine ray."),
        (
            "compare MATRIX --report-only --jobs 2",
            "--jobs",
            "does not go with --report-only, which trains nothing.",
        ),
    ],
)
def test_what_a_mode_ignores_is_refused(words: str, refused: str, reason: str) -> None:
    result = CliRunner().invoke(main, words.split())
    assert (result.exit_code, result.stdout) == (2, ""), result.output
    assert f"Error: {refused} {reason}" in " ".join(result.stderr.split())
