"""The served model as Triton's model configuration describes one."""

from __future__ import annotations

from typing import Any

from .service import VERSION, Service


def model_config(service: Service) -> dict[str, Any]:
    """Fields of Triton's ``ModelConfig`` that say something of this service."""
    manifest, config = service.manifest, service.config
    fp32 = {"data_type": "TYPE_FP32"}
    image = {"name": manifest.input.name, **fp32, "format": "FORMAT_NCHW"}
    return {
        "name": service.model,
        "platform": service.runtime.name,
        "backend": service.runtime.name,
        "version_policy": {"specific": {"versions": [int(VERSION)]}},
        "max_batch_size": service.max_batch,
        "input": [{**image, "dims": manifest.input.shape[1:]}],
        "output": [{"name": manifest.output.name, **fp32, "dims": [len(manifest.labels)]}],
        "dynamic_batching": {
            "preferred_batch_size": [service.max_batch],
            "max_queue_delay_microseconds": round(1000 * config.max_delay_ms),
            "default_queue_policy": {
                "timeout_action": "REJECT",
                "default_timeout_microseconds": round(1e6 * config.deadline),
                "allow_timeout_override": True,
                "max_queue_size": service.batcher.max_queue,
            },
        },
        "instance_group": [{"name": service.model, "kind": "KIND_AUTO", "count": 1}],
        "default_model_filename": service.runtime.model.path.name,
        "parameters": {
            "precision": {"string_value": service.runtime.model.precision},
            "labels": {"string_value": "\n".join(manifest.labels)},
        },
    }
