"""Vision Mamba against its published names, numbers and formulas."""

from __future__ import annotations

import argparse
import math
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mldr_deploy.errors import MldrError
from mldr_deploy.models.architecture_config import ModelConfig
from mldr_deploy.models.family import family
from mldr_deploy.models.model_registry import create_model, list_models, normalisation
from mldr_deploy.models.stages import forward_stages, plan_stages
from mldr_deploy.models.vision_mamba import VisionMamba
from mldr_deploy.models.weights import load_weights

SMALL: dict[str, Any] = {"embed_dim": 32, "depth": 4, "d_state": 4}


def small(size: int = 16, patch: int = 4, **options: Any) -> VisionMamba:
    """Four blocks of width 32, nothing in them zero or alike."""
    torch.manual_seed(0)
    model = VisionMamba(img_size=size, patch_size=patch, num_classes=5, **(SMALL | options))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return model.eval()


def images(size: int = 16, count: int = 2) -> Tensor:
    return torch.randn(count, 3, size, size, generator=torch.Generator().manual_seed(1))


def published_mixer(state: dict[str, Tensor], tokens: Tensor) -> Tensor:
    """One Vim mixer from its weights, direction by direction and position by position."""

    def direction(xz: Tensor, ending: str, A_log: Tensor, D: Tensor) -> Tensor:
        x, z = xz.chunk(2, dim=2)  # [B, L, D]
        kernel, bias = state[f"conv1d{ending}.weight"][:, 0], state[f"conv1d{ending}.bias"]
        padded = F.pad(x, (0, 0, 3, 0))
        x = F.silu(sum(padded[:, j : j + x.shape[1]] * kernel[:, j] for j in range(4)) + bias)
        states = A_log.shape[1]
        low = x @ state[f"x_proj{ending}.weight"].T
        step, B, C = low[..., : -2 * states], low[..., -2 * states : -states], low[..., -states:]
        step = step @ state[f"dt_proj{ending}.weight"].T + state[f"dt_proj{ending}.bias"]
        step = torch.log1p(step.exp())
        h, ys = torch.zeros(*x[:, 0].shape, states, dtype=x.dtype), []
        for t in range(x.shape[1]):
            h = torch.exp(step[:, t, :, None] * -A_log.exp()) * h
            h = h + (step * x)[:, t, :, None] * B[:, t, None]
            ys.append((h @ C[:, t, :, None])[..., 0] + D * x[:, t])
        return torch.stack(ys, dim=1) * F.silu(z)

    xz = tokens @ state["in_proj.weight"].T
    ahead = direction(xz, "", state["A_log"], state["D"])
    back = direction(xz.flip(1), "_b", state["A_b_log"], state["D_b"]).flip(1)
    return (ahead + back) / 2 @ state["out_proj.weight"].T


def published_model(state: dict[str, Tensor], x: Tensor, depth: int, position: int) -> Tensor:
    """Vim as its authors wrote it: add, norm, mix; the class token at `position`."""

    def norm(t: Tensor, weight: Tensor) -> Tensor:
        return t / (t.square().mean(-1, keepdim=True) + 1e-5).sqrt() * weight

    kernel = state["patch_embed.proj.weight"]
    x = F.conv2d(x, kernel, state["patch_embed.proj.bias"], stride=kernel.shape[-1])
    x = x.flatten(2).transpose(1, 2)
    token = state["cls_token"].repeat(len(x), 1, 1)
    hidden = torch.cat((x[:, :position], token, x[:, position:]), 1) + state["pos_embed"]
    residual = torch.zeros_like(hidden)
    for i in range(depth):
        prefix = f"layers.{i}."
        mixer = {
            k[len(prefix) + 6 :]: v for k, v in state.items() if k.startswith(prefix + "mixer")
        }
        residual = residual + hidden
        hidden = published_mixer(mixer, norm(residual, state[prefix + "norm.weight"]))
    features = norm(residual + hidden, state["norm_f.weight"])
    return features[:, position] @ state["head.weight"].T + state["head.bias"]


