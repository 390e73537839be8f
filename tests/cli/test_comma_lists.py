"""Lists in one word, as people write them, for every option that takes one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner

from mldr_deploy.cli.group import main
from mldr_deploy.cli.options import CommaList

NAMES = ("fp32", "fp16")
LISTS = {  # option -> where its command puts it, what may be written, whether it may be empty
    ("export", "--precision"): ("precisions", NAMES, False),
    ("export", "--target"): ("targets", ("onnx", "tensorrt"), False),
    ("build-engine", "--precision"): ("precisions", NAMES, True),
    ("build-engine", "--capabilities"): ("capabilities", ("8.0", "12.0"), False),
    ("profile", "--runtime"): ("runtimes", ("onnxruntime-cpu", "openvino"), False),
    ("profile", "--batches"): ("batches", (1, 8), False),
    ("profile", "--loads"): ("loads", (0.25, 0.5), True),
    ("models", "--input"): ("sides", (32, 64), False),
    ("choose", "--students"): ("students", ("resnet10t", "vim_*"), False),
    ("choose", "--image-sizes"): ("image_sizes", (32, 64), False),
    ("choose", "--precisions"): ("precisions", ("fp32", "int8"), False),
}
NEEDED = {
    "models": [],
    "export": ["BUNDLE", "--out", "DIR"],
    "choose": ["--max-ms", "5", "--out", "DIR"],
}


def parsed(command: str, option: str, written: str) -> Any:
    """What ``command`` gets for ``option written``."""
    found = main.get_command(click.Context(main), command)
    assert found is not None
    needed = NEEDED.get(command, ["BUNDLE"])
    context = found.make_context(command, [*needed, option, written])
    return context.params[LISTS[command, option][0]]


@pytest.mark.parametrize(("command", "option"), LISTS)
@pytest.mark.parametrize("form", ["{0},{1}", "{0}, {1}", " {0} ,\t{1} ", "{0},{1},", "{0}, {1} , "])
def test_spaces_and_a_last_comma_do_not_matter(command: str, option: str, form: str) -> None:
    values = LISTS[command, option][1]
    assert parsed(command, option, form.format(*values)) == values
    assert parsed(command, option, form.format(*values).upper()) == values


@pytest.mark.parametrize(("command", "option"), LISTS)
@pytest.mark.parametrize("form", ["{0},,{1}", ",{0}", "{0},{1},,", ",", " , "])
def test_an_empty_place_is_refused(command: str, option: str, form: str) -> None:
    written = form.format(*LISTS[command, option][1])
    with pytest.raises(click.BadParameter, match="has an empty place: write values separated"):
        parsed(command, option, written)


@pytest.mark.parametrize(("command", "option"), LISTS)
@pytest.mark.parametrize("written", ["", "  "])
def test_an_empty_list_is_refused_where_it_means_nothing(
    command: str, option: str, written: str
) -> None:
    if LISTS[command, option][2]:
        assert parsed(command, option, written) == ()
    else:
        with pytest.raises(click.BadParameter, match="has an empty place"):
            parsed(command, option, written)


def test_every_list_option_is_of_this_kind() -> None:
    kinds = {
        (name, option.opts[0])
        for name in main.list_commands(click.Context(main))
        for option in main.get_command(click.Context(main), name).params  # type: ignore[union-attr]
        if isinstance(option.type, CommaList)
    }
    assert kinds == set(LISTS)


def test_runtimes_may_also_be_given_one_by_one() -> None:
    found = main.get_command(click.Context(main), "profile")
    assert found is not None
    words = ["BUNDLE", "--runtime", "openvino, pytorch", "--runtime", "tensorrt"]
    params = found.make_context("profile", words).params
    assert params["runtimes"] == ("openvino", "pytorch", "tensorrt")
    assert found.make_context("profile", ["BUNDLE"]).params["runtimes"] == ()


@pytest.mark.parametrize(
    ("written", "message"),
    [
        ("1,two", "'1,two' is no list of numbers like 1,2,4,8,16,32"),
        ("1.5", "'1.5' is no list of numbers"),
        ("1;2", "'1;2' is no list of numbers"),
    ],
)
def test_what_is_no_number_is_one_line(written: str, message: str, tmp_path: Path) -> None:
    result = CliRunner().invoke(main, ["profile", str(tmp_path), "--batches", written])
    assert result.exit_code == 2
    assert message in result.stderr
