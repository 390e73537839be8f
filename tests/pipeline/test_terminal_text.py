"""What is printed fits 80 columns and loses nothing that the Markdown has."""

from __future__ import annotations

import re

import numpy as np
import pytest

from mldr_deploy.pipeline.narrow_table import narrow_table
from mldr_deploy.pipeline.terminal_text import terminal_text, wrapped
from mldr_deploy.profiler.change import changed
from mldr_deploy.profiler.two_reports import ComparedFigure, ReportComparison

METHODS = ("labels", "kd", "dkd", "dist", "ofa", "crd", "mldr-kd")
WIDE = "\n".join(
    [
        f"| teacher -> student | {' | '.join(METHODS)} | mldr-kd over best other |",
        f"| --- |{' ---: |' * 8}",
        f"| a -> deit_tiny_patch16_224 | {' | '.join(f'{k}3.31 ± 0.0{k}' for k in range(7))} "
        "| -2.38 (dist) * |",
        f"| pvt_v2_b0 -> regnetx | {' | '.join(f'**{k}1.50** ± 0.1{k}' for k in range(7))} | - |",
    ]
)


def widest(text: str) -> int:
    return max(map(len, text.splitlines()))


def test_a_column_with_nothing_in_it_leaves_its_room_to_the_others() -> None:
    text = narrow_table(("", "ms", "MB"), [["student.int8-dynamic.tflite", "", "1.5"]])
    assert "ms" not in text and "student.int8-dynamic.tflite" in text and "1.5" in text


def test_a_wide_table_is_split_and_every_figure_stands_whole() -> None:
    text = terminal_text(f"# Title\n\n{WIDE}\n\nA note.")
    assert widest(text) <= 80 < widest(WIDE)
    assert text.startswith("# Title\n\n") and text.endswith("\n\nA note.")
    for figure in re.findall(r"[\d*.]+ ± [\d.]+|-2\.38 \(dist\) \*", WIDE):
        assert text.count(figure) == 1
    parts = text.count("──\n")
    assert parts > 1 and text.count("pvt_v2_b0") == parts  # each part says whose figures they are


@pytest.mark.parametrize("columns", range(2, 16))
@pytest.mark.parametrize("digits", [3, 6, 11])
def test_no_figure_is_cut_however_many_there_are(columns: int, digits: int) -> None:
    figures = [f"{number}{'7' * (digits - 2)}" for number in range(10, 10 + columns)]
    text = narrow_table(["", *(f"n{k}" for k in range(columns))], [["a student's name", *figures]])
    assert widest(text) <= 80
    assert {"student's", *figures} <= {*text.split()}


@pytest.mark.parametrize(
    ("line", "hang", "indent"),
    [("steps " * 20, 8, 8), ("  top-1 " * 20, 0, 2), ("- item " * 20, 0, 2), ("prose " * 20, 0, 0)],
)
def test_long_lines_are_wrapped_under_their_text(line: str, hang: int, indent: int) -> None:
    first, *more = wrapped(line, hang).splitlines()
    assert more and all(len(m) - len(m.lstrip()) == indent for m in more)
    assert widest(wrapped(line, hang)) <= 80
    assert " ".join(" ".join([first, *more]).split()) == " ".join(line.split())


def test_a_path_stays_whole() -> None:
    path = "/" + "a-b/" * 40
    assert path in wrapped(f"report: {path} {'word ' * 20}")


def test_compared_reports_fit_and_units_stand_apart() -> None:
    rng = np.random.default_rng(0)
    slow = [rng.integers(17_000_000, 18_000_000, 50) for _ in range(3)]
    change = changed([samples // 17 for samples in slow], slow, 50)
    row = ComparedFigure("student.onnx in onnxruntime-cpu", "batch 16 host to device p50", change)
    text = terminal_text(ReportComparison([row, row], ["the machines differ: " + "word " * 20]))
    assert widest(text) <= 80
    (line, _) = [line for line in text.splitlines() if "batch 16" in line]
    assert line.split()[-1] == "slower"
    before, after, percent = line.split()[-7:-4]
    assert float(after) / float(before) == pytest.approx(17, rel=0.01)
    assert float(percent) == pytest.approx(1600, rel=0.01)
    assert {"before", "after", "ms", "change", "%"} <= {*text.split()}  # no unit on a figure


def test_marks_of_a_choice_fit() -> None:
    cells = ["mobilenetv3_small_100 224 px", "transformer", "int8", "12.5", "10.25", "100", "97.12"]
    table = [
        "| student | family | precision | ms | MB | epochs | val top-1 % | test top-1 % |  |",
        f"| {'--- | ' * 9}",
        f"| {' | '.join([*cells, '96.70', 'chosen, front, over the budget'])} |",
    ]
    text = terminal_text("\n".join(table))
    assert widest(text) <= 80
    assert all(word in text for word in ("chosen,", "front,", "budget", "97.12", "96.70"))
