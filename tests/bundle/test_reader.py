"""Every way in which a bundle can be other than its manifest says is refused, in words."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mldr_deploy.bundle.atomic import sha256
from mldr_deploy.bundle.golden import load_golden, make_golden, save_golden
from mldr_deploy.bundle.manifest import write_manifest
from mldr_deploy.bundle.preprocess import Preprocessing
from mldr_deploy.bundle.reader import open_bundle
from mldr_deploy.bundle.sealed import unsealed, write_sealed
from mldr_deploy.errors import MldrError

SPEC = Preprocessing(size=(8, 8), crop_fraction=0.8, mean=(0.5, 0.4, 0.3), std=(0.2, 0.25, 0.3))
FILES = ["student.onnx", "weights.safetensors", "golden.npz"]


def edit(folder: Path, change: Callable[[dict[str, Any]], None]) -> None:
    content = json.loads((folder / "manifest.json").read_text())
    change(content)
    write_sealed(folder / "manifest.json", content)


def rehash(folder: Path, key: str) -> None:
    """Make the manifest's hash of a file right again, as someone with a purpose would."""
    path = folder / json.loads((folder / "manifest.json").read_text())[key]["file"]
    new = {"bytes": path.stat().st_size, "sha256": sha256(path)}
    edit(folder, lambda content: content[key].update(new))


def test_an_untouched_bundle_opens(bundle_folder: Path) -> None:
    bundle = open_bundle(bundle_folder)
    assert bundle
    assert bundle.manifest.labels == ["cat", "dog"]
    assert bundle.file(bundle.artifact()) == bundle_folder / "student.onnx"
    assert len(bundle.golden) == 8
    assert bundle.weights()["w"].shape == (2, 3)


@pytest.mark.parametrize("file", FILES)
def test_missing_file(bundle_folder: Path, file: str) -> None:
    (bundle_folder / file).unlink()
    with pytest.raises(MldrError, match=f"{file} is missing"):
        open_bundle(bundle_folder)


@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize("where", [0, -1])
def test_changed_byte(bundle_folder: Path, file: str, where: int) -> None:
    data = bytearray((bundle_folder / file).read_bytes())
    data[where] ^= 1
    (bundle_folder / file).write_bytes(data)
    with pytest.raises(MldrError, match=rf"{file} was changed after export \(its SHA-256"):
        open_bundle(bundle_folder)


@pytest.mark.parametrize("file", FILES)
def test_truncated_file(bundle_folder: Path, file: str) -> None:
    data = (bundle_folder / file).read_bytes()
    (bundle_folder / file).write_bytes(data[:-1])
    with pytest.raises(MldrError, match=rf"{len(data) - 1} bytes, the manifest says {len(data)}"):
        open_bundle(bundle_folder)


def test_not_a_bundle(tmp_path: Path) -> None:
    with pytest.raises(MldrError, match=r"is not a bundle \(manifest\.json is missing\)"):
        open_bundle(tmp_path)
    with pytest.raises(MldrError, match="is not a bundle"):
        open_bundle(tmp_path / "nowhere")


