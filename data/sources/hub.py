"""``hf:USER/NAME[@REVISION]``: a data set of the Hugging Face Hub, by its Parquet shards.

What has been fetched once is read from the Hub's own cache; HF_HUB_OFFLINE, HF_HOME and HF_TOKEN
mean what they mean there.
"""

from __future__ import annotations

from pathlib import Path

from ...bundle.progress import Progress
from ...errors import MldrError, Unavailable
from ..data_config import DataConfig
from ..raw import RawDataset
from . import parquet

_CONVERTED = "refs/convert/parquet"  # the Hub's own conversion of data sets of other formats


def load(config: DataConfig, progress: Progress) -> RawDataset:
    """The shards of the data set, read as ``parquet:FOLDER``.

    Raises Unavailable where the Hub cannot be reached and the cache lacks it, MldrError for a data
    set that has no Parquet files.
    """
    name, _, revision = config.source.partition(":")[2].partition("@")
    unavailable = None
    for candidate in (revision,) if revision else (None, _CONVERTED):
        try:
            folder = _snapshot(name, candidate, config.download)
        except Unavailable as error:  # of the conversion it says less than of the data set itself
            unavailable = unavailable or (error if candidate != _CONVERTED else None)
            continue
        if any(folder.rglob("*.parquet")):
            return parquet.load(config.model_copy(update={"source": f"parquet:{folder}"}), progress)
    raise unavailable or MldrError(
        f"{config.source} holds no Parquet files: name a revision that does, {config.source}@REF, "
        "or fetch it yourself and give parquet:PATH, folder:PATH or csv:FILE"
    )


def _snapshot(name: str, revision: str | None, download: bool) -> Path:
    """The folder of the cache that holds the revision's Parquet files."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        return Path(
            snapshot_download(
                name,
                repo_type="dataset",
                revision=revision,
                allow_patterns="*.parquet",
                local_files_only=not download,
            )
        )
    except HFValidationError as error:
        raise MldrError(f"data.source=hf:{name}: {_line(error)}") from error
    except (LocalEntryNotFoundError, HfHubHTTPError, OSError) as error:
        raise Unavailable(
            f"the data set hf:{name} cannot be fetched ({_line(error)}): check the name and "
            "HF_TOKEN, or fetch it where there is a network and give parquet:PATH"
        ) from error


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
