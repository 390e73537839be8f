"""What TensorRT complains of, kept for the one line that a person gets to see."""

from __future__ import annotations

from typing import Any


def quiet_logger(trt: Any) -> Any:
    """An ``ILogger`` of the library ``trt`` that prints nothing.

    It keeps errors in its list ``problems`` and warnings in ``warnings``, each on one line. It must
    live as long as the builder or runtime that it is given to.
    """

    class QuietLogger(trt.ILogger):  # type: ignore[misc]  # no stubs
        def __init__(self) -> None:
            trt.ILogger.__init__(self)  # pybind11 asks for the call by name
            self.problems: list[str] = []
            self.warnings: list[str] = []

        def log(self, severity: Any, msg: str) -> None:
            if severity in (trt.ILogger.Severity.INTERNAL_ERROR, trt.ILogger.Severity.ERROR):
                self.problems.append(" ".join(msg.split()))
            elif severity == trt.ILogger.Severity.WARNING:
                self.warnings.append(" ".join(msg.split()))

    return QuietLogger()


def complaint(logger: Any) -> str:
    """The last error on one line, cut to a readable length."""
    return logger.problems[-1][:300] if logger.problems else "TensorRT gives no reason"