def test_truncated_manifest(bundle_folder: Path) -> None:
    text = (bundle_folder / "manifest.json").read_text()
    (bundle_folder / "manifest.json").write_text(text[: len(text) // 2])
    with pytest.raises(MldrError, match=r"manifest\.json is not readable JSON"):
        open_bundle(bundle_folder)


@pytest.mark.parametrize("text", ["[]", "null", "3", '"manifest"', "{}"])
def test_json_that_is_no_manifest(bundle_folder: Path, text: str) -> None:
    (bundle_folder / "manifest.json").write_text(text)
    with pytest.raises(MldrError, match=r"states no schema_version|\(it is no JSON object\)"):
        open_bundle(bundle_folder)


def test_bytes_that_are_no_text(bundle_folder: Path) -> None:
    (bundle_folder / "manifest.json").write_bytes(b"\xff\xfe\x00{")
    with pytest.raises(MldrError, match="is not readable JSON"):
        open_bundle(bundle_folder)


def test_newer_schema(bundle_folder: Path) -> None:
    edit(bundle_folder, lambda content: content.update(schema_version=4, novelty=1))
    with pytest.raises(MldrError, match="schema version 4, this program reads up to 3: upgrade"):
        open_bundle(bundle_folder)


def test_older_schema(bundle_folder: Path) -> None:
    edit(bundle_folder, lambda content: content.update(schema_version=1))
    with pytest.raises(MldrError, match=r"has schema version 1, .* \(it reads 2 to 3\): export it"):
        open_bundle(bundle_folder)


@pytest.mark.parametrize("version", [0, -1, "1", 1.5, True, None])
def test_impossible_schema(bundle_folder: Path, version: object) -> None:
    edit(bundle_folder, lambda content: content.update(schema_version=version))
    with pytest.raises(MldrError, match="states no schema_version"):
        open_bundle(bundle_folder)


def parses(content: bytes) -> bool:
    """Whether a record is JSON and not refused by its digest."""
    try:
        unsealed(content)
    except ValueError:
        return False
    return True


def test_any_flipped_bit_of_the_manifest_is_refused(bundle_folder: Path) -> None:
    path = bundle_folder / "manifest.json"
    content = path.read_bytes()
    bits = range(8 * len(content))
    flipped = (
        content[: bit // 8] + bytes([content[bit // 8] ^ 1 << bit % 8]) + content[bit // 8 + 1 :]
        for bit in bits
    )
    survivors = [changed for changed in flipped if parses(changed)]
    assert 0 < len(survivors) < 8 * len("record_sha256")  # bits of the key's own name
    for changed in survivors:
        path.write_bytes(changed)
        with pytest.raises(MldrError, match=r"manifest\.json has lost its record_sha256"):
            open_bundle(bundle_folder)


def test_a_manifest_that_was_written_anew_by_hand(bundle_folder: Path) -> None:
    """The same content in another form, and a changed figure, as an editor would leave them."""
    path = bundle_folder / "manifest.json"
    content = json.loads(path.read_text())
    path.write_text(json.dumps(content))
    with pytest.raises(MldrError, match=r"manifest\.json was changed after it was written .*: re"):
        open_bundle(bundle_folder)
    content["artifacts"][0]["parity"]["artifact"]["top1"] = 99.0
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n")
    with pytest.raises(MldrError, match=r"manifest\.json was changed after it was written"):
        open_bundle(bundle_folder)
    del content["record_sha256"]
    path.write_text(json.dumps(content))
    with pytest.raises(MldrError, match=r"has lost its record_sha256, which schema version 3"):
        open_bundle(bundle_folder)


def test_a_bundle_of_the_schema_before_digests_is_read(bundle_folder: Path) -> None:
    path = bundle_folder / "manifest.json"
    content = json.loads(path.read_text())
    del content["record_sha256"]
    path.write_text(json.dumps(content | {"schema_version": 2}))
    manifest = open_bundle(bundle_folder).manifest
    assert (manifest.schema_version, manifest.record_sha256) == (2, None)
    write_manifest(bundle_folder, manifest)
    rewritten = open_bundle(bundle_folder).manifest
    assert rewritten.schema_version == 3 and rewritten.record_sha256 is not None


@pytest.mark.parametrize("file", [*FILES, "manifest.json"])
def test_a_link_out_of_the_bundle_is_refused(bundle_folder: Path, file: str) -> None:
    (bundle_folder / file).rename(bundle_folder.parent / file)
    (bundle_folder / file).symlink_to(bundle_folder.parent / file)
    with pytest.raises(MldrError, match=rf"{file} is a link out of the bundle, to .*: put the f"):
        open_bundle(bundle_folder, verify=False)


def test_a_link_within_the_bundle_and_to_it_is_followed(bundle_folder: Path) -> None:
    (bundle_folder / "student.onnx").rename(bundle_folder / "content")
    (bundle_folder / "student.onnx").symlink_to("content")
    (bundle_folder.parent / "current").symlink_to(bundle_folder)
    assert open_bundle(bundle_folder.parent / "current")


def cached(bundle_folder: Path, cache: Path) -> Path:
    """The bundle as the Hub's client keeps it: links of a snapshot to blobs of its repository."""
    repository = cache / "models--me--net"
    snapshot, blobs = repository / "snapshots" / "a1", repository / "blobs"
    for place in (snapshot, blobs):
        place.mkdir(parents=True)
    for number, path in enumerate(sorted(p for p in bundle_folder.rglob("*") if p.is_file())):
        path.rename(blobs / str(number))
        link = snapshot / path.relative_to(bundle_folder)
        link.parent.mkdir(exist_ok=True)
        link.symlink_to(blobs / str(number))
    return snapshot


def test_a_snapshot_of_the_hubs_cache_is_a_bundle(bundle_folder: Path, tmp_path: Path) -> None:
    snapshot = cached(bundle_folder, tmp_path / "cache")
    bundle = open_bundle(snapshot)
    assert bundle and bundle.unlisted == []
    (snapshot / "student.onnx").resolve().write_bytes(b"another")
    with pytest.raises(MldrError, match="was changed after export"):
        open_bundle(snapshot)


@pytest.mark.parametrize("place", ["file", "models--me--other/blobs/file", "blobs/file"])
def test_a_snapshot_that_leads_elsewhere_is_refused(
    bundle_folder: Path, tmp_path: Path, place: str
) -> None:
    cache = tmp_path / "cache"
    link, target = cached(bundle_folder, cache) / "student.onnx", cache / place
    target.parent.mkdir(parents=True, exist_ok=True)
    link.resolve().rename(target)
    link.unlink()
    link.symlink_to(target)
    with pytest.raises(MldrError, match=r"student\.onnx is a link out of the bundle"):
        open_bundle(link.parent, verify=False)


def test_blobs_that_are_themselves_a_link_are_refused(bundle_folder: Path, tmp_path: Path) -> None:
    snapshot = cached(bundle_folder, tmp_path / "cache")
    blobs = snapshot.parents[1] / "blobs"
    blobs.rename(tmp_path / "elsewhere")
    blobs.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(MldrError, match="is a link out of the bundle"):
        open_bundle(snapshot, verify=False)


def test_files_that_the_manifest_does_not_list_are_named(bundle_folder: Path) -> None:
    assert open_bundle(bundle_folder).unlisted == []
    (bundle_folder / "engines").mkdir()
    for name in ("engines/old.plan", "student.onnx.bak", "notes.txt", ".DS_Store"):
        (bundle_folder / name).touch()
    (bundle_folder / "linked").symlink_to(bundle_folder.parent)
    assert open_bundle(bundle_folder).unlisted == ["engines/old.plan", "linked", "notes.txt"]


def _set(*path: str | int, value: object) -> Callable[[dict[str, Any]], None]:
    def change(content: dict[str, Any]) -> None:
        inner: Any = content
        for part in path[:-1]:
            inner = inner[part]
        inner[path[-1]] = value

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_set("labels", value="cat"), "labels: Input should be a valid list"),
        (_set("labels", value=["a", "b", "c"]), "3 labels for an output of"),
        (_set("artifacts", value=[]), "artifacts: List should have at least 1 item"),
        (_set("artifacts", 0, "bytes", value=-1), r"artifacts\.0\.bytes: Input should be greater"),
        (_set("artifacts", 0, "sha256", value="abc"), r"artifacts\.0\.sha256: String should match"),
        (_set("artifacts", 0, "status", value="fine"), r"artifacts\.0\.status: Input should be"),
        (_set("artifacts", 0, "status", value="failed"), "contradicts the parity result"),
        (_set("artifacts", 0, "parity", "samples", value="x"), r"parity\.samples: Input should be"),
        (_set("artifacts", 0, "parity", value=None), r"artifacts\.0\.parity: Input should be"),
        (_set("preprocessing", "std", value=[0, 1, 1]), r"preprocessing\.std\.0: Input should be"),
        (_set("preprocessing", "size", value=[9, 8]), "does not take the preprocessing's"),
        (_set("weights", value="weights.safetensors"), "weights: Input should be"),
        (_set("surplus", value=1), "surplus: Extra inputs are not permitted"),
        (_set("weights", "file", value="../../secret"), "is not a path inside the bundle"),
        (_set("weights", "file", value="/etc/passwd"), "is not a path inside the bundle"),
        (_set("weights", "file", value=""), "is not a path inside the bundle"),
        (_set("weights", "file", value="a\\..\\b"), "is not a path inside the bundle"),
    ],
)
def test_wrong_content(
    bundle_folder: Path, change: Callable[[dict[str, Any]], None], message: str
) -> None:
    edit(bundle_folder, change)
    with pytest.raises(MldrError, match=message) as caught:
        open_bundle(bundle_folder)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("mean", [0.5, 0.4, 0.31]),
        ("std", [0.2, 0.3, 0.25]),
        ("channel_order", "bgr"),
        ("mean", [0.5000001, 0.4, 0.3]),
    ],
)
def test_preprocessing_that_does_not_give_the_golden_inputs(
    bundle_folder: Path, key: str, value: object
) -> None:
    edit(bundle_folder, _set("preprocessing", key, value=value))
    with pytest.raises(MldrError, match="golden inputs do not follow from the manifest's mean"):
        open_bundle(bundle_folder)


