"""The one door through which an engine's bytes become an engine.

Without a driver, classic TensorRT's runtimes do not refuse them: the lean one of 11.4 ends the
process. So the machine is asked first, and no other file of ours may call the library for this.
"""

from __future__ import annotations

from typing import Any

from .tensorrt_machine import require


def load_engine(plan: bytes, logger: Any, *, host_code: bool) -> tuple[Any, Any]:
    """(runtime, engine) of classic TensorRT; keep both as long as the engine is used.

    ``host_code``: whether the plan may bring its own runtime, as version-compatible ones do.
    The engine is None where TensorRT refuses the plan; ``complaint(logger)`` then tells why.
    Raises Unavailable on a machine without TensorRT or a usable GPU.
    """
    require()
    import tensorrt as trt

    runtime = trt.Runtime(logger)
    runtime.engine_host_code_allowed = host_code
    return runtime, runtime.deserialize_cuda_engine(plan)
