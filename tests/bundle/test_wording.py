"""Words for people."""

from __future__ import annotations

from pathlib import Path
from urllib.error import URLError

import pytest

from mldr_deploy.bundle.wording import cause


def test_a_system_s_error_is_told_without_number_and_path(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError) as caught:
        (tmp_path / "gone").read_bytes()
    assert "Errno" in str(caught.value)  # what must not be shown
    assert cause(caught.value) == "No such file or directory"
    assert cause(URLError(OSError(-2, "Name or service not known"))) == "Name or service not known"


def test_other_errors_keep_their_words() -> None:
    assert cause(ValueError("line 3 is no number")) == "line 3 is no number"
    assert cause(OSError("truncated file")) == "truncated file"
    assert cause(StopIteration()) == "StopIteration"
