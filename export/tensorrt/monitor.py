"""TensorRT's build phases as our progress bar."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ...bundle.progress import Progress


def build_monitor(trt: Any, progress: Progress) -> Any:
    """An ``IProgressMonitor`` of the library ``trt`` that counts the steps of the outermost phases.

    TensorRT nests phases and names them as it likes; an inner one shows as the bar's figure. It
    may call from several threads, so each call does one thing. The bindings swallow what a call
    raises (Ctrl-C, a closed terminal): it is kept in ``raised``, stops the build at its next step,
    and is for the caller to raise again.
    """

    class BuildMonitor(trt.IProgressMonitor):  # type: ignore[misc]  # no stubs
        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)
            self.raised: BaseException | None = None
            self._outer: set[str] = set()

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            if parent_phase is None:
                self._outer.add(phase_name)
                self._keep(lambda: progress.start(f"TensorRT: {phase_name}", num_steps))
            else:
                self._keep(lambda: progress.advance(0, phase=phase_name))

        def step_complete(self, phase_name: str, step: int) -> bool:
            if phase_name in self._outer:
                self._keep(lambda: progress.advance(1))
            return self.raised is None

        def phase_finish(self, phase_name: str) -> None:
            if phase_name in self._outer:
                self._outer.discard(phase_name)
                self._keep(progress.finish)

        def _keep(self, call: Callable[[], None]) -> None:
            try:
                call()
            except BaseException as error:
                self.raised = self.raised or error

    return BuildMonitor()
