"""TOML files from other editors: the same table, or one line that says how to save them."""

from __future__ import annotations

import codecs
from pathlib import Path

import pytest

from mldr_deploy.compare.matrix import load_matrix
from mldr_deploy.errors import MldrError
from mldr_deploy.pipeline.recipe import load_recipe
from mldr_deploy.pipeline.toml_text import parse_toml

TEXT = 'name = "Zürich"\n[student]\nname = "resnet10t"\n[method]\nname = "scratch"\n'


@pytest.mark.parametrize(
    "data",
    [
        TEXT.encode(),
        codecs.BOM_UTF8 + TEXT.encode(),
        TEXT.replace("\n", "\r\n").encode(),
        codecs.BOM_UTF8 + TEXT.replace("\n", "\r\n").encode(),
    ],
    ids=["utf-8", "bom", "crlf", "bom and crlf"],
)
def test_marks_and_line_ends_of_windows_change_nothing(data: bytes, tmp_path: Path) -> None:
    (tmp_path / "base.toml").write_bytes(data)
    over = codecs.BOM_UTF8 + b'extends = "base.toml"\r\n[train]\r\nepochs = 3\r\n'
    (tmp_path / "over.toml").write_bytes(over)
    recipe = load_recipe(str(tmp_path / "over.toml"))
    assert (recipe.name, recipe.student.name, recipe.train.epochs) == ("Zürich", "resnet10t", 3)


def test_a_comparison_is_read_the_same_way(tmp_path: Path) -> None:
    text = 'name = "m"\nmethods = ["scratch"]\nfocus = "scratch"\n'
    text += '[pairs.p.student]\nname = "resnet10t"\n'
    (tmp_path / "m.toml").write_bytes(codecs.BOM_UTF8 + text.replace("\n", "\r\n").encode())
    assert load_matrix(tmp_path / "m.toml").name == "m"
    (tmp_path / "m.toml").write_bytes(text.encode("utf-16"))
    with pytest.raises(MldrError, match=r"m\.toml is UTF-16 text, or no text at all: save it as"):
        load_matrix(tmp_path / "m.toml")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (TEXT.encode("utf-16"), "r is UTF-16 text, or no text at all: save it as UTF-8"),
        (codecs.BOM_UTF16_BE + TEXT.encode("utf-16-be"), "r is UTF-16 text"),
        (TEXT.encode("utf-16-le"), "r is UTF-16 text"),
        (TEXT.encode("utf-32"), "r is UTF-16 text"),
        (TEXT.encode("latin-1"), "r, line 1: byte 0xfc is not UTF-8: save the file as UTF-8"),
        (b"a = 1\r\nb = '\xe4'", "r, line 2: byte 0xe4 is not UTF-8"),
        (b"a = 1\rb = 2\r", "r is not valid TOML: "),
        (b"a = " + b"[" * 5000, "r is not valid TOML: "),
    ],
    ids=["16", "16 be", "16 no mark", "32", "latin-1", "cp1252", "old Mac", "deep"],
)
def test_everything_else_is_one_line(data: bytes, message: str) -> None:
    with pytest.raises(MldrError) as refused:
        parse_toml(data, "r")
    assert str(refused.value).startswith(message) and "\n" not in str(refused.value)
