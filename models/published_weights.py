"""Whether timm's published weights are at hand, asked before anything slow is done."""

from __future__ import annotations

from dataclasses import dataclass

import timm

from ..errors import Unavailable
from .architecture_config import ModelConfig
from .evaluation import one_line

# Options of timm's that say where weights lie; it looks there itself.
_ELSEWHERE = {"pretrained_cfg", "pretrained_cfg_overlay", "cache_dir"}
_FILES = ("model.safetensors", "pytorch_model.bin")  # in the order in which timm asks for them
_SECONDS = 10.0


@dataclass(frozen=True)
class Published:
    """Weights of a model as the hub has them."""

    model: str
    repository: str
    files: tuple[str, ...]  # in the order in which timm asks for them

    @property
    def is_cached(self) -> bool:
        """Whether one of the files lies in the hub's cache."""
        # Not above: the hub's library takes a quarter of a second to load.
        from huggingface_hub import try_to_load_from_cache

        return any(
            isinstance(try_to_load_from_cache(self.repository, file), str) for file in self.files
        )

    def failure(self) -> Exception | None:
        """Why the hub does not give them, asked once; None where it does."""
        from huggingface_hub import get_hf_file_metadata, hf_hub_url
        from huggingface_hub.errors import EntryNotFoundError

        reason: Exception | None = None
        for file in self.files:
            try:
                get_hf_file_metadata(hf_hub_url(self.repository, file), timeout=_SECONDS)
                return None
            except EntryNotFoundError as error:  # timm asks for the next
                reason = error
            except Exception as error:  # the hub's library has no class for a network's faults
                return error
        return reason


def require_published(*configs: ModelConfig) -> None:
    """Do nothing where timm's weights of the models lie in the cache or can be fetched.

    Asks the hub once a model, without retries, and no more after a failure. Passes models whose
    weights are not asked for, and those that timm fetches from elsewhere. Raises Unavailable, with
    everything that is to be fetched and where it belongs.
    """
    published = (published_weights(config) for config in configs)
    absent = [weights for weights in published if weights is not None and not weights.is_cached]
    while absent and (failure := absent[0].failure()) is None:
        del absent[0]
    if not absent or failure is None:
        return
    from huggingface_hub import constants

    names = " and ".join(weights.model for weights in absent)
    commands = " and ".join(
        f"`hf download {weights.repository} {weights.files[0]}`" for weights in absent
    )
    raise Unavailable(
        f"timm's weights of {names} are not on this machine and the hub does not give them "
        f"({one_line(failure)}): where the network allows run {commands} and copy its cache to "
        f"{constants.HF_HUB_CACHE} (HF_HOME moves it), or give local files as weights"
    )


def published_weights(config: ModelConfig) -> Published | None:
    """The weights that timm would fetch for ``config`` from the hub; None where it would not."""
    if config.weights != "timm" or _ELSEWHERE & config.options.keys():
        return None
    try:
        published = timm.get_pretrained_cfg(config.name)
    except RuntimeError:  # no such tag: building the model tells those that there are
        return None
    if published is None or not published.hf_hub_id:
        return None
    file = published.hf_hub_filename
    return Published(config.name, published.hf_hub_id, (file,) if file else _FILES)
