"""Whether this machine runs TensorRT, and which machine it is."""

from __future__ import annotations

import importlib
from collections.abc import Iterable
from importlib import metadata

from ..bundle.engine import Machine
from ..bundle.manifest import Artifact
from ..errors import Unavailable
from . import cuda

INSTALL = 'pip install "mldr-deploy[tensorrt]"'


def this_machine(device: int = 0) -> Machine:
    """GPU ``device`` and the TensorRT beside it. Raises Unavailable with what is missing."""
    require()
    import tensorrt as trt

    properties = cuda.properties(device)
    return Machine(
        gpu=properties.name,
        compute_capability=properties.compute_capability,
        tensorrt=trt.__version__,
        driver=properties.driver,
    )


def fitting(artifacts: Iterable[Artifact], precision: str, machine: Machine) -> Artifact | None:
    """The first engine of ``precision`` that runs on ``machine``; None: there is none."""
    for artifact in artifacts:
        record = artifact.engine
        if artifact.precision == precision and record and record.misfit(machine) is None:
            return artifact
    return None


def require() -> None:
    """Raise Unavailable, in one sentence, unless TensorRT and a GPU can be used."""
    reason = missing()
    if reason is not None:
        raise Unavailable(reason)


def missing() -> str | None:
    """What TensorRT lacks on this machine, and the command that brings it; None: nothing."""
    for module, name in (("tensorrt", "TensorRT"), ("cuda.bindings.runtime", "cuda-bindings")):
        try:
            importlib.import_module(module)
        except ModuleNotFoundError:
            return f"{name} is not installed: {INSTALL}"
        except ImportError as error:
            reason = " ".join(str(error).split())
            return f"{name} does not load its libraries ({reason[:200]}): {INSTALL}"
    try:
        count = cuda.device_count()
    except cuda.CudaError as error:
        return f"TensorRT needs an NVIDIA GPU with its driver, and none can be used here ({error})"
    return None if count else "TensorRT needs an NVIDIA GPU, and this machine has none"


def installed() -> str | None:
    """Version of the TensorRT package, read without importing it; None: not installed."""
    for package in ("tensorrt", "tensorrt-cu13", "tensorrt-cu12"):
        try:
            return metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return None
