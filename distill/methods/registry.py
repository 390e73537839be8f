"""Methods by name. A new method is a file beside this one, an import and a line in `METHODS`."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, create_model

from ...errors import MldrError
from .base import Method, Pair
from .cc import Cc
from .crd import Crd
from .dist import Dist
from .dkd import Dkd
from .fitnet import FitNet
from .kd import Kd
from .mldr_kd import MldrKd
from .ofa import Ofa
from .rkd import Rkd
from .scratch import Scratch

METHODS: dict[str, type[Method]] = {
    "mldr-kd": MldrKd,
    "kd": Kd,
    "fitnet": FitNet,
    "cc": Cc,
    "rkd": Rkd,
    "crd": Crd,
    "dkd": Dkd,
    "dist": Dist,
    "ofa": Ofa,
    "scratch": Scratch,
}


def table_of(name: str) -> str:
    """The key of a method's table, `mldr_kd` for `mldr-kd`."""
    return name.replace("-", "_")


# `name` and one table a method, by name, with the method's defaults.
_NAME = Field(default="mldr-kd", description="`scratch` trains on labels only.")
_FIELDS: dict[str, Any] = {"name": (Literal[tuple(METHODS)], _NAME)} | {
    table_of(name): (method.keys, Field(default=method.keys(), description=f"Keys of `{name}`."))
    for name, method in METHODS.items()
}
_Keys: Any = create_model("_Keys", __config__=ConfigDict(frozen=True, extra="forbid"), **_FIELDS)


class MethodConfig(_Keys):  # type: ignore[misc]
    """Which method distills, and a table of keys for each: switching needs only the name."""

    @property
    def used(self) -> BaseModel:
        """The chosen method's own table."""
        config: BaseModel = getattr(self, table_of(self.name))
        return config


def create_method(config: MethodConfig, pair: Pair) -> Method:
    """The method of ``config`` for a pair of models.

    Raises MldrError, in one line, when the method cannot serve the pair or its data.
    """
    method = METHODS[config.name]
    plans = {"student": pair.student, "teacher": pair.teacher}
    for who, plan in plans.items():
        if method.needs_features and plan is not None and not plan.pooled_width:
            raise MldrError(
                f"method {config.name} compares the features before the classifier, which the "
                f"{who} does not give: choose another {who}.name or method.name"
            )
    return method(config.used, pair)


def needs_teacher(config: MethodConfig) -> bool:
    """Whether the method looks at a teacher at all."""
    return METHODS[config.name].needs_teacher
