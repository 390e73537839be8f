"""timm's published weights are asked for before anything slow is done."""

from __future__ import annotations

import time
from pathlib import Path

import huggingface_hub.constants
import pytest
from huggingface_hub import try_to_load_from_cache

from mldr_deploy.errors import Unavailable
from mldr_deploy.models.architecture_config import ModelConfig
from mldr_deploy.models.published_weights import require_published

PUBLISHED = ModelConfig(name="convnext_tiny.fb_in1k", weights="timm")
REPOSITORY = "timm/convnext_tiny.fb_in1k"


@pytest.fixture
def cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """An empty cache of the hub, whose address nobody answers at."""
    for name in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"):
        monkeypatch.setattr(huggingface_hub.constants, name, str(tmp_path), raising=False)
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr(
        huggingface_hub.constants,
        "HUGGINGFACE_CO_URL_TEMPLATE",
        "http://127.0.0.1:9/{repo_id}/resolve/{revision}/{filename}",
    )
    monkeypatch.setattr(time, "sleep", lambda _: pytest.fail("the hub was asked again"))
    return tmp_path


def test_what_to_fetch_is_said_at_once(cache: Path) -> None:
    with pytest.raises(Unavailable) as raised:
        require_published(PUBLISHED)
    told = str(raised.value)
    assert "timm's weights of convnext_tiny.fb_in1k are not on this machine" in told
    assert f"`hf download {REPOSITORY} model.safetensors`" in told
    assert str(cache) in told and "HF_HOME" in told and "\n" not in told


def test_weights_in_the_cache_are_not_asked_for(cache: Path) -> None:
    folder = cache / f"models--{REPOSITORY.replace('/', '--')}"
    snapshot = folder / "snapshots" / "0123"
    snapshot.mkdir(parents=True)
    (snapshot / "pytorch_model.bin").write_bytes(b"weights")
    (folder / "refs").mkdir()
    (folder / "refs" / "main").write_text("0123")
    assert isinstance(try_to_load_from_cache(REPOSITORY, "pytorch_model.bin", str(cache)), str)
    require_published(PUBLISHED)


@pytest.mark.parametrize(
    "config",
    [
        ModelConfig(name="convnext_tiny.fb_in1k"),
        ModelConfig(name="convnext_tiny.fb_in1k", weights="own.safetensors"),
        ModelConfig(name="vim_tiny_patch16_224", weights="timm"),
    ],
    ids=["from scratch", "own file", "none published"],
)
def test_others_are_let_pass(cache: Path, config: ModelConfig) -> None:
    require_published(config)
