"""How a bundle whose files were exchanged is checked again, and a file of Vision Mamba's run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

from mldr_deploy.bundle.atomic import sha256
from mldr_deploy.bundle.sealed import write_sealed
from mldr_deploy.export.phone_file import PhoneFormat
from mldr_deploy.export.recheck import CheckResult, check_bundle
from mldr_deploy.models.architecture_config import ModelConfig
from mldr_deploy.models.model_registry import create_model
from mldr_deploy.runtimes.model_file import ModelFile


def rechecked(folder: Path, run: Any) -> CheckResult:
    """Hashes made right again: only proofs can notice now."""
    content = json.loads((folder / "manifest.json").read_text())
    for entry in (e for a in content["artifacts"] for e in (a, *a["beside"])):
        path = folder / entry["file"]
        entry.update(bytes=path.stat().st_size, sha256=sha256(path))
    write_sealed(folder / "manifest.json", content)
    return check_bundle(folder, dataset=run.dataset)


def refuted(result: CheckResult) -> str:
    """Everything that does not hold."""
    return "; ".join(f"{f.subject}: {f.detail}" for f in result.findings if f.holds is False)


def run_vision_mamba(form: PhoneFormat, folder: Path) -> tuple[Any, Any]:
    """Logits of two images by a file of ``form`` and by PyTorch."""
    torch.manual_seed(0)
    config = ModelConfig(name="vim_nano_patch4_32", patch_size=8, options={"depth": 1})
    model = create_model(config, num_classes=10, image_size=32).eval()
    path = folder / f"vim{form.suffix}"
    path.write_bytes(form.content(model, 32, "fp32"))
    images = torch.randn(2, 3, 32, 32)
    with form.runtime(ModelFile(path)) as runtime, torch.inference_mode():
        return runtime(images.numpy()), model(images).numpy()
