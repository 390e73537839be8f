"""``manifest.json``: what a bundle holds and how it was proven (docs/design.md, section Bundle)."""

from __future__ import annotations

from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from .atomic import sha256
from .chance import Chance
from .engine import EngineRecord, RtxRecord
from .evidence import Evidence
from .latency import Latency
from .lesson import Lesson
from .parity import Fault, ParityResult
from .precisions import COMPUTED
from .preprocess import Preprocessing
from .quality import Quality
from .quantization import Quantization
from .schema import read_record
from .sealed import write_sealed
from .targets import FORMATS

SCHEMA_VERSION = 3
OLDEST_SCHEMA = 2  # a 1 (never released) has fewer proofs: no class names, no evidence
SEALED_SCHEMA = 3  # the first with record_sha256; a 2 is read, and `check` says what it lacks
FILE = "manifest.json"
_RECORD = ConfigDict(frozen=True, extra="forbid")


def _inside(name: str) -> str:
    path = PurePosixPath(name)
    if (
        not name
        or path.is_absolute()
        or ".." in path.parts
        or "\\" in name
        or path.as_posix() == "."
    ):
        raise ValueError(f"{name!r} is not a path inside the bundle")
    return name


FileName = Annotated[str, AfterValidator(_inside)]
Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class FileEntry(BaseModel):
    """One file of the bundle, pinned by size and hash."""

    model_config = _RECORD

    file: FileName = Field(description="Path inside the bundle, with forward slashes.")
    bytes: int = Field(ge=0, description="Size, bytes.")
    sha256: Digest = Field(description="SHA-256 of the content, hexadecimal.")

    @property
    def size(self) -> int:
        """Bytes that are shipped with it, its own included."""
        return self.bytes


class Runnable(FileEntry):
    """A file that a runner loads, and what decides whether this machine can."""

    engine: EngineRecord | None = Field(
        default=None, description="A TensorRT engine's machine, batches and proven precision."
    )


class Island(BaseModel):
    """A node of a half-precision graph that computes in fp32."""

    model_config = _RECORD

    node: str = Field(description="Name of the ONNX node.")
    reason: str = Field(default="", description="Why it does.")

    @model_validator(mode="before")
    @classmethod
    def _older(cls, value: Any) -> Any:
        """Older bundles hold `node: reason`."""
        if not isinstance(value, str):
            return value
        node, _, reason = value.partition(": ")
        return {"node": node, "reason": reason}


class Artifact(Runnable):
    """One runnable form of the student and the proof that belongs to it."""

    format: str = Field(description=f"{' or '.join(FORMATS)}: what runs it.")
    precision: str = Field(description=f"{COMPUTED}.")
    opset: int | None = Field(default=None, description="ONNX operator set, if the format has one.")
    status: Literal["passed", "failed"] = Field(description="Whether it passed its parity gate.")
    parity: ParityResult = Field(description="The measurements.")
    fault: Fault | None = Field(default=None, description="Where a failed one first deviates.")

    beside: list[FileEntry] = Field(
        default_factory=list, description="Files that tell more of it: an engine's layers."
    )
    latency: Latency | None = Field(
        default=None, description="Cost of a call on the exporting machine, where it was measured."
    )
    emulated: bool = Field(
        default=False,
        description="Whether parity was proven by fp32 arithmetic that rounds to the "
        "precision, because the exporting machine has no kernels of it: not for use on a CPU.",
    )
    caveat: str = Field(
        default="",
        description="What its proof does not reach: the kernels of a phone. Nothing serves it "
        "unless it is named.",
    )
    computes: dict[str, int] = Field(
        default_factory=dict,
        description="Number of Conv, Gemm and MatMul nodes by the precision that they compute in, "
        "read from the graph's own types.",
    )
    islands: list[Island] = Field(default_factory=list, description="Nodes that compute in fp32.")
    quantization: Quantization | None = Field(
        default=None, description="How its scales were chosen, if it is quantised."
    )

    @property
    def size(self) -> int:
        """Bytes that are shipped with it, its own included."""
        return self.bytes + sum(entry.bytes for entry in self.beside)

    @model_validator(mode="after")
    def _status_is_parity(self) -> Artifact:
        if (self.status == "passed") != bool(self.parity):
            raise ValueError(f"status {self.status!r} contradicts the parity result")
        return self


class BuiltEngine(FileEntry):
    """An engine that was built where it could not run: without parity, so nothing serves it."""

    precision: str = Field(description=f"{COMPUTED}.")
    status: Literal["built, not run"] = Field(
        default="built, not run", description="No parity has been measured of it."
    )
    rtx: RtxRecord = Field(description="Where it came from, and what it was built for.")

    def __str__(self) -> str:
        return f"{self.file}: {self.status}: {self.rtx}"


class TensorSpec(BaseModel):
    """A named input or output; a string in the shape is a dynamic size."""

    model_config = _RECORD

    name: str = Field(description="Name in the artifact.")
    dtype: Literal["float32"] = Field(description="Element type.")
    shape: list[int | str] = Field(description="Sizes, the batch first.")


