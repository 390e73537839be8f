"""``MODEL_CARD.md``: what a bundle is, for people; every word of it follows from the manifest.

Export writes it into the bundle and lists its hash. Engines that are added later, each for one
machine, stay out of it, so that adding one changes nothing that is already there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from .chance import tells_top5
from .data_report import data_report_of
from .engine import FORMAT as ENGINE
from .manifest import Artifact, Manifest
from .shipping import recommended
from .wording import counted

FILE = "MODEL_CARD.md"
_MOST_LABELS = 30
_VERSIONS = ("mldr-deploy", "python", "torch", "timm", "onnx", "onnxruntime")


def model_card(manifest: Manifest, use: Callable[[Manifest], Iterator[str]] | None = None) -> str:
    """The card in Markdown; ``use`` gives the lines of its section on how to use the student."""
    parts = (
        _head(manifest),
        _accuracy(manifest),
        _quality(manifest),
        _teaching(manifest),
        (use or _use)(manifest),
        _limits(manifest),
        _origin(manifest),
    )
    return "\n".join(line for part in parts for line in part).rstrip() + "\n"


def student_name(manifest: Manifest) -> str:
    """The student's architecture."""
    return str(manifest.model.get("name", "student"))


def teacher_of(manifest: Manifest) -> dict[str, Any]:
    """What training recorded of the teacher; empty where there was none."""
    teacher = _training(manifest).get("teacher")
    if isinstance(teacher, dict):
        return teacher
    recipe = _recipe(manifest)
    named = recipe.get("teacher")
    return {"name": named["name"]} if isinstance(named, dict) and "name" in named else {}


def method_of(manifest: Manifest) -> str | None:
    """How the student was taught; None where nobody recorded it."""
    method = _recipe(manifest).get("method")
    return str(method["name"]) if isinstance(method, dict) and "name" in method else None


def _head(manifest: Manifest) -> Iterator[str]:
    data = manifest.data.get("source", "its data set")
    yield f"# {student_name(manifest)} for {data}"
    yield ""
    side = " x ".join(str(n) for n in manifest.preprocessing.size)
    teacher, method = teacher_of(manifest), method_of(manifest)
    lesson = ""
    if teacher and method not in (None, "scratch"):
        lesson = f" It learned from {teacher['name']} by {method}."
    yield (
        f"An image classifier with {len(manifest.labels)} classes: {manifest.family}, "
        f"{manifest.parameters / 1e6:.2f} M parameters, images of {side} pixels.{lesson}"
    )
    yield ""
    names = ", ".join(manifest.labels[:_MOST_LABELS])
    unnamed = len(manifest.labels) - _MOST_LABELS
    yield f"Classes: {names}{f' and {unnamed} more (manifest.json)' if unnamed > 0 else ''}."
    yield ""


def _accuracy(manifest: Manifest) -> Iterator[str]:
    artifacts = [a for a in manifest.artifacts if a.format != ENGINE]
    reference = manifest.artifacts[0].parity
    top5 = tells_top5(len(manifest.labels))
    yield "## How good it is"
    yield ""
    advice = recommended(manifest)
    if manifest.warning is not None:
        yield f"**Do not ship it: {manifest.warning}.**"
        yield ""
    elif advice is not None:
        yield f"On the machine that exported it: **{advice.headline}**: {advice.reason}."
        yield ""
    yield from (text for doubt in manifest.doubts for text in (f"**{_cell(doubt)}.**", ""))
    scored = f", top-5 {reference.reference.top5:.2f} %" if top5 else ""
    yield (
        f"On {reference.samples} test images that training never saw. The PyTorch student: top-1 "
        f"{reference.reference.top1:.2f} %{scored}. Each file was "
        "held against it, image by image:"
    )
    yield ""
    heads = ["file", "precision", "MB", "top-1 %", "top-5 %", "drop", "agreement %", "parity"]
    if not top5:
        heads.remove("top-5 %")
    timed = next((a.latency for a in artifacts if a.latency is not None), None)
    if timed is not None:
        heads.append("ms, batch 1")
    yield from _table(heads, [_row(artifact, timed is not None, top5) for artifact in artifacts])
    if timed is not None:
        yield f"Times on {timed.machine}, {counted(timed.threads, 'thread')}, medians."
        yield ""
    for artifact in artifacts:
        for failure in artifact.parity.failures:
            yield f"- {artifact.file} FAILED its gate, do not ship it: {failure}"
        if (doubt := artifact.parity.doubt) is not None:
            yield f"- {artifact.file}: {doubt}"
        if artifact.emulated:
            yield f"- {artifact.file}: proven by arithmetic that emulates {artifact.precision}"
        if artifact.caveat:
            yield f"- {artifact.file}: {artifact.caveat}"
    for reason in manifest.unavailable:
        yield f"- not made: {reason}"
    yield ""


