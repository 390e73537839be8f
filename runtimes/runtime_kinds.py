"""The runtimes by name; a new one is a file and a line here."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from importlib.util import find_spec

from ..bundle.manifest import Artifact
from ..bundle.precisions import Place, precision_named
from ..bundle.reader import Bundle
from ..errors import MldrError, Unavailable
from .model_file import ModelFile
from .runtime import Runtime, RuntimeOptions


@dataclass(frozen=True)
class RuntimeKind:
    """One runtime: where it lives and what it needs; nothing is imported to know this."""

    name: str
    module: str  # beside this file
    factory: str
    formats: tuple[str, ...]  # artifact formats that it runs; empty: the weights themselves
    package: str  # what must be importable
    remedy: str  # what to do when it is not
    automatic: bool = True  # whether `auto` may take it
    place: Place | None = None  # where it computes ONNX files; None: whatever it runs is its own

    def runs(self, artifact: Artifact) -> bool:
        """Whether it computes what parity was proven of."""
        fits = artifact.format != "onnx" or not self.lacks(artifact.precision)
        return fits and artifact.format in self.formats

    def lacks(self, precision: str) -> bool:
        """Whether it loads ONNX files of ``precision`` wrongly, or not at all."""
        return self.place is not None and self.place not in precision_named(precision).runs_on

    def missing(self) -> str | None:
        """Why it cannot run here, as far as that is known without loading it; None: it can."""
        if not _importable(self.package):
            return f"runtime {self.name} needs the package {self.package}: {self.remedy}"
        if self.name == "onnxruntime-tensorrt-rtx" and not _plugins():
            return f"runtime {self.name} needs ONNX Runtime 1.23 or newer, which takes plugins"
        if self.name == "onnxruntime-cuda" and not _cuda_provider():
            return f"runtime {self.name} needs an ONNX Runtime built with CUDA: {self.remedy}"
        return None

    def create(self, bundle: Bundle, artifact: Artifact | None, options: RuntimeOptions) -> Runtime:
        """The runtime, not yet loaded. Raises Unavailable when the machine lacks it."""
        reason = self.missing()
        if reason is not None:
            raise Unavailable(reason)
        factory = getattr(importlib.import_module(f".{self.module}", __package__), self.factory)
        if artifact is not None and artifact.engine is not None:
            artifact = _for_this_machine(bundle, artifact, options.device)
        runtime = factory(ModelFile.of(bundle, artifact), options)
        assert isinstance(runtime, Runtime)
        return runtime


def _for_this_machine(bundle: Bundle, engine: Artifact, device: int) -> Artifact:
    """The engine that is asked for, or that of its precision which was built for this machine."""
    from .tensorrt_machine import fitting, this_machine

    every = bundle.manifest.artifacts
    usable = [a for a in every if a.status == "passed" or bundle.allow_failed]
    return fitting(usable, engine.precision, this_machine(device)) or engine


_GPU = "install onnxruntime-gpu instead of onnxruntime, on a machine with an NVIDIA GPU"

RUNTIMES: dict[str, RuntimeKind] = {
    kind.name: kind
    for kind in (
        RuntimeKind(
            "onnxruntime-cpu",
            "onnxruntime_cpu",
            "OnnxRuntimeCpu",
            ("onnx",),
            "onnxruntime",
            "pip install onnxruntime",
            place="cpu",
        ),
        RuntimeKind(
            "onnxruntime-cuda",
            "onnxruntime_cuda",
            "OnnxRuntimeCuda",
            ("onnx",),
            "onnxruntime",
            _GPU,
            place="cuda",
        ),
        RuntimeKind(
            "onnxruntime-tensorrt-rtx",
            "onnxruntime_tensorrt_rtx",
            "OnnxRuntimeTensorRtRtx",
            ("onnx",),
            "onnxruntime_ep_nv_tensorrt_rtx",
            "pip install onnxruntime-ep-nv-tensorrt-rtx-cu13, for an NVIDIA RTX card",
            automatic=False,  # it has not run anywhere yet
            place="tensorrt",
        ),
        RuntimeKind(
            "openvino",
            "openvino",
            "OpenVino",
            ("onnx", "openvino"),
            "openvino",
            'pip install "mldr-deploy[openvino]"',
            place="cpu",
        ),
        RuntimeKind(
            "tensorrt",
            "tensorrt",
            "TensorRt",
            ("tensorrt",),
            "tensorrt",
            'pip install "mldr-deploy[tensorrt]"',
        ),
        RuntimeKind(
            "executorch",
            "executorch",
            "ExecuTorch",
            ("executorch",),
            "executorch",
            'pip install "mldr-deploy[executorch]"',
        ),
        RuntimeKind(
            "litert",
            "litert",
            "LiteRt",
            ("litert",),
            "ai_edge_litert",
            'pip install "mldr-deploy[litert]"',
        ),
        RuntimeKind(
            "pytorch", "pytorch", "PyTorch", (), "torch", "pip install torch", automatic=False
        ),
        RuntimeKind(
            "pytorch-compiled",
            "pytorch",
            "PyTorchCompiled",
            (),
            "torch",
            "pip install torch",
            automatic=False,
        ),
    )
}


def runtime_kind(name: str) -> RuntimeKind:
    """The runtime called ``name``. Raises MldrError that lists the names."""
    kind = RUNTIMES.get(name)
    if kind is None:
        raise MldrError(f"unknown runtime {name!r}; choose auto, {', '.join(RUNTIMES)}")
    return kind


def _importable(package: str) -> bool:
    try:
        return find_spec(package) is not None
    except (ImportError, ValueError):
        return False


def _plugins() -> bool:
    import onnxruntime

    return hasattr(onnxruntime, "register_execution_provider_library")


def _cuda_provider() -> bool:
    import onnxruntime

    return "CUDAExecutionProvider" in onnxruntime.get_available_providers()
