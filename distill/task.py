"""One training step's forward pass: the student's losses by name, and the teacher's answers.

b images of one process, S their side, C classes.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..bundle.preprocess import Preprocessing
from ..models.stages import StageOutput, StagePlan, forward_stages
from .methods.base import Method, Step
from .precision import at_least_float32, uses_bf16
from .small_grids import small_grids
from .traced import Forward
from .training_config import TrainConfig


class Normalise(nn.Module):
    """Pixels of 0..255 to a model's input, by the numbers of its `Preprocessing`."""

    scale: Tensor
    bias: Tensor

    def __init__(self, preprocessing: Preprocessing) -> None:
        super().__init__()
        scale, bias = preprocessing.affine()
        self.register_buffer("scale", torch.from_numpy(scale).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("bias", torch.from_numpy(bias).view(1, 3, 1, 1), persistent=False)

    def forward(self, pixels: Tensor) -> Tensor:
        """RGB [b, 3, S, S] of 0..255 -> float32 of the same shape."""
        return pixels * self.scale + self.bias


@dataclass
class FrozenTeacher:
    """A frozen model in eval mode that sees what the student sees, under its own normalisation and
    at its own size."""

    model: nn.Module
    plan: StagePlan
    preprocessing: Preprocessing
    bf16: bool = False  # autocast
    channels_last: bool = False
    runtime: Forward | None = None  # what gives the logits alone, if not PyTorch
    normalise: Normalise = field(init=False)

    def __post_init__(self) -> None:
        self.normalise = Normalise(self.preprocessing)

    @property
    def side(self) -> int:
        """Height and width of the teacher's images, pixels."""
        return self.preprocessing.size[0]

    @torch.no_grad()
    def __call__(
        self,
        pixels: Tensor,
        *,
        stages: bool = False,
        features: bool = False,
        by_torch: bool = False,
    ) -> StageOutput:
        """RGB [b, 3, S, S] of 0..255 -> logits [b, C], and what else is asked for.

        ``by_torch``: whatever gives the logits else.
        """
        if self.runtime is not None and not (stages or features or by_torch):
            return StageOutput(self.runtime(self.normalise(pixels)), ())
        if self.channels_last:
            pixels = pixels.contiguous(memory_format=torch.channels_last)
        bf16 = torch.autocast(pixels.device.type, torch.bfloat16, enabled=self.bf16)
        with bf16, small_grids(pixels.device):
            x = self.normalise(pixels)
            if not (stages or features):
                return StageOutput(self.model(x), ())
            return forward_stages(self.model, x, self.plan, features=features)

    def to(self, device: torch.device, train: TrainConfig) -> FrozenTeacher:
        """This teacher, moved to ``device`` and set up as ``train`` says."""
        self.channels_last = train.channels_last
        self.bf16 = uses_bf16(train.teacher_precision, device)
        layout = torch.channels_last if self.channels_last else torch.contiguous_format
        self.model.to(device, memory_format=layout).eval().requires_grad_(False)  # type: ignore[call-overload]
        self.normalise.to(device)
        return self


class Task(nn.Module):
    """The student and a method's own layers; `forward` is the step.

    One module, so that DDP and torch.compile see everything that is trained and nothing else.
    """

    def __init__(
        self,
        student: nn.Module,
        plan: StagePlan,
        method: Method,
        preprocessing: Preprocessing,
        *,
        label_smoothing: float = 0.0,
    ) -> None:
        super().__init__()
        self.student, self.method = student, method
        self.normalise = Normalise(preprocessing)
        self._plan, self._smoothing = plan, label_smoothing

    def forward(self, pixels: Tensor, teacher: StageOutput | None, step: Step) -> dict[str, Tensor]:
        """Named, weighted losses (scalars) whose sum is minimised; none where its weight is 0.

        pixels [b, 3, S, S] of 0..255; teacher: its answers to the same pixels.
        """
        x, features = self.normalise(pixels), self.method.needs_features
        output = forward_stages(self.student, x, self._plan, features=features)
        method_losses: dict[str, Tensor] = self.method(output, teacher, step)
        weight, logits = self.method.label_weight, at_least_float32(output.logits)
        if not weight:
            return method_losses
        label = F.cross_entropy(logits, step.targets, label_smoothing=self._smoothing)
        return {"labels": weight * label, **method_losses}
