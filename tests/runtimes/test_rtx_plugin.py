"""Runtime onnxruntime-tensorrt-rtx on a machine without a driver: one clear line, no fall-back.

A plugin like NVIDIA's: a module that names a library; the library is one that does not load.
"""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType

import pytest

from mldr_deploy.bundle.reader import Bundle
from mldr_deploy.errors import Unavailable
from mldr_deploy.runtimes import onnxruntime_tensorrt_rtx as rtx
from mldr_deploy.runtimes import runtime_kinds
from mldr_deploy.runtimes.model_file import ModelFile
from mldr_deploy.runtimes.runtime_choice import candidates, open_runtime

NAME = "onnxruntime-tensorrt-rtx"


@pytest.fixture
def plugin(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> ModuleType:
    """The plugin's module, as ``find_spec`` and ``import_module`` see it."""
    module = ModuleType(rtx.PLUGIN)
    library = tmp_path / "libplugin.so"
    library.write_bytes(b"not a library")
    module.get_ep_name = lambda: "NvTensorRTRTXExecutionProvider"  # type: ignore[attr-defined]
    module.get_library_path = lambda: str(library)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, rtx.PLUGIN, module)
    genuine = runtime_kinds._importable
    monkeypatch.setattr(
        runtime_kinds, "_importable", lambda name: name == rtx.PLUGIN or genuine(name)
    )
    return module


def test_without_the_plugin_the_command_is_told(bundle: Bundle) -> None:
    if runtime_kinds.RUNTIMES[NAME].missing() is None:
        pytest.skip("the plugin is installed here")
    with pytest.raises(Unavailable, match="pip install onnxruntime-ep-nv-tensorrt-rtx-cu13"):
        open_runtime(bundle, NAME)


def test_a_plugin_that_does_not_load_is_one_line(bundle: Bundle, plugin: ModuleType) -> None:
    with pytest.raises(Unavailable) as caught, open_runtime(bundle, NAME):
        pass
    text = str(caught.value)
    assert text.startswith(
        f"runtime {NAME} needs an NVIDIA RTX card and its driver, and the plugin"
    )
    assert "libplugin.so" in text and "\n" not in text and "FAIL" not in text


def test_without_a_card_it_is_said(
    bundle: Bundle, plugin: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    import onnxruntime

    registered: list[tuple[str, str]] = []
    monkeypatch.setattr(
        onnxruntime, "register_execution_provider_library", lambda *a: registered.append(a)
    )
    with pytest.raises(Unavailable, match="finds no NVIDIA RTX card"), open_runtime(bundle, NAME):
        pass
    assert registered == [("NvTensorRTRTXExecutionProvider", plugin.get_library_path())]


def test_auto_does_not_take_it(bundle: Bundle, plugin: ModuleType) -> None:
    assert runtime_kinds.RUNTIMES[NAME].missing() is None
    assert NAME not in {candidate.kind.name for candidate in candidates(bundle)}


def test_an_old_onnx_runtime_is_told(
    bundle: Bundle, plugin: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    import onnxruntime

    monkeypatch.delattr(onnxruntime, "register_execution_provider_library")
    with pytest.raises(Unavailable, match=r"needs ONNX Runtime 1\.23 or newer"):
        open_runtime(bundle, NAME)


def test_the_profile_covers_every_batch(bundle: Bundle) -> None:
    made = rtx.OnnxRuntimeTensorRtRtx(ModelFile.of(bundle, bundle.artifact()))._profile()
    side = bundle.manifest.image_size
    most = bundle.manifest.max_batch
    assert made == {
        "nv_profile_min_shapes": f"input:1x3x{side}x{side}",
        "nv_profile_opt_shapes": f"input:1x3x{side}x{side}",
        "nv_profile_max_shapes": f"input:{most}x3x{side}x{side}",
    }
