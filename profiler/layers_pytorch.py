"""Time per module from PyTorch's profiler: each leaf module opens a named range."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from ..bundle.precisions import precision_of_type
from ..runtimes.pytorch import PyTorch
from .layer_job import LayerJob, Timed

_RANGE = "mldr:"
_WARM_UP = 5


def pytorch_layers(job: LayerJob) -> tuple[list[Timed], str]:
    """Ranges of ``job.calls`` calls after a warm-up."""
    from torch.profiler import ProfilerActivity, profile

    with job.kind.create(job.bundle, job.artifact, job.options) as runtime:
        assert isinstance(runtime, PyTorch)
        model = runtime._model
        with _ranges(model) as modules:
            for images in (job.inputs * _WARM_UP)[:_WARM_UP]:
                runtime(images)
            on_gpu = runtime._device.type == "cuda"
            activities = [ProfilerActivity.CPU] + ([ProfilerActivity.CUDA] if on_gpu else [])
            with profile(activities=activities) as profiler:
                for images in job.inputs:
                    runtime(images)
    timed = []
    for event in profiler.key_averages():
        if event.key.startswith(_RANGE):
            name = event.key.removeprefix(_RANGE)
            microseconds = event.device_time_total if on_gpu else event.cpu_time_total
            timed.append(Timed(name, *modules[name], 1000 * microseconds))
    note = f"PyTorch's profiler, leaf modules, mean of {job.calls} calls; it adds time itself"
    return timed, note


@contextmanager
def _ranges(model: Any) -> Iterator[dict[str, tuple[str, str, str]]]:
    """Leaf modules of ``model`` in named ranges; yields name -> (class, module, precision)."""
    from torch.autograd.profiler import record_function

    modules: dict[str, tuple[str, str, str]] = {}
    hooks: list[Any] = []

    def follow(name: str, module: Any) -> None:
        open_ranges: list[Any] = []

        def begin(_: Any, arguments: Any) -> None:
            open_ranges.append(record_function(_RANGE + name))
            open_ranges[-1].__enter__()

        def end(_: Any, arguments: Any, output: Any) -> None:
            dtype = str(getattr(output, "dtype", "")).removeprefix("torch.")
            modules[name] = (type(module).__name__, name, precision_of_type(dtype) or dtype)
            open_ranges.pop().__exit__(None, None, None)

        hooks.append(module.register_forward_pre_hook(begin))
        hooks.append(module.register_forward_hook(end))

    for name, module in model.named_modules():
        if name and not list(module.children()):
            follow(name, module)
    try:
        yield modules
    finally:
        for hook in hooks:
            hook.remove()