@pytest.mark.parametrize(
    ("key", "value"),
    [("crop_fraction", 1.0), ("resize", "squash"), ("interpolation", "bilinear")],
)
def test_geometry_that_does_not_give_the_golden_pixels(
    bundle_folder: Path, key: str, value: object
) -> None:
    edit(bundle_folder, _set("preprocessing", key, value=value))
    with pytest.raises(MldrError, match="golden image 0 is resized or cropped differently"):
        open_bundle(bundle_folder)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("resize", "squash"),
        ("interpolation", "bilinear"),
        ("crop_fraction", 0.8),
        ("channel_order", "bgr"),
    ],
)
def test_what_grey_images_of_the_right_size_would_not_show(
    bundle_folder: Path, key: str, value: object
) -> None:
    plain = {"crop_fraction": 1.0, "mean": (0.5, 0.5, 0.5), "std": (0.25, 0.25, 0.25)}
    spec = SPEC.model_copy(update=plain)
    sources = [np.full((8, 8, 3), 20 * k, np.uint8) for k in range(8)]
    sources[0][2:5, 1:4], sources[1][1, 3:6] = 255, 9
    golden = load_golden(bundle_folder / "golden.npz")
    made = make_golden(
        sources,
        spec,
        lambda _: golden.logits,
        index=golden.index,
        label=golden.label,
        classes=golden.classes,
    )
    save_golden(bundle_folder / "golden.npz", made)
    rehash(bundle_folder, "golden")
    edit(bundle_folder, lambda content: content["preprocessing"].update(plain))
    assert open_bundle(bundle_folder)
    edit(bundle_folder, _set("preprocessing", key, value=value))
    message = "a picture of 24 x 16 pixels is fed differently"
    if key == "crop_fraction":
        message = "golden image 0 is resized or cropped differently"
    with pytest.raises(MldrError, match=message):
        open_bundle(bundle_folder)