@pytest.mark.parametrize("side", [2, 4, 5])  # 5 x 5: an odd number of patches
def test_logits_are_those_of_the_published_formulas(side: int) -> None:
    model, x = small(4 * side).double(), images(4 * side).double()
    state, middle = model.state_dict(), side * side // 2
    with torch.no_grad():
        logits = model(x)
        torch.testing.assert_close(logits, published_model(state, x, 4, middle))
        # A test that a wrong place of the class token or a flipped scan would not pass:
        misplaced = published_model(state, x, 4, middle - 1)
        assert (logits - misplaced).abs().max() > 1e-3
        swapped = {other_direction(name): value for name, value in state.items()}
        assert (logits - published_model(swapped, x, 4, middle)).abs().max() > 1e-3


def other_direction(name: str) -> str:
    """The name of the same parameter of the other direction."""
    for ahead, back in {"A_log": "A_b_log", ".D": ".D_b"}.items():
        if name.endswith((ahead, back)):
            return name.replace(back, ahead) if name.endswith(back) else name.replace(ahead, back)
    for part in ("conv1d", "x_proj", "dt_proj"):
        if f".{part}_b." in name:
            return name.replace(f"{part}_b", part)
        name = name.replace(f".{part}.", f".{part}_b.")
    return name


@pytest.mark.parametrize(
    ("name", "parameters", "width"),
    [("vim_tiny_patch16_224", 7_148_008, 192), ("vim_small_patch16_224", 25_796_584, 384)],
)
def test_published_names_shapes_and_counts(name: str, parameters: int, width: int) -> None:
    with torch.device("meta"):
        model = timm.create_model(name)
    assert sum(p.numel() for p in model.parameters()) == parameters
    shapes = {k: tuple(v.shape) for k, v in model.state_dict().items()}
    inner, rank = 2 * width, math.ceil(width / 16)
    mixer = {
        "A_log": (inner, 16),
        "D": (inner,),
        "A_b_log": (inner, 16),
        "D_b": (inner,),
        "in_proj.weight": (2 * inner, width),
        "out_proj.weight": (width, inner),
    }
    for ending in ("", "_b"):
        mixer |= {
            f"conv1d{ending}.weight": (inner, 1, 4),
            f"conv1d{ending}.bias": (inner,),
            f"x_proj{ending}.weight": (rank + 32, inner),
            f"dt_proj{ending}.weight": (inner, rank),
            f"dt_proj{ending}.bias": (inner,),
        }
    expected = {
        "cls_token": (1, 1, width),
        "pos_embed": (1, 197, width),
        "patch_embed.proj.weight": (width, 3, 16, 16),
        "patch_embed.proj.bias": (width,),
        "norm_f.weight": (width,),
        "head.weight": (1000, width),
        "head.bias": (1000,),
    }
    for i in range(24):
        expected[f"layers.{i}.norm.weight"] = (width,)
        expected |= {f"layers.{i}.mixer.{k}": shape for k, shape in mixer.items()}
    assert shapes == expected


def test_every_command_takes_it_by_name() -> None:
    assert {"vim_tiny_patch16_224", "vim_small_patch16_224"} <= set(list_models("vim_*"))
    config = ModelConfig(name="vim_nano_patch4_32", options={"depth": 2}, drop_path=0.1)
    model = create_model(config, num_classes=10, image_size=32)
    assert family(model) == "mamba"
    assert normalisation(model)[0] == (0.485, 0.456, 0.406)
    with pytest.raises(MldrError, match="nearest: vim_"):
        create_model(ModelConfig(name="vim_tiny_patch16"), num_classes=2, image_size=32)


def test_its_own_image_and_patch_sizes() -> None:
    config = ModelConfig(name="vim_tiny_patch16_224", patch_size=8, options=SMALL)
    model = create_model(config, num_classes=10, image_size=40)
    assert isinstance(model, VisionMamba) and model.patch_embed.grid_size == (5, 5)
    overlapping = config.model_copy(update={"options": {**SMALL, "stride": 4}})
    model = create_model(overlapping, num_classes=10, image_size=40)
    assert isinstance(model, VisionMamba) and model.patch_embed.grid_size == (9, 9)
    with pytest.raises(MldrError, match="patch_size 16 is larger than the image, 8 px"):
        create_model(ModelConfig(name="vim_tiny_patch16_224"), num_classes=2, image_size=8)
    with pytest.raises(ValueError, match=r"images of \(8, 8\) px .* built for \(16, 16\)"):
        small()(images(8))


