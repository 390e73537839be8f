"""timm's published weights are asked for before anything slow is done."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
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


def test_all_that_is_to_be_fetched_is_said_in_one_line(cache: Path) -> None:
    """Not the student's first, and the teacher's after that has been fetched."""
    local = ModelConfig(name="resnet18", weights="own.safetensors")
    teacher = ModelConfig(name="resnet34.a1_in1k", weights="timm")
    with pytest.raises(Unavailable) as raised:
        require_published(PUBLISHED, local, teacher)
    told = str(raised.value)
    assert f"`hf download {REPOSITORY} model.safetensors`" in told
    assert "`hf download timm/resnet34.a1_in1k model.safetensors`" in told
    assert "resnet18" not in told and "\n" not in told


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
        ModelConfig(name="convnext_tiny.nonsense", weights="timm"),
        ModelConfig(
            name="convnext_tiny", weights="timm", options={"pretrained_cfg_overlay": {"file": "w"}}
        ),
    ],
    ids=["from scratch", "own file", "none published", "no such tag", "timm's own option"],
)
def test_others_are_let_pass(cache: Path, config: ModelConfig) -> None:
    require_published(config)


class Hub(BaseHTTPRequestHandler):
    """A hub that has weights as pytorch_model.bin alone."""

    def do_HEAD(self) -> None:
        held = self.path.endswith("/pytorch_model.bin")
        self.send_response(200 if held else 404)
        for name, value in {"X-Repo-Commit": "0123", "ETag": '"e"', "Content-Length": "0"}.items():
            self.send_header(name, value)
        if not held:
            self.send_header("X-Error-Code", "EntryNotFound")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def hub() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Hub) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_a_repository_with_the_older_file_alone_will_do(
    cache: Path, hub: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    template = hub + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(huggingface_hub.constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", hub)
    require_published(PUBLISHED)
