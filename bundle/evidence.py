"""What training measured of the weights that it kept, for export and check to measure again.

Parity compares an artifact with the PyTorch student, so it cannot see what both share: another
epoch's weights, weights that are not the moving average, preprocessing that is not the training's.
These figures come from the evaluation that chose the weights; whoever rebuilds the student must
find them again.
"""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

from .preprocess import Preprocessing

_LOSS = (1e-3, 1e-4)  # part of the recorded loss, and nats: TF32 on a GPU stays below
_TOP1 = (1e-3, 1)  # part of the images, and images: two nearly equal logits may swap


class Evidence(BaseModel):
    """The kept weights on the whole validation split, in fp32 and evaluation mode."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    images: int = Field(ge=1, description="Images of the validation split.")
    top1: float = Field(ge=0, le=100, description="Top-1 accuracy, per cent.")
    loss: float = Field(ge=0, description="Mean cross-entropy with the labels, nats.")
    preprocessing: Preprocessing = Field(description="How the evaluation fed them.")

    def contradicted_by(self, again: Evidence | None) -> list[str]:
        """How the same measurement, made ``again``, differs from this one, in words.

        None: it could not be made, for want of images or of finite logits.
        """
        if again is None:
            return ["nothing finite came back from the validation split"]
        broken = [
            f"preprocessing.{name} is {_plain(now)} where training evaluated with {_plain(then)}"
            for name, then in self.preprocessing
            if (now := getattr(again.preprocessing, name)) != then
        ]
        if again.images != self.images:
            return [*broken, f"{again.images} validation images where training had {self.images}"]
        allowed = _LOSS[0] * self.loss + _LOSS[1]
        if abs(again.loss - self.loss) > allowed:
            broken.append(
                f"validation loss {again.loss:.5g} where training recorded {self.loss:.5g} "
                f"(off by {abs(again.loss - self.loss):.2g}, band {allowed:.2g})"
            )
        moved = round(abs(again.top1 - self.top1) * self.images / 100)
        if moved > _TOP1[0] * self.images + _TOP1[1]:
            broken.append(
                f"validation top-1 {again.top1:.2f} % where training recorded {self.top1:.2f} %"
            )
        return broken


def _plain(value: object) -> str:
    if isinstance(value, tuple):
        return f"[{', '.join(f'{number:.6g}' for number in value)}]"
    return repr(value)
