"""A bundle's own infer.py, without our package, beside what the service answers over HTTP."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from mldr_deploy.bundle.chance import Chance
from mldr_deploy.bundle.infer_script import infer_script
from mldr_deploy.bundle.manifest import FILE
from mldr_deploy.bundle.reader import Bundle

Run = subprocess.CompletedProcess[str]
# runpy instead of the file alone: an installed mldr_deploy must not be reachable.
ALONE = "import runpy, sys; sys.modules['mldr_deploy'] = None; del sys.argv[0]; "
ALONE += "runpy.run_path(sys.argv[0], run_name='__main__')"


def run(bundle: Path, *pictures: Path) -> Run:
    words = [sys.executable, "-I", "-c", ALONE, str(bundle / "infer.py"), *map(str, pictures)]
    return subprocess.run(words, capture_output=True, text=True, check=False, env={"PATH": ""})


def noise(height: int, width: int, channels: int = 3) -> Any:
    coarse = np.random.default_rng(height).integers(0, 256, (8, 8, channels), np.uint8)
    return coarse.repeat(-(-height // 8), 0).repeat(-(-width // 8), 1)[:height, :width]


def pictures(encode: Callable[..., bytes]) -> Iterator[tuple[str, bytes]]:
    """(file name, file) of every kind that is taken."""
    wide, tall = Image.fromarray(noise(61, 98)), Image.fromarray(noise(375, 250))
    yield "wide.png", encode(wide)
    yield "tall.jpg", encode(tall, "JPEG", quality=80)
    yield "progressive.jpg", encode(tall, "JPEG", progressive=True)
    yield "small.bmp", encode(wide.resize((20, 31)), "BMP")
    for orientation in range(2, 9):
        exif = Image.Exif()
        exif[0x0112] = orientation
        yield f"turned{orientation}.jpg", encode(wide, "JPEG", exif=exif)
    xmp = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description tiff:Orientation="6"/></x:xmpmeta>'
    yield "xmp.webp", encode(wide, "WEBP", xmp=xmp, lossless=True)
    yield "grey.png", encode(wide.convert("L"))
    yield "grey.jpg", encode(wide.convert("L"), "JPEG")
    yield "bits.png", encode(wide.convert("1"))
    yield "palette.png", encode(wide.quantize(16))
    yield "hole.png", encode(wide.quantize(16), transparency=3)
    yield "keyed.png", encode(wide.convert("L"), transparency=int(noise(61, 98)[0, 0, 0]))
    yield "alpha.png", encode(Image.fromarray(noise(50, 70, 4), "RGBA"))
    yield "grey-alpha.png", encode(Image.fromarray(noise(50, 70, 2), "LA"))
    yield "alpha.webp", encode(Image.fromarray(noise(50, 70, 4), "RGBA"), "WEBP", lossless=True)
    yield "cmyk.jpg", encode(wide.convert("CMYK"), "JPEG")
    more = {"save_all": True, "append_images": [tall]}
    yield "moving.gif", encode(wide.quantize(16), "GIF", **more)


def test_it_answers_as_the_service_does(
    live: Any, served: Path, ask: Any, encode: Any, bundle: Bundle, tmp_path: Path
) -> None:
    files = dict(pictures(encode))
    for k, source in enumerate(bundle.golden.sources):
        files[f"golden{k}.png"] = encode(source)
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
    told = run(served, *(tmp_path / name for name in files))
    assert told.returncode == 0, told.stderr
    answers = [json.loads(line) for line in told.stdout.splitlines()]
    assert len(answers) == len(files)
    firsts = set()
    for answer, (name, data) in zip(answers, files.items(), strict=True):
        expected = ask(live, "POST", "/classify", data).json["predictions"]
        assert answer["file"] == str(tmp_path / name)
        ours = [(p["label"], p["index"]) for p in answer["predictions"]]
        assert ours == [(p["label"], p["index"]) for p in expected], name
        for mine, theirs in zip(answer["predictions"], expected, strict=True):
            assert mine["probability"] == pytest.approx(theirs["probability"], abs=1e-5), name
        firsts.add(expected[0]["index"])
    assert len(firsts) > 1  # a model with one answer for all would prove nothing


@pytest.mark.parametrize("mode", ["I;16", "F", "text"])
def test_what_it_cannot_read_as_the_service_does_is_refused(
    served: Path, encode: Any, tmp_path: Path, mode: str
) -> None:
    path = tmp_path / "picture.png"
    if mode == "text":
        path.write_text("no picture", encoding="utf-8")
    else:
        deep = Image.fromarray(noise(20, 30)[..., 0].astype(np.float32)).convert(mode)
        path.write_bytes(encode(deep, "TIFF" if mode == "F" else "PNG"))
    told = run(served, path)
    assert told.returncode == 1 and told.stdout == ""
    assert told.stderr.startswith(f"{path}: ") and len(told.stderr.splitlines()) == 1


def test_it_is_short_and_does_not_need_our_package(served: Path) -> None:
    source = (served / "infer.py").read_text(encoding="utf-8")
    assert len(source.splitlines()) <= 60
    imported = {
        line.split()[1]
        for line in source.splitlines()
        if line.lstrip().startswith(("import ", "from "))
    }
    assert imported == {"json", "sys", "pathlib", "typing", "numpy", "PIL", "onnxruntime"}


def test_a_bundle_that_is_not_to_be_used_says_why(copied: Path, bundle: Bundle) -> None:
    chance = Chance(images=100, hits=12, largest=10)
    source = infer_script(bundle.manifest.model_copy(update={"chance": chance}))
    (copied / "infer.py").write_text(source, encoding="utf-8")
    told = run(copied, copied / FILE)
    assert (told.returncode, told.stdout) == (1, "")
    assert told.stderr == "the student is no better than chance\n"
    (first,) = bundle.manifest.artifacts
    failed = first.model_copy(update={"status": "failed"})
    source = infer_script(bundle.manifest.model_copy(update={"artifacts": [failed]}))
    assert "REFUSAL = 'student.onnx failed its parity gate: it is not what was trained'" in source
