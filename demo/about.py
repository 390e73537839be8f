"""The head of the page and the About tab."""

from __future__ import annotations

from html import escape

from ..bundle.card import method_of, model_card, student_name, teacher_of
from ..bundle.manifest import Manifest
from ..bundle.reader import Bundle
from .html import chip, tiles
from .loaded_teacher import LoadedTeacher

TOGGLE = (
    '<button type="button" class="md-theme" aria-label="Switch between light and dark colours">'
    '<span aria-hidden="true">◐</span></button>'
)


def header(bundle: Bundle, teacher: LoadedTeacher | None) -> str:
    """Name, origin and state of the bundle, on every tab."""
    manifest = bundle.manifest
    record, method = teacher_of(manifest), method_of(manifest)
    name = teacher.name if teacher is not None else record.get("name")
    origin = (
        f"learned from <b>{escape(str(name))}</b> by {escape(method)}" if name and method else ""
    )
    failed = [a for a in manifest.artifacts if a.status == "failed"]
    total = len(manifest.artifacts)
    if failed:
        state = chip(f"parity FAILED: {len(failed)} of {total}", "bad")
    else:
        state = chip(f"parity passed: {total} of {total}", "good")
    if manifest.doubts:
        state += chip("lesson in doubt: see Proof", "warn")
    source = str(manifest.data.get("source", ""))
    return (
        f'<div class="md-head"><div><h1>{escape(student_name(manifest))}</h1>'
        f'<p class="md-dim">{origin}{" on " if origin else "of "}{escape(source)}</p></div>'
        f'<div class="md-state">{state}{TOGGLE}</div></div>'
    )


def summary(manifest: Manifest, teacher: LoadedTeacher | None) -> str:
    """Large figures: what the student is beside its teacher."""
    parity, first = manifest.artifacts[0].parity, manifest.artifacts[0]
    smallest = min(manifest.artifacts, key=lambda a: a.size)
    items = [
        (f"top-1 on {parity.samples} test images", f"{parity.reference.top1:.2f} %"),
        ("classes", str(len(manifest.labels))),
        ("parameters of the student", f"{manifest.parameters / 1e6:.2f} M"),
    ]
    size = teacher.record.parameters if teacher else teacher_of(manifest).get("parameters")
    if size:
        items.append(("parameters of the teacher", f"{size / 1e6:.2f} M"))
        items.append(("of the teacher's size", f"{100 * manifest.parameters / size:.0f} %"))
    items.append((first.file, f"{first.size / 1e6:.2f} MB"))
    if smallest is not first:
        items.append((smallest.file, f"{smallest.size / 1e6:.2f} MB"))
    return tiles(items)


def card(bundle: Bundle) -> str:
    """The model card in Markdown: the bundle's file, or made now for a bundle without one."""
    listed = bundle.manifest.card
    if listed is not None:
        return bundle.file(listed).read_text(encoding="utf-8")
    return model_card(bundle.manifest)


def card_without_pictures(bundle: Bundle) -> str:
    """The same for the page, which shows the bundle's pictures in the Proof tab."""
    return "\n".join(line for line in card(bundle).splitlines() if not line.startswith("!["))
