"""Whether timm's published weights are at hand, asked before anything slow is done."""

from __future__ import annotations

import timm

from ..errors import Unavailable
from .architecture_config import ModelConfig
from .evaluation import one_line

# Options of timm's that say where weights lie; it looks there itself.
_ELSEWHERE = {"pretrained_cfg", "pretrained_cfg_overlay", "cache_dir"}
_FILES = ("model.safetensors", "pytorch_model.bin")  # in the order in which timm asks for them
_SECONDS = 10.0


def require_published(config: ModelConfig) -> None:
    """Do nothing where timm's weights of the model lie in the cache or can be fetched.

    Asks the hub once, without retries. Passes models whose weights are not asked for, and those
    that timm fetches from elsewhere. Raises Unavailable, with what to fetch and where it belongs.
    """
    if config.weights != "timm" or _ELSEWHERE & config.options.keys():
        return
    try:
        published = timm.get_pretrained_cfg(config.name)
    except RuntimeError:  # no such tag: building the model tells those that there are
        return
    if published is None or not published.hf_hub_id:
        return
    # Not above: the hub's library takes a quarter of a second to load.
    from huggingface_hub import (
        constants,
        get_hf_file_metadata,
        hf_hub_url,
        try_to_load_from_cache,
    )
    from huggingface_hub.errors import EntryNotFoundError

    repository, published_file = published.hf_hub_id, published.hf_hub_filename
    files = (published_file,) if published_file else _FILES
    if any(isinstance(try_to_load_from_cache(repository, file), str) for file in files):
        return
    for file in files:
        try:
            get_hf_file_metadata(hf_hub_url(repository, file), timeout=_SECONDS)
            return
        except EntryNotFoundError as error:  # timm asks for the next
            failure: Exception = error
        except Exception as error:  # the hub's library has no common class for a network's faults
            failure = error
            break
    raise Unavailable(
        f"timm's weights of {config.name} are not on this machine and the hub does not give "
        f"them ({one_line(failure)}): where the network allows run `hf download {repository} "
        f"{files[0]}` and copy its cache to {constants.HF_HUB_CACHE} (HF_HOME moves it), or "
        "give a local file as weights"
    )
