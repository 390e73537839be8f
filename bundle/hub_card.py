"""``timm/README.md``: the model card as the Hugging Face Hub shows it, its tags in front."""

from __future__ import annotations

from collections.abc import Iterator

from .card import model_card
from .manifest import Manifest

FILE = "timm/README.md"
_TAGS = """---
library_name: timm
pipeline_tag: image-classification
tags:
- image-classification
- timm
- knowledge-distillation
---
"""


def hub_card(manifest: Manifest) -> str:
    """The card in Markdown. It names no pictures or files of the bundle: they are not there."""
    return f"{_TAGS}\n{model_card(manifest.model_copy(update={'quality_files': []}), _use)}"


def _use(manifest: Manifest) -> Iterator[str]:
    yield "## Using it"
    yield ""
    yield from (
        "    import timm, torch",
        "    from PIL import Image",
        "",
        '    model = timm.create_model("hf-hub:USER/NAME", pretrained=True).eval()',
        "    transform = timm.data.create_transform(**timm.data.resolve_model_data_config(model))",
        '    image = transform(Image.open("picture.jpg").convert("RGB"))[None]',
        "    with torch.inference_mode():",
        f"        odds = (model(image) / {manifest.temperature:.6g}).softmax(1)",
        '    print(model.pretrained_cfg["label_names"][odds.argmax()], odds.max())',
    )
    yield ""
    yield (
        'From this folder on disk: `"local-dir:FOLDER"` instead of `"hf-hub:USER/NAME"`. To upload '
        "it: `hf upload USER/NAME FOLDER .`, or `upload_folder` of huggingface_hub. The ONNX files "
        "and the `manifest.json` that this card names are in the bundle that the folder is from."
    )
    yield ""
