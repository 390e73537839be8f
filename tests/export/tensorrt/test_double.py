"""The double has no name and no argument that the real TensorRT lacks."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import bindings
import double
import pytest


@pytest.fixture(scope="module", params=[10, 11])
def api(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    stubs: Path = tmp_path_factory.mktemp("stubs")
    return bindings.bindings("tensorrt_cu13_bindings", request.param, stubs).api()


def public(kind: type) -> list[str]:
    own = [name for name in vars(kind) if not name.startswith("_")]
    return [name for name in own if not hasattr(bytes, name) and not hasattr(int, name)]


def test_every_name_is_a_real_one(api: Any) -> None:
    checked = 0
    for name in double.NAMES:
        real = api["classes"][name]
        for member in public(getattr(double, name)):
            if (name, member) == ("OnnxParser", "refused"):
                continue  # what a test sets
            assert member in real, f"{name}.{member} is the double's own invention"
            checked += 1
    assert checked > 50


def test_every_method_takes_the_real_arguments(api: Any) -> None:
    checked = 0
    for name in double.NAMES:
        for member in public(getattr(double, name)):
            method = vars(getattr(double, name))[member]
            about = api["classes"][name].get(member, {})
            if not inspect.isfunction(method) or not about.get("overloads"):
                continue
            ours = [*inspect.signature(method).parameters][1:]
            real = [[parameter for parameter, _ in o["params"]] for o in about["overloads"]]
            assert ours in real, f"{name}.{member} takes {real}, the double {ours}"
            checked += 1
    assert checked > 35


def test_numbers_of_members_do_not_matter() -> None:
    """STRONGLY_TYPED is 1 in 10.x and 0 in 11: only ``1 << int(...)`` of the member is right."""
    assert 1 << int(double.NetworkDefinitionCreationFlag.STRONGLY_TYPED) == 2
