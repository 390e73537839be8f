"""Single pictures: which way up, how deep, in which format; the same in training and in service."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
from inputs_situation import Situation, command, digit, photos, recipe
from PIL import Image, ImageOps, PngImagePlugin

SIDE = 24
ORIENTATION = 0x0112


def first_picture(path: Path, keep: str) -> np.ndarray | str:
    """What training sees of a picture; ``keep``: resident or streamed."""
    from mldr_deploy.data.data_config import DataConfig
    from mldr_deploy.data.dataset import load_dataset
    from mldr_deploy.errors import MldrError

    limit = 2048 if keep == "resident" else 0
    try:
        data = load_dataset(
            DataConfig(source="folder:photos", batch_size=4, val_fraction=0, resident_mib=limit)
        )
    except MldrError as error:
        return f"refused: {error}"
    names = [data.train.name(index) for index in range(len(data.train))]
    row = next(i for i, name in enumerate(names) if name.endswith(path.name))
    picture = data.train.image(row)
    return np.asarray(picture)


def seen(make: Callable[[Path], np.ndarray | None], suffix: str, keep: str) -> Callable[[], str]:
    """``make`` writes a file and gives what is right of it: [h, w, 3], or None: to be refused."""

    def probe() -> str:
        photos(train=6, val=2)
        path = Path("photos/train/cat", f"special{suffix}")
        truth = make(path)
        found = first_picture(path, keep)
        if isinstance(found, str):
            return found
        if truth is None:
            return f"taken, mean level {found.mean():.0f}"
        if found.shape != truth.shape:
            return f"another shape: {found.shape}, right is {truth.shape}"
        return f"largest difference {np.abs(found.astype(int) - truth).max()} of 255"

    return probe


def turned(value: int, form: str) -> Callable[[Path], np.ndarray]:
    def make(path: Path) -> np.ndarray:
        picture = digit(2, 0, SIDE).resize((SIDE, SIDE + 8))
        exif = Image.Exif()
        exif[ORIENTATION] = value
        lossless = {"WEBP": {"lossless": True}, "JPEG": {"quality": 95}}.get(form, {})
        picture.save(path, form, exif=exif, **lossless)
        with Image.open(path) as stored:
            upright = ImageOps.exif_transpose(stored).convert("RGB")
        return np.asarray(upright)

    return make


RAMP = np.arange(32 * 32).reshape(32, 32) / (32 * 32 - 1)  # 0 .. 1


def deep(
    pixels: np.ndarray, form: str, truth: np.ndarray | None
) -> Callable[[Path], np.ndarray | None]:
    def make(path: Path) -> np.ndarray | None:
        Image.fromarray(pixels).save(path, form)
        return None if truth is None else np.stack([truth] * 3, axis=-1)

    return make


def modes(mode: str) -> Callable[[Path], np.ndarray]:
    """A picture of the digit whose transparent half must come out white."""

    def make(path: Path) -> np.ndarray:
        grey = np.asarray(digit(3, 0).convert("L"))
        alpha = np.where(np.arange(32) < 16, 255, 0).astype(np.uint8) * np.ones((32, 1), np.uint8)
        if mode == "1":
            Image.fromarray(grey).point(lambda v: 255 * (v > 99)).convert("1").save(path)
            truth = np.where(grey > 99, 255, 0)
        elif mode == "LA":
            Image.merge("LA", (Image.fromarray(grey), Image.fromarray(alpha))).save(path)
            truth = np.where(alpha == 255, grey, 255)
        else:  # palette whose entry 0 is transparent
            indices = (grey > 99).astype(np.uint8)
            picture = Image.fromarray(indices, "P")
            picture.putpalette([10, 10, 10, 200, 200, 200])
            picture.save(path, transparency=0)
            truth = np.where(indices == 1, 200, 255)
        return np.stack([truth] * 3, axis=-1)

    return make


def metadata(path: Path) -> np.ndarray:
    """A PNG whose compressed text is large, as scanners and renderers write."""
    info = PngImagePlugin.PngInfo()
    info.add_text("parameters", "x" * 3_000_000, zip=True)
    digit(4, 0).save(path, pnginfo=info)
    return np.asarray(digit(4, 0))


def profile(path: Path) -> np.ndarray:
    """A PNG with a large colour profile that is none."""
    stored = io.BytesIO()
    digit(4, 0).save(stored, "PNG", icc_profile=bytes(2_000_000))
    path.write_bytes(stored.getvalue())
    return np.asarray(digit(4, 0))


def twice() -> str:
    """The arrow of ../shared/cases: phone photographs of several sizes, trained and then asked."""
    rng = np.random.default_rng(0)
    exif = Image.Exif()
    exif[ORIENTATION] = 3
    for split, count in (("train", 48), ("val", 20)):
        for name in ("up", "down"):
            for number in range(count):
                side = int(rng.integers(34, 48))
                rows, columns = np.mgrid[:side, :side]
                arrow = np.abs(columns - side / 2) < (rows - side / 6) * 0.5
                arrow &= rows < side * 5 / 6
                pixels = np.full((side, side, 3), rng.integers(0, 90, 3), np.uint8)
                pixels[arrow] = rng.integers(160, 255, 3)
                picture = Image.fromarray(pixels if name == "up" else pixels[::-1].copy())
                path = Path("photos", split, name, f"{number:03}.png")
                path.parent.mkdir(parents=True, exist_ok=True)
                picture.transpose(Image.Transpose.ROTATE_180).save(path, exif=exif)
    recipe(
        epochs="epochs = 4\n[optimizer]\nname = 'adamw'\nlr = 0.002\n"
        "[augment]\ncrop = 'none'\nflip = 0.0"
    )
    done = command("distill-and-export", "--recipe", "r.toml", "--out", "run", "-q")
    if not done.startswith("exit 0"):
        return done
    return served("run/bundle", "photos/val")


def served(bundle: str, pictures: str) -> str:
    """What training reported, and what the service answers to the very same files."""
    from inputs_service import serving

    manifest = json.loads(Path(bundle, "manifest.json").read_text(encoding="utf-8"))
    fp32 = next(entry for entry in manifest["artifacts"] if entry["precision"] == "fp32")
    reported = fp32["parity"]["artifact"]["top1"]
    right = total = 0
    with serving(bundle) as ask:
        for path in sorted(Path(pictures).rglob("*.png")):
            answer = ask("POST", "/classify?top_k=1", file=path.read_bytes())
            right += answer.json()["predictions"][0]["label"] == path.parent.name
            total += 1
    said = 100 * right / total
    differ = "" if abs(said - reported) < 0.01 else ", which differ"
    return f"reported {reported:.1f} %, served {said:.1f} %{differ}"


def situation(
    kind: str,
    name: str,
    right: str,
    make: Callable[[Path], np.ndarray | None],
    suffix: str,
    keep: str = "resident",
) -> Situation:
    return Situation(kind, f"{name}, {keep}", right, seen(make, suffix, keep))


EXACT = r"largest difference 0 of"
GREY16 = (RAMP * 65535).round().astype(np.uint16)
SITUATIONS = [
    Situation(
        "orientation", "phone photographs, trained and served", r"served (9\d|100)\.\d %$", twice
    ),
    *(
        situation(
            "orientation", f"EXIF {value} in {form}", EXACT, turned(value, form), suffix, keep
        )
        for value in (1, 3, 6, 8)
        for form, suffix in (("JPEG", ".jpg"), ("PNG", ".png"), ("WEBP", ".webp"), ("TIFF", ".tif"))
        for keep in ("resident", "streamed")
        if value in (3, 6) or keep == "streamed"
    ),
    situation(
        "depth",
        "16-bit grey PNG",
        r"largest difference [01](\.0)? of",
        deep(GREY16, "PNG", (RAMP * 255).round()),
        ".png",
    ),
    situation(
        "depth",
        "unsigned 16-bit TIFF",
        r"largest difference [01](\.0)? of",
        deep(GREY16, "TIFF", (RAMP * 255).round()),
        ".tif",
    ),
    situation(
        "depth",
        "16-bit grey PNG that uses 12 bits",
        r"refused|largest difference [01](\.0)? of",
        deep(GREY16 // 16, "PNG", None),
        ".png",
    ),
    situation(
        "depth",
        "32-bit integer TIFF of 0 to 255",
        r"refused|largest difference [01](\.0)? of",
        deep((RAMP * 255).round().astype(np.int32), "TIFF", (RAMP * 255).round()),
        ".tif",
    ),
    situation(
        "depth",
        "32-bit integer TIFF of 0 to 2 million",
        r"refused",
        deep((RAMP * 2e6).astype(np.int32), "TIFF", None),
        ".tif",
    ),
    situation(
        "depth",
        "float TIFF of 0 to 1",
        r"refused|largest difference [01](\.0)? of",
        deep(RAMP.astype(np.float32), "TIFF", (RAMP * 255).round()),
        ".tif",
    ),
    *(
        situation("depth", name, EXACT, modes(mode), ".png")
        for mode, name in (
            ("1", "1-bit PNG"),
            ("LA", "grey with alpha"),
            ("P", "palette, transparent"),
        )
    ),
    situation("metadata", "PNG with 3 MB of compressed text", EXACT, metadata, ".png"),
    situation("metadata", "PNG with a profile of 2 MB that is none", EXACT, profile, ".png"),
]
