"""Starting, refusing to start, and what is not there."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from PIL import Image

from mldr_deploy.bundle.atomic import sha256
from mldr_deploy.bundle.manifest import FILE
from mldr_deploy.bundle.reader import Bundle, open_bundle
from mldr_deploy.bundle.sealed import write_sealed
from mldr_deploy.cli import main
from mldr_deploy.demo import launch, loaded_teacher
from mldr_deploy.demo.latency_page import found_report, latency_page, measured_here
from mldr_deploy.demo.loaded_teacher import load_teacher, trained_folder
from mldr_deploy.errors import MldrError, Unavailable
from mldr_deploy.profiler.report import Report
from mldr_deploy.profiler.report_files import write_report
from mldr_deploy.runtimes.runtime import RuntimeOptions

ROOT = Path(__file__).resolve().parents[2]


def refused(*words: str) -> tuple[int, str]:
    """(exit code, the one line) of a demo that must not start."""
    result = CliRunner().invoke(main, ["demo", *words, "--quiet", "--runtime", "onnxruntime-cpu"])
    assert result.stdout == "" and result.stderr.count("\n") == 1, result.output
    return result.exit_code, result.stderr


def test_what_is_no_bundle_is_one_line(tmp_path: Path) -> None:
    code, said = refused(str(tmp_path))
    assert code == 1 and "is not a bundle (manifest.json is missing)" in said


def test_a_corrupted_bundle_is_one_line(copied: Path) -> None:
    data = bytearray((copied / "student.onnx").read_bytes())
    data[len(data) // 2] ^= 1
    (copied / "student.onnx").write_bytes(data)
    code, said = refused(str(copied))
    assert code == 1 and "student.onnx was changed after export" in said


def test_a_port_that_is_taken_is_one_line(shown: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        code, said = refused(str(shown), "--port", str(other.getsockname()[1]))
    assert code == 1 and "is taken by another program: choose another --port" in said


def test_a_teacher_that_is_none_is_one_line(shown: Path, tmp_path: Path) -> None:
    code, said = refused(str(shown), "--port", "0", "--teacher", str(tmp_path))
    assert code == 1 and f"--teacher {tmp_path} holds no trained teacher" in said
    assert "give the --out of distill-and-export" in said
    code, said = refused(str(shown), "--port", "0", "--teacher", str(tmp_path / "no"))
    assert code == 1 and "there is no such folder" in said


def test_an_unknown_runtime_is_one_line(shown: Path) -> None:
    result = CliRunner().invoke(main, ["demo", str(shown), "--runtime", "tvm"])
    assert result.exit_code == 1 and "unknown runtime 'tvm'; choose auto" in result.stderr


def test_a_missing_gradio_is_exit_code_2(shown: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launch, "find_spec", lambda name: None)
    code, said = refused(str(shown))
    assert code == 2 and "the demo needs the package gradio: pip install 'gradio>=6'" in said


def test_a_teacher_without_torch_is_exit_code_2(
    bundle: Bundle, taught: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loaded_teacher, "find_spec", lambda name: None)
    with pytest.raises(Unavailable, match="--teacher needs torch, the student does not"):
        load_teacher(taught, bundle, RuntimeOptions(threads=1))


@pytest.fixture(scope="session")
def taught(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run's folder with an untrained teacher in it."""
    import torch

    from mldr_deploy.bundle.preprocess import Preprocessing
    from mldr_deploy.bundle.trained import TrainedModel, save_trained
    from mldr_deploy.models.architecture_config import ModelConfig
    from mldr_deploy.models.model_registry import create_model

    torch.manual_seed(0)
    config = ModelConfig(name="test_resnet")
    model = create_model(config, num_classes=10, image_size=48)
    record = TrainedModel(
        model=config.model_dump(mode="json"),
        num_classes=10,
        image_size=48,
        classes=[*"0123456789"],
        preprocessing=Preprocessing(size=(48, 48), mean=(0.1, 0.2, 0.3), std=(0.5, 0.6, 0.7)),
        family="cnn",
        parameters=sum(p.numel() for p in model.parameters()),
        data={"source": "digits"},
        data_fingerprint="f" * 64,
    )
    run = tmp_path_factory.mktemp("taught") / "run"
    (run / "teacher").mkdir(parents=True)
    tensors = {name: tensor.numpy() for name, tensor in model.state_dict().items()}
    save_trained(run / "teacher" / "trained", record, tensors)
    return run


