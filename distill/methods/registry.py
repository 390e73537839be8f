"""Methods by name. A new method is a file beside this one and a line in each table below."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from .base import Method, Pair
from .kd import Kd, KdConfig
from .mldr_kd import MldrKd, MldrKdConfig
from .scratch import Scratch, ScratchConfig


class MethodConfig(BaseModel):
    """Which method distills, and a table of keys for each: switching needs only the name."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Literal["mldr-kd", "kd", "scratch"] = Field(
        default="mldr-kd", description="`scratch` trains on labels only."
    )
    mldr_kd: MldrKdConfig = Field(default=MldrKdConfig(), description="Keys of `mldr-kd`.")
    kd: KdConfig = Field(default=KdConfig(), description="Keys of `kd`.")
    scratch: ScratchConfig = Field(default=ScratchConfig(), description="Keys of `scratch`.")

    @property
    def used(self) -> BaseModel:
        """The chosen method's own table."""
        config: BaseModel = getattr(self, self.name.replace("-", "_"))
        return config


METHODS: dict[str, type[Method]] = {"mldr-kd": MldrKd, "kd": Kd, "scratch": Scratch}


def create_method(config: MethodConfig, pair: Pair) -> Method:
    """The method of ``config`` for a pair of models."""
    return METHODS[config.name](config.used, pair)


def needs_teacher(config: MethodConfig) -> bool:
    """Whether the method looks at a teacher at all."""
    return METHODS[config.name].needs_teacher
