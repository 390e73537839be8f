"""TensorRT: the bundle's engine for this GPU. Not yet run on hardware."""

from __future__ import annotations

from typing import Any

from ..bundle.manifest import Artifact
from ..bundle.preprocess import Floats
from .runtime import Runtime, RuntimeFailed


class TensorRt(Runtime):
    """``tensorrt``. Loads an engine by the hash that the manifest lists; nothing is built here."""

    name = "tensorrt"
    _runner: Any = None

    def load(self) -> None:
        from .engine_runner import EngineError, EngineRunner

        self.artifact = self._for_this_machine()
        runner = EngineRunner.of(
            self.bundle,
            self.artifact,
            device=self.options.device,
            cuda_graphs=self.options.cuda_graphs,
        )
        try:
            runner.load()
        except EngineError as error:
            raise RuntimeFailed(str(error)) from error
        self._runner = runner

    def _for_this_machine(self) -> Artifact:
        """The engine asked for, or the one of its precision that was built for this machine."""
        from .tensorrt_machine import this_machine

        assert self.artifact is not None  # its formats are engines only
        machine = this_machine(self.options.device)
        for held in self.bundle.manifest.artifacts:
            record = held.engine
            usable = held.status == "passed" or self.bundle.allow_failed
            same = held.precision == self.artifact.precision
            if record is not None and usable and same and record.misfit(machine) is None:
                return held
        return self.artifact

    def unload(self) -> None:
        if self._runner is not None:
            self._runner.unload()
            self._runner = None

    def feed(self, inputs: Floats) -> None:
        self._refusing(lambda: self._runner.feed(inputs))

    def compute(self) -> None:
        self._refusing(self._runner.compute)

    def fetch(self) -> Floats:
        logits: Floats = self._refusing(self._runner.fetch)
        return logits

    def __call__(self, inputs: Floats) -> Floats:
        logits: Floats = self._refusing(lambda: self._runner(inputs))
        return logits

    def _refusing(self, call: Any) -> Any:
        from .engine_runner import EngineError

        try:
            return call()
        except EngineError as error:
            raise RuntimeFailed(str(error)) from error