def test_stages_leave_the_class_token_out() -> None:
    model, x = small(), images()
    plan = plan_stages(model, 16)
    assert (plan.layout, plan.prefix_tokens, plan.feature_width) == ("token", 1, 32)
    with torch.no_grad():
        output = forward_stages(model, x, plan)
        torch.testing.assert_close(output.logits, model(x))
        last = model.norm_f(output.stages[-1].flatten(2).mT)  # [B, 16, M]
        features = model.forward_features(x)
    torch.testing.assert_close(last, torch.cat((features[:, :8], features[:, 9:]), dim=1))


def test_depth_24_gives_blocks_3_7_19_and_23() -> None:
    model = timm.create_model("vim_tiny_patch4_32", embed_dim=16)
    assert plan_stages(model, 32).indices == (3, 7, 19, 23)


@pytest.mark.parametrize(("name", "size"), [("vim_pico_patch4_32", 32), ("vim_pico_patch8_64", 64)])
def test_pico_has_four_stages_of_an_eight_by_eight_grid(name: str, size: int) -> None:
    model = create_model(ModelConfig(name=name), num_classes=10, image_size=size)
    plan = plan_stages(model, size)
    assert plan.indices == (0, 1, 4, 5)
    assert {(s.channels, s.height, s.width) for s in plan.shapes} == {(64, 8, 8)}
    assert sum(p.numel() for p in model.parameters()) < 300_000


def test_forward_intermediates_as_timm_defines_it() -> None:
    model, x = small(), images()
    with torch.no_grad():
        features, maps = model.forward_intermediates(x, indices=[1, 3], norm=True)
        torch.testing.assert_close(features, model.forward_features(x))
        assert [m.shape for m in maps] == [(2, 32, 4, 4)] * 2
        pairs = model.forward_intermediates(
            x, 1, return_prefix_tokens=True, norm=True, output_fmt="NLC", intermediates_only=True
        )
        ((patches, token),) = pairs
        torch.testing.assert_close(token, features[:, 8:9])
        torch.testing.assert_close(patches, maps[1].flatten(2).mT)
        early = model.forward_intermediates(x, [1], stop_early=True, intermediates_only=True)
        whole = model.forward_intermediates(x, [1], intermediates_only=True)
    torch.testing.assert_close(early, whole)
    with pytest.raises(ValueError, match="NCHW or NLC, not NHWC"):
        model.forward_intermediates(x, output_fmt="NHWC")  # type: ignore[arg-type]


def test_classifier() -> None:
    model, x = small(), images()
    features = model.forward_features(x)
    model.reset_classifier(7)
    assert model(x).shape == (2, 7) and model.num_classes == 7
    model.reset_classifier(0)
    torch.testing.assert_close(model(x), model.forward_head(features, pre_logits=True))
    with pytest.raises(ValueError, match="must be token, not avg"):
        model.reset_classifier(3, "avg")


def test_embeddings_and_recurrences_are_not_decayed() -> None:
    model = small()
    spared = model.no_weight_decay()
    assert spared <= {name for name, _ in model.named_parameters()}
    assert {"pos_embed", "cls_token", "layers.3.mixer.A_b_log", "layers.0.mixer.D"} <= spared


def test_fresh_steps_lie_where_mamba_begins() -> None:
    mixer: Any = VisionMamba(img_size=8, patch_size=4, **SMALL).layers[0].mixer
    for projection in (mixer.dt_proj, mixer.dt_proj_b):
        step = F.softplus(projection.bias)
        assert step.min() > 0.9e-3 and step.max() < 0.11
    torch.testing.assert_close(mixer.A_log.exp()[0], torch.arange(1.0, 5))