def _row(artifact: Artifact, timed: bool, top5: bool) -> list[str]:
    parity = artifact.parity
    cells = [
        artifact.file,
        artifact.precision,
        f"{artifact.size / 1e6:.2f}",
        f"{parity.artifact.top1:.2f}",
        *([f"{parity.artifact.top5:.2f}"] if top5 else []),
        f"{parity.drop:+.2f}",
        f"{parity.agreement:.2f}",
        parity.verdict if parity else "FAILED",
    ]
    if timed:
        cells.append(f"{artifact.latency.ms_single:.3f}" if artifact.latency else "")
    return cells


def _quality(manifest: Manifest) -> Iterator[str]:
    """Class by class, of the PyTorch student; nothing for a bundle from before it."""
    quality = manifest.quality
    if quality is None:
        return
    yield "## Where it is weak, and how sure it is"
    yield ""
    yield from (f"- {_cell(line)}" for line in quality.lines())
    yield ""
    rows = [
        [
            accuracy.label,
            str(accuracy.images),
            f"{accuracy.top1:.1f}",
            f"{accuracy.low:.1f} to {accuracy.high:.1f}",
        ]
        for accuracy in quality.weakest
    ]
    yield from _table(("weakest classes", "test images", "top-1 %", "95 % interval"), rows)
    pairs = [[pair.label, pair.said, str(pair.images)] for pair in quality.confused]
    if pairs:
        yield from _table(("label", "called", "images"), pairs)
    for entry in manifest.quality_files:
        if entry.file.endswith(".png"):
            yield f"![{entry.file.removesuffix('.png')}]({entry.file})"
            yield ""
        else:
            yield f"Every class and pair: `{entry.file}`."
            yield ""


def _teaching(manifest: Manifest) -> Iterator[str]:
    recipe, teacher = _recipe(manifest), teacher_of(manifest)
    yield "## How it was taught"
    yield ""
    rows = [("method", method_of(manifest))]
    if teacher:
        size = teacher.get("parameters")
        described = f"{teacher['name']}{f', {size / 1e6:.2f} M parameters' if size else ''}"
        rows.append(("teacher", described))
        rows.append(("teacher, validation top-1", _percent(teacher.get("metrics", {}))))
    rows.append(("student, validation top-1", _percent(manifest.metrics)))
    train, optimizer = recipe.get("train", {}), recipe.get("optimizer", {})
    rows.append(("epochs", train.get("epochs")))
    if optimizer:
        rows.append(("optimiser", f"{optimizer.get('name')}, learning rate {optimizer.get('lr')}"))
    rows.append(("batch", manifest.data.get("batch_size")))
    rows.append(("seed", train.get("seed")))
    rows.append(("data", manifest.data.get("source")))
    rows.append(("data fingerprint", manifest.data_fingerprint))
    yield from _facts(rows)