class Manifest(BaseModel):
    """The contract between export and everything that runs a bundle."""

    model_config = _RECORD

    schema_version: int = Field(default=SCHEMA_VERSION, description="Version of this layout.")
    labels: list[str] = Field(min_length=2, description="Class names in the order of the logits.")
    input: TensorSpec = Field(description="What the artifacts take.")
    output: TensorSpec = Field(description="What they give.")
    max_batch: int = Field(ge=1, description="Largest batch that parity was proven at.")
    preprocessing: Preprocessing = Field(description="How images become inputs.")
    artifacts: list[Artifact] = Field(min_length=1, description="Runnable forms of the student.")
    built: list[BuiltEngine] = Field(
        default_factory=list,
        description="Engines of TensorRT-RTX, built without a GPU and not run: no proof of parity.",
    )
    unavailable: list[str] = Field(
        default_factory=list,
        description="Artifacts asked for that the exporting machine could not make, and why.",
    )
    weights: FileEntry = Field(description="The trained weights, safetensors.")
    golden: FileEntry = Field(description="Real images as fed and their logits.")
    card: FileEntry | None = Field(
        default=None, description="The model card for people; bundles before it have none."
    )
    script: FileEntry | None = Field(
        default=None,
        description="infer.py, which answers without mldr-deploy; bundles before it have none.",
    )
    phone_script: FileEntry | None = Field(
        default=None,
        description="check_phone.py, which asks a phone's kernels the golden pictures, where there "
        "is a file for phones.",
    )
    temperature: float = Field(
        default=1.0,
        gt=0,
        allow_inf_nan=False,
        description="What logits are divided by before the softmax, for calibrated probabilities.",
    )
    quality: Quality | None = Field(
        default=None,
        description="The student class by class and its probabilities, on the test split; bundles "
        "before it have none.",
    )
    quality_files: list[FileEntry] = Field(
        default_factory=list, description="All of it as JSON, and pictures."
    )
    timm_files: list[FileEntry] = Field(
        default_factory=list,
        description="The student as timm loads it and the Hub keeps it; bundles before it have "
        "none.",
    )
    timm_refusal: str | None = Field(
        default=None, description="Why timm cannot rebuild the student, if so."
    )
    model: dict[str, Any] = Field(description="The student's configuration (ModelConfig).")
    image_size: int = Field(ge=1, description="Side of the square input, pixels.")
    family: str = Field(description="cnn, transformer, mlp or mamba.")
    parameters: int = Field(ge=0, description="Number of the student's parameters.")
    data: dict[str, Any] = Field(description="The data's configuration (DataConfig).")
    data_fingerprint: str = Field(description="Hash of the data set.")
    metrics: dict[str, float] = Field(default_factory=dict, description="What training measured.")
    chance: Chance | None = Field(
        default=None,
        description="The student on the test split against always naming the largest class; "
        "bundles before it have none.",
    )
    lesson: Lesson | None = Field(
        default=None,
        description="The student against its teacher, labels alone and its own first loss; bundles "
        "before it have none.",
    )
    evidence: Evidence | None = Field(
        default=None,
        description="What training measured of these weights on validation, found again at export.",
    )
    provenance: dict[str, Any] = Field(
        default_factory=dict, description="Recipe, teacher, seeds, versions, commit, time."
    )
    record_sha256: Digest | None = Field(
        default=None,
        description="SHA-256 of the manifest as it would be without this key; written with it. "
        "Bundles of schema version 2 have none.",
    )

    @model_validator(mode="after")
    def _shapes_match(self) -> Manifest:
        if self.output.shape[-1:] != [len(self.labels)]:
            raise ValueError(f"{len(self.labels)} labels for an output of {self.output.shape}")
        if self.input.shape[1:] != [3, *self.preprocessing.size]:
            raise ValueError(
                f"input {self.input.shape} does not take the preprocessing's "
                f"{self.preprocessing.size}"
            )
        return self

    @property
    def at_chance(self) -> bool:
        """Whether the test split shows that the student learned nothing; False where it cannot."""
        return self.chance is not None and self.chance.can_tell and not self.chance

    @property
    def warning(self) -> str | None:
        """That the student learned nothing, and what to try; None unless it is at chance."""
        return self.chance.warning if self.chance is not None and self.at_chance else None

    @property
    def doubts(self) -> list[str]:
        """What training did not achieve, and what to try, a line each; none where all is well.

        Of a student at chance, `warning` says more.
        """
        if self.lesson is None or self.at_chance:
            return []
        return self.lesson.lines()

    @property
    def seal(self) -> str:
        """Its digest for people; of an older bundle that it has none, and what mends that."""
        if self.record_sha256 is not None:
            return f"as written, SHA-256 {self.record_sha256}"
        return (
            f"schema version {self.schema_version} has no digest of the manifest, so a figure "
            "changed in it goes unnoticed: export the bundle again"
        )

    @property
    def files(self) -> list[FileEntry]:
        """Every file but the manifest itself."""
        beside = [entry for artifact in self.artifacts for entry in artifact.beside]
        written = (self.card, self.script, self.phone_script)
        texts = [entry for entry in written if entry is not None]
        proofs = [self.weights, self.golden, *texts, *self.quality_files, *self.timm_files]
        return [*self.artifacts, *beside, *self.built, *proofs]


def read_manifest(folder: Path) -> Manifest:
    """The manifest of the bundle in ``folder``.

    Raises MldrError when it is missing, damaged, changed or of another version.
    """
    return read_record(
        folder / FILE,
        Manifest,
        newest=SCHEMA_VERSION,
        oldest=OLDEST_SCHEMA,
        sealed_from=SEALED_SCHEMA,
    )


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write it with its digest, in one step. Raises MldrError where it cannot be written."""
    current = manifest.model_copy(update={"schema_version": SCHEMA_VERSION})
    write_sealed(folder / FILE, current.model_dump(mode="json"))


def describe(folder: Path, file: str) -> FileEntry:
    """Size and hash of ``folder / file`` as it is now."""
    path = folder / file
    return FileEntry(file=file, bytes=path.stat().st_size, sha256=sha256(path))