def test_a_teacher_answers_as_its_model_by_its_own_preprocessing(
    taught: Path, bundle: Bundle, student: Any
) -> None:
    import torch

    from mldr_deploy.bundle.preprocess import preprocess
    from mldr_deploy.bundle.trained import load_trained
    from mldr_deploy.demo.look import Viewer
    from mldr_deploy.models.rebuild import rebuild

    loaded = load_teacher(taught, bundle, RuntimeOptions(threads=1))
    image = Image.fromarray(bundle.golden.sources[4])
    answer = Viewer(student, loaded).look(image, "fp32", 0.0).teacher
    assert answer is not None and answer.name == "test_resnet"
    record, tensors = load_trained(taught / "teacher" / "trained")
    model = rebuild(record.model, 10, 48, tensors, "here")
    with torch.inference_mode():
        inputs = torch.from_numpy(preprocess([image], record.preprocessing))
        expected = model(inputs).softmax(1)[0].numpy()
    assert answer.shares == pytest.approx(expected, abs=1e-5)


def test_the_teacher_is_found_in_a_run_a_stage_and_a_model_folder(taught: Path) -> None:
    inside = taught / "teacher" / "trained"
    assert {trained_folder(p).resolve() for p in (taught, taught / "teacher", inside)} == {inside}


def test_a_teacher_of_other_classes_is_refused(taught: Path, copied: Path) -> None:
    content = json.loads((copied / FILE).read_text())
    content["labels"][3] = "three"
    write_sealed(copied / FILE, content)
    bundle = open_bundle(copied, verify=False)
    with pytest.raises(MldrError, match=r"class 3 is '3' where the bundle has 'three'"):
        load_teacher(taught, bundle, RuntimeOptions(threads=1))


@pytest.fixture(scope="module")
def report(bundle: Bundle) -> Report:
    from mldr_deploy.bundle.progress import Silent

    return measured_here(bundle, "onnxruntime-cpu", 1, Silent())


def test_without_a_report_the_tab_says_how_to_get_one(bundle: Bundle) -> None:
    page = latency_page(None, bundle)
    assert "No latency report of this bundle yet" in page and "mldr-deploy profile bundle" in page


def test_what_is_measured_here_is_shown_with_the_accuracy(report: Report, bundle: Bundle) -> None:
    page = latency_page(report, bundle)
    assert page.count("<svg") >= 4
    assert "student.int8.onnx" in page and "89.50" in page
    assert "student.fp16.onnx failed its parity gate" in page  # not run, and said so
    assert {entry.file for entry in report.entries} == {"student.onnx", "student.int8.onnx"}


def test_a_report_is_found_beside_the_bundle_and_only_if_it_is_its_own(
    report: Report, copied: Path
) -> None:
    write_report(report, copied.parent / "latency")
    bundle = open_bundle(copied)
    assert report.subject.manifest_sha256 == sha256(copied / FILE)
    assert found_report(bundle, None) == report
    with (copied / FILE).open("a") as file:
        file.write("\n")
    assert found_report(bundle, None) is None
    with pytest.raises(MldrError, match="is of another bundle"):
        found_report(bundle, copied.parent / "latency")
    with pytest.raises(MldrError, match="is missing"):
        found_report(bundle, copied.parent / "nowhere")


def test_the_folder_holds_no_files_that_gradio_writes_beside_components() -> None:
    assert [*(ROOT / "demo").rglob("*.pyi")] == []


