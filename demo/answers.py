"""What the Classify tab shows of one look: answers, agreement, stages, the other artifacts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from html import escape

import numpy as np

from .html import cell, milliseconds, notice, percent, picture, table
from .look import CALLS, Answer, Look

_STAGES = ("decode", "preprocess", "compute")
_NO_TEACHER = "No teacher is loaded: start with --teacher RUN to see it beside the student."


def answers(look: Look) -> str:
    """The whole answer to an image."""
    return "".join(_parts(look))


def _parts(look: Look) -> Iterator[str]:
    yield _verdict(look)
    yield f'<div class="md-answers {"md-two" if look.teacher else ""}">'
    yield _card("Student", look.student, look)
    if look.teacher is not None:
        yield _card("Teacher", look.teacher, look)
    yield "</div>"
    if look.teacher is None:
        yield f'<p class="md-dim">{_NO_TEACHER}</p>'
    yield _stages(look)


def _verdict(look: Look) -> str:
    """The student's label, whether the teacher agrees, and whether the label is right."""
    first = look.student.top[0]
    sentence = f"<b>{escape(first.label)}</b>, says the student"
    if look.teacher is not None:
        label = escape(look.teacher.top[0].label)
        agreement = "and the teacher agrees" if look.agree else f"the teacher says {label}"
        mark = "good" if look.agree else "warn"
        sentence += f', <span class="md-{mark}-ink">{agreement}</span>'
    truth = ""
    if look.truth is not None:
        right = look.truth == first.label
        word, mark = ("right", "good") if right else ("wrong", "bad")
        truth = f'<span class="md-chip md-{mark}">{word}: it is {escape(look.truth)}</span>'
    size = " x ".join(map(str, look.pixels.shape[:2]))
    thumbnail = picture(look.pixels, f"The image as the network sees it, {size} pixels", 72)
    return (
        f'<div class="md-verdict" role="status">{thumbnail}<div>'
        f'<p class="md-said">{sentence}.</p>{truth}'
        f'<p class="md-dim">The small picture is all that the network sees: {size} pixels.</p>'
        "</div></div>"
    )


def _card(role: str, answer: Answer, look: Look) -> str:
    rows = "".join(_bar(p.label, p.probability, p.label == look.truth) for p in answer.top)
    remainder = percent(max(1 - sum(p.probability for p in answer.top), 0.0))
    count = len(answer.shares) - len(answer.top)
    summary = f"{count} more classes: {remainder} together. " if count else ""
    return (
        f'<section class="md-card" aria-label="{role}: {escape(answer.name)}">'
        f'<header><span class="md-role">{role}</span> <b>{escape(answer.name)}</b>'
        f'<span class="md-time">{milliseconds(answer.seconds)}</span></header>'
        f'<ol class="md-bars">{rows}</ol>'
        f'<p class="md-dim">{escape(summary)}{escape(answer.detail)}.</p>'
        "</section>"
    )


def _bar(label: str, probability: float, true: bool) -> str:
    width = f"{100 * probability:.2f}%"
    mark = " md-true" if true else ""
    return (
        f'<li class="md-bar{mark}"><span class="md-label">{escape(label)}</span>'
        f'<span class="md-number">{percent(probability)}</span>'
        f'<span class="md-track" aria-hidden="true"><i style="width:{width}"></i></span></li>'
    )


def _stages(look: Look) -> str:
    """Seconds of the stages of this image."""
    seconds = (look.decode, look.preprocess, look.student.seconds)
    total = sum(seconds) or 1.0
    parts = "".join(
        f'<i class="md-s{k}" style="width:{100 * value / total:.2f}%"></i>'
        for k, value in enumerate(seconds)
    )
    keys = "".join(
        f'<span><i class="md-s{k}"></i>{name} <b>{milliseconds(value)}</b></span>'
        for k, (name, value) in enumerate(zip(_STAGES, seconds, strict=True))
    )
    return (
        f'<div class="md-stages"><div class="md-stagebar" aria-hidden="true">{parts}</div>'
        f'<div class="md-keys">{keys}<span>together <b>{milliseconds(sum(seconds))}</b></span>'
        "</div></div>"
    )


def comparison(look: Look, sizes: dict[str, int], artifact: str) -> str:
    """Every artifact on the same image: what changed against ``artifact``, and what did not."""
    if len(look.artifacts) < 2:
        return ""
    base = next(answer for answer in look.artifacts if answer.name == artifact)
    rows = [_row(answer, base, sizes) for answer in look.artifacts]
    heads = ("artifact", "says", "probability", "largest change", "MB", "compute", "speed")
    caption = f"Every artifact on this image, beside {artifact}"
    message, kind = _agreement(look.artifacts, base)
    return table(heads, rows, caption, "md-names") + notice(message, kind)


def _row(answer: Answer, base: Answer, sizes: dict[str, int]) -> Sequence[str]:
    first = answer.top[0]
    change = float(np.abs(answer.shares - base.shares).max())
    agrees = first.index == base.top[0].index
    itself = answer is base
    return (
        cell(answer.name, "md-strong" if itself else ""),
        cell(first.label, "" if agrees else "md-no"),
        cell(percent(first.probability)),
        cell("" if itself else f"{100 * change:.2f} points"),
        cell(f"{sizes[answer.name] / 1e6:.2f}"),
        cell(milliseconds(answer.seconds)),
        cell("" if itself else f"{base.seconds / answer.seconds:.2f} x"),
    )


def _agreement(artifact_answers: Sequence[Answer], base: Answer) -> tuple[str, str]:
    different = [a.name for a in artifact_answers if a.top[0].index != base.top[0].index]
    if different:
        names = ", ".join(different)
        return f"Another answer than {base.name} from: {names}. The Proof tab says how often.", (
            "warn"
        )
    message = "All give the same answer; only size and speed differ. Times: median of"
    return f"{message} {CALLS} calls.", "good"
