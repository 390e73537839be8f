"""Folders, tables and archives: nothing left out, nothing mixed in."""

from __future__ import annotations

import io
import os
import unicodedata
from collections.abc import Callable
from pathlib import Path

import numpy as np
from inputs_situation import DIGITS, Situation, digit, photos, taken

CAT = Path("photos/train/cat")
ALL = r"cat, dog, owl: train\+val 48, test 18"


def debris(name: str) -> Situation:
    """A picture of a dog where systems leave things inside the cats."""

    def probe() -> str:
        photos()
        path = CAT / name
        path.parent.mkdir(parents=True, exist_ok=True)
        digit(1, 0).save(path, "PNG")
        return taken("folder:photos")

    return Situation("debris", f"a picture in cat/{name}", ALL, probe)


def class_debris(name: str) -> Situation:
    """A system's folder beside the classes."""

    def probe() -> str:
        photos()
        Path("photos/train", name).mkdir()
        return taken("folder:photos")

    return Situation("debris", f"a folder train/{name}", ALL, probe)


def renamed(suffix: str, right: str, form: str | None = None) -> Situation:
    """Twelve of sixteen cats with another suffix; ``form`` is the format they are stored in."""

    def probe() -> str:
        photos()
        for path in sorted(CAT.iterdir())[:12]:
            number = int(path.stem)
            path.unlink()
            digit(0, number).save(CAT / f"{number:03}{suffix}", form or "PNG")
        return taken("folder:photos")

    name = f"12 of 16 cats are {form or 'PNG'} files called *{suffix or ' (no suffix)'}"
    return Situation("suffixes", name, right, probe)


def replaced(name: str, right: str, spoil: Callable[[Path], object]) -> Situation:
    """Ten of sixteen cats spoilt."""

    def probe() -> str:
        photos()
        for path in sorted(CAT.iterdir())[:10]:
            path.unlink()
            spoil(path)
        return taken("folder:photos")

    return Situation("left out", f"10 of 16 cats are {name}", right, probe)


def linked() -> str:
    photos()
    more = Path("more").absolute()
    more.mkdir()
    for number in range(30, 46):
        digit(0, number).save(more / f"{number}.png")
    (CAT / "batch2").symlink_to(more)
    return taken("folder:photos")


def looped() -> str:
    photos()
    (CAT / "again").symlink_to(CAT.absolute())
    return taken("folder:photos")


def renamed_splits(train: str, held_out: str) -> Situation:
    def probe() -> str:
        photos()
        Path("photos/train").rename(f"photos/{train}.part")
        Path("photos/val").rename(f"photos/{held_out}")
        Path(f"photos/{train}.part").rename(f"photos/{train}")
        return taken("folder:photos")

    return Situation("splits", f"folders {train}/ and {held_out}/", ALL, probe)


def no_val() -> str:
    photos(train=20, val=0)
    return taken("folder:photos")


def stray_folder() -> str:
    photos()
    Path("photos/extra/cat").mkdir(parents=True)
    digit(0, 40).save("photos/extra/cat/1.png")
    return taken("folder:photos")


def decomposed() -> str:
    photos(("caf\u00e9", "dog", "owl"))
    name = unicodedata.normalize("NFD", "caf\u00e9")
    Path("photos/val/caf\u00e9").rename(f"photos/val/{name}")
    return taken("folder:photos")


def leak(share: float) -> Callable[[], str]:
    def probe() -> str:
        photos()
        for label, name in enumerate(("cat", "dog", "owl")):
            for number in range(16, 16 + round(6 * share)):
                digit(label, number).save(f"photos/train/{name}/seen{number}.png")
        return taken("folder:photos")

    return probe


def table(
    path: str, first: int, last: int, label: Callable[[int], object] = int, **kinds: object
) -> None:
    """Rows ``first`` to ``last`` of the digits as Parquet."""
    import pyarrow
    import pyarrow.parquet

    Path(path).parent.mkdir(parents=True, exist_ok=True)
    images = []
    for pixels in DIGITS.images[first:last]:
        from PIL import Image

        file = io.BytesIO()
        Image.fromarray((pixels * 15.9).astype(np.uint8)).resize((32, 32)).convert("RGB").save(
            file, "PNG"
        )
        images.append(file.getvalue())
    labels = pyarrow.array([label(int(k)) for k in DIGITS.target[first:last]], kinds.get("labels"))
    column = pyarrow.array(images, kinds.get("images"))
    pyarrow.parquet.write_table(pyarrow.table({"image": column, "label": labels}), path)


def shards(train: str, held_out: str, right: str = r"train\+val 200, test 100") -> Situation:
    def probe() -> str:
        table(f"set/{train}", 0, 200)
        table(f"set/{held_out}", 200, 300)
        return taken("parquet:set")

    return Situation("splits", f"shards {train} and {held_out}", right, probe)