@pytest.mark.parametrize("labels", [["dog", "cat"], ["cat", "Dog"]])
def test_labels_that_are_not_the_data_sets(bundle_folder: Path, labels: list[str]) -> None:
    edit(bundle_folder, _set("labels", value=labels))
    with pytest.raises(MldrError, match=r"label \d is '\w+' where the data set had '\w+'"):
        open_bundle(bundle_folder)


def test_golden_file_that_is_no_archive(bundle_folder: Path) -> None:
    (bundle_folder / "golden.npz").write_bytes(b"nothing")
    rehash(bundle_folder, "golden")
    with pytest.raises(MldrError, match=r"golden\.npz is damaged"):
        open_bundle(bundle_folder)


def test_golden_file_with_a_pickle_in_it(bundle_folder: Path) -> None:
    np.savez(bundle_folder / "golden.npz", index=np.array([{"a": 1}], object))
    rehash(bundle_folder, "golden")
    with pytest.raises(MldrError, match=r"golden\.npz is damaged \(Object arrays"):
        open_bundle(bundle_folder)


def test_golden_file_without_an_array(bundle_folder: Path) -> None:
    with np.load(bundle_folder / "golden.npz") as archive:
        kept = {name: archive[name] for name in archive.files if name != "logits"}
    np.savez(bundle_folder / "golden.npz", **kept)
    rehash(bundle_folder, "golden")
    with pytest.raises(MldrError, match=r"golden\.npz is damaged \('logits'\)"):
        open_bundle(bundle_folder)


