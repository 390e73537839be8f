"""What this bundle says to pictures, without mldr-deploy: python infer.py PICTURE...

One JSON line a picture: the five most probable classes, as POST /classify answers. Needs numpy,
pillow >= 10.1 and onnxruntime. Takes JPEG, PNG, WebP, GIF and BMP of 8 bits, refuses all others.
"""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

REFUSAL = ""  # why this bundle is not to be used, if so
TURNS = {2: 0, 3: 3, 4: 1, 5: 5, 6: 4, 7: 6, 8: 2}  # EXIF's orientation -> Pillow's transposition


def picture(path: str) -> Any:
    """The first frame upright, RGB, transparency over white."""
    image: Any = Image.open(path, formats=("JPEG", "PNG", "WEBP", "GIF", "BMP"))
    stored = str(image.tile)  # how: load() forgets it
    keyed = "L;" in stored and "transparency" in image.info
    if image.mode[0] in "IF" or ";16" in stored or keyed:
        raise ValueError("not of 8 bits a channel: save it so")
    image.load()
    turn = TURNS.get(image.getexif().get(0x0112, 1))
    if image.has_transparency_data:
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image.convert("RGBA"))
    return image.convert("RGB") if turn is None else image.convert("RGB").transpose(turn)


def inputs(image: Any, spec: dict[str, Any]) -> Any:
    """What the network takes, float32 [1, 3, H, W], by `preprocessing` of manifest.json."""
    (high, wide), short = spec["size"], min(image.size)
    side = int(high / spec["crop_fraction"])
    width, height = (side * n // (short if spec["resize"] == "shortest" else n) for n in image.size)
    image = image.resize((width, height), Image.Resampling[spec["interpolation"].upper()])
    top, left = round((height - high) / 2), round((width - wide) / 2)
    pixels = np.asarray(image)[top : top + high, left : left + wide]
    mean, std = np.array(spec["mean"]), np.array(spec["std"])
    fed = pixels * np.float32(1 / (255 * std)) + np.float32(-mean / std)
    return (fed if spec["channel_order"] == "rgb" else fed[..., ::-1]).transpose(2, 0, 1)[None]


if __name__ == "__main__":
    from onnxruntime import InferenceSession

    bundle = json.loads(Path(__file__).with_name("manifest.json").read_text(encoding="utf-8"))
    network = InferenceSession(Path(__file__).with_name(bundle["artifacts"][0]["file"]))
    for path in sys.argv[1:] if not REFUSAL else sys.exit(REFUSAL):
        try:
            fed = {bundle["input"]["name"]: inputs(picture(path), bundle["preprocessing"])}
            logits = network.run(None, fed)[0][0].astype(float) / bundle["temperature"]
            odds = np.exp(logits - logits.max())
            best = [(int(k), bundle["labels"][k], odds[k] / odds.sum()) for k in (-odds).argsort()]
            answers = [{"label": b, "index": a, "probability": c} for a, b, c in best[:5]]
            print(json.dumps({"file": path, "predictions": answers}, allow_nan=False))
        except Exception as error:
            sys.exit(f"{path}: {error}")
