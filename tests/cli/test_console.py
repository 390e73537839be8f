"""Failures as one line, and progress that a person can read in a terminal and in a log."""

from __future__ import annotations

import io
import re

import click
import pytest
from click.testing import CliRunner
from rich.console import Console

from mldr_deploy.api.progress_bars import LineProgress, LiveProgress
from mldr_deploy.bundle.progress import Progress, Silent
from mldr_deploy.cli.console import progress, reported_failures
from mldr_deploy.errors import MldrError, Unavailable


def run(error: BaseException | None) -> tuple[int, str]:
    @click.command()
    def failing() -> None:
        with reported_failures():
            if error is not None:
                raise error

    result = CliRunner().invoke(failing)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.stderr


@pytest.mark.parametrize(
    ("error", "code", "text"),
    [
        (None, 0, ""),
        (MldrError("a.png is truncated: remove it"), 1, "Error: a.png is truncated: remove it\n"),
        (Unavailable("TensorRT is not installed"), 2, "Error: TensorRT is not installed\n"),
        (MldrError("two\nlines"), 1, "Error: two lines\n"),
        (KeyboardInterrupt(), 130, "Interrupted.\n"),
        (
            OSError(28, "No space left on device", "a/b.png"),
            1,
            "Error: a/b.png cannot be written (No space left on device): free space or choose "
            "another place\n",
        ),
    ],
)
def test_expected_failures_are_one_line(error: BaseException, code: int, text: str) -> None:
    assert run(error) == (code, text)


def test_a_bug_keeps_its_traceback() -> None:
    with pytest.raises(ZeroDivisionError):
        run(ZeroDivisionError())
    with pytest.raises(FileNotFoundError):
        run(FileNotFoundError(2, "No such file or directory", "a"))


def report(shown: Progress) -> None:
    shown.start("teacher", 3)
    shown.advance(loss=0.123456, img_s=812.0)
    shown.advance(2, loss=0.1)
    shown.note("best epoch: 2 [top-1 98.1 %]")
    shown.finish()


def test_log_gets_one_line_a_task_with_the_last_figures() -> None:
    out = io.StringIO()
    report(LineProgress(Console(file=out)))
    note, line = out.getvalue().splitlines()
    assert note == "best epoch: 2 [top-1 98.1 %]"
    assert re.fullmatch(r"teacher: 3 in \d+\.\d s  loss 0\.1  img_s 812", line)


def test_log_says_when_a_task_stopped_early() -> None:
    out = io.StringIO()
    shown = LineProgress(Console(file=out))
    shown.start("parity", 10)
    shown.advance(4)
    shown.start("next", None)
    assert out.getvalue().startswith("parity: 4/10 in ")


def test_log_leaves_out_a_count_that_nobody_kept() -> None:
    out = io.StringIO()
    shown = LineProgress(Console(file=out))
    shown.start("export", None)
    shown.finish()
    assert re.fullmatch(r"export: \d+\.\d s\n", out.getvalue())


def test_terminal_bar_shows_count_figures_and_notes() -> None:
    out = io.StringIO()
    report(LiveProgress(Console(file=out, force_terminal=True, width=120)))
    shown = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", out.getvalue())
    assert "3/3" in shown
    assert "loss 0.1  img_s 812" in shown
    assert "best epoch: 2 [top-1 98.1 %]" in shown


def test_quiet_is_silent() -> None:
    with progress(quiet=True) as shown:
        assert isinstance(shown, Silent)


def test_an_interrupted_task_is_closed(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(MldrError), progress() as shown:
        shown.start("reading", 5)
        shown.advance()
        raise MldrError("stop")
    assert capsys.readouterr().err.startswith("reading: 1/5 in ")


def test_long_tasks_tell_a_line_now_and_then_where_there_is_no_terminal(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = [100.0]
    monkeypatch.setattr("mldr_deploy.api.progress_bars.time.monotonic", lambda: now[0])
    out = io.StringIO()
    shown = LineProgress(Console(file=out))
    shown.start("training", 1000)
    for _ in range(300):  # one a second
        now[0] += 1.0
        shown.advance(1, loss=0.5)
    lines = out.getvalue().splitlines()
    counts = [int(line.split(": ")[1].partition("/")[0]) for line in lines]
    assert counts == [5, 15, 35, 75, 135, 195, 255]
    assert lines[0] == "training: 5/1000 in 5.0 s  loss 0.5"
    assert "\x1b" not in out.getvalue() and "\r" not in out.getvalue()


def test_figures_are_whole_at_80_columns() -> None:
    out = io.StringIO()
    shown = LiveProgress(Console(file=out, force_terminal=True, width=80))
    shown.start("int8-symmetric: calibrating, percentile", 50_000)
    names = ("loss", "labels", "logits", "stages", "fused", "img/s", "val_top1")
    shown.advance(25_000, **dict.fromkeys(names, 12.34))
    shown.finish()
    frame = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", out.getvalue()).splitlines()
    assert max(len(line.rpartition("\r")[2]) for line in frame) <= 80
    last = " ".join(" ".join(frame).split())
    assert "25000/50000" in last and "…" not in last
    assert all(f"{name} 12.34" in last for name in names)


@pytest.mark.parametrize(("notebook", "kind"), [(True, LineProgress), (False, LiveProgress)])
def test_a_notebook_gets_lines(notebook: bool, kind: type, monkeypatch: pytest.MonkeyPatch) -> None:
    """IPython runs commands on a pseudo-terminal, whose cells do not redraw."""
    monkeypatch.setenv("FORCE_COLOR", "1")  # rich takes it for a terminal
    monkeypatch.delenv("JPY_PARENT_PID", raising=False)
    if notebook:
        monkeypatch.setenv("JPY_PARENT_PID", "1")
    with progress() as shown:
        assert isinstance(shown, kind)
