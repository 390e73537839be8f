"""TensorRT's build phases as our progress bar."""

from __future__ import annotations

from typing import Any

from ...bundle.progress import Progress


def build_monitor(progress: Progress) -> Any:
    """A ``trt.IProgressMonitor`` that counts the steps of the outermost phases.

    TensorRT nests phases and names them as it likes; an inner one shows as the bar's figure. It
    may call from several threads, so each call does one thing. A Ctrl-C in a call stops the build.
    """
    import tensorrt as trt

    class BuildMonitor(trt.IProgressMonitor):  # type: ignore[misc]  # no stubs
        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)
            self.interrupted = False
            self._outer: set[str] = set()

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            if parent_phase is None:
                self._outer.add(phase_name)
                progress.start(f"TensorRT: {phase_name}", num_steps)
            else:
                progress.advance(0, phase=phase_name)

        def step_complete(self, phase_name: str, step: int) -> bool:
            try:
                if phase_name in self._outer:
                    progress.advance(1)
            except KeyboardInterrupt:
                self.interrupted = True
            return not self.interrupted

        def phase_finish(self, phase_name: str) -> None:
            if phase_name in self._outer:
                self._outer.discard(phase_name)
                progress.finish()

    return BuildMonitor()
