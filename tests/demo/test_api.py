"""The named endpoints, called as a program would; and what a program must not be able to do."""

from __future__ import annotations

import csv
import json
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mldr_deploy.bundle.reader import Bundle

pytest.importorskip("gradio_client")


@pytest.fixture(scope="module")
def client(live: Any) -> Any:
    from gradio_client import Client

    return Client(live.url, verbose=False)


@pytest.fixture
def image(bundle: Bundle, tmp_path: Path, encode: Callable[..., bytes]) -> Path:
    path = tmp_path / "seven.png"
    path.write_bytes(encode(bundle.golden.sources[7]))
    return path


def test_the_endpoints_are_the_documented_ones(client: Any) -> None:
    named = client.view_api(return_format="dict", print_info=False)["named_endpoints"]
    assert {*named} == {"/classify", "/batch", "/proof", "/measure", "/about"}
    docs = (Path(__file__).resolve().parents[2] / "docs" / "demo.md").read_text()
    assert all(f"`{name}`" in docs for name in named)


def test_classify(client: Any, image: Path, bundle: Bundle) -> None:
    from gradio_client import handle_file

    for artifact in ("fp32", "int8"):
        answer = client.predict(handle_file(image), artifact, api_name="/classify")
        top = answer["student"]["predictions"]
        assert (answer["student"]["name"], top[0]["label"], len(top)) == (artifact, "7", 5)
        assert answer["label"] == "7" and answer["teacher"] is None and answer["agree"] is None
        assert sum(one["probability"] for one in top) <= 1.0001
        assert all(value >= 0 for value in answer["milliseconds"].values())


def test_a_picture_is_known_by_its_content(
    client: Any, bundle: Bundle, tmp_path: Path, encode: Callable[..., bytes]
) -> None:
    """A turned TIFF without a suffix: Gradio passes it on as it is, and it is turned once."""
    import numpy as np
    from gradio_client import handle_file
    from PIL import Image

    exif = Image.Exif()
    exif[0x0112] = 6
    path = tmp_path / "scan"
    Image.fromarray(np.rot90(bundle.golden.sources[7])).save(path, "TIFF", exif=exif)
    answer = client.predict(handle_file(path), "fp32", api_name="/classify")
    assert answer["label"] == "7" and answer["student"]["predictions"][0]["label"] == "7"


def test_classify_refuses_in_words(client: Any, tmp_path: Path) -> None:
    from gradio_client import handle_file

    garbage = tmp_path / "garbage.png"
    garbage.write_bytes(b"not an image at all")
    with pytest.raises(Exception, match="not an image in a format taken here: JPEG, PNG"):
        client.predict(handle_file(garbage), "fp32", api_name="/classify")
    with pytest.raises(Exception, match="no image was sent"):
        client.predict(None, "fp32", api_name="/classify")


def test_batch(client: Any, bundle: Bundle, packed: Any, encode: Callable[..., bytes]) -> None:
    from gradio_client import handle_file

    golden = bundle.golden
    files = {f"{golden.label[k]}/{k}.png": encode(golden.sources[k]) for k in range(10)}
    archive = packed({**files, "3/broken.png": b"x", "../9.png": b"x"})
    counts, path = client.predict([handle_file(archive)], "fp32", api_name="/batch")
    assert (counts["images"], counts["answered"], counts["labelled"]) == (12, 10, 10)
    rows = [*csv.DictReader(Path(path).read_text().splitlines())]
    right = sum(row["says"] == row["label"] for row in rows if row["says"])
    assert counts["top1"] == pytest.approx(10 * right) and right >= 8
    assert "called like pictures and are none" in rows[10]["problem"]
    assert "out of the archive" in rows[11]["problem"]
    with pytest.raises(Exception, match="no image in the upload"):
        client.predict([handle_file(packed({}))], "fp32", api_name="/batch")


def test_proof_and_about(client: Any, bundle: Bundle) -> None:
    found = client.predict(api_name="/proof")
    assert [one["status"] for one in found] == ["passed", "passed", "failed"]
    assert found[2]["needed"]["max_drop"] == pytest.approx(4.2)
    assert client.predict(api_name="/about").startswith("# centres")


def test_measure(client: Any) -> None:
    text = client.predict(api_name="/measure")
    assert "student.onnx" in text and "ms" in text and "90.00" in text


def request(url: str, body: Any = None) -> tuple[int, str]:
    data = None if body is None else json.dumps(body).encode()
    asked = urllib.request.Request(url, data, {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(asked, timeout=60) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def test_files_of_this_machine_are_out_of_reach(live: Any, shown: Path) -> None:
    for path in ("/etc/passwd", str(shown / "manifest.json")):
        code, said = request(f"{live.url}/gradio_api/file={path}")
        assert code in (403, 404) and "root:" not in said, path
    file = {"path": "/etc/passwd", "meta": {"_type": "gradio.FileData"}}
    _, event = request(f"{live.url}/gradio_api/call/classify", {"data": [file, "fp32"]})
    _, said = request(f"{live.url}/gradio_api/call/classify/{json.loads(event)['event_id']}")
    assert "event: error" in said and "root:" not in said


def test_an_upload_above_the_limit_is_refused_on_its_way(live: Any, tmp_path: Path) -> None:
    boundary = "xxxx"
    head = f'--{boundary}\r\nContent-Disposition: form-data; name="files"; filename="a.png"\r\n\r\n'
    body = head.encode() + bytes(17 << 20) + f"\r\n--{boundary}--\r\n".encode()
    asked = urllib.request.Request(
        f"{live.url}/gradio_api/upload",
        body,
        {"Content-Type": f"multipart/form-data; boundary={boundary}"},
    )
    with pytest.raises((urllib.error.HTTPError, urllib.error.URLError)) as refused:
        urllib.request.urlopen(asked, timeout=60)
    if isinstance(refused.value, urllib.error.HTTPError):
        assert refused.value.code == 413


def test_the_page_names_nothing_to_fetch_from_elsewhere(live: Any) -> None:
    import re

    _, page = request(f"{live.url}/")
    fetched = re.findall(r'<(?:script|link|img|iframe)[^>]+(?:src|href)="(https?:[^"]+)', page)
    assert [url for url in fetched if not url.startswith(live.url)] == []


def test_the_demo_has_no_torch_in_it(live: Any, client: Any) -> None:
    assert "onnxruntime" in live.maps() and "libtorch" not in live.maps()


@pytest.mark.slow
def test_200_requests_do_not_grow_the_process(live: Any, client: Any, image: Path) -> None:
    from gradio_client import handle_file

    def ask(times: int) -> None:
        for k in range(times):
            client.predict(handle_file(image), ("fp32", "int8")[k % 2], api_name="/classify")

    ask(50)  # caches, threads and arenas settle
    before = live.memory()
    ask(200)
    grown = live.memory() - before
    assert grown < 24 << 20, f"{grown / 2**20:.1f} MiB more after 200 requests"
