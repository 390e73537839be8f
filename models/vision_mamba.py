"""Vision Mamba (Vim, arXiv 2401.09417) with timm's interface and hustvl/Vim's names and shapes.

B batch, N patches, L = N + 1 tokens, M model width, D = 2M channels of a mixer, S states,
R = ceil(M / 16) rank of the step. The class token stands in the *middle* of the sequence, where
both directions have seen half of the image, and enters before the position embedding is added.
"""

from __future__ import annotations

import math
from typing import Any, Literal, cast

import torch
from timm.layers.drop import DropPath
from timm.layers.helpers import to_2tuple
from timm.layers.patch_embed import resample_patch_embed
from timm.layers.pos_embed import resample_abs_pos_embed
from timm.models._builder import build_model_with_cfg
from timm.models._features import feature_take_indices
from timm.models._registry import generate_default_cfgs, register_model
from torch import Tensor, nn

from .mamba_mixer import BidirectionalMixer


class VisionMamba(nn.Module):
    """Patches, position embedding, `depth` bidirectional Mamba blocks, a class token, a head."""

    num_prefix_tokens = 1  # it stands in the middle; stage maps leave it out

    def __init__(
        self,
        img_size: int | tuple[int, int] = 224,
        patch_size: int | tuple[int, int] = 16,
        stride: int | tuple[int, int] | None = None,
        in_chans: int = 3,
        num_classes: int = 1000,
        embed_dim: int = 192,
        depth: int = 24,
        d_state: int = 16,
        drop_rate: float = 0.0,
        drop_path_rate: float = 0.0,
    ) -> None:
        """`stride` below `patch_size` makes patches overlap, as Vim's long-sequence models do."""
        super().__init__()
        self.num_classes = num_classes
        self.num_features = self.head_hidden_size = self.embed_dim = embed_dim
        self.patch_embed = PatchEmbed(img_size, patch_size, stride, in_chans, embed_dim)
        tokens = math.prod(self.patch_embed.grid_size) + 1
        self.cls_token = nn.Parameter(torch.zeros(1, 1, embed_dim))
        self.pos_embed = nn.Parameter(torch.zeros(1, tokens, embed_dim))
        self.pos_drop = nn.Dropout(drop_rate)
        rates = [drop_path_rate * i / max(depth - 1, 1) for i in range(depth)]
        self.layers = nn.ModuleList(Block(embed_dim, d_state, rate) for rate in rates)
        self.norm_f = nn.RMSNorm(embed_dim, eps=1e-5)
        self.head = _classifier(embed_dim, num_classes)
        self._initialise()

    def forward(self, x: Tensor) -> Tensor:
        """Images [B, 3, H, W] -> logits [B, classes]."""
        return self.forward_head(self.forward_features(x))

    def forward_features(self, x: Tensor) -> Tensor:
        """Images [B, 3, H, W] -> normalised tokens [B, L, M], the class token at N // 2."""
        tokens = self._embed(x)
        for layer in self.layers:
            tokens = layer(tokens)
        features: Tensor = self.norm_f(tokens)
        return features

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """Tokens [B, L, M] -> logits [B, classes], or the class token [B, M]."""
        pooled = split_class_token(x)[1][:, 0]
        if pre_logits:
            return pooled
        logits: Tensor = self.head(pooled)
        return logits

    def forward_intermediates(
        self,
        x: Tensor,
        indices: int | list[int] | None = None,
        return_prefix_tokens: bool = False,
        norm: bool = False,
        stop_early: bool = False,
        output_fmt: Literal["NCHW", "NLC"] = "NCHW",
        intermediates_only: bool = False,
    ) -> Any:
        """What blocks `indices` give (the last n for an int, all for None), as timm defines it.

        Maps [B, M, h, w] (or patches [B, N, M] as "NLC") without the class token; with
        `return_prefix_tokens` pairs of it and the class token [B, 1, M]. `norm` applies the
        final norm to them. Returns (features as `forward_features`, maps), or the maps alone.
        """
        if output_fmt not in ("NCHW", "NLC"):
            raise ValueError(f"output_fmt must be NCHW or NLC, not {output_fmt}")
        tapped_blocks, last = feature_take_indices(len(self.layers), indices)
        tokens = self._embed(x)
        taps = []
        for i, layer in enumerate(self.layers):
            if stop_early and intermediates_only and i > last:
                break
            tokens = layer(tokens)
            if i in tapped_blocks:
                taps.append(split_class_token(self.norm_f(tokens) if norm else tokens))
        maps = [patches for patches, _ in taps]
        if output_fmt == "NCHW":
            maps = [m.mT.unflatten(2, self.patch_embed.grid_size).contiguous() for m in maps]
        intermediates = (
            list(zip(maps, (c for _, c in taps), strict=True)) if return_prefix_tokens else maps
        )
        return intermediates if intermediates_only else (self.norm_f(tokens), intermediates)

    def get_classifier(self) -> nn.Module:
        """The linear classifier, or the identity."""
        return self.head

    def reset_classifier(self, num_classes: int, global_pool: str | None = None) -> None:
        """A fresh classifier; 0 classes for none. Vim pools by its class token only."""
        if global_pool not in (None, "token"):
            raise ValueError(f"global_pool must be token, not {global_pool}")
        self.num_classes = num_classes
        self.head = _classifier(self.embed_dim, num_classes).to(self.pos_embed)

    def no_weight_decay(self) -> set[str]:
        """Embeddings, and what shapes the recurrence: A and D of every mixer."""
        recurrence = ("A_log", "A_b_log", "D", "D_b")
        mixers = (
            f"layers.{i}.mixer.{name}" for i in range(len(self.layers)) for name in recurrence
        )
        return {"pos_embed", "cls_token", *mixers}

    def _embed(self, x: Tensor) -> Tensor:
        """Images -> tokens [B, L, M] in float32 at least: the residual stream keeps that."""
        patches = self.patch_embed(x)
        tokens = join_class_token(patches, self.cls_token.expand(x.shape[0], -1, -1))
        embedded: Tensor = self.pos_drop(tokens + self.pos_embed)
        return embedded

    @torch.no_grad()
    def _initialise(self) -> None:
        for embedding in (self.pos_embed, self.cls_token):
            nn.init.trunc_normal_(embedding, std=0.02)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, nonlinearity="linear")
                nn.init.zeros_(cast(Tensor, module.bias))
            elif isinstance(module, BidirectionalMixer):  # the residual stream adds them all up
                module.out_proj.weight.div_(math.sqrt(len(self.layers)))


