"""What training measured of the weights that it kept, for export and check to measure again.

Parity compares an artifact with the PyTorch student, so it cannot see what both share: another
epoch's weights, weights that are not the moving average, preprocessing that is not the training's.
These figures come from the evaluation that chose the weights; whoever rebuilds the student must
find them again.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from .preprocess import Preprocessing

_LOSS = (1e-3, 1e-4)  # part of the recorded loss, and nats: TF32 on a GPU stays below
_TOP1 = (1e-3, 1)  # part of the images, and images: two nearly equal logits may swap


@dataclass(frozen=True)
class Contradiction:
    """In what a second measurement differs from the recorded one."""

    kind: Literal["preprocessing", "images", "loss", "top1", "nonfinite"]
    detail: str

    def __str__(self) -> str:
        return self.detail


class Evidence(BaseModel):
    """The kept weights on the whole validation split, in fp32 and evaluation mode."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    images: int = Field(ge=1, description="Images of the validation split.")
    top1: float = Field(ge=0, le=100, description="Top-1 accuracy, per cent.")
    loss: float = Field(ge=0, description="Mean cross-entropy with the labels, nats.")
    preprocessing: Preprocessing = Field(description="How the evaluation fed them.")

    def contradicted_by(self, again: Evidence | None) -> list[Contradiction]:
        """How the same measurement, made ``again``, differs from this one.

        None: it could not be made, for want of images or of finite logits.
        """
        if again is None:
            detail = "nothing finite came back from the validation split"
            return [Contradiction("nonfinite", detail)]
        broken = [
            Contradiction(
                "preprocessing",
                f"preprocessing.{name} is {_plain(now)} where training evaluated with "
                f"{_plain(then)}",
            )
            for name, then in self.preprocessing
            if (now := getattr(again.preprocessing, name)) != then
        ]
        if again.images != self.images:
            detail = f"{again.images} validation images where training had {self.images}"
            return [*broken, Contradiction("images", detail)]
        allowed = _LOSS[0] * self.loss + _LOSS[1]
        if abs(again.loss - self.loss) > allowed:
            detail = (
                f"validation loss {again.loss:.5g} where training recorded {self.loss:.5g} "
                f"(off by {abs(again.loss - self.loss):.2g}, band {allowed:.2g})"
            )
            broken.append(Contradiction("loss", detail))
        moved = round(abs(again.top1 - self.top1) * self.images / 100)
        if moved > _TOP1[0] * self.images + _TOP1[1]:
            detail = (
                f"validation top-1 {again.top1:.2f} % where training recorded {self.top1:.2f} %"
            )
            broken.append(Contradiction("top1", detail))
        return broken


def _plain(value: object) -> str:
    if isinstance(value, tuple):
        return f"[{', '.join(f'{number:.6g}' for number in value)}]"
    return repr(value)