def test_nothing_of_a_bundle_that_failed_is_run_and_every_answer_says_why(all_failed: Path) -> None:
    from mldr_deploy.demo.demo_config import DemoConfig
    from mldr_deploy.demo.image_classifier import ImageClassifier
    from mldr_deploy.demo.loaded_student import LoadedStudent
    from mldr_deploy.demo.look import Viewer

    bundle = Bundle(all_failed, open_bundle(all_failed, allow_failed=True).manifest)
    with LoadedStudent(bundle, "onnxruntime-cpu", RuntimeOptions(threads=1)) as student:
        assert student.forms == {} and len(student.left_out) == 3
        image = all_failed / "picture.png"
        Image.fromarray(bundle.golden.sources[0]).save(image)
        page, _ = ImageClassifier(Viewer(student, None), DemoConfig()).picture(str(image), None)
    assert "student.onnx failed its parity gate" in page and 'role="alert"' in page


PROXIES = [
    {"all_proxy": "socks5://127.0.0.1:9"},
    {"ALL_PROXY": "socks5h://user:word@127.0.0.1:9"},
    {"all_proxy": "socks4://127.0.0.1:9"},
    {"http_proxy": "http://127.0.0.1:9"},
    {"HTTP_PROXY": "127.0.0.1:9", "https_proxy": "127.0.0.1:9"},
    {"HTTPS_PROXY": "socks5://[::1]:9", "no_proxy": "example.org"},
    {"https_proxy": "ftp://127.0.0.1:9"},
    {"All_Proxy": "://nonsense", "http_proxy": "http://host:port"},
    {"http_proxy": "http://127.0.0.1:9", "no_proxy": "[::1,*bad*,http://["},
    {"all_proxy": "socks5://127.0.0.1:9", "NO_PROXY": "*"},
]


@pytest.mark.parametrize("proxies", PROXIES, ids=lambda proxies: " ".join(proxies.values()))
def test_no_proxy_of_the_environment_concerns_the_page(
    proxies: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Gradio makes such a client when it is imported, and asks this machine by it."""
    import httpx

    from mldr_deploy.demo.demo_page import offline

    for name in ("GRADIO_ANALYTICS_ENABLED", "GRADIO_TEMP_DIR", "HF_HUB_OFFLINE"):
        monkeypatch.setenv(name, "")  # put back afterwards
    monkeypatch.setenv("GRADIO_SSR_MODE", "")
    for name, value in proxies.items():
        monkeypatch.setenv(name, value)
    offline(tmp_path)
    with httpx.Client() as client:
        assert client._mounts == {}


@pytest.mark.slow
@pytest.mark.parametrize("proxies", PROXIES[:1] + PROXIES[7:9], ids=str)
def test_the_page_starts_whatever_proxies_the_environment_names(
    proxies: dict[str, str], all_failed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in proxies.items():
        monkeypatch.setenv(name, value)
    test_the_page_of_a_bundle_that_failed_is_there(all_failed)


@pytest.mark.slow
def test_the_page_of_a_bundle_that_failed_is_there(all_failed: Path) -> None:
    code = (
        "import sys\n"
        "from pathlib import Path\n"
        "from mldr_deploy.demo import launch\n"
        "def run(app, listening, grace): print('PAGE', listening.getsockname()[0])\n"
        "launch.run_app = run\n"
        "from mldr_deploy.cli import main\n"
        "main()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, "demo", str(all_failed), "--port", "0"],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"PYTHONPATH": str(ROOT / ".src"), "PATH": ""},
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "PAGE 127.0.0.1\n"
    assert done.stderr.count("is left out: ") == 3 and "failed its parity gate" in done.stderr


def test_a_file_of_another_place_is_not_taken_as_an_upload(tmp_path: Path) -> None:
    from mldr_deploy.demo.folder_upload import received
    from mldr_deploy.serve.request_refusal import RequestRefusal

    home = tmp_path / "uploads"
    home.mkdir()
    good = [{"name": "7/a.png", "path": str(home / "a.png")}, {"name": "7/b.png", "path": ""}]
    assert received(good, home) == [("7/a.png", str(home / "a.png")), ("7/b.png", None)]
    for path in ("/etc/passwd", str(home / ".." / "x.png")):
        with pytest.raises(RequestRefusal, match="was not uploaded here"):
            received([{"name": "x.png", "path": path}], home)