class PatchEmbed(nn.Module):
    """Square patches, overlapping where the stride is smaller: [B, 3, H, W] -> [B, N, M]."""

    def __init__(
        self,
        img_size: int | tuple[int, int],
        patch_size: int | tuple[int, int],
        stride: int | tuple[int, int] | None,
        in_chans: int,
        embed_dim: int,
    ) -> None:
        super().__init__()
        self.img_size, self.patch_size = to_2tuple(img_size), to_2tuple(patch_size)
        steps = to_2tuple(stride or patch_size)
        sides = zip(self.img_size, self.patch_size, steps, strict=True)
        self.grid_size = tuple((size - patch) // step + 1 for size, patch, step in sides)
        if min(self.grid_size) < 1:
            raise ValueError(f"patch_size {patch_size} is larger than the image, {img_size} px")
        self.proj = nn.Conv2d(in_chans, embed_dim, self.patch_size, steps)

    def forward(self, x: Tensor) -> Tensor:
        """[B, 3, H, W] -> [B, N, M]."""
        if x.shape[2:] != self.img_size:
            image_size, built_size = tuple(x.shape[2:]), tuple(self.img_size)
            raise ValueError(f"images of {image_size} px where the model is built for {built_size}")
        patches: Tensor = self.proj(x)
        return patches.flatten(2).mT


class Block(nn.Module):
    """tokens + mixer(norm(tokens)).

    The published block adds the *previous* mixer's output first and then norms and mixes, so that
    one kernel adds and norms; what flows is the same.
    """

    def __init__(self, dim: int, d_state: int, drop_path: float) -> None:
        super().__init__()
        self.norm = nn.RMSNorm(dim, eps=1e-5)
        self.mixer = BidirectionalMixer(dim, d_state)
        self.drop_path = DropPath(drop_path) if drop_path else nn.Identity()

    def forward(self, tokens: Tensor) -> Tensor:
        """[B, L, M] -> [B, L, M]; under autocast the mixer is bf16 and the sum stays float32."""
        added: Tensor = tokens + self.drop_path(self.mixer(self.norm(tokens)))
        return added


def join_class_token(patches: Tensor, token: Tensor) -> Tensor:
    """[B, N, M] and [B, 1, M] -> [B, N + 1, M] with the token at N // 2."""
    middle = patches.shape[1] // 2
    return torch.cat((patches[:, :middle], token, patches[:, middle:]), dim=1)


def split_class_token(tokens: Tensor) -> tuple[Tensor, Tensor]:
    """The inverse of `join_class_token`: patches [B, N, M] and the token [B, 1, M]."""
    middle = (tokens.shape[1] - 1) // 2
    patches = torch.cat((tokens[:, :middle], tokens[:, middle + 1 :]), dim=1)
    return patches, tokens[:, middle : middle + 1]


def checkpoint_filter_fn(state: dict[str, Any], model: VisionMamba) -> dict[str, Any]:
    """Weights of hustvl/Vim, also of another image or patch size, as `model` takes them.

    The position embedding is interpolated without the class token's, which moves to the new
    middle as it is; the old grid is taken to be square.
    """
    state = dict(state.get("model", state))
    embedding, kernel = state["pos_embed"], state["patch_embed.proj.weight"]
    if embedding.shape != model.pos_embed.shape:
        grid, token = split_class_token(embedding)
        size = list(model.patch_embed.grid_size)
        grid = resample_abs_pos_embed(grid, size, num_prefix_tokens=0)
        state["pos_embed"] = join_class_token(grid, token)
    if kernel.shape != model.patch_embed.proj.weight.shape:
        patch = list(model.patch_embed.patch_size)
        state["patch_embed.proj.weight"] = resample_patch_embed(kernel, patch)
    return state


def _classifier(dim: int, classes: int) -> nn.Module:
    if not classes:
        return nn.Identity()
    head = nn.Linear(dim, classes)
    nn.init.trunc_normal_(head.weight, std=0.02)
    nn.init.zeros_(head.bias)
    return head


def _published(size: int) -> dict[str, Any]:
    return {
        "num_classes": 1000,
        "input_size": (3, size, size),
        "fixed_input_size": True,
        "mean": (0.485, 0.456, 0.406),
        "std": (0.229, 0.224, 0.225),
        "interpolation": "bicubic",
        "crop_pct": 0.9,
        "first_conv": "patch_embed.proj",
        "classifier": "head",
    }


default_cfgs = generate_default_cfgs(
    {
        "vim_pico_patch4_32": _published(32),
        "vim_pico_patch8_64": _published(64),
        "vim_nano_patch4_32": _published(32),
        "vim_nano_patch8_64": _published(64),
        "vim_tiny_patch4_32": _published(32),
        "vim_tiny_patch8_64": _published(64),
        "vim_tiny_patch16_224": _published(224),
        "vim_small_patch16_224": _published(224),
    }
)


def _create(name: str, pretrained: bool, options: dict[str, Any], **defaults: Any) -> VisionMamba:
    model: VisionMamba = build_model_with_cfg(
        VisionMamba,
        name,
        pretrained,
        pretrained_filter_fn=checkpoint_filter_fn,
        **{**defaults, **options},
    )
    return model


_PICO = {"embed_dim": 64, "depth": 6, "d_state": 4}
_NANO = {"embed_dim": 96, "depth": 12, "d_state": 8}
_TINY = {"embed_dim": 192, "depth": 24}
_SMALL = {"embed_dim": 384, "depth": 24}


@register_model
def vim_pico_patch4_32(pretrained: bool = False, **kwargs: Any) -> VisionMamba:
    """For 32 px, to be trained on one CPU core; not of the paper."""
    return _create("vim_pico_patch4_32", pretrained, kwargs, patch_size=4, **_PICO)


@register_model
def vim_pico_patch8_64(pretrained: bool = False, **kwargs: Any) -> VisionMamba:
    """For 64 px, to be trained on one CPU core; not of the paper."""
    return _create("vim_pico_patch8_64", pretrained, kwargs, patch_size=8, **_PICO)


@register_model
def vim_nano_patch4_32(pretrained: bool = False, **kwargs: Any) -> VisionMamba:
    """For 32 px and few CPU cores; not of the paper."""
    return _create("vim_nano_patch4_32", pretrained, kwargs, patch_size=4, **_NANO)


@register_model
def vim_nano_patch8_64(pretrained: bool = False, **kwargs: Any) -> VisionMamba:
    """For 64 px and few CPU cores; not of the paper."""
    return _create("vim_nano_patch8_64", pretrained, kwargs, patch_size=8, **_NANO)


@register_model
def vim_tiny_patch4_32(pretrained: bool = False, **kwargs: Any) -> VisionMamba:
    """Vim-Ti with patches for 32 px."""
    return _create("vim_tiny_patch4_32", pretrained, kwargs, patch_size=4, **_TINY)


@register_model
def vim_tiny_patch8_64(pretrained: bool = False, **kwargs: Any) -> VisionMamba:
    """Vim-Ti with patches for 64 px."""
    return _create("vim_tiny_patch8_64", pretrained, kwargs, patch_size=8, **_TINY)


@register_model
def vim_tiny_patch16_224(pretrained: bool = False, **kwargs: Any) -> VisionMamba:
    """Vim-Ti (7 M parameters)."""
    return _create("vim_tiny_patch16_224", pretrained, kwargs, patch_size=16, **_TINY)


@register_model
def vim_small_patch16_224(pretrained: bool = False, **kwargs: Any) -> VisionMamba:
    """Vim-S (26 M parameters)."""
    return _create("vim_small_patch16_224", pretrained, kwargs, patch_size=16, **_SMALL)
