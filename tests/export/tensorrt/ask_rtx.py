"""What the tests ask of the real TensorRT-RTX, run in a process of its own; answers in JSON.

python ask_rtx.py lint FOLDER       what the lint says of each ONNX file, for both targets
python ask_rtx.py verdicts          {"Operator TYPE": taken, refused or unbuilt} of each probe
python ask_rtx.py build FOLDER      parse and build each ONNX file
python ask_rtx.py parse FOLDER      parse each ONNX file
python ask_rtx.py interrupt FILE CALL   build with a progress bar whose CALL raises Ctrl-C
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from mldr_deploy.bundle.engine import Profile
from mldr_deploy.bundle.progress import Silent
from mldr_deploy.errors import MldrError
from mldr_deploy.export.tensorrt.asked_precision import asked_precision
from mldr_deploy.export.tensorrt.engine_config import EngineConfig
from mldr_deploy.export.tensorrt.lint import lint_file
from mldr_deploy.export.tensorrt.parse import parse
from mldr_deploy.export.tensorrt.rtx import build_rtx_plan
from mldr_deploy.runtimes.tensorrt_library import require_rtx

PROFILE = Profile(min=1, opt=1, max=8)
CONFIG = EngineConfig(capabilities=("8.9",))


def lint(folder: str) -> Any:
    answers = {}
    for file in sorted(Path(folder).glob("*.onnx")):
        both = {rtx: lint_file(file, PROFILE, rtx=rtx) for rtx in (False, True)}
        answers[file.stem] = {
            "classic": [str(finding) for finding in both[False].findings],
            "rtx": [str(finding) for finding in both[True].findings],
            "refused": not both[False],
            "head": str(both[False]).splitlines()[0],
            "refusal": both[False].refusal,
        }
    return answers


def verdicts() -> Any:
    import probes

    return {f"{op} {kind}": _verdict(proto) for (op, kind), proto in probes.probes().items()}


def _verdict(proto: Any) -> str:
    library = require_rtx()
    parsed = parse(library, proto.SerializeToString())
    assert parsed is not None
    if not parsed:
        return "refused"
    settings = parsed.builder.create_builder_config()
    settings.num_compute_capabilities = 1
    settings.set_compute_capability(library.trt.ComputeCapability.SM89, 0)
    built = parsed.builder.build_serialized_network(parsed.network, settings)
    return "unbuilt" if built is None else "taken"


def build(folder: str) -> Any:
    answers: dict[str, Any] = {}
    for file in sorted(Path(folder).glob("*.onnx")):
        precision = _precision(file)
        try:
            plan = build_rtx_plan(require_rtx(), file, precision, PROFILE, CONFIG, Silent())
            answers[file.stem] = {"bytes": len(plan.content), "asked": plan.requested.multiplies}
        except MldrError as error:
            answers[file.stem] = {"refusal": str(error)}
    return answers


def parse_all(folder: str) -> Any:
    answers = {}
    for file in sorted(Path(folder).glob("*.onnx")):
        parsed = parse(require_rtx(), file.read_bytes())
        assert parsed is not None
        asked = asked_precision(_precision(file), parsed.network).multiplies if parsed else {}
        answers[file.stem] = {"refusals": [str(r) for r in parsed.refusals], "asked": asked}
    return answers


def _precision(file: Path) -> str:
    """``student.int8-symmetric.onnx`` -> int8."""
    _, _, named = file.stem.partition(".")
    return (named or "fp32").removesuffix("-symmetric")


def interrupt(file: str, call: str) -> Any:
    class Interrupted(Silent):
        def start(self, name: str, total: int | None) -> None:
            self._at("start")

        def advance(self, n: int = 1, **info: float | str) -> None:
            self._at("advance" if n else "inner")

        def finish(self) -> None:
            self._at("finish")

        def _at(self, here: str) -> None:
            if here == call:
                raise KeyboardInterrupt

    try:
        build_rtx_plan(require_rtx(), Path(file), "fp32", PROFILE, CONFIG, Interrupted())
    except KeyboardInterrupt:
        return "stopped"
    return "built"


COMMANDS = {
    "lint": lint,
    "verdicts": verdicts,
    "build": build,
    "parse": parse_all,
    "interrupt": interrupt,
}
if __name__ == "__main__":
    command, *arguments = sys.argv[1:]
    print(json.dumps(COMMANDS[command](*arguments)))  # type: ignore[operator]