def test_unverified_opening_looks_at_the_manifest_only(bundle_folder: Path) -> None:
    (bundle_folder / "student.onnx").unlink()
    assert open_bundle(bundle_folder, verify=False)


def test_a_failed_bundle_is_refused_unless_allowed(failed_folder: Path) -> None:
    with pytest.raises(MldrError, match=r"failed its parity gate \(\|dlogit\| 0.25 is above"):
        open_bundle(failed_folder)
    bundle = open_bundle(failed_folder, allow_failed=True)
    assert not bundle
    assert bundle.artifact().status == "failed"


@pytest.mark.parametrize(
    ("images", "hits", "refused"),
    [(200, 100, True), (200, 110, True), (200, 160, False), (4, 2, False)],  # 4 tell nothing
)
def test_a_student_at_chance_is_refused_unless_allowed(
    bundle_folder: Path, images: int, hits: int, refused: bool
) -> None:
    chance = {"images": images, "hits": hits, "largest": images // 2}
    edit(bundle_folder, lambda content: content.update(chance=chance))
    assert open_bundle(bundle_folder, allow_failed=True).manifest.at_chance is refused
    if not refused:
        assert open_bundle(bundle_folder)
        return
    with pytest.raises(MldrError, match=r"no better than chance: top-1 5.*; train it longer"):
        open_bundle(bundle_folder)


def test_a_bundle_from_before_the_mark_is_read(bundle_folder: Path) -> None:
    edit(bundle_folder, lambda content: content.pop("chance"))
    assert open_bundle(bundle_folder) and open_bundle(bundle_folder).manifest.chance is None


def test_one_failed_artifact_does_not_take_the_others_away(bundle_folder: Path) -> None:
    def add_failed(content: dict[str, Any]) -> None:
        failed = json.loads(json.dumps(content["artifacts"][0]))
        failed.update(precision="int8", status="failed")
        failed["parity"]["failures"] = ["too far"]
        content["artifacts"].append(failed)

    edit(bundle_folder, add_failed)
    bundle = open_bundle(bundle_folder)
    assert not bundle
    assert bundle.artifact("fp32").status == "passed"
    with pytest.raises(MldrError, match=r"failed its parity gate \(too far\)"):
        bundle.artifact("int8")


def test_an_artifact_that_is_not_there(bundle_folder: Path) -> None:
    with pytest.raises(MldrError, match="holds no onnx fp16 artifact, only onnx fp32"):
        open_bundle(bundle_folder).artifact("fp16")


def test_bundle_imports_no_heavy_library(bundle_folder: Path) -> None:
    program = (
        "import pathlib, pkgutil, sys, importlib, mldr_deploy.bundle as package\n"
        "for module in pkgutil.iter_modules(package.__path__):\n"
        "    importlib.import_module(f'mldr_deploy.bundle.{module.name}')\n"
        "from mldr_deploy.bundle.reader import open_bundle\n"
        "open_bundle(pathlib.Path(sys.argv[1])).weights()\n"
        "heavy = ['torch', 'torchvision', 'timm', 'onnx', 'onnxruntime', 'sklearn', 'scipy']\n"
        "print([name for name in heavy if name in sys.modules])\n"
    )
    root = Path(sys.modules["mldr_deploy"].__path__[0]).parent
    done = subprocess.run(
        [sys.executable, "-c", program, str(bundle_folder)],
        env={"PYTHONPATH": str(root)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "[]"


def test_islands_of_an_older_bundle_are_read(bundle_folder: Path) -> None:
    older = ["node_Pow_3: the square of 9e+04 does not fit: fp16"]
    edit(bundle_folder, lambda content: content["artifacts"][0].update(islands=older))
    (island,) = open_bundle(bundle_folder).manifest.artifacts[0].islands
    assert island.node == "node_Pow_3"
    assert island.reason == "the square of 9e+04 does not fit: fp16"
