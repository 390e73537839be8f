"""``config.pbtxt`` of a model, in protobuf's text form."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

from ...bundle.manifest import Manifest
from ...errors import MldrError

WARM_UP = "golden"  # file in the model's folder `warmup`
LABELS = "labels.txt"


class TritonConfig(BaseModel):
    """Options that all models of a repository share."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    instances: int = Field(
        default=1, ge=1, le=1024, description="Copies of each model that compute side by side."
    )
    max_queue: int = Field(
        default=256, ge=1, le=1_000_000, description="Most requests waiting for a model."
    )
    max_delay_us: int = Field(
        default=0,
        ge=0,
        le=60_000_000,
        description="Time that a batch which is not full waits for more, microseconds.",
    )
    deadline: float = Field(
        default=10.0, gt=0, le=3600, description="Time in the queue, seconds; then rejected."
    )
    rate_limit: bool = Field(
        default=False,
        description="Each instance needs one `mldr-slot` while it computes, so that all models "
        "share as many as Triton is started with.",
    )


def model_config(
    name: str, backend: str, file: str, manifest: Manifest, max_batch: int, config: TritonConfig
) -> str:
    """The text for one model. Raises MldrError for a name that Triton would not take."""
    if not name.replace("_", "").replace("-", "").replace(".", "").isalnum():
        raise MldrError(f"{name!r} cannot name a model of Triton: choose another --name")
    spec, out = manifest.input, manifest.output
    dims = ", ".join(str(side) for side in spec.shape[1:])
    return f"""name: "{name}"
backend: "{backend}"
default_model_filename: "{file}"
max_batch_size: {max_batch}
input [ {{ name: "{spec.name}" data_type: TYPE_FP32 dims: [ {dims} ] }} ]
output [ {{
  name: "{out.name}" data_type: TYPE_FP32 dims: [ {len(manifest.labels)} ]
  label_filename: "{LABELS}"
}} ]
dynamic_batching {{
  max_queue_delay_microseconds: {config.max_delay_us}
  default_queue_policy {{
    timeout_action: REJECT
    default_timeout_microseconds: {round(config.deadline * 1e6)}
    max_queue_size: {config.max_queue}
  }}
}}
instance_group [ {{ kind: KIND_AUTO count: {config.instances}{_rate_limit(config)} }} ]
model_warmup [ {{
  name: "{WARM_UP}"
  batch_size: 1
  inputs {{
    key: "{spec.name}"
    value {{ data_type: TYPE_FP32 dims: [ {dims} ] input_data_file: "{WARM_UP}" }}
  }}
}} ]
"""


def _rate_limit(config: TritonConfig) -> str:
    if not config.rate_limit:
        return ""
    return ' rate_limiter { resources [ { name: "mldr-slot" global: true count: 1 } ] }'