def checkpoint_shard() -> str:
    table("set/data.parquet", 0, 200)
    table("set/.ipynb_checkpoints/data-checkpoint.parquet", 0, 200)
    return taken("parquet:set")


def within_a_test_folder() -> str:
    table("my-test-set/train.parquet", 0, 200)
    return taken("parquet:my-test-set/train.parquet")


def integer_widths() -> str:
    import pyarrow

    table("set/train-0.parquet", 0, 100, labels=pyarrow.int32())
    table("set/train-1.parquet", 100, 200, labels=pyarrow.int64(), images=pyarrow.large_binary())
    table("set/test-0.parquet", 200, 300, labels=pyarrow.uint8())
    return taken("parquet:set")


def from_one() -> str:
    table("set/train.parquet", 0, 200, label=lambda k: k + 1)
    table("set/test.parquet", 200, 300, label=lambda k: k + 1)
    return taken("parquet:set")


def listed() -> str:
    photos()
    lines = ["path,label,split"]
    for split in ("train", "val"):
        for path in sorted(Path("photos", split).rglob("*.png")):
            lines.append(f"{path},{path.parent.name},{'test' if split == 'val' else 'train'}")
    Path("list.csv").write_text("\n".join(lines), encoding="utf-8-sig")
    return taken("csv:list.csv")


REFUSED = r"refused.*cat"
SITUATIONS = [
    *map(
        debris,
        (
            ".ipynb_checkpoints/000-checkpoint.png",
            "@eaDir/000.png/SYNOPHOTO_THUMB_M.png",
            ".Trash-1000/files/gone.png",
            "__MACOSX/._000.png",
            "lost+found/1.png",
            "$RECYCLE.BIN/S-1-5/$R1.png",
            "#recycle/1.png",
            "deep/er/.thumbnails/1.png",
        ),
    ),
    *map(class_debris, ("__MACOSX", "@eaDir", "lost+found", "System Volume Information")),
    renamed(".jfif", ALL, "JPEG"),
    renamed(".jpe", ALL, "JPEG"),
    renamed("", ALL, "JPEG"),
    renamed(".JPG", ALL),
    replaced("links to nothing", REFUSED, lambda path: path.symlink_to(f"/annex/none/{path.name}")),
    replaced("empty files", REFUSED, lambda path: path.write_bytes(b"")),
    replaced(
        "pointers of Git LFS",
        REFUSED,
        lambda path: path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\n"),
    ),
    replaced(
        "web pages saved as pictures",
        REFUSED,
        lambda path: path.with_suffix(".jpg").write_text("<html>404</html>"),
    ),
    replaced(
        "HEIC files without a decoder's content",
        REFUSED,
        lambda path: path.with_suffix(".HEIC").write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0heicmif1"),
    ),
    replaced("half files", REFUSED, lambda path: (digit(0, 0).save(path), os.truncate(path, 60))),
    Situation("links", "16 more behind a linked folder", r"train\+val 64", linked),
    Situation("links", "a link to its own folder", ALL, looped),
    renamed_splits("training", "testing"),
    renamed_splits("Train", "Test"),
    renamed_splits("train", "valid"),
    renamed_splits("train", "validation"),
    Situation("splits", "train/ alone", r"train\+val 48, test 12", no_val),
    Situation(
        "splits",
        "a folder beside train/ and val/ whose name says nothing",
        r"refused.*extra",
        stray_folder,
    ),
    shards("training-00000.parquet", "testing-00000.parquet"),
    shards("Train.parquet", "Test.parquet"),
    shards("train-0.parquet", "part-0.parquet", r"refused.*part-0"),
    Situation(
        "debris",
        "a table beside its .ipynb_checkpoints",
        r"train\+val 160, test 40",
        checkpoint_shard,
    ),
    Situation(
        "splits", "my-test-set/train.parquet", r"train\+val 160, test 40", within_a_test_folder
    ),
    Situation(
        "tables",
        "shards of int32, int64 and uint8 labels",
        r"train\+val 200, test 100",
        integer_widths,
    ),
    Situation("tables", "labels 1 to 10", r"refused.*(start|from|1 to 10|1\.\.10)", from_one),
    Situation("tables", "csv of paths, labels and splits, with a BOM", ALL, listed),
    Situation(
        "names", "a class in NFC in train/, in NFD in val/", r"train\+val 48, test 18", decomposed
    ),
    Situation(
        "leaks",
        "half of the test pictures in train/ too",
        r"refused.*9 of 18 test pictures",
        leak(0.5),
    ),
]
