"""The student in all its forms, each loaded beside the others so that a switch costs nothing."""

from __future__ import annotations

from contextlib import ExitStack
from types import TracebackType
from typing import Self

from ..bundle.manifest import Artifact, Manifest
from ..bundle.progress import Progress, Silent
from ..bundle.reader import Bundle
from ..bundle.shipping import recommended, shippable
from ..errors import MldrError
from ..runtimes.runtime import Runtime, RuntimeOptions
from ..runtimes.runtime_choice import open_runtime, prove_golden
from .turns import Turns

_WARM_UP = 3  # calls; the first of a runtime allocate


class Form(Turns):
    """One artifact, loaded. ``golden``: its largest logit difference on the golden images, here."""

    def __init__(self, manifest: Manifest, runtime: Runtime, golden: float) -> None:
        super().__init__(runtime)
        self.manifest, self.golden = manifest, golden

    @property
    def artifact(self) -> Artifact:
        """Its entry in the manifest."""
        assert self.runtime.model.artifact is not None
        return self.runtime.model.artifact


class LoadedStudent:
    """Every artifact of a bundle that this machine runs, by its short name.

    ``left_out`` has the reason of each artifact that does not run. A context manager: the artifacts
    are loaded inside of it.
    """

    def __init__(
        self,
        bundle: Bundle,
        runtime: str,
        options: RuntimeOptions,
        progress: Progress | None = None,
    ) -> None:
        self.bundle, self._runtime, self._options = bundle, runtime, options
        self._progress = progress or Silent()
        self.forms: dict[str, Form] = {}
        self.left_out: dict[str, str] = {}
        self._open = ExitStack()

    def __enter__(self) -> Self:
        artifacts = self.bundle.manifest.artifacts
        self._progress.start("loading the artifacts", len(artifacts))
        for artifact in artifacts:
            name = self.name(artifact)
            try:
                self.forms[name] = self._form(artifact)
            except MldrError as error:
                self.left_out[name] = str(error)
                self._progress.note(f"{artifact.file} is left out: {error}")
            self._progress.advance()
        self._progress.finish()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.forms = {}
        self._open.close()

    @property
    def first(self) -> str | None:
        """The form that the page begins with: what is to be shipped, where it runs here."""
        manifest, files = self.bundle.manifest, {f.artifact.file: n for n, f in self.forms.items()}
        advice = recommended(manifest)
        preferred = [advice.file if advice else None, *shippable(manifest), *files]
        return next((files[file] for file in preferred if file in files), None)

    def _form(self, artifact: Artifact) -> Form:
        if artifact.status == "failed" and not self.bundle.allow_failed:
            raise MldrError(
                f"{artifact.file} failed its parity gate ({'; '.join(artifact.parity.failures)}): "
                "the Proof tab has the figures; to try it all the same, start the demo with "
                "--allow-failed"
            )
        unloaded = open_runtime(
            self.bundle, self._runtime, artifact.file, self._options, self._progress
        )
        runtime = self._open.enter_context(unloaded)
        form = Form(self.bundle.manifest, runtime, prove_golden(self.bundle, runtime))
        for _ in range(_WARM_UP):
            form(self.bundle.golden.inputs[:1])
        return form

    def name(self, artifact: Artifact) -> str:
        """``int8``, ``int8 engine``; the file where two would have the same."""
        names = [_short(entry) for entry in self.bundle.manifest.artifacts]
        return _short(artifact) if names.count(_short(artifact)) == 1 else artifact.file


def _short(artifact: Artifact) -> str:
    if artifact.format == "onnx":
        return artifact.precision
    return f"{artifact.precision} {'engine' if artifact.engine else artifact.format}"