def test_autocast_keeps_the_residual_stream_in_float32() -> None:
    model, x = small(), images()
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        _, maps = model.forward_intermediates(x)
        logits = model(x)
    assert all(m.dtype == torch.float32 for m in maps)
    with torch.no_grad():
        exact = model(x)
    assert (logits.float() - exact).abs().max() < 0.05 * exact.abs().max()


def test_trains_in_one_graph() -> None:
    model, x = small(depth=2).train(), images()
    compiled = torch.compile(model, backend="eager", fullgraph=True)
    torch.testing.assert_close(compiled(x), model(x))
    model(x).sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


def test_official_checkpoints_load(tmp_path: Path) -> None:
    """Weights under "model" beside an argparse.Namespace, as hustvl/Vim saves them."""
    source = small()
    content = {"model": source.state_dict(), "args": argparse.Namespace(lr=1e-3), "epoch": 299}
    torch.save(content, tmp_path / "vim.pth")
    loaded = VisionMamba(img_size=16, patch_size=4, num_classes=5, **SMALL).eval()
    load_weights(loaded, tmp_path / "vim.pth")
    torch.testing.assert_close(loaded(images()), source(images()))
    other = VisionMamba(img_size=16, patch_size=4, num_classes=3, **SMALL)
    with pytest.raises(MldrError, match=r"head\.weight \[5, 32\] where the model has \[3, 32\]"):
        load_weights(other, tmp_path / "vim.pth")


@pytest.mark.parametrize(("old", "new"), [(3, 4), (4, 5), (4, 2)])
def test_position_embedding_for_another_grid(old: int, new: int, tmp_path: Path) -> None:
    source = small(4 * old)
    torch.save({"model": source.state_dict()}, tmp_path / "vim.pth")
    loaded = VisionMamba(img_size=4 * new, patch_size=4, num_classes=5, **SMALL)
    load_weights(loaded, tmp_path / "vim.pth")
    middle, moved = old * old // 2, new * new // 2
    torch.testing.assert_close(loaded.pos_embed[:, moved], source.pos_embed[:, middle])
    torch.testing.assert_close(loaded.cls_token, source.cls_token)
    positions = source.pos_embed[0].detach()
    grid = torch.cat((positions[:middle], positions[middle + 1 :])).reshape(old, old, 32)
    grid = grid.permute(2, 0, 1)[None]
    expected = nn.functional.interpolate(grid, size=(new, new), mode="bicubic", antialias=True)
    found = torch.cat((loaded.pos_embed[0, :moved], loaded.pos_embed[0, moved + 1 :]))
    torch.testing.assert_close(found, expected[0].flatten(1).T)


def test_a_smooth_position_embedding_stays_smooth() -> None:
    """A ramp over the grid, resized, is the same ramp: no patch slipped past the class token."""
    from mldr_deploy.models.vision_mamba import checkpoint_filter_fn, join_class_token

    def ramp(side: int) -> Tensor:
        centres = (torch.arange(side) + 0.5) / side
        return (centres[:, None] + 10 * centres).reshape(1, -1, 1).repeat(1, 1, 32)

    state = small(40).state_dict()
    state["pos_embed"] = join_class_token(ramp(10), torch.full((1, 1, 32), 99.0))
    target = VisionMamba(img_size=80, patch_size=4, num_classes=5, **SMALL)
    found = checkpoint_filter_fn(state, target)["pos_embed"]
    assert (found[0, 200] == 99).all()
    grid = torch.cat((found[:, :200], found[:, 201:]), dim=1).reshape(20, 20, 32)[3:-3, 3:-3]
    torch.testing.assert_close(grid, ramp(20).reshape(20, 20, 32)[3:-3, 3:-3], atol=0.02, rtol=0)


def test_there_are_no_weights_to_fetch() -> None:
    assert not timm.is_model_pretrained("vim_tiny_patch16_224")
    config = ModelConfig(name="vim_nano_patch4_32", weights="timm", options={"depth": 1})
    with pytest.raises(
        MldrError, match=r"vim_nano_patch4_32 cannot be built: .*pretrained weights"
    ):
        create_model(config, num_classes=2, image_size=32)
