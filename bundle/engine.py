"""What the manifest says of a TensorRT engine: where it runs and what it was proven to be."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field, model_validator

_RECORD = ConfigDict(frozen=True, extra="forbid")
FORMAT = "tensorrt"  # ``format`` of an engine's artifact
RTX = "tensorrt-rtx"  # export target whose engines are built anywhere, and run on RTX cards
FOLDER = "engines"  # inside the bundle


class Machine(BaseModel):
    """What decides whether an engine runs, and for what machine a timing was taken."""

    model_config = _RECORD

    gpu: str = Field(min_length=1, description="Name of the GPU.")
    compute_capability: str = Field(pattern=r"^\d+\.\d+$", description="For example 9.0.")
    tensorrt: str = Field(pattern=r"^\d+(\.\d+)+$", description="Version of TensorRT.")
    driver: str = Field(description="Newest CUDA version that the driver takes, for example 13.0.")

    @property
    def slug(self) -> str:
        """GPU and TensorRT version as part of a file name: ``nvidia-l4-11.4.0.106``."""
        gpu = "".join(c if c.isalnum() else " " for c in self.gpu.lower())
        return f"{'-'.join(gpu.split())}-{self.tensorrt}"

    def __str__(self) -> str:
        return (
            f"{self.gpu} (compute capability {self.compute_capability}), TensorRT {self.tensorrt}"
        )


class Profile(BaseModel):
    """The batches that an engine takes, and the one that it was tuned for."""

    model_config = _RECORD

    min: int = Field(ge=1, description="Smallest batch, images.")
    opt: int = Field(ge=1, description="Batch that kernels were chosen for, images.")
    max: int = Field(ge=1, description="Largest batch, images.")

    @model_validator(mode="after")
    def _ordered(self) -> Profile:
        if not self.min <= self.opt <= self.max:
            raise ValueError(f"batches {self.min}, {self.opt}, {self.max} are not in order")
        return self


class PrecisionProof(BaseModel):
    """Data types that the engine's layers really take, counted from the EngineInspector's JSON."""

    model_config = _RECORD

    claimed: str = Field(description="Precision that the artifact is called by.")
    layers: dict[str, int] = Field(description="All layers by the narrowest type they take.")
    compute: dict[str, int] = Field(
        description="Layers that multiply (convolution, matrix product) by the type they take."
    )
    expected: float = Field(
        ge=0, le=1, description="Share of multiplying ONNX nodes that take the claimed precision."
    )
    reason: str | None = Field(default=None, description="Why the claim does not hold, if so.")

    def __bool__(self) -> bool:
        return self.reason is None

    def __str__(self) -> str:
        counted = ", ".join(f"{count} {name}" for name, count in self.compute.items())
        verdict = "proven" if self else f"NOT proven: {self.reason}"
        return f"{self.claimed} {verdict} (layers that multiply: {counted or 'none seen'})"


class AskedPrecision(BaseModel):
    """Types that the builder was asked for, read from the typed network that the parser made.

    What the builder chose from there only an inspector on a GPU tells (PrecisionProof).
    """

    model_config = _RECORD

    claimed: str = Field(description="Precision that the engine is called by.")
    multiplies: dict[str, int] = Field(
        description="Convolutions and matrix products of the network by the type they take; a "
        "quantised one takes its inputs from dequantisations."
    )

    def __str__(self) -> str:
        counted = ", ".join(f"{count} {name}" for name, count in self.multiplies.items())
        return f"asked of the builder: {counted or 'nothing that multiplies'}"


class EngineRecord(BaseModel):
    """An engine's origin, reach and proof."""

    model_config = _RECORD

    machine: Machine = Field(description="Where it was built.")
    hardware: str = Field(
        description="Other GPUs that it runs on: none, same-compute-capability or ampere-plus."
    )
    version_compatible: bool = Field(
        description="Whether newer TensorRT versions of the same major version run it."
    )
    profile: Profile = Field(description="Batches that it takes.")
    source: str = Field(description="ONNX file of the bundle that it was built from.")
    source_sha256: str = Field(pattern=r"^[0-9a-f]{64}$", description="That file's SHA-256.")
    proof: PrecisionProof = Field(
        description="The precision, proven: what the builder chose, by its inspector."
    )
    asked: AskedPrecision | None = Field(
        default=None, description="What the builder was asked for; older records have none."
    )

    def misfit(self, machine: Machine) -> str | None:
        """Why it does not run on ``machine``; None: it does (docs/design.md, section TensorRT)."""
        built = self.machine
        if self.version_compatible:
            built_with, installed = _version(built.tensorrt), _version(machine.tensorrt)
            if built_with[0] != installed[0] or installed < built_with:
                return f"built with TensorRT {built.tensorrt}, here is {machine.tensorrt}"
        elif built.tensorrt != machine.tensorrt:
            return f"built with TensorRT {built.tensorrt}, here is {machine.tensorrt}"
        same_capability = built.compute_capability == machine.compute_capability
        if self.hardware == "ampere-plus" and _version(machine.compute_capability) >= (8, 0):
            return None
        if self.hardware == "same-compute-capability" and same_capability:
            return None
        if built.gpu == machine.gpu and same_capability:
            return None
        return f"built for {built.gpu}, here is {machine.gpu}"


class RtxRecord(BaseModel):
    """A TensorRT-RTX engine's origin and reach. It was built without a GPU and has not run."""

    model_config = _RECORD

    version: str = Field(pattern=r"^\d+(\.\d+)+$", description="Version of TensorRT-RTX.")
    capabilities: list[str] = Field(
        min_length=1, description="Compute capabilities that it was built for, for example 8.9."
    )
    profile: Profile = Field(description="Batches that it takes.")
    source: str = Field(description="ONNX file of the bundle that it was built from.")
    source_sha256: str = Field(pattern=r"^[0-9a-f]{64}$", description="That file's SHA-256.")
    asked: AskedPrecision = Field(description="What the builder was asked for.")

    def misfit(self, version: str, capability: str) -> str | None:
        """Why it does not run with that library on a GPU of ``capability``; None: it should."""
        if version != self.version:
            return f"built with TensorRT-RTX {self.version}, here is {version}"
        if capability not in self.capabilities:
            built = ", ".join(self.capabilities)
            return f"built for compute capability {built}, here is {capability}"
        return None

    def __str__(self) -> str:
        built = ", ".join(self.capabilities)
        return f"TensorRT-RTX {self.version} for compute capability {built}; {self.asked}"


def _version(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split("."))
