"""The page of a GPU's figures: every figure, or that it was not measured, and why."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

Facts = dict[str, Any]  # what results.read_archive gives
NOTHING: Facts = {"parts": {}, "comparison": None}
MISSING = "not measured"
PARTS = ("machine", "tests-kernels", "tests-step", "compile", "dfra", "step", "step-compiled")
PARTS += ("processes", "processes-mps", "machine-2", "comparison", "report")
SIZES = ((128, 100), (128, 200), (256, 1000), (1024, 1000), (64, 21841))
FORMS = {
    "ours": "MLDR-KD as training does it",
    "cached": "the same, the teacher's logits at hand",
    "labels": "labels alone",
}
HEAD = """# On an NVIDIA GPU

Written by `scripts/gpu_page.py` from the archive that `benchmarks/gpu/run.py` leaves; do not edit.
"""


def page(facts: Facts) -> str:
    """The whole page in Markdown."""
    parts = [HEAD, machine(facts), tests(facts), dfra(facts), step(facts), processes(facts)]
    return "\n".join([*parts, comparison(facts), states(facts)])


def row(facts: Facts, part: str, case: str) -> dict[str, Any]:
    """The figures of a case; empty where there are none."""
    found: dict[str, Any] = facts["parts"].get(part, {}).get("rows", {}).get(case, {})
    return {} if "failed" in found else found


def software_of(facts: Facts) -> dict[str, Any]:
    """Machine and versions, as the first step that could tell has told; both are of one card."""
    return row(facts, "machine", "software") or row(facts, "machine-2", "software")


def machine(facts: Facts) -> str:
    """Which card, versions and ceilings."""
    software = software_of(facts)
    if not software and facts["parts"]:
        return "**The run could not tell which machine it was on**: see its parts, below.\n"
    if not software:
        return (
            "**No GPU has been lent to this project so far: nothing below is measured.** Where one "
            "is lent, `benchmarks/gpu/pack` says how to fill this page in a quarter of an hour.\n"
        )
    card, ceilings = (
        row(facts, "machine", case) or row(facts, "machine-2", case)
        for case in ("card", "ceilings")
    )
    lines = []
    if software["rehearsal"]:
        lines.append("**A rehearsal on a CPU: no figure here means anything.**\n")
    versions = ", ".join(f"{name} {version}" for name, version in software["versions"].items())
    lines += [
        f"{software['device']}; {software['processor']}, {software['cores']} cores; Python "
        f"{software['python']}, CUDA {software['cuda']}, cuDNN {software['cudnn']}; {versions}.",
        f"nvidia-smi: {', '.join(f'{k} {v}' for k, v in card.items()) or MISSING}. The card's "
        "settings were left as they were.",
        f"Ceilings measured there: {_ceilings(ceilings)}.",
    ]
    return "\n".join(lines) + "\n"


def _ceilings(rates: dict[str, Any]) -> str:
    if not rates:
        return MISSING
    products = ", ".join(f"{rates[k] / 1e12:.3g} ({k})" for k in ("fp32", "tf32", "bf16"))
    return f"a copy {rates['copy_bytes'] / 1e12:.2f} TB/s, a large product in TFLOP/s {products}"


def tests(facts: Facts) -> str:
    """tests/gpu: counts, and which failed."""
    lines = []
    for name, file in (("tests-kernels", "test_relations.py"), ("tests-step", "test_step.py")):
        rows = facts["parts"].get(name, {}).get("rows", {})
        outcomes = {k: v["outcome"] for k, v in rows.items() if k.startswith("test ")}
        counts = [
            str(sum(o == outcome for o in outcomes.values()))
            for outcome in ("passed", "failed", "skipped")
        ]
        lines.append([file, *(counts if outcomes else [MISSING] * 3), _ended(facts, name)])
        lines += [
            ["", "", case.removeprefix("test "), "", last_line(rows[case]["failed"])]
            for case, outcome in outcomes.items()
            if outcome == "failed"
        ]
    return section("tests/gpu", ["file", "passed", "failed", "skipped", "the part"], lines)


def dfra(facts: Facts) -> str:
    """The kernels beside the textbook form and the bounds."""
    sizes = [
        (figures["batch"], figures["classes"])
        for figures in facts["parts"].get("dfra", {}).get("rows", {}).values()
        if "batch" in figures
    ]
    lines = []
    for batch, classes in dict.fromkeys([*(sizes or SIZES)]):
        theirs = row(facts, "dfra", f"textbook {batch}x{classes}")
        ours = row(facts, "dfra", f"closed {batch}x{classes}")
        cells = [_milliseconds(theirs), _milliseconds(ours), _times(theirs, ours)]
        memory = [_number(figures, "peak_mib", ".0f") for figures in (theirs, ours)]
        bounds = [_number(ours, name, ".3f") for name in ("exp_milliseconds", "bytes_milliseconds")]
        kind = ours.get("arithmetic", MISSING)
        lines.append([f"B{batch} C{classes}", *cells, *memory, *bounds, kind])
    heads = ["size", "textbook, ms", "kernels, ms", "ratio", "textbook, MiB", "kernels, MiB"]
    heads += ["bound by exponentials, ms", "bound by bytes, ms", "computed in"]
    note = (
        "Six heads, forward and backward, medians (target 20x). Bounds: "
        "exponentials at 16 a clock and multiprocessor; logits read and gradients written once at "
        "a copy's rate."
    )
    return section("DFRA beside its textbook form", heads, lines, note)


def _milliseconds(figures: dict[str, Any]) -> str:
    if figures and figures.get("milliseconds") is None:
        return "out of memory"
    return _number(figures, "milliseconds", ".3f")


def _times(theirs: dict[str, Any], ours: dict[str, Any]) -> str:
    if not theirs.get("milliseconds") or not ours.get("milliseconds"):
        return "-" if theirs and ours else MISSING
    return f"{theirs['milliseconds'] / ours['milliseconds']:.1f}x"


def step(facts: Facts) -> str:
    """A training step beside the plain loop, eager and compiled."""
    lines = []
    for part, kind in (("step", "eager"), ("step-compiled", "compiled")):
        for name, title in FORMS.items():
            figures = row(facts, part, name)
            numbers = [
                _number(figures, key, form)
                for key, form in (
                    ("plain_milliseconds", ".1f"),
                    ("milliseconds", ".1f"),
                    ("times", ".2f"),
                    ("images_per_second", ".0f"),
                    ("warm_up_seconds", ".0f"),
                )
            ]
            kinds = [figures.get(k, MISSING) for k in ("plain_arithmetic", "arithmetic")]
            lines.append([f"{title}, {kind}", *numbers, *kinds])
    heads = ["step", "plain, ms", "ours, ms", "ratio", "images/s", "warm-up, s"]
    heads += ["plain computes in", "ours computes in"]
    share, figures = row(facts, "step", "share"), row(facts, "step", "ours")
    shown = f"{100 * share['share_of_peak']:.1f} %" if share else MISSING
    where = "`cifar100-vit-s-resnet18`, 224 px"
    if figures:
        where = f"`{figures['recipe']}`, batch {figures['batch']}, {figures['side']} px"
    note = (
        f"Recipe {where}, in turns with a loop that works as the "
        f"published code does, medians (target 5x). Share of a large product's rate: {shown}."
    )
    note += f" With kept logits a step takes {_over_labels(facts)} of labels alone (target 1.15x)."
    return section("A training step", heads, lines, note)


def _over_labels(facts: Facts) -> str:
    shown = []
    for part, kind in (("step", "eager"), ("step-compiled", "compiled")):
        cached, labels = row(facts, part, "cached"), row(facts, part, "labels")
        if cached and labels:
            shown.append(f"{cached['milliseconds'] / labels['milliseconds']:.2f}x ({kind})")
    return ", ".join(shown) or f"a multiple ({MISSING})"


def processes(facts: Facts) -> str:
    """Throughput by the number of processes."""
    lines = []
    counts = sorted(
        {
            figures["processes"]
            for part in ("processes", "processes-mps")
            for figures in facts["parts"].get(part, {}).get("rows", {}).values()
            if "processes" in figures
        }
    )
    for count in counts or (1, 2, 4, 8):
        case = f"{count} processes"
        alone, shared = row(facts, "processes", case), row(facts, "processes-mps", case)
        rates = [_number(figures, "images_per_second", ".0f") for figures in (alone, shared)]
        lines.append([str(count), *rates, (alone or shared).get("arithmetic", MISSING)])
    absent = row(facts, "processes-mps", "all").get("absent")
    note = "Images a second of all together: students of 32 px, the teacher's logits at hand."
    note += f" MPS: {absent}." if absent else ""
    heads = ["processes", "images/s", "images/s with MPS", "computed in"]
    return section("Processes side by side", heads, lines, note)


def comparison(facts: Facts) -> str:
    """The table of the methods."""
    table, arrangement = facts["comparison"], row(facts, "comparison", "arrangement")
    title = "Methods compared"
    note = "`benchmarks/gpu/h100.toml`; test top-1, per cent. A run that did not finish: -."
    if table is None:
        return section(title, ["teacher -> student", "teacher"], [[MISSING, MISSING]], note)
    methods = table["matrix"]["methods"]
    lines = []
    for pair in table["pairs"]:
        means = {score["method"]: score["mean"] for score in pair["scores"]}
        cells = [f"{means[name]:.2f}" if name in means else "-" for name in methods]
        taught = "-" if pair["teacher_top1"] is None else f"{pair['teacher_top1']:.2f}"
        gain = "-" if not pair["against"] else _gain(pair)
        lines.append([f"{pair['teacher']} -> {pair['student']}", taught, *cells, gain])
    heads = ["teacher -> student", "teacher", *methods, f"{table['matrix']['focus']} over best"]
    note = (
        f"{table['matrix']['name']}: {table['matrix']['description']} Test top-1, per cent of "
        f"{table['test_images']} images, seeds {', '.join(map(str, table['matrix']['seeds']))}, in "
        f"{_precision(table)}. {arrangement.get('processes', '?')} processes, MPS "
        f"{'on' if arrangement.get('service') else 'off'}. `*`: McNemar's test gives p < 0.05 with "
        f"every seed. Not finished: {', '.join(table['missing']) or 'nothing'}."
    )
    return section(title, heads, lines or [[MISSING] * len(heads)], note)


def _precision(table: dict[str, Any]) -> str:
    precision: str = table["matrix"]["recipe"].get("train", {}).get("precision", "auto")
    return precision


def _gain(pair: dict[str, Any]) -> str:
    mark = " *" if pair["against"]["significant"] else ""
    return f"{pair['against']['gain']:+.2f} ({pair['best_other']}){mark}"


def states(facts: Facts) -> str:
    """How every part went."""
    lines = []
    for name in PARTS:
        part = facts["parts"].get(name, {})
        state = part.get("state", {})
        took = f"{state['seconds']:.0f} of {state['limit']:.0f}" if "seconds" in state else "-"
        failed = [
            f"{c}: {last_line(r['failed'])}" for c, r in part.get("rows", {}).items() if _bad(r)
        ]
        clock = part.get("clocks", "-")
        lines.append([name, _ended(facts, name), took, clock, "; ".join(failed) or "-"])
    heads = ["part", "ended", "seconds", "SM clock meanwhile", "what failed"]
    return section("The parts of the run", heads, lines)


def _bad(figures: dict[str, Any]) -> bool:
    return "failed" in figures


def _ended(facts: Facts, name: str) -> str:
    state = facts["parts"].get(name, {}).get("state")
    if not state:
        return MISSING
    return state["state"] + (f": {state['why']}" if "why" in state else "")


def last_line(text: str) -> str:
    """The end of a traceback in one line that a table takes."""
    lines = [line for line in text.splitlines() if line.strip()]
    return lines[-1].strip().replace("|", "\\|") if lines else "?"


def _number(figures: dict[str, Any], key: str, form: str) -> str:
    value = figures.get(key)
    return MISSING if value is None else f"{value:{form}}"


def section(title: str, heads: list[str], lines: Sequence[Sequence[str]], note: str = "") -> str:
    """A heading, what is to be known, and a table."""
    table = [heads, ["---"] * len(heads), *lines]
    rows = "\n".join(f"| {' | '.join(cells)} |" for cells in table)
    return f"## {title}\n\n" + (f"{note}\n\n" if note else "") + rows + "\n"


def training_status(facts: Facts) -> str:
    """The line on training on a GPU in docs/results/README.md."""
    software = software_of(facts)
    if not software:
        return (
            "not yet run on hardware; the kernels run in Triton's interpreter and compile for "
            "sm_80 and sm_90 in the tests; [the run is rehearsed](gpu.md)"
        )
    ratios = [
        ("step", row(facts, "step", "ours").get("times")),
        ("compiled step", row(facts, "step-compiled", "ours").get("times")),
    ]
    shown = [f"{name} {f'{times:.1f}x' if times else MISSING}" for name, times in ratios]
    outcomes = [
        figures["outcome"]
        for part in ("tests-kernels", "tests-step")
        for case, figures in facts["parts"].get(part, {}).get("rows", {}).items()
        if case.startswith("test ")
    ]
    passed, failed = outcomes.count("passed"), outcomes.count("failed")
    return (
        f"measured on {software['device']}: {', '.join(shown)} the plain loop's speed at 224 px; "
        f"tests/gpu: {passed} passed, {failed} failed; [figures](gpu.md)"
    )


STATUS: dict[str, Callable[[Facts], str]] = {
    "training on NVIDIA GPUs; DFRA's Triton kernels": training_status,
}
