"""timm's architectures made with the recipe's arguments, those they fix themselves included."""

from __future__ import annotations

import re
import types
from collections.abc import Callable
from typing import Any

import timm
from torch import nn

from ..errors import MldrError, Unavailable
from .architecture_config import ModelConfig
from .evaluation import MISFITS, one_line
from .published_weights import require_published

# What PyTorch and Python say of a keyword that no parameter takes, or that is given twice.
_UNEXPECTED = re.compile(r"unexpected keyword argument(?:\(s\): \[)? ?'(\w+)'")
_REPEATED = re.compile(r"multiple values for keyword argument '(\w+)'")


def build(config: ModelConfig, *, num_classes: int, image_size: int) -> nn.Module:
    """Make the architecture of `config`, with timm's pretrained weights where asked for.

    Raises:
        MldrError: an argument that the architecture does not take, or a value it refuses.
        Unavailable: timm's weights could not be fetched.
    """
    require_published(config)
    arguments: dict[str, Any] = {"num_classes": num_classes, **config.options}
    if config.drop_path:
        arguments["drop_path_rate"] = config.drop_path
    if config.patch_size is not None:
        arguments["patch_size"] = config.patch_size
    arguments["img_size"] = image_size if config.img_size == "auto" else config.img_size
    forced: dict[str, Any] = {}
    while True:
        try:
            return _make(config, arguments, forced)
        except TypeError as error:
            unexpected, repeated = _UNEXPECTED.search(str(error)), _REPEATED.search(str(error))
            if repeated and repeated[1] in arguments:
                forced[repeated[1]] = arguments.pop(repeated[1])
            elif unexpected and unexpected[1] == "img_size" and config.img_size == "auto":
                arguments.pop("img_size", None)
                forced.pop("img_size", None)
            else:
                raise MldrError(_refusal(config, unexpected, error)) from error
        except OSError as error:
            raise _unfetched(config, error) from error
        except MISFITS as error:
            raise MldrError(f"{config.name} cannot be built: {one_line(error)}") from error


def _make(config: ModelConfig, arguments: dict[str, Any], forced: dict[str, Any]) -> nn.Module:
    """One attempt; `forced` holds arguments that the architecture's entry point sets itself."""
    pretrained = config.weights == "timm"
    if not forced:
        model: nn.Module = timm.create_model(config.name, pretrained=pretrained, **arguments)
        return model
    architecture, _, tag = config.name.partition(".")
    entry_point = _overriding(timm.models.model_entrypoint(architecture), forced)
    model = entry_point(pretrained=pretrained, pretrained_cfg=tag or None, **arguments)
    return model


def _overriding(
    entry_point: Callable[..., nn.Module], forced: dict[str, Any]
) -> Callable[..., nn.Module]:
    """A copy of a timm entry point whose constructor call takes `forced` over its own arguments.

    `def mixer_s16_224(**kwargs): return _create_mixer(..., **dict(patch_size=16, **kwargs))`
    cannot be given another patch size from outside. The copy sees the same code with its own
    `_create_mixer`, which merges; timm's module stays as it is.
    """
    function: Any = entry_point
    names = [n for n in function.__code__.co_names if re.match(r"_(create|gen|mk)_?\w*", n)]
    makers = {name: _merging(function.__globals__[name], forced) for name in names}
    return types.FunctionType(
        function.__code__,
        {**function.__globals__, **makers},
        function.__name__,
        function.__defaults__,
        function.__closure__,
    )


def _merging(maker: Callable[..., nn.Module], forced: dict[str, Any]) -> Callable[..., nn.Module]:
    def make(*positional: Any, **keywords: Any) -> nn.Module:
        return maker(*positional, **{**keywords, **forced})

    return make


def _refusal(config: ModelConfig, unexpected: re.Match[str] | None, error: TypeError) -> str:
    if unexpected is None:
        return f"{config.name} cannot be built: {one_line(error)}"
    name = unexpected[1]
    owner = {"drop_path_rate": "drop_path"}.get(name, name)
    key = owner if owner in ModelConfig.model_fields else f"options.{name}"
    return f"{config.name} takes no {key}; remove that key or choose another architecture"


def _unfetched(config: ModelConfig, error: OSError) -> Unavailable:
    return Unavailable(
        f"timm's weights of {config.name} could not be fetched ({one_line(error)}); "
        "give a local file as weights, or fetch them once where the network allows"
    )