def _use(manifest: Manifest) -> Iterator[str]:
    spec = manifest.preprocessing
    first = manifest.artifacts[0].file
    yield "## Using it"
    yield ""
    yield "    mldr-deploy demo BUNDLE      # look at it in a browser"
    yield "    mldr-deploy serve BUNDLE     # answer over HTTP"
    yield "    mldr-deploy check BUNDLE     # prove it again"
    yield "    python infer.py PICTURE      # answer with numpy, pillow and onnxruntime alone"
    yield ""
    shape = [*map(str, manifest.input.shape)]
    yield (
        f"Any ONNX runtime takes `{first}`: input `{manifest.input.name}` float32 "
        f"[{', '.join(shape)}], output `{manifest.output.name}`, one logit a class in the order of "
        f"the labels; parity was proven up to batch {manifest.max_batch}. An image becomes the "
        f"input by: upright RGB over white, resize ({spec.resize}, {spec.interpolation}), centre "
        f"crop {spec.crop_fraction:g} to {spec.size[0]} x {spec.size[1]}, divided by 255, minus "
        f"mean {_numbers(spec.mean)}, over standard deviation {_numbers(spec.std)}, channels in "
        f"the order {spec.channel_order.upper()}. `preprocessing` in `manifest.json` states every "
        "rounding; another one can change the answer. Probabilities are the softmax of the logits "
        f"over {manifest.temperature:.6g}."
    )
    yield ""
    if manifest.timm_files:
        yield (
            '`timm.create_model("local-dir:BUNDLE/timm", pretrained=True)` gives the PyTorch '
            "student bit for bit; that folder can be uploaded to the Hugging Face Hub as it is."
        )
        yield ""
    elif manifest.timm_refusal is not None:
        yield f"No folder for timm: {_cell(manifest.timm_refusal)}."
        yield ""


def _limits(manifest: Manifest) -> Iterator[str]:
    data = manifest.data.get("source", "the data set named above")
    yield "## What it is not"
    yield ""
    yield (
        f"- It knows its {len(manifest.labels)} classes and nothing else: to any picture it names "
        "one of them."
    )
    if manifest.quality is not None and manifest.quality.fitted_on:
        yield (
            "- Its probabilities are calibrated by one temperature, on validation images that also "
            "chose the weights; on pictures of another kind they are not."
        )
    else:
        yield "- Its probabilities are a softmax of the logits; nobody calibrated them."
    for line in data_report_of(manifest).lines():
        yield f"- The data: {_cell(line)}."
    yield (
        f"- The accuracies are of the test split of {data}. Other cameras, other people, other "
        "places: measure again. Fairness and robustness were not measured."
    )
    yield ""


def _origin(manifest: Manifest) -> Iterator[str]:
    export, training = manifest.provenance.get("export", {}), _training(manifest)
    yield "## Where it comes from"
    yield ""
    versions = {**training.get("versions", {}), **export.get("versions", {})}
    rows = [
        ("exported", export.get("time")),
        ("commit", training.get("commit")),
        ("versions", ", ".join(f"{v} {versions[v]}" for v in _VERSIONS if v in versions) or None),
        ("weights SHA-256", manifest.weights.sha256),
    ]
    yield from _facts(rows)
    yield (
        "`manifest.json` holds everything above and more, with the SHA-256 of every file, this one "
        "too: notes of your own belong into another file. Engines that were added for one machine "
        "are listed there alone."
    )


def _facts(rows: Sequence[tuple[str, object]]) -> Iterator[str]:
    """Names and values; what nobody recorded is left out."""
    recorded = [[name, str(value)] for name, value in rows if value is not None]
    yield from _table(("fact", "value"), recorded)


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    yield _line(heads)
    yield _line(["---"] * len(heads))
    yield from (_line(row) for row in rows)
    yield ""


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(_cell(cell).replace('|', '/') for cell in cells)} |"


def _cell(text: str) -> str:
    return " ".join(text.splitlines())


def _percent(metrics: dict[str, Any]) -> str | None:
    top1 = metrics.get("val_top1")
    return None if top1 is None else f"{top1:.2f} %"


def _numbers(values: Sequence[float]) -> str:
    return f"[{', '.join(f'{value:.6g}' for value in values)}]"


def _training(manifest: Manifest) -> dict[str, Any]:
    training = manifest.provenance.get("training", {})
    return training if isinstance(training, dict) else {}


def _recipe(manifest: Manifest) -> dict[str, Any]:
    recipe = _training(manifest).get("recipe", {})
    return recipe if isinstance(recipe, dict) else {}
